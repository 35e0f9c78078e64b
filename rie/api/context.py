"""Who asks, where and under which id: what a handler knows of a request besides its members."""

from __future__ import annotations

import re
from dataclasses import dataclass

# …Credential=<access key>/<yyyymmdd>/<region>/lambda/aws4_request…; of a presigned URL the value alone.
_CREDENTIAL = re.compile(r"(?:Credential=|^)([^/=,\s]+)/\d{8}/([a-z0-9-]{1,64})/")

ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class RequestContext:
    """`caller` is the access key that signed the request, or "anonymous"; `base_url` how it reached us, for links."""

    account: str
    region: str
    request_id: str
    caller: str = ANONYMOUS
    base_url: str = ""

    @property
    def caller_arn(self) -> str:
        """Who the caller is, in error texts."""
        return f"arn:aws:iam::{self.account}:user/{self.caller}"


def signer(authorization: str | None, credential: str | None) -> tuple[str, str] | None:
    """(access key, region) of a request's signature, which is not verified here; None if it has none.

    `authorization` is the header, `credential` the query parameter X-Amz-Credential of a presigned URL.
    """
    found = _CREDENTIAL.search(authorization or credential or "")
    return (found[1], found[2]) if found else None
