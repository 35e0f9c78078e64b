"""From a request to its caller: the signature is read, its key found, its time and its bytes checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from rie.clock import Clock
from rie.errors import ServiceError
from rie.iam import sigv4
from rie.iam.caller import Caller
from rie.iam.keys import Keys
from rie.iam.sessions import Sessions
from rie.iam.sigv4 import Sent, Signed

UNKNOWN = "The security token included in the request is invalid."


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a request says to be sent by; true once `Authentication.confirm` has seen its body's digest."""

    sent: Sent
    signed: Signed
    caller: Caller
    secret: str


class Authentication:
    """Knows the keys. Raises ServiceErrors of lambda.md §8.6. Owned by one thread, but `confirm` may run on any."""

    def __init__(self, keys: Keys, sessions: Sessions, clock: Clock) -> None:
        self._keys = keys
        self._sessions = sessions
        self._clock = clock

    def claim(self, sent: Sent, services: Iterable[str] = ("lambda",)) -> Claim | None:
        """What can be checked before the body is there; None for a request without a signature."""
        signed = sigv4.read_signature(sent)
        if signed is None:
            return None
        now = self._clock.now()
        sigv4.check_time(signed, now)
        known = self._known(signed, now)
        if signed.service not in services:
            raise sigv4.invalid(f"Credential should be scoped to correct service: '{next(iter(services))}'.")
        return Claim(sent, signed, *known)

    @staticmethod
    def confirm(claim: Claim, body_sha256: str) -> Caller:
        """The caller, whose signature is over this body."""
        sigv4.check_signature(claim.sent, claim.signed, claim.secret, body_sha256)
        return claim.caller

    def _known(self, signed: Signed, now: datetime) -> tuple[Caller, str]:
        if signed.token is None:
            known = self._keys.find(signed.access_key)
            if known is None:
                raise ServiceError("UnrecognizedClientException", UNKNOWN)
            return known.caller, known.secret
        session = self._sessions.recognise(signed.access_key, signed.token)
        if session is None:
            raise ServiceError("UnrecognizedClientException", UNKNOWN)
        if session.expires_at <= now.timestamp():
            raise ServiceError("ExpiredTokenException", "The security token included in the request is expired")
        return self._keys.caller_of(session), session.secret_access_key


def missing() -> ServiceError:
    """Nobody has signed (403)."""
    return ServiceError("MissingAuthenticationTokenException", "Missing Authentication Token")
