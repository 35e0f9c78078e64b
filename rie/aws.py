"""Clients of AWS's services, or of what stands in for them: boto3 with its standard settings (AWS_ENDPOINT_URL…)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30  # longer than SQS's long poll
POOL = 32  # connections of one client


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client signs with."""

    access_key: str
    secret_key: str
    token: str | None = None


CredentialsOf = Callable[[str], "Credentials | None"]
"""The credentials of an execution role, by its ARN; None where roles can't be assumed. May block."""

# A compatible endpoint asks for a signature and doesn't check it; AWS itself is never asked with these.
_PLACEHOLDER = Credentials("rie", "rie")
# Where the variable of an endpoint is not named as boto3's client; the other name is what people expect.
_VARIABLES = {"logs": ("CLOUDWATCH_LOGS", "LOGS")}


class Clients:
    """boto3 clients, made once per service, region and credentials, and shared: boto3's clients are thread-safe.

    `credentials_of` gives the credentials of an execution role; without it, or when it answers None, the manager's own
    are used (boto3's usual search: variables, profile …).
    """

    def __init__(self, credentials_of: CredentialsOf | None = None) -> None:
        self._credentials_of = credentials_of
        self._clients: dict[tuple[str, str, Credentials | None], Any] = {}
        self._making = threading.Lock()

    def client(self, service: str, region: str, role: str | None = None) -> Any:
        """A client of a service ("sqs"), acting as an execution role (its ARN) or, without one, as the manager.

        Blocks where credentials must be fetched. Raises botocore's errors.
        """
        credentials = self._credentials_of(role) if role and self._credentials_of else None
        key = (service, region, credentials)
        found = self._clients.get(key)
        if found is not None:
            return found
        with self._making:
            if key not in self._clients:
                if len(self._clients) > 256:  # those of credentials that have expired
                    self._clients.clear()
                self._clients[key] = _make(service, region, credentials)
            return self._clients[key]


def has_endpoint(service: str) -> bool:
    """Whether a compatible endpoint is configured for a service, by AWS's own variables."""
    return bool(endpoint_of(service))


def endpoint_of(service: str) -> str:
    """The compatible endpoint that is configured for a service, "" if none is."""
    names = _VARIABLES.get(service, (service.upper().replace("-", "_"),))
    variables = (*(f"AWS_ENDPOINT_URL_{name}" for name in names), "AWS_ENDPOINT_URL")
    return next((found for variable in variables if (found := os.environ.get(variable))), "")


def _make(service: str, region: str, credentials: Credentials | None) -> Any:
    from botocore.config import Config

    session = _session()
    if credentials is None and has_endpoint(service) and session.get_credentials() is None:
        credentials = _PLACEHOLDER
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=POOL,
        retries={"mode": "standard", "total_max_attempts": 2},
        s3={"addressing_style": "path"} if has_endpoint("s3") else None,
    )
    keys = {}
    if credentials is not None:
        keys = {
            "aws_access_key_id": credentials.access_key,
            "aws_secret_access_key": credentials.secret_key,
            "aws_session_token": credentials.token,
        }
    if service in _VARIABLES:
        keys["endpoint_url"] = endpoint_of(service) or None
    return session.client(service, region_name=region, config=config, **keys)


@cache
def _session() -> Any:
    import boto3  # costs 200 ms, which only those pay who reach for a service

    return boto3.session.Session()
