"""One invocation as it passes from a caller to an environment, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Listener(Protocol):
    """Who hears an answer as the runtime makes it; called on the event loop.

    `trace_id` is set before anything else happens: the trace header that the function is given.
    """

    trace_id: str

    def begin(self, content_type: str, version: str) -> None:
        """The runtime, of that version of the function, begins an answer of that type."""

    def piece(self, data: bytes) -> bool:
        """A piece of it; False: the runtime should wait for `on_drained`."""

    def on_drained(self, callback: Callable[[], None]) -> None:
        """Have `callback` called once, when more can be taken or nobody listens any more."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call, checked.

    `function_arn` is the ARN exactly as the caller addressed the function; `client_context` the caller's base64 text;
    `payload` JSON, never empty; `tenant_id` "" for a function that isolates no tenants.
    """

    request_id: str
    payload: bytes
    function_arn: str
    trace_id: str = ""
    client_context: str = ""
    wants_log: bool = False
    tenant_id: str = ""


STOPPED = "stopped"
"""The status of a durable execution that somebody has stopped: nobody wants it tried again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a function answered, an error of its own included.

    `function_error` is "Unhandled" or None; `log_tail` the base64 text of the last 4 KB of the invocation's log, None
    unless it was asked for; times in ms, `init_ms` None on a warm start; `status` as in the platform's report
    ("success", "error", "failure", "timeout"), or STOPPED; `trace_id` the trace header that the function was given;
    `durable_execution_arn` "" for all but durable functions.

    `is_heard`: a listener got the answer as it was made, and `payload` is empty, or, with an `error_type`, the error
    (JSON) that ended the answer before it was whole.
    """

    payload: bytes
    executed_version: str
    function_error: str | None = None
    log_tail: str | None = None
    duration_ms: float = 0.0
    billed_ms: int = 0
    max_memory_mb: int = 0
    init_ms: float | None = None
    status: str = "success"
    trace_id: str = ""
    is_heard: bool = False
    error_type: str = ""
    durable_execution_arn: str = ""
