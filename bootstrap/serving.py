"""What the runtime asks of an environment that works on one invocation at a time, and what its caller is answered.

The runtime's states, and what may be asked in each (nothing at all but to wait while the environment closes):

    state      GET next            POST response, error      POST init error
    ABSENT     (no process)
    STARTED    → READY             400 InvalidRequestID      → FAILED
    READY      waits too           400 InvalidRequestID      403
    RUNNING    403                 → RESPONDED, if current   403
    RESPONDED  → READY             400 InvalidRequestID      403
    FAILED     403                 403                       403
"""

from . import extensions
from .commands import (
    Accept,
    Answer,
    BeginStream,
    EndStream,
    Refuse,
    SetTimer,
)
from .events import ErrorPosted, InitErrorPosted, NextPolled, ResponseBegun, ResponseEnded, ResponsePosted
from .farewell import EXIT_TIMER
from .faults import ExitCause, known_error_type, too_large_body
from .hosting import EXIT_GRACE_S, Hosting
from .reports import Reports
from .wire import MAX_RESPONSE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .events import Invocation
    from .extensions import Roster

ABSENT, STARTED, READY, RUNNING, RESPONDED, FAILED = "absent", "started", "ready", "running", "responded", "failed"

# How the Runtime API names the states in its refusals.
WIRE_STATES = {
    ABSENT: "Exited",
    STARTED: "Started",
    READY: "Ready",
    RUNNING: "Running",
    RESPONDED: "RuntimeResponseSentState",
    FAILED: "InitError",
}


class Serving(Hosting):
    """One part of `lifecycle.Machine`, which has the phases."""

    def __init__(self, roster: "Roster", is_provisioned: bool) -> None:
        """`is_provisioned`: init is no part of any invocation."""
        super().__init__(roster)
        self.runtime = ABSENT
        self._current: Invocation | None = None
        self._is_answered = False  # the current one's caller
        self._is_streaming = False  # its answer goes to the caller as it comes
        self._reports = Reports(self._out, is_provisioned)

    @property
    def _has_runtime(self) -> bool:
        return self.runtime != ABSENT

    def _next_polled(self, event: NextPolled, at: float) -> None:
        if self._is_closing:
            self._polls.append(event.exchange)  # nothing will come; the runtime's end closes it
        elif self.runtime in (STARTED, RESPONDED, READY):
            self.runtime = READY
            self.roster.is_closed = True
            self._reports.runtime_ends("success", at)
            self._polls.append(event.exchange)
            self._proceed(at)
        else:
            self._refuse_transition(event.exchange, "InvocationNext")

    def _refuse_transition(self, exchange: "Any", wanted: str) -> None:
        message = (
            f"State transition from {WIRE_STATES[self.runtime]} to {wanted} failed for runtime. "
            "Error: State transition is not allowed"
        )
        self._out.append(Refuse(exchange, 403, "InvalidStateTransition", message))

    def _is_current(self, exchange: "Any", request_id: str, wanted: str) -> bool:
        """Whether an answer to `request_id` is due; when not, the runtime has been told."""
        if self.runtime in (FAILED, ABSENT) or self._is_closing:
            self._refuse_transition(exchange, wanted)
        elif self.runtime != RUNNING or self._current is None or request_id != self._current.request_id:
            self._out.append(Refuse(exchange, 400, "InvalidRequestID", "Invalid request ID"))
        else:
            return True
        return False

    def _response_posted(self, event: ResponsePosted, at: float) -> None:
        if not self._is_current(event.exchange, event.request_id, "InvocationResponse"):
            return
        invocation = self._current
        assert invocation is not None
        self.runtime = RESPONDED
        if event.too_large:
            self._fail(too_large_body(), "error", "Function.ResponseSizeTooLarge", at)
            message = f"Exceeded maximum allowed payload size ({MAX_RESPONSE} bytes)."
            self._out.append(Refuse(event.exchange, 413, "RequestEntityTooLarge", message))
            return
        self._reports.runtime_done("success", at, len(event.body))
        if not self.roster.subscribers(extensions.INVOKE):
            self._reports.end("success", at)
        answer, accept = Answer(invocation, event.body), Accept(event.exchange)
        # Where others wait, the runtime goes on while the answer is sent; else nobody but this caller waits.
        self._out += [accept, answer] if self._waiting else [answer, accept]
        self._is_answered = True

    def _response_begun(self, event: ResponseBegun, at: float) -> None:
        """Only a caller who wants pieces gets them; what is wrong with an answer is told when it is whole."""
        current = self._current
        if current is None or not current.wants_stream or event.request_id != current.request_id:
            return
        if self.runtime == RUNNING and not self._is_streaming:
            self._is_streaming = True
            self._out.append(BeginStream(event.exchange, current, event.content_type))

    def _response_ended(self, event: ResponseEnded, at: float) -> None:
        if not self._is_streaming or self._is_answered or self.runtime != RUNNING:
            self._refuse_transition(event.exchange, "InvocationResponse")
            return
        assert self._current is not None
        self.runtime = RESPONDED
        if event.error_type:
            self._fail(event.error_body, "error", event.error_type, at)
        else:
            self._reports.runtime_done("success", at, event.produced)
            if not self.roster.subscribers(extensions.INVOKE):
                self._reports.end("success", at)
            self._out.append(EndStream(self._current))
            self._is_answered = True
        self._out.append(Accept(event.exchange))

    def _error_posted(self, event: ErrorPosted, at: float) -> None:
        if self._is_current(event.exchange, event.request_id, "InvocationErrorResponse"):
            self.runtime = RESPONDED
            self._fail(event.body, "error", known_error_type(event.error_type), at)
            self._out.append(Accept(event.exchange))

    def _init_error_posted(self, event: InitErrorPosted, at: float) -> None:
        if self.runtime != STARTED or self._is_closing:
            self._refuse_transition(event.exchange, "InitError")
            return
        self.runtime = FAILED
        self._cause = ExitCause(known_error_type(event.error_type), "", event.body)
        self._out += [Accept(event.exchange), SetTimer(EXIT_TIMER, at + EXIT_GRACE_S)]

    def _fail(self, body: bytes, status: str, error_type: str, at: float, kind: str = "error") -> None:
        """Answer the current invocation with an error of the function, and report its end."""
        invocation = self._current
        assert invocation is not None
        self._reports.runtime_done(status, at, len(body), error_type)
        if status != "error" or not self.roster.subscribers(extensions.INVOKE):
            self._reports.end(status, at, error_type)
        if self._is_streaming:
            self._out.append(EndStream(invocation, error_type, body))
        else:
            self._out.append(Answer(invocation, body, is_error=True, kind=kind))
        self._is_answered = True


HANDLERS: "dict[type, Callable[..., None]]" = {
    NextPolled: Serving._next_polled,
    ResponseBegun: Serving._response_begun,
    ResponseEnded: Serving._response_ended,
    ResponsePosted: Serving._response_posted,
    ErrorPosted: Serving._error_posted,
    InitErrorPosted: Serving._init_error_posted,
}
