"""An environment whose one runtime works on many invocations at a time (AWS_LAMBDA_MAX_CONCURRENCY): no I/O, no clock.

Each poll of the runtime is a place for one invocation; where no place is free the caller waits, in order. What is
different from `lifecycle.Machine` (service facts: managed instances):

1.  A timeout answers the caller and kills nobody, because others are being worked on; a late answer is 410.
2.  The end of the runtime's process, or of an external extension's, fails all that was being worked on and shuts the
    others down; the next invocation starts anew.
3.  Init may take as long as an invocation, and at least 130 s.
4.  Extensions are not told of invocations: external ones may subscribe to SHUTDOWN, the runtime's own to nothing.
5.  Answers are told apart by their request ids: one that is in use, by who runs or by who waits, is turned away.

    state      what happens                                           ends with
    BOOT       nothing                                                Booted                             → INIT
    INIT       extensions register, then the runtime starts           all wait, the runtime at least once → READY
                                                                      an end, an error, the limit        → CLOSING
    READY      each poll may get an invocation                        an end, an error                   → CLOSING
    CLOSING    `lifecycle`, rule 6; callers wait                      nobody is there                    → ABSENT
    ABSENT     nobody is there                                        an invocation                      → INIT
    SHUTDOWN   `lifecycle`, rule 6; callers are turned away           nobody is there                    → Exit
"""

import collections

from . import hosting
from .commands import (
    Accept,
    Answer,
    CancelTimer,
    Deliver,
    Exit,
    KillRuntime,
    LaunchExtension,
    Refuse,
    ReportEnd,
    ReportFault,
    ReportIdle,
    ReportInit,
    ReportInitRuntimeDone,
    ReportInitStart,
    ReportStart,
    Restore,
    SetTimer,
    SpawnRuntime,
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
    ResponseBegun,
    ResponsePosted,
    RestorePolled,
    ShutdownRequested,
    TimerFired,
)
from .extensions import Roster
from .farewell import EXIT_TIMER, FAILURE, GRACE_TIMER, SPINDOWN
from .faults import ExitCause, error_body, known_error_type, too_large_body
from .hosting import EXIT_GRACE_S, INIT_TIMER, PROVISIONED_INIT_LIMIT_S, Hosting
from .wire import MAX_RESPONSE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .records import Record

BOOT, ABSENT, INIT, READY, CLOSING, SHUTDOWN = "boot", "absent", "init", "ready", "closing", "shutdown"
DEADLINE = "deadline "  # and a request id: the timer of an invocation that runs
MAX_EXPIRED = 10_000  # ids of invocations that timed out and may still be answered


class ConcurrentMachine(Hosting):
    """Takes the events of `lifecycle.Machine` and gives its commands."""

    def __init__(self, timeout_s: float, grace_s: float, limit: int) -> None:
        super().__init__(Roster(hears_of_invocations=False))
        self.timeout_s = timeout_s
        self.grace_s = grace_s
        self.limit = limit
        self.state = BOOT
        self.init_result: ReportInit | None = None
        self._runs = False
        self._running: dict[str, tuple[Invocation, float]] = {}  # and when it began
        self._ids: set[str] = set()  # of those that run or wait
        self._expired: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._init_began_at = 0.0
        self._init_ms: float | None = None

    def __repr__(self) -> str:
        return f"<ConcurrentMachine {self.state}, {len(self._running)} running, {len(self._waiting)} waiting>"

    @property
    def is_free(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self._running and not self._waiting and self.state in (READY, ABSENT)

    @property
    def _is_in_init(self) -> bool:
        return self.state == INIT

    @property
    def _is_closing(self) -> bool:
        return self.state in (CLOSING, SHUTDOWN)

    @property
    def _has_runtime(self) -> bool:
        return self._runs

    def _forget_runtime(self) -> None:
        self._runs = False

    def accept(self, event: "Record", at: float) -> "list[Record]":
        """As `lifecycle.Machine.accept`."""
        handler = HANDLERS.get(type(event))
        if handler is None:
            raise IllegalEvent(f"cannot take {event!r}: it is no event of this machine")
        handler(self, event, at)
        out = self._out[:]
        self._out.clear()
        return out

    def _booted(self, event: Booted, at: float) -> None:
        if self.state != BOOT:
            raise IllegalEvent(f"cannot boot: the state is {self.state}")
        self._external = event.extensions
        self._init(at)

    def _init(self, at: float) -> None:
        self.state = INIT
        self._init_began_at = at
        self.roster.begin(self._external)
        self._out.append(ReportInitStart(self._init_phase))
        self._out += [LaunchExtension(name) for name in self._external]
        self._out.append(SetTimer(INIT_TIMER, at + max(PROVISIONED_INIT_LIMIT_S, self.timeout_s)))
        self._proceed(at)

    def _proceed(self, at: float) -> None:
        """Someone has registered or waits: init may go on, or end."""
        if self.state != INIT:
            return
        if not self._has_runtime and self.roster.are_registered:
            self._runs = True
            self._out.append(SpawnRuntime())
        elif self._polls and self.roster.are_ready:
            self._end_init("success", at)
            self.state = READY
            self._after_answer(at)

    def _end_init(self, status: str, at: float, error_type: str = "") -> None:
        self._out.append(CancelTimer(INIT_TIMER))
        if not self.roster.is_closed:  # the runtime has not come to its first poll
            self._out.append(ReportInitRuntimeDone(self._init_phase, status, error_type))
        report = ReportInit(self._init_phase, status, (at - self._init_began_at) * 1e3, error_type)
        self._init_ms = report.duration_ms if status == "success" and self.init_result is None else None
        self.init_result = report
        self._out.append(report)

    @property
    def _init_phase(self) -> str:
        return "init" if self.init_result is None else "invoke"

    # -- invocations ----------------------------------------------------------------------------------------------

    def _invoke_received(self, event: InvokeReceived, at: float) -> None:
        invocation = event.invocation
        if self.state == SHUTDOWN:
            self._out.append(TurnAway(invocation, TurnAway.SHUTDOWN))
        elif not self._waiting.has_room_for(invocation):
            self._out.append(TurnAway(invocation, TurnAway.FULL))
        elif invocation.request_id in self._ids:
            self._out.append(TurnAway(invocation, TurnAway.DUPLICATE))
        else:
            self._ids.add(invocation.request_id)
            self._waiting.add(invocation)
            if self.state == ABSENT:
                self._init(at)
            self._dispatch(at)

    def _dispatch(self, at: float) -> None:
        while self.state == READY and self._waiting and self._polls and len(self._running) < self.limit:
            invocation = self._waiting.take()
            self._running[invocation.request_id] = (invocation, at)
            deadline_at = at + self.timeout_s
            self._out += [
                ReportStart(invocation),
                SetTimer(DEADLINE + invocation.request_id, deadline_at),
                Deliver(self._polls.pop(0), invocation, deadline_at),
            ]

    def _end(self, request_id: str, status: str, at: float, error_type: str = "") -> Invocation:
        invocation, began_at = self._running.pop(request_id)
        self._ids.discard(request_id)
        self._out.append(CancelTimer(DEADLINE + request_id))
        self._out.append(ReportEnd(invocation, status, (at - began_at) * 1e3, self._init_ms, error_type))
        self._init_ms = None
        return invocation

    def _after_answer(self, at: float) -> None:
        """There is room again, and a client may have polled for more long before."""
        self._dispatch(at)
        if self.is_free:
            self._out.append(ReportIdle())

    def _is_running(self, exchange: "Any", request_id: str) -> bool:
        if request_id in self._running:
            return True
        if request_id in self._expired:
            self._out.append(Refuse(exchange, 410, "InvokeTimeout", "Invoke timeout"))
        else:
            self._out.append(Refuse(exchange, 400, "InvalidRequestID", "Invalid request ID"))
        return False

    def _response_posted(self, event: ResponsePosted, at: float) -> None:
        if not self._is_running(event.exchange, event.request_id):
            return
        if event.too_large:
            invocation = self._end(event.request_id, "error", at, "Function.ResponseSizeTooLarge")
            self._out.append(Answer(invocation, too_large_body(), is_error=True))
            message = f"Exceeded maximum allowed payload size ({MAX_RESPONSE} bytes)."
            self._out.append(Refuse(event.exchange, 413, "RequestEntityTooLarge", message))
        else:
            invocation = self._end(event.request_id, "success", at)
            self._out += [Answer(invocation, event.body), Accept(event.exchange)]
        self._after_answer(at)

    def _error_posted(self, event: ErrorPosted, at: float) -> None:
        if self._is_running(event.exchange, event.request_id):
            invocation = self._end(event.request_id, "error", at, known_error_type(event.error_type))
            self._out += [Answer(invocation, event.body, is_error=True), Accept(event.exchange)]
            self._after_answer(at)

    def _timer_fired(self, event: TimerFired, at: float) -> None:
        if event.name.startswith(DEADLINE) and event.name[len(DEADLINE) :] in self._running:
            self._time_out(event.name[len(DEADLINE) :], at)
        elif event.name == INIT_TIMER and self.state == INIT:
            self._fail_environment(ExitCause("Sandbox.Timedout", "the init phase took too long"), at)
        elif event.name == EXIT_TIMER and self._has_runtime:
            self._out.append(KillRuntime())
        elif event.name == GRACE_TIMER and self.state in (CLOSING, SHUTDOWN):
            self._farewell.time_is_up()

    def _time_out(self, request_id: str, at: float) -> None:
        """Rule 1."""
        message = f"Task timed out after {self.timeout_s:.2f} seconds"
        self._out.append(ReportFault(request_id, message + "\n"))
        invocation = self._end(request_id, "timeout", at, "Sandbox.Timedout")
        body = error_body("Sandbox.Timedout", f"RequestId: {request_id} Error: {message}")
        self._out.append(Answer(invocation, body, is_error=True))
        self._expired[request_id] = None
        if len(self._expired) > MAX_EXPIRED:
            self._expired.popitem(last=False)
        self._after_answer(at)

    # -- the runtime ----------------------------------------------------------------------------------------------

    def _next_polled(self, event: NextPolled, at: float) -> None:
        self._polls.append(event.exchange)
        if self.state == INIT and not self.roster.is_closed:
            self.roster.is_closed = True
            self._out.append(ReportInitRuntimeDone(self._init_phase, "success"))
        if self.state == INIT:
            self._proceed(at)
        else:
            self._after_answer(at)

    def _restore_polled(self, event: RestorePolled, at: float) -> None:
        self._out.append(Restore(event.exchange))

    def _init_error_posted(self, event: InitErrorPosted, at: float) -> None:
        if self.state != INIT or self._cause is not None:
            message = (
                "State transition from Ready to InitError failed for runtime. Error: State transition is not allowed"
            )
            self._out.append(Refuse(event.exchange, 403, "InvalidStateTransition", message))
            return
        self._cause = ExitCause(known_error_type(event.error_type), "", event.body)
        self._out += [Accept(event.exchange), SetTimer(EXIT_TIMER, at + EXIT_GRACE_S)]

    def _fail_environment(self, cause: ExitCause, at: float) -> None:
        """Rule 2; those who wait for an init that failed are told so."""
        if self._is_closing:
            return
        if cause.message:
            self._out.append(ReportFault("", f"Error: {cause.message}\n{cause.payload_type}"))
        failed = [self._end(request_id, "failure", at, cause.error_type) for request_id in list(self._running)]
        if self.state == INIT:
            self._end_init("error", at, cause.error_type)
            failed += self._waiting.give_up_all()
            self._ids.clear()
        for invocation in failed:
            self._out.append(Answer(invocation, cause.body_for(invocation.request_id), is_error=True))
        self.state = CLOSING
        if self._farewell.begin(FAILURE, at, self._has_runtime, 0.0):
            self._closed(at)

    def _closed(self, at: float) -> None:
        """Nobody is there any more."""
        self._polls.clear()
        if self.state == SHUTDOWN:
            self._out.append(Exit())
            return
        self.state = ABSENT
        if self._waiting:
            self._init(at)
        else:
            self._after_answer(at)

    def _shutdown_requested(self, event: ShutdownRequested, at: float) -> None:
        if self.state == SHUTDOWN:
            return
        for invocation in [*(running for running, _ in self._running.values()), *self._waiting.give_up_all()]:
            self._out.append(TurnAway(invocation, TurnAway.SHUTDOWN))
        self._out += [CancelTimer(DEADLINE + request_id) for request_id in self._running]
        self._running.clear()
        is_closing, self.state = self.state == CLOSING, SHUTDOWN
        if not is_closing and self._farewell.begin(SPINDOWN, at, self._has_runtime, self.grace_s):
            self._closed(at)

    def _response_begun(self, event: ResponseBegun, at: float) -> None:
        """Answers are taken whole here; `ResponsePosted` follows."""


HANDLERS: "dict[type, Callable[..., None]]" = {
    **hosting.HANDLERS,
    Booted: ConcurrentMachine._booted,
    InvokeReceived: ConcurrentMachine._invoke_received,
    NextPolled: ConcurrentMachine._next_polled,
    ResponseBegun: ConcurrentMachine._response_begun,
    ResponsePosted: ConcurrentMachine._response_posted,
    ErrorPosted: ConcurrentMachine._error_posted,
    InitErrorPosted: ConcurrentMachine._init_error_posted,
    RestorePolled: ConcurrentMachine._restore_polled,
    TimerFired: ConcurrentMachine._timer_fired,
    ShutdownRequested: ConcurrentMachine._shutdown_requested,
}
