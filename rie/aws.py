"""Clients of AWS's services, or of what stands in for them: boto3 with its standard settings (AWS_ENDPOINT_URL…)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, Protocol

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30  # longer than SQS's long poll
POOL = 128  # connections of one client: pollers of many mappings share one, and what is beyond it is opened anew
MOST_CLIENTS = 256
ENDLESS_S = 86_400.0  # when a key that doesn't end is asked for again


SESSION = "awslambda"  # of the role's: what CloudTrail shows where the service itself acts for a function


class Credentials(Protocol):
    """What a client signs with; `session_token` "" and `expires_at` (epoch seconds) None for a key that doesn't end."""

    @property
    def access_key_id(self) -> str:
        """The key's name."""

    @property
    def secret_access_key(self) -> str:
        """The key."""

    @property
    def session_token(self) -> str:
        """What goes with it."""

    @property
    def expires_at(self) -> float | None:
        """When it ends."""


Assume = Callable[[str, str], Credentials]
"""(role's ARN, name of the session) → credentials of an execution role. Blocks; what it raises, a call of a client
raises that needed them."""

# A compatible endpoint asks for a signature and doesn't check it; AWS itself is never asked with these.
_PLACEHOLDER = {"aws_access_key_id": "rie", "aws_secret_access_key": "rie"}
# Where the variable of an endpoint is not named as boto3's client; the other name is what people expect.
_VARIABLES = {"logs": ("CLOUDWATCH_LOGS", "LOGS")}


class Clients:
    """boto3 clients, made once per service, region and role, and shared: boto3's clients are thread-safe.

    `assume` gives the credentials of an execution role, which a client fetches at its first call and again before they
    end; without it the manager's own are used (boto3's usual search: variables, profile …).
    """

    def __init__(self, assume: Assume | None = None) -> None:
        self._assume = assume
        self._clients: dict[tuple[str, str, str | None], Any] = {}
        self._roles: dict[str, Any] = {}
        self._making = threading.Lock()

    def client(self, service: str, region: str, role: str | None = None) -> Any:
        """A client of a service ("sqs"), acting as an execution role (its ARN) or, without one, as the manager.

        Raises botocore's errors.
        """
        key = (service, region, role if self._assume else None)
        found = self._clients.get(key)
        if found is not None:
            return found
        with self._making:
            if key not in self._clients:
                if len(self._clients) > MOST_CLIENTS:  # those of roles that are not in use any more
                    self._clients.clear()
                    self._roles.clear()
                self._clients[key] = _make(service, region, self._session_of(key[2]))
            return self._clients[key]

    def _session_of(self, role: str | None) -> Any:
        """The session to make a role's clients with; one for all of its services, so that it is assumed once."""
        if not role or self._assume is None:
            return _session()
        if role not in self._roles:
            self._roles[role] = _assumed_session(partial(self._assume, role, SESSION))
        return self._roles[role]


def has_endpoint(service: str) -> bool:
    """Whether a compatible endpoint is configured for a service, by AWS's own variables."""
    return bool(endpoint_of(service))


def endpoint_of(service: str) -> str:
    """The compatible endpoint that is configured for a service, "" if none is."""
    names = _VARIABLES.get(service, (service.upper().replace("-", "_"),))
    variables = (*(f"AWS_ENDPOINT_URL_{name}" for name in names), "AWS_ENDPOINT_URL")
    return next((found for variable in variables if (found := os.environ.get(variable))), "")


def _make(service: str, region: str, session: Any) -> Any:
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=POOL,
        retries={"mode": "standard", "total_max_attempts": 2},
        s3={"addressing_style": "path"} if has_endpoint("s3") else None,
    )
    more: dict[str, Any] = {}
    if has_endpoint(service) and session is _session() and session.get_credentials() is None:
        more |= _PLACEHOLDER
    if service in _VARIABLES:
        more["endpoint_url"] = endpoint_of(service) or None
    return session.client(service, region_name=region, config=config, **more)


def _assumed_session(assume: Callable[[], Credentials]) -> Any:
    """A boto3 session whose credentials are fetched when they are needed first, and before they end."""
    import boto3
    import botocore.session
    from botocore.credentials import DeferredRefreshableCredentials

    def fetch() -> dict[str, str]:
        found = assume()
        ends_at = time.time() + ENDLESS_S if found.expires_at is None else found.expires_at
        return {
            "access_key": found.access_key_id,
            "secret_key": found.secret_access_key,
            "token": found.session_token,
            "expiry_time": datetime.fromtimestamp(ends_at, UTC).isoformat(),
        }

    core = botocore.session.Session()
    core._credentials = DeferredRefreshableCredentials(fetch, "execution-role")  # there is no public way to set these
    return boto3.session.Session(botocore_session=core)


@cache
def _session() -> Any:
    import boto3  # costs 200 ms, which only those pay who reach for a service

    return boto3.session.Session()
