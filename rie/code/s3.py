"""Archives from S3, or what speaks like it, with boto3's own settings (AWS_ENDPOINT_URL_S3, credentials, proxies)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rie.aws import Clients
from rie.code.archive import MAX_UNPACKED, TOO_LARGE
from rie.code.store import write
from rie.errors import ArchiveInvalid, HostFault


@dataclass(frozen=True, slots=True)
class S3Object:
    """Where an archive lies; `version` None is the newest."""

    bucket: str
    key: str
    version: str | None = None


class S3:
    """Blocks; may be called from any thread."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def fetch(self, place: S3Object, region: str, target: Path) -> None:
        """Write the object's bytes to a new file.

        Raises ArchiveInvalid for what the caller can mend (in the service's words), HostFault for an S3 that does not
        answer.
        """
        from botocore import exceptions  # with boto3, which only those pay for who use S3

        more = {"VersionId": place.version} if place.version else {}
        where = f"s3://{place.bucket}/{place.key}"
        try:
            answer = self._clients.client("s3", region).get_object(Bucket=place.bucket, Key=place.key, **more)
            is_whole = write(answer["Body"], target, MAX_UNPACKED)
        except exceptions.ClientError as error:
            told = error.response.get("Error", {})
            raise _refused(told.get("Code", "Unknown"), told.get("Message", str(error))) from error
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
            raise _refused("AccessDenied", f"{error}. Give the manager credentials for S3.") from error
        except (exceptions.BotoCoreError, OSError) as error:
            raise HostFault(f"cannot fetch {where}: {error}") from error
        if not is_whole:
            raise ArchiveInvalid(TOO_LARGE)


def _refused(code: str, message: str) -> ArchiveInvalid:
    return ArchiveInvalid(f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}")
