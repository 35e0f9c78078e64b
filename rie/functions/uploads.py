"""Code on its way in: from a request or from S3 into the store of code, within the service's limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rie.code.s3 import S3Object
from rie.code.store import CodeStore
from rie.errors import ServiceError
from rie.model.code import Archive

MAX_ZIPPED = 52_428_800  # bytes uploaded directly, AWS limit
MAX_STORED = 80_530_636_800  # bytes of all zips of an account and region, AWS limit


@dataclass(frozen=True, slots=True)
class Source:
    """Where an archive comes from: one of the two."""

    zip_file: bytes | None = None
    s3_object: S3Object | None = None


class Fetches(Protocol):
    """`rie.code.s3.S3`."""

    def fetch(self, place: S3Object, region: str, target: Path) -> None:
        """Write an object's bytes to a new file."""


class Uploads:
    """Blocks; may be called from any thread. `stored` tells the bytes that an account has in a region."""

    def __init__(self, code: CodeStore, s3: Fetches, stored: Callable[[str, str], int]) -> None:
        self._code = code
        self._s3 = s3
        self._stored = stored

    @contextmanager
    def keeping(self, source: Source, account: str, region: str) -> Iterator[Archive]:
        """The archive, checked, unpacked and kept; write down inside of the block who uses it.

        Raises ServiceError, ArchiveInvalid, HostFault.
        """
        with self._code.scratch() as scratch:
            path = scratch / "uploaded"
            if source.zip_file is not None:
                if len(source.zip_file) >= MAX_ZIPPED:
                    raise _too_large()
                path.write_bytes(source.zip_file)
            else:
                assert source.s3_object is not None
                self._s3.fetch(source.s3_object, region, path)
            if self._stored(account, region) + path.stat().st_size > MAX_STORED:
                raise ServiceError("CodeStorageExceededException", "Code storage limit exceeded.")
            with self._code.keeping(path) as archive:
                yield archive


def _too_large() -> ServiceError:
    return ServiceError("RequestEntityTooLargeException", f"Zipped size must be smaller than {MAX_ZIPPED} bytes")
