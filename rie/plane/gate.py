"""The gate: who sent a request, before anything is done about it."""

from __future__ import annotations

import asyncio
import hashlib
from functools import lru_cache

from bootstrap import wire
from rie.api.context import signed_by
from rie.errors import ServiceError
from rie.iam.authentication import Authentication, Claim, missing
from rie.iam.caller import Identity, local
from rie.iam.sigv4 import Sent
from rie.model.scope import Scope

LAMBDA = ("lambda",)
THREAD_ABOVE = 1_048_576  # bytes: a body whose digest would hold up the event loop for a millisecond or more
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
TOO_LARGE = f"Request must be smaller than {wire.MAX_EVENT} bytes for the InvokeFunction operation"


class Gate:
    """`authentication` None: nobody is asked who he is, and everybody is the account's root."""

    def __init__(self, authentication: Authentication | None, scope: Scope) -> None:
        self._authentication = authentication
        self._scope = scope

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked who he is."""
        return self._authentication is None

    @property
    def account(self) -> str:
        """Whose manager this is."""
        return self._scope.account

    async def identify(
        self,
        sent: Sent,
        body: bytes | None,
        services: tuple[str, ...] = LAMBDA,
        too_large: ServiceError | None = None,
    ) -> Identity:
        """Who sent a request; `body` is None where it passed its limit, and can't be held against a signature.

        `too_large` is what is said then, to who might have signed it.

        Raises ServiceError (lambda.md §8.6) for who can't show it.
        """
        claim = self._claim(sent, services)
        if isinstance(claim, Identity):
            return claim
        if body is None:
            raise too_large or ServiceError("RequestEntityTooLargeException", TOO_LARGE)
        digest = await asyncio.to_thread(_sha256, body) if len(body) > THREAD_ABOVE else _sha256(body)
        return _confirmed(claim, digest)

    def identify_now(self, sent: Sent, body: bytes, services: tuple[str, ...] = LAMBDA) -> Identity:
        """As `identify`, for whoever can't wait; a body of megabytes takes some milliseconds."""
        claim = self._claim(sent, services)
        return claim if isinstance(claim, Identity) else _confirmed(claim, _sha256(body))

    def _claim(self, sent: Sent, services: tuple[str, ...]) -> Claim | Identity:
        if self._authentication is None:
            return _taken_at_his_word(self._scope, signed_by(sent.headers.get("authorization"), sent.query))
        claim = self._authentication.claim(sent, services)
        if claim is None:
            raise missing()
        return claim


def _confirmed(claim: Claim, digest: str) -> Identity:
    caller = Authentication.confirm(claim, digest)
    return Identity(caller, Scope(caller.account, claim.signed.region))


@lru_cache(maxsize=1_024)
def _taken_at_his_word(scope: Scope, signed: tuple[str, str] | None) -> Identity:
    if signed is None:
        return Identity(local(scope.account), scope)
    access_key, region = signed
    return Identity(local(scope.account, access_key), Scope(scope.account, region))


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest() if body else EMPTY_SHA256
