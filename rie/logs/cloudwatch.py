"""One PutLogEvents call, its group and stream made when they are missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rie.logs.batches import LogEvent

ClientOf = Callable[[str, str], Any]
"""A CloudWatch Logs client for (region, role ARN); may block, and raise botocore's errors."""

_ALREADY_THERE = ("ResourceAlreadyExistsException", "OperationAbortedException")
_ALREADY_TAKEN = ("DataAlreadyAcceptedException",)
_LATER = (
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "LimitExceededException",
)


class Unreachable(Exception):
    """The endpoint can't take lines now."""


class Refused(Exception):
    """It never will take these: the role may not, or they are not to its liking."""


class CloudWatch:
    """Blocks; from any thread."""

    def __init__(self, client_of: ClientOf) -> None:
        self._client_of = client_of

    def put(self, region: str, role: str, group: str, stream: str, events: list[LogEvent]) -> None:
        """Send one batch. Raises Unreachable, Refused."""
        try:
            client = self._client_of(region, role)
            _put(client, group, stream, events)
        except Exception as error:  # botocore's errors have no common root but Exception
            response = getattr(error, "response", {})
            code = response.get("Error", {}).get("Code", "")
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            if code in _ALREADY_TAKEN:
                return
            if not response or status >= 500 or code in _LATER:
                raise Unreachable(str(error)) from error
            raise Refused(str(error)) from error


def _put(client: Any, group: str, stream: str, events: list[LogEvent]) -> None:
    place = {"logGroupName": group, "logStreamName": stream}
    try:
        client.put_log_events(**place, logEvents=events)
    except client.exceptions.ResourceNotFoundException:
        _make(client.create_log_group, logGroupName=group)
        _make(client.create_log_stream, **place)
        client.put_log_events(**place, logEvents=events)


def _make(create: Callable[..., Any], **names: str) -> None:
    try:
        create(**names)
    except Exception as error:
        if getattr(error, "response", {}).get("Error", {}).get("Code") not in _ALREADY_THERE:
            raise
