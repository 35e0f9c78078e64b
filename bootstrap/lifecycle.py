"""The life of an execution environment, as a machine without I/O and without a clock.

Events go in with the instant they happened at; commands come out, to be carried out in order.

Rules (service specification §3.3 to §3.6):

1.  Init runs once, at boot, for at most 10 s. It ends well when the runtime asks for its first event.
2.  An init that failed or took too long is repeated inside the next invocation, on that invocation's time.
3.  One invocation at a time; the others wait in order. The phase begins when the invocation is taken up and ends when
    the runtime, having answered, asks for the next event. The caller is answered as soon as the runtime has answered.
4.  The timeout covers the phase. When it passes, the runtime and all that it started are killed; the next invocation
    starts a new one.
5.  A runtime that exits in the phase fails the invocation; one that exits after its answer fails nothing.
6.  What the tables do not list is refused to whoever asked, and changes nothing.

The runtime's states, and what may be asked in each:

    state      GET next            POST response, error      POST init error
    ABSENT     (no process)
    STARTED    → READY             400 InvalidRequestID      → FAILED
    READY      waits too           400 InvalidRequestID      403
    RUNNING    403                 → RESPONDED, if current   403
    RESPONDED  → READY             400 InvalidRequestID      403
    FAILED     403                 403                       403
    KILLED     403                 403                       403      (until the process is gone: → ABSENT)
"""

import collections

from .commands import (
    Accept,
    Answer,
    CancelTimer,
    Deliver,
    Exit,
    KillRuntime,
    Refuse,
    ReportEnd,
    ReportFault,
    ReportInit,
    ReportStart,
    SetTimer,
    SpawnRuntime,
    TerminateRuntime,
    TurnAway,
)
from .errors import IllegalEvent
from .events import (
    Booted,
    ErrorPosted,
    InitErrorPosted,
    Invocation,
    InvokeReceived,
    NextPolled,
    PollLost,
    ResponsePosted,
    RuntimeExited,
    ShutdownRequested,
    SpawnFailed,
    TimerFired,
)
from .faults import ExitCause, cause_of, error_body, known_error_type
from .wire import MAX_RESPONSE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .records import Record

ABSENT, STARTED, READY, RUNNING, RESPONDED, FAILED, KILLED = (
    "absent",
    "started",
    "ready",
    "running",
    "responded",
    "failed",
    "killed",
)
BOOT, INIT, IDLE, INVOKE, SHUTDOWN = "boot", "init", "idle", "invoke", "shutdown"

INIT_TIMER, INVOKE_TIMER, EXIT_TIMER = "init", "invoke", "exit"
INIT_LIMIT_S = 10.0  # the service's limit for on-demand init
EXIT_GRACE_S = 0.5  # how long a runtime that reported an init error, or got SIGTERM, may take to end
MAX_WAITING = 1_000  # invocations in line; the next one is turned away
MAX_WAITING_BYTES = 268_435_456  # and so is one whose event would not fit beside theirs


class Machine:
    """One environment: one runtime, one invocation at a time."""

    def __init__(self, timeout_s: float, grace_s: float = EXIT_GRACE_S) -> None:
        self.timeout_s = timeout_s
        self.grace_s = grace_s
        self.phase = BOOT
        self.runtime = ABSENT
        self.init_result: ReportInit | None = None
        self._waiting: collections.deque[Invocation] = collections.deque()
        self._waiting_bytes = 0
        self._polls: list[Any] = []
        self._current: Invocation | None = None
        self._is_answered = False  # the current one's caller has been
        self._began_at = 0.0  # of the phase
        self._spawned_at = 0.0
        self._init_ms: float | None = None  # until the first REPORT has told it
        self._cause: ExitCause | None = None  # why the runtime's end is already known
        self._out: list[Record] = []

    def __repr__(self) -> str:
        return f"<Machine {self.phase}, runtime {self.runtime}, {len(self._waiting)} waiting>"

    @property
    def waiting(self) -> int:
        """How many invocations wait in line."""
        return len(self._waiting)

    def accept(self, event: "Record", at: float) -> "list[Record]":
        """Take one event that happened at instant `at` (seconds); the commands that follow from it.

        Raises IllegalEvent for one that can't happen in this state; nothing has changed then.
        """
        handler = HANDLERS.get(type(event))
        if handler is None:
            raise IllegalEvent(f"cannot take {event!r}: it is no event of this machine")
        handler(self, event, at)
        out, self._out = self._out, []
        return out

    # -- the environment ------------------------------------------------------------------------------------------

    def _booted(self, event: Booted, at: float) -> None:
        if self.phase != BOOT:
            raise IllegalEvent(f"cannot boot: the phase is {self.phase}")
        self.phase = INIT
        self._spawn(at)
        self._out.append(SetTimer(INIT_TIMER, at + INIT_LIMIT_S))

    def _shutdown_requested(self, event: ShutdownRequested, at: float) -> None:
        if self.phase == SHUTDOWN:
            return
        self.phase = SHUTDOWN
        self._out += [CancelTimer(INIT_TIMER), CancelTimer(INVOKE_TIMER)]
        if self._current is not None and not self._is_answered:
            self._waiting.appendleft(self._current)
        self._current = None
        for invocation in self._waiting:
            self._out.append(TurnAway(invocation, "the execution environment is shutting down"))
        self._waiting.clear()
        if self.runtime == ABSENT:
            self._out.append(Exit())
        elif self.runtime != KILLED:
            self._out += [TerminateRuntime(), SetTimer(EXIT_TIMER, at + self.grace_s)]

    def _timer_fired(self, event: TimerFired, at: float) -> None:
        if event.name == EXIT_TIMER and self.runtime not in (ABSENT, KILLED):
            self._out.append(KillRuntime())
        elif event.name == INIT_TIMER and self.phase == INIT:
            self._end_init("timeout", at, "Sandbox.Timedout")
            self._kill()
        elif event.name == INVOKE_TIMER and self.phase == INVOKE:
            self._time_out(at)

    def _time_out(self, at: float) -> None:
        assert self._current is not None
        if not self._is_answered:
            message = f"Task timed out after {self.timeout_s:.2f} seconds"
            self._out.append(ReportFault(self._current.request_id, message + "\n"))
            body = error_body("Sandbox.Timedout", f"RequestId: {self._current.request_id} Error: {message}")
            self._fail(body, "timeout", "", min(at, self._began_at + self.timeout_s))
        self._kill()

    # -- callers --------------------------------------------------------------------------------------------------

    def _invoke_received(self, event: InvokeReceived, at: float) -> None:
        invocation = event.invocation
        if self.phase == SHUTDOWN:
            self._out.append(TurnAway(invocation, "the execution environment is shutting down"))
            return
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + len(invocation.body) > MAX_WAITING_BYTES:
            self._out.append(TurnAway(invocation, f"{len(self._waiting)} invocations are waiting already"))
            return
        self._waiting.append(invocation)
        self._waiting_bytes += len(invocation.body)
        self._advance(at)

    def _advance(self, at: float) -> None:
        """Take up the next invocation, if one waits and the environment is free."""
        if self.phase != IDLE or not self._waiting or self.runtime == KILLED:
            return
        self._current = invocation = self._waiting.popleft()
        self._is_answered = False
        self._waiting_bytes -= len(invocation.body)
        self.phase = INVOKE
        self._began_at = at
        self._out += [ReportStart(invocation), SetTimer(INVOKE_TIMER, at + self.timeout_s)]
        if self.runtime == ABSENT:
            self._spawn(at)  # rule 2
        elif self._polls:
            self._deliver()
        # else the runtime's connection is gone: it polls again, ends, or runs into the timeout

    def _deliver(self) -> None:
        assert self._current is not None
        self.runtime = RUNNING
        self._out.append(Deliver(self._polls.pop(0), self._current, self._began_at + self.timeout_s))

    def _fail(self, body: bytes, status: str, error_type: str, at: float) -> None:
        """End the current invocation with an error of the function."""
        invocation = self._current
        assert invocation is not None
        self._report_end(status, error_type, at)
        self._out.append(Answer(invocation, body, is_error=True))
        self._is_answered = True

    def _report_end(self, status: str, error_type: str, at: float) -> None:
        assert self._current is not None
        duration_ms = (at - self._began_at) * 1e3
        self._out.append(ReportEnd(self._current, status, duration_ms, self._init_ms, error_type))
        self._init_ms = None

    def _end_phase(self, at: float) -> None:
        self._out.append(CancelTimer(INVOKE_TIMER))
        self._current = None
        self.phase = IDLE
        self._advance(at)

    # -- the runtime's requests -----------------------------------------------------------------------------------

    def _next_polled(self, event: NextPolled, at: float) -> None:
        if self.phase == SHUTDOWN:
            self._polls.append(event.exchange)  # nothing will come; the runtime's end closes it
        elif self.runtime == STARTED:
            self.runtime = READY
            self._polls.append(event.exchange)
            if self.phase == INIT:
                self._init_ms = self._end_init("success", at).duration_ms
                self._advance(at)
            elif self.phase == INVOKE:
                self._report_init("invoke", "success", at)
                self._deliver()
        elif self.runtime == RESPONDED:
            self.runtime = READY
            self._polls.append(event.exchange)
            self._end_phase(at)
        elif self.runtime == READY:
            self._polls.append(event.exchange)
            if self.phase == INVOKE:
                self._deliver()
        else:
            self._refuse_transition(event.exchange, "InvocationNext")

    def _poll_lost(self, event: PollLost, at: float) -> None:
        if event.exchange in self._polls:
            self._polls.remove(event.exchange)

    def _refuse_transition(self, exchange: "Any", wanted: str) -> None:
        message = (
            f"State transition from {WIRE_STATES[self.runtime]} to {wanted} failed for runtime. "
            "Error: State transition is not allowed"
        )
        self._out.append(Refuse(exchange, 403, "InvalidStateTransition", message))

    def _is_current(self, exchange: "Any", request_id: str, wanted: str) -> bool:
        """Whether an answer to `request_id` is due; when not, the runtime has been told."""
        if self.runtime in (FAILED, KILLED, ABSENT):
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
            message = f"xceeded maximum allowed payload size ({MAX_RESPONSE} bytes)."
            body = error_body("Function.ResponseSizeTooLarge", f"Response payload size e{message}")
            self._fail(body, "error", "Function.ResponseSizeTooLarge", at)
            self._out.append(Refuse(event.exchange, 413, "RequestEntityTooLarge", f"E{message}"))
            return
        self._report_end("success", "", at)
        self._out += [Answer(invocation, event.body), Accept(event.exchange)]
        self._is_answered = True

    def _error_posted(self, event: ErrorPosted, at: float) -> None:
        if self._is_current(event.exchange, event.request_id, "InvocationErrorResponse"):
            self.runtime = RESPONDED
            self._fail(event.body, "error", known_error_type(event.error_type), at)
            self._out.append(Accept(event.exchange))

    def _init_error_posted(self, event: InitErrorPosted, at: float) -> None:
        if self.runtime != STARTED:
            self._refuse_transition(event.exchange, "InitError")
            return
        self.runtime = FAILED
        self._cause = ExitCause(known_error_type(event.error_type), "", event.body)
        self._out += [Accept(event.exchange), SetTimer(EXIT_TIMER, at + EXIT_GRACE_S)]

    # -- the runtime's process ------------------------------------------------------------------------------------

    def _spawn(self, at: float) -> None:
        self.runtime = STARTED
        self._cause = None
        self._spawned_at = at
        self._out.append(SpawnRuntime())

    def _kill(self) -> None:
        self.runtime = KILLED
        self._polls.clear()
        self._out.append(KillRuntime())

    def _spawn_failed(self, event: SpawnFailed, at: float) -> None:
        self._runtime_ended(ExitCause(event.error_type, event.message), at)

    def _runtime_exited(self, event: RuntimeExited, at: float) -> None:
        if self.runtime == ABSENT:
            raise IllegalEvent("cannot end the runtime: there is none")
        self._runtime_ended(self._cause or cause_of(event), at)

    def _runtime_ended(self, cause: ExitCause, at: float) -> None:
        was = self.runtime
        self.runtime = ABSENT
        self._cause = None
        self._polls.clear()
        self._out.append(CancelTimer(EXIT_TIMER))
        if self.phase == SHUTDOWN:
            self._out.append(Exit())
        elif self.phase == INIT:
            self._report_cause("", cause)
            self._end_init("error", at, cause.error_type)
            self._advance(at)
        elif self.phase == INVOKE:
            if was in (STARTED, FAILED):
                self._report_init("invoke", "error", at, cause.error_type)
            if not self._is_answered:
                assert self._current is not None
                self._report_cause(self._current.request_id, cause)
                self._fail(cause.body_for(self._current.request_id), "failure", cause.error_type, at)
            self._end_phase(at)
        else:
            self._advance(at)

    def _report_cause(self, request_id: str, cause: ExitCause) -> None:
        if cause.message:  # an init error has been logged by the runtime itself
            prefix = f"RequestId: {request_id} " if request_id else ""
            self._out.append(ReportFault("", f"{prefix}Error: {cause.message}\n{cause.payload_type}"))

    def _end_init(self, status: str, at: float, error_type: str = "") -> ReportInit:
        self.phase = IDLE
        self._out.append(CancelTimer(INIT_TIMER))
        self.init_result = self._report_init("init", status, at, error_type)
        return self.init_result

    def _report_init(self, phase: str, status: str, at: float, error_type: str = "") -> ReportInit:
        report = ReportInit(phase, status, (at - self._spawned_at) * 1e3, error_type)
        self._out.append(report)
        return report


# How the Runtime API names the states in its refusals.
WIRE_STATES = {
    ABSENT: "Exited",
    STARTED: "Started",
    READY: "Ready",
    RUNNING: "Running",
    RESPONDED: "RuntimeResponseSentState",
    FAILED: "InitError",
    KILLED: "Exited",
}

HANDLERS: "dict[type, Callable[..., None]]" = {
    Booted: Machine._booted,
    InvokeReceived: Machine._invoke_received,
    NextPolled: Machine._next_polled,
    PollLost: Machine._poll_lost,
    ResponsePosted: Machine._response_posted,
    ErrorPosted: Machine._error_posted,
    InitErrorPosted: Machine._init_error_posted,
    RuntimeExited: Machine._runtime_exited,
    SpawnFailed: Machine._spawn_failed,
    TimerFired: Machine._timer_fired,
    ShutdownRequested: Machine._shutdown_requested,
}
