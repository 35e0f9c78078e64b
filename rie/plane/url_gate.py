"""The gate of function URLs: nobody is asked at those with AuthType NONE, and the function's policy decides (§9.2)."""

from __future__ import annotations

from typing import Any, Protocol

from rie.api.context import signed_by
from rie.errors import ServiceError
from rie.iam.caller import ANONYMOUS, Caller
from rie.iam.sigv4 import Sent
from rie.invoke.access import Access
from rie.plane.gate import Gate

NONE = "NONE"
FORBIDDEN = ServiceError(
    "AccessDeniedException",
    "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html",
)


class Request(Protocol):
    """What was sent to a URL; all text as it was sent, bytes read as Latin-1."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes | None
    peer: str


class Target(Protocol):
    """What a URL calls."""

    @property
    def key(self) -> Any:
        """The function."""

    @property
    def qualifier(self) -> str | None:
        """An alias, None for $LATEST."""

    @property
    def url(self) -> Any:
        """How it is configured; `auth_type` is "NONE" or "AWS_IAM"."""


class UrlGate:
    """Who may call a URL, by signature and policy."""

    def __init__(self, gate: Gate, access: Access) -> None:
        self._gate = gate
        self._access = access

    def admit(self, request: Request, target: Target) -> dict[str, Any] | None:
        """The caller as events have it under `requestContext.authorizer.iam`, None for nobody known.

        Raises ServiceError for one that may not call. Where no signature is verified, AWS_IAM still asks for one.
        """
        auth_type = target.url.auth_type
        caller = ANONYMOUS if auth_type == NONE else self._signer(request)
        if not self._access.allows_url(caller, target.key, target.qualifier, auth_type, request.peer):
            raise FORBIDDEN
        return None if caller is ANONYMOUS else authorizer(caller)

    def _signer(self, request: Request) -> Caller:
        if signed_by(request.headers.get("authorization"), request.query) is None:
            raise FORBIDDEN
        sent = Sent(request.method, request.path, request.query, request.headers)
        return self._gate.identify_now(sent, request.body or b"").caller


def authorizer(caller: Caller) -> dict[str, Any]:
    """A caller as events of function URLs show it."""
    return {
        "accessKey": caller.access_key,
        "accountId": caller.account,
        "callerId": caller.user_id,
        "cognitoIdentity": None,
        "principalOrgId": caller.organization or None,
        "userArn": caller.arn,
        "userId": caller.user_id,
    }
