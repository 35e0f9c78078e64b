"""Credentials of execution roles: fetched ahead, kept until they are half spent, never the manager's own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Protocol

from rie.errors import CredentialsUnavailable, ServiceError
from rie.iam.sessions import Credentials, Sessions, session_name

log = logging.getLogger(__name__)

LIFETIME_S = 43_200  # AWS limit for a role's session; STS may give less
ASKED_LIFETIME_S = 3_600  # AWS: what every role allows
FETCH_LIMIT_S = 10.0
RETRY_AFTER_S = 5.0  # a failed fetch ahead is tried again no sooner
CANNOT_ASSUME = "The role defined for the function cannot be assumed by Lambda."


class Source(Protocol):
    """Where credentials come from."""

    blocks: bool
    """Whether `assume` waits for somebody, and must not be called on the event loop."""

    def assume(self, role_arn: str, name: str) -> Credentials:
        """New credentials. Raises CredentialsUnavailable, ServiceError if the role can't be assumed."""

    def check(self, role_arn: str, name: str) -> None:
        """Raises what `assume` would, before a function is given a role."""


class OwnSource:
    """Sessions that this manager issues, and recognises in signatures."""

    blocks = False

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def assume(self, role_arn: str, name: str) -> Credentials:
        """New credentials."""
        return self._sessions.issue(role_arn, name, LIFETIME_S)

    def check(self, role_arn: str, name: str) -> None:
        """Every role that is well formed will do."""


class StaticSource:
    """The same credentials for every function, as the settings give them."""

    blocks = False

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def assume(self, role_arn: str, name: str) -> Credentials:
        """Those of the settings."""
        return self._credentials

    def check(self, role_arn: str, name: str) -> None:
        """Every role that is well formed will do."""


class StsSource:
    """AssumeRole at the endpoint of boto3's standard settings (AWS_ENDPOINT_URL_STS, AWS_ENDPOINT_URL, AWS itself)."""

    blocks = True

    def __init__(self, client: Any) -> None:
        self._client = client

    def assume(self, role_arn: str, name: str) -> Credentials:
        """New credentials of the endpoint's. Blocks."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._client.assume_role(
                RoleArn=role_arn, RoleSessionName=session_name(name), DurationSeconds=ASKED_LIFETIME_S
            )["Credentials"]
        except ClientError as error:
            log.warning("cannot assume %s: %s", role_arn, error)
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500) >= 500:
                raise CredentialsUnavailable(f"cannot assume {role_arn}: {error}") from None
            raise ServiceError("InvalidParameterValueException", CANNOT_ASSUME) from None
        except BotoCoreError as error:
            raise CredentialsUnavailable(f"cannot assume {role_arn}: {error}") from None
        return Credentials(
            answer["AccessKeyId"],
            answer["SecretAccessKey"],
            answer["SessionToken"],
            answer["Expiration"].timestamp(),
        )

    def check(self, role_arn: str, name: str) -> None:
        """Assume it once: nothing else tells whether its trust policy allows it. Blocks."""
        self.assume(role_arn, name)


def sts_client(region: str) -> Any:
    """A client for STS that gives up soon."""
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=3, read_timeout=FETCH_LIMIT_S, retries={"total_max_attempts": 2})
    session = boto3.Session()
    # A compatible endpoint asks for a signature and doesn't check it; AWS itself refuses this one.
    unsigned = {"aws_access_key_id": "rie", "aws_secret_access_key": "rie"} if session.get_credentials() is None else {}
    return session.client("sts", region_name=region, config=config, **unsigned)


class RoleCredentials:
    """Keeps credentials for each role and function; owned by the event loop."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kept: dict[tuple[str, str], tuple[float, Credentials]] = {}
        self._fetching: dict[tuple[str, str], asyncio.Task[Credentials]] = {}
        self._failed_at: dict[tuple[str, str], float] = {}

    async def get(self, role_arn: str, function_name: str, needed_s: float) -> Credentials:
        """Credentials that last `needed_s` seconds at least, where their source gives such.

        Those that are half spent are renewed in the background, so that a cold start waits only for the first.
        Raises CredentialsUnavailable, ServiceError.
        """
        place = (role_arn, function_name)
        kept = self._kept.get(place)
        if kept is not None:
            fetched_at, credentials = kept
            if credentials.expires_at is None:
                return credentials
            now = time.time()
            if credentials.expires_at - now >= needed_s:
                if now > (fetched_at + credentials.expires_at) / 2:
                    self.fetch_ahead(role_arn, function_name)
                return credentials
        return await asyncio.shield(self._fetch(place))

    def fetch_ahead(self, role_arn: str, function_name: str) -> None:
        """Begin to fetch; a failure is logged, and met again by whoever needs the credentials."""
        place = (role_arn, function_name)
        if time.monotonic() - self._failed_at.get(place, float("-inf")) < RETRY_AFTER_S:
            return
        self._fetch(place)

    def check(self, role_arn: str, function_name: str) -> None:
        """Whether a role can be assumed; from any thread. Blocks; raises as `get` does."""
        self._source.check(role_arn, function_name)

    def assume(self, role_arn: str, name: str) -> Credentials:
        """New credentials for who keeps them himself; from any thread. Blocks; raises as `get` does."""
        return self._source.assume(role_arn, name)

    def prepare(self, role_arn: str, function_name: str) -> None:
        """Fetch ahead what is not there yet."""
        if self._source.blocks and (role_arn, function_name) not in self._kept:
            self.fetch_ahead(role_arn, function_name)

    def forget(self, function_name: str) -> None:
        """A function is gone."""
        for place in [place for place in self._kept if place[1] == function_name]:
            del self._kept[place]

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fetch(self, place: tuple[str, str]) -> asyncio.Task[Credentials]:
        task = self._fetching.get(place)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._assume(place))
            self._fetching[place] = task
            task.add_done_callback(lambda done: self._fetched(place, done))
        return task

    async def _assume(self, place: tuple[str, str]) -> Credentials:
        if self._source.blocks:
            credentials = await asyncio.to_thread(self._source.assume, *place)
        else:
            credentials = self._source.assume(*place)
        self._kept[place] = (time.time(), credentials)
        return credentials

    def _fetched(self, place: tuple[str, str], task: asyncio.Task[Credentials]) -> None:
        del self._fetching[place]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed_at[place] = time.monotonic()
            log.warning("no credentials for %s of %s: %s", *place, error)
        else:
            self._failed_at.pop(place, None)


def static_source(environ: Mapping[str, str]) -> StaticSource | None:
    """The credentials in RIE_FUNCTION_ACCESS_KEY_ID, _SECRET_ACCESS_KEY and _SESSION_TOKEN; None if there are none."""
    access_key, secret = environ.get("RIE_FUNCTION_ACCESS_KEY_ID"), environ.get("RIE_FUNCTION_SECRET_ACCESS_KEY")
    if not access_key or not secret:
        return None
    return StaticSource(Credentials(access_key, secret, environ.get("RIE_FUNCTION_SESSION_TOKEN", "")))
