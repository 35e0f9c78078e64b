"""Who asks, where and under which id: what a handler knows of a request besides its members."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from rie.iam.caller import ANONYMOUS, Caller

# …Credential=<access key>/<yyyymmdd>/<region>/lambda/aws4_request…; of a presigned URL the value alone.
_CREDENTIAL = re.compile(r"(?:Credential=|^)([^/=,\s]+)/\d{8}/([a-z0-9-]{1,64})/")


@dataclass(frozen=True, slots=True)
class RequestContext:
    """`account` is the caller's own; that of the resource, where another account has let him in; `base_url` is how the
    request reached us, for links."""

    account: str
    region: str
    request_id: str
    caller: Caller = ANONYMOUS
    base_url: str = ""


def signer(authorization: str | None, credential: str | None) -> tuple[str, str] | None:
    """(access key, region) of a request's signature, which is not verified here; None if it has none.

    `authorization` is the header, `credential` the query parameter X-Amz-Credential of a presigned URL.
    """
    return _read(authorization or credential or "")


def signed_by(authorization: str | None, query: str) -> tuple[str, str] | None:
    """As `signer`, from the whole query as it was sent."""
    if authorization is not None:
        # Up to the first comma it is the same for a client's whole day, and read once.
        return _read(authorization.partition(",")[0]) or _read(authorization)
    if "X-Amz-Credential=" in query:
        return _read(unquote(query.partition("X-Amz-Credential=")[2].partition("&")[0]))
    return None


@lru_cache(maxsize=1_024)
def _read(text: str) -> tuple[str, str] | None:
    found = _CREDENTIAL.search(text)
    return (found[1], found[2]) if found else None
