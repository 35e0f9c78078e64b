"""How the command line talks to a running manager."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

ENDPOINT_HELP = "The manager's address (also RIE_ENDPOINT, AWS_ENDPOINT_URL_LAMBDA). [default: http://127.0.0.1:9000]"
TIMEOUT_S = 10.0
SIGN_HINT = "; a manager with --auth wants AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (rie keys add), or AWS_PROFILE"


class CannotReach(Exception):
    """The manager did not answer, or answered with an error."""


def endpoint_or_default(endpoint: str | None) -> str:
    """What was given, else RIE_ENDPOINT, AWS_ENDPOINT_URL_LAMBDA, or the port of `rie serve` on this machine."""
    own = f"http://127.0.0.1:{os.environ.get('RIE_PORT') or 9000}"
    named = os.environ.get("RIE_ENDPOINT") or os.environ.get("AWS_ENDPOINT_URL_LAMBDA")
    return (endpoint or named or own).rstrip("/")


def lambda_client(endpoint: str, read_limit_s: float = TIMEOUT_S) -> Any:
    """boto3's client, with the caller's credentials if he has any."""
    import boto3
    from botocore.config import Config

    session = boto3.Session()
    signed = session.get_credentials() is not None
    return session.client(
        "lambda",
        endpoint_url=endpoint,
        region_name=session.region_name or "us-east-1",
        config=Config(read_timeout=read_limit_s, retries={"total_max_attempts": 1}),
        **({} if signed else {"aws_access_key_id": "local", "aws_secret_access_key": "local"}),
    )


def get(endpoint: str, path: str, **query: str | int) -> Any:
    """The JSON document at an admin path. Raises CannotReach."""
    with _open(endpoint, path, query, TIMEOUT_S) as response:
        return json.loads(response.read())


def stream(endpoint: str, path: str, **query: str | int) -> Iterator[Any]:
    """The JSON lines at an admin path, as they come. Raises CannotReach."""
    with _open(endpoint, path, query, None) as response:
        while line := response.readline():
            yield json.loads(line)


def _open(endpoint: str, path: str, query: dict[str, str | int], timeout_s: float | None) -> http.client.HTTPResponse:
    url = urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise CannotReach(f"cannot use the endpoint {endpoint!r}: it is not http://host:port")
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname, url.port, timeout=timeout_s)
    target = f"{path}?{urlencode(query)}" if query else path
    try:
        connection.request("GET", target, headers=_signature(f"{endpoint}{target}"))
        response = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise CannotReach(f"cannot reach the manager at {endpoint}: {error}; is `rie serve` running?") from None
    if response.status == 403:
        raise CannotReach(f"cannot read {path} from {endpoint}: {_message(response)}{SIGN_HINT}")
    if response.status != 200:
        raise CannotReach(f"cannot read {path} from {endpoint}: {response.status} {response.reason}")
    return response


def _message(response: http.client.HTTPResponse) -> str:
    try:
        answer = json.loads(response.read())
        return str(answer.get("message") or answer.get("Message") or response.reason)
    except ValueError:
        return response.reason


def _signature(url: str) -> dict[str, str]:
    """Headers that sign a GET with the caller's credentials, none if he has none."""
    if not _may_have_credentials():
        return {}  # botocore takes a fifth of a second to say so
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    try:
        session = Session()
        credentials = session.get_credentials()
        if credentials is None:
            return {}
        request = AWSRequest("GET", url)
        SigV4Auth(credentials, "lambda", session.get_config_variable("region") or "us-east-1").add_auth(request)
    except BotoCoreError as error:
        raise CannotReach(f"cannot sign a request: {error}") from None
    return dict(request.headers.items())


def _may_have_credentials() -> bool:
    if any(os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_DEFAULT_PROFILE")):
        return True
    files = (os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"), "~/.aws/config")
    return any(Path(file).expanduser().exists() for file in files)
