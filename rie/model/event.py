"""An event of the asynchronous queue, and what a function wants done with its events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rie.model.function import LATEST, FunctionKey
from rie.model.record import Kind

MAX_EVENT = 1_048_576  # bytes of an asynchronous invocation, AWS limit (lambda.md §2.2)
DEFAULT_ATTEMPTS = 2  # retries after the first attempt
DEFAULT_MAX_AGE_S = 21_600


@dataclass(frozen=True, slots=True)
class Event:
    """One asynchronous invocation, from its acknowledgement to its end.

    `event_id` is the request id of every attempt; `qualifier` as it was addressed, None for none; instants are epoch
    seconds. `attempts` counts those that ran, `due_at` is when the next may; `last` is what the newest attempt
    answered.
    """

    event_id: str
    key: FunctionKey
    qualifier: str | None
    payload: bytes
    accepted_at: float
    due_at: float
    trace_id: str = ""
    attempts: int = 0
    last: Attempt | None = None
    tenant_id: str = ""

    @property
    def qualified_arn(self) -> str:
        """The function's ARN as records of its fate have it: always qualified."""
        return f"{self.key.arn}:{self.qualifier or LATEST}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one run of an event came to: the function's answer as text, and the version that gave it."""

    payload: str
    executed_version: str
    function_error: str | None = None


@dataclass(frozen=True, slots=True)
class EventInvokeConfig:
    """FunctionEventInvokeConfig of a function and qualifier (lambda.md §5.3); None and "" where nothing is set.

    `modified_at` is in epoch seconds.
    """

    modified_at: float
    max_retries: int | None = None
    max_age_s: int | None = None
    on_success: str | None = None
    on_failure: str | None = None


EVENT_INVOKE = Kind("event-invoke", EventInvokeConfig)
"""Placed by function and qualifier, "$LATEST" for the unqualified function."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Something to be sent to a destination: written down with the end of its event, sent until it has arrived.

    `target` is an ARN; `body` the record, or of a dead letter the event, as text; `role` the execution role to send
    as; `error_code` and `error_message` are a dead letter's attributes, or `attributes` where it has any; `folder` is
    where buckets get it; instants are epoch seconds.
    """

    delivery_id: str
    target: str
    body: str
    region: str
    role: str
    due_at: float
    folder: str = ""
    function_arn: str = ""
    is_success: bool = False
    error_code: str | None = None
    error_message: str | None = None
    request_id: str = ""
    trace_id: str = ""
    is_dead_letter: bool = False
    attempts: int = 0
    created_at: float = 0.0
    attributes: Mapping[str, str] = field(default_factory=dict)
