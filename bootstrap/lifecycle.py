"""The life of an execution environment, as a machine without I/O and without a clock.

Events go in with the instant they happened at; commands come out, to be carried out in order.

Rules (service specification §3.3 to §3.7):

1.  Init: external extensions are launched; once all have registered, the runtime starts; init ends well when the
    runtime and every extension wait for their first event. It runs once, at boot, for at most 10 s
    (longer where it runs ahead of callers: provisioned concurrency, snapshots).
2.  An init that failed or took too long is repeated inside the next invocation, on that invocation's time.
3.  One invocation at a time; the others wait in order. The phase begins when the invocation is taken up and ends when
    the runtime, having answered, and every extension that was told of it ask for their next event. The caller is
    answered as soon as the runtime has answered.
4.  The timeout covers the phase. When it passes, everything is shut down; the next invocation starts anew.
5.  A runtime or an extension that exits in the phase fails the invocation, unless its caller has been answered.
6.  Shutdown: without extensions the runtime is killed at once (at the environment's end after a grace, which the
    service does not give); with extensions it gets SIGTERM and 30 % of the budget, then those subscribed to SHUTDOWN
    are told the reason and have the rest; who is left then is killed.
7.  When the function's files change, its runtime is shut down as soon as it is idle, and the next invocation starts
    anew as after rule 4, though nobody has failed; an init that is under way begins again.
8.  Where a snapshot is to be taken, init ends when the runtime waits to be restored (or, if it does not know how, for
    its first event) and the extensions for theirs. What is made from the snapshot has 10 s for the runtime's hooks;
    if they fail, it serves nobody.
9.  What the tables do not list is refused to whoever asked, and changes nothing.

    phase      what happens                                 ends with
    BOOT       nothing                                      Booted; if lazy, an invocation     → INIT
    INIT       rule 1                                       all wait                           → IDLE; PARKED by rule 8
                                                            an exit, an error, 10 s, rule 7    → RESET
    PARKED     everyone waits for the snapshot              it has been made anew              → RESTORE
                                                            an exit, an error                  → RESET
    RESTORE    rule 8                                       all wait                           → IDLE
                                                            an exit, an error, 10 s            → RESET
    IDLE       everyone waits, or nobody is there           an invocation                      → INVOKE
                                                            an exit, rule 7                    → RESET
    INVOKE     rule 2 if nobody is there, then rule 3       all wait                           → IDLE, or rule 7
                                                            an exit, an error, the timeout     → RESET
    RESET      rule 6; callers wait                         nobody is there                    → IDLE, or INIT by rule 7
    SHUTDOWN   rule 6; callers are turned away              nobody is there                    → Exit
"""

from . import extensions, hosting, serving
from .commands import (
    CancelTimer,
    Deliver,
    DeliverInvoke,
    EndStream,
    Exit,
    KillRuntime,
    LaunchExtension,
    ReportFault,
    ReportIdle,
    ReportInit,
    ReportParked,
    Restore,
    SetTimer,
    SpawnRuntime,
    TurnAway,
)
from .errors import IllegalEvent
from .events import (
    Booted,
    CodeChanged,
    Invocation,
    InvokeReceived,
    Restored,
    RestorePolled,
    ShutdownRequested,
    TimerFired,
)
from .extensions import Roster
from .farewell import EXIT_TIMER, FAILURE, GRACE_TIMER, SPINDOWN, TIMEOUT
from .faults import ExitCause, error_body
from .hosting import EXIT_GRACE_S, INIT_TIMER, PROVISIONED_INIT_LIMIT_S
from .serving import ABSENT, READY, RUNNING, STARTED, Serving

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .records import Record

BOOT, INIT, IDLE, INVOKE, RESET, SHUTDOWN = "boot", "init", "idle", "invoke", "reset", "shutdown"
PARKED, RESTORE = "parked", "restore"

INVOKE_TIMER, RESTORE_TIMER = "invoke", "restore"
PATIENCE = "patience "  # and a request id: the timer of an invocation that waits
INIT_LIMIT_S = 10.0  # the service's limit for on-demand init
RESTORE_LIMIT_S = 10.0  # the service's limit for hooks after a snapshot


class Machine(Serving):
    """One environment: one runtime, its extensions, one invocation at a time."""

    def __init__(
        self,
        timeout_s: float,
        grace_s: float = EXIT_GRACE_S,
        is_lazy: bool = False,
        is_provisioned: bool = False,
        is_template: bool = False,
    ) -> None:
        """`is_lazy`: init waits for the first invocation; `is_provisioned`: it is no part of any invocation.

        `is_template`: rule 8.
        """
        super().__init__(Roster(), is_provisioned)
        self.timeout_s = timeout_s
        self.grace_s = grace_s
        self.phase = BOOT
        self._is_lazy = is_lazy
        self._is_provisioned = is_provisioned
        self._is_template = is_template
        self._restore: Any = None  # the runtime's request for it, while it waits
        self.init_result: ReportInit | None = None
        self._begins_with_init = False  # the current one had to begin with an init
        self._is_delivered = False  # the current one's event, to the runtime
        self._is_stale = False  # the files of the function have changed under the runtime
        self._begins_again = False  # with init, once the reset that is under way has ended

    def __repr__(self) -> str:
        return f"<Machine {self.phase}, runtime {self.runtime}, {len(self._waiting)} waiting>"

    @property
    def is_free(self) -> bool:
        """Whether an invocation would be taken up at once."""
        return self.phase == IDLE and not self._waiting

    @property
    def _is_in_init(self) -> bool:
        return self.phase == INIT or (self.phase == INVOKE and self._begins_with_init)

    @property
    def _is_closing(self) -> bool:
        return self.phase in (RESET, SHUTDOWN)

    def accept(self, event: "Record", at: float) -> "list[Record]":
        """Take one event that happened at instant `at` (seconds); the commands that follow from it.

        Raises IllegalEvent for one that can't happen in this state; nothing has changed then.
        """
        handler = HANDLERS.get(type(event))
        if handler is None:
            raise IllegalEvent(f"cannot take {event!r}: it is no event of this machine")
        handler(self, event, at)
        out = self._out[:]
        self._out.clear()
        return out

    # -- phases ---------------------------------------------------------------------------------------------------

    def _booted(self, event: Booted, at: float) -> None:
        if self.phase != BOOT:
            raise IllegalEvent(f"cannot boot: the phase is {self.phase}")
        self._external = event.extensions
        if not self._is_lazy:
            self._init(at)

    def _init(self, at: float) -> None:
        self.phase = INIT
        limit_s = max(PROVISIONED_INIT_LIMIT_S, self.timeout_s) if self._is_provisioned else INIT_LIMIT_S
        self._out.append(SetTimer(INIT_TIMER, at + limit_s))
        self._begin_init(at)

    def _begin_init(self, at: float) -> None:
        """Rule 1, at boot or within an invocation."""
        self._reports.init_begins(INIT if self.phase == INIT else INVOKE, self._current, at)
        self.roster.begin(self._external)
        self._out += [LaunchExtension(name) for name in self._external]
        if not self._external:
            self._spawn()

    def _spawn(self) -> None:
        self.runtime = STARTED
        self._reports.runtime_begins()
        self._out.append(SpawnRuntime())

    def _proceed(self, at: float) -> None:
        """Someone new waits for an event: whatever was waiting for that goes on."""
        if self.phase in (INIT, INVOKE) and self.runtime == ABSENT and self.roster.are_registered:
            self._spawn()
        elif self.phase == INIT and self._is_waiting and self.roster.are_ready:
            self._end_init("success", at)
            if self._is_template:
                self._is_template = False  # if it fails from now on, another init is an ordinary one
                self.phase = PARKED
                self._out.append(ReportParked())
            else:
                self.phase = IDLE
                self._advance(at)
        elif self.phase == RESTORE and self.runtime == READY and self.roster.are_ready:
            self._out.append(CancelTimer(RESTORE_TIMER))
            self.phase = IDLE
            self._advance(at)
        elif self.phase == INVOKE and not self._is_delivered:
            if self._polls and self.runtime == READY and self.roster.are_ready:
                if self._begins_with_init:
                    self._reports.init_ends("success", at)
                self._deliver()
        elif self.phase == INVOKE and self.runtime == READY and self.roster.are_back:
            self._reports.end("success", at)
            self._out.append(CancelTimer(INVOKE_TIMER))
            self._current = None
            self.phase = IDLE
            if self._is_stale:
                self._close(RESET, SPINDOWN, at)
            else:
                self._advance(at)

    @property
    def _is_waiting(self) -> bool:
        """Whether the runtime waits for whatever comes after init."""
        return self.runtime == READY or self._restore is not None

    def _advance(self, at: float) -> None:
        """Take up the next invocation, if one waits and the environment is free."""
        if self.phase != IDLE:
            return
        if not self._waiting:
            self._out.append(ReportIdle())
            return
        invocation = self._waiting.take()
        if invocation.patience_s is not None:
            self._out.append(CancelTimer(PATIENCE + invocation.request_id))
        self._take_up(invocation, at)

    def _take_up(self, invocation: Invocation, at: float) -> None:
        """The invoke phase begins."""
        self._current = invocation
        self.phase = INVOKE
        self._is_delivered = self._is_answered = self._is_streaming = False
        self._reports.begin(invocation, at)
        self._out.append(SetTimer(INVOKE_TIMER, at + self.timeout_s))
        self._begins_with_init = self.runtime == ABSENT
        if self._begins_with_init:
            self._begin_init(at)  # rule 2
        elif self._polls and self.roster.are_ready:
            self._deliver()
        # Else the runtime's connection is lost: it polls again, ends, or meets the timeout.

    def _deliver(self) -> None:
        assert self._current is not None
        self.runtime = RUNNING
        self._is_delivered = True
        self._begins_with_init = False
        deadline_at = self._reports.began_at + self.timeout_s
        self._out.append(Deliver(self._polls.pop(0), self._current, deadline_at))
        for extension in self.roster.subscribers(extensions.INVOKE):
            extension.state = extensions.RUNNING
            self._out.append(DeliverInvoke(extension.exchange, self._current, deadline_at))

    def _timer_fired(self, event: TimerFired, at: float) -> None:
        if event.name == INIT_TIMER and self.phase == INIT:
            self._end_init("timeout", at, "Sandbox.Timedout")
            self._close(RESET, TIMEOUT, at)
        elif event.name == INVOKE_TIMER and self.phase == INVOKE:
            self._time_out(at)
        elif event.name == RESTORE_TIMER and self.phase == RESTORE:
            self._reports.runtime_ends("timeout", at, "Sandbox.Timedout")
            self._close(RESET, TIMEOUT, at)
        elif event.name == EXIT_TIMER and self._has_runtime:
            self._out.append(KillRuntime())
        elif event.name.startswith(PATIENCE):
            self._lose_patience(event.name[len(PATIENCE) :])
        elif event.name == GRACE_TIMER and self._is_closing:
            self._farewell.time_is_up()

    def _time_out(self, at: float) -> None:
        assert self._current is not None
        ended_at = min(at, self._reports.began_at + self.timeout_s)
        message = f"Task timed out after {self.timeout_s:.2f} seconds"
        if not self._is_answered:
            self._out.append(ReportFault(self._current.request_id, message + "\n"))
            body = error_body("Sandbox.Timedout", f"RequestId: {self._current.request_id} Error: {message}")
            self._fail(body, "timeout", "Sandbox.Timedout", ended_at, "timeout")
        elif not self._reports.is_complete:
            self._out.append(ReportFault(self._current.request_id, message + "\n"))
            self._reports.end("timeout", ended_at)
        self._close(RESET, TIMEOUT, at)

    # -- rule 6 ---------------------------------------------------------------------------------------------------

    def _shutdown_requested(self, event: ShutdownRequested, at: float) -> None:
        if self.phase == SHUTDOWN:
            return
        if self._current is not None and self._is_streaming and not self._is_answered:
            body = error_body("Sandbox.Failure", TurnAway.SHUTDOWN)
            self._out.append(EndStream(self._current, "Sandbox.Failure", body))
        elif self._current is not None and not self._is_answered:
            self._out.append(TurnAway(self._current, TurnAway.SHUTDOWN))
        elif self._current is not None:
            self._reports.end("success", at)
        self._out += [TurnAway(invocation, TurnAway.SHUTDOWN) for invocation in self._waiting.give_up_all()]
        if self.phase == RESET:
            self.phase = SHUTDOWN  # it goes on as it has begun
        else:
            self._close(SHUTDOWN, SPINDOWN, at)

    def _code_changed(self, event: CodeChanged, at: float) -> None:
        """Rule 7. Where nobody is there, or nobody will be, whoever comes next reads the new files anyway."""
        if self.phase == INVOKE:
            self._is_stale = True
        elif self.phase == INIT:
            self._begins_again = True
            self._close(RESET, SPINDOWN, at)
        elif self.phase == IDLE and self._has_runtime:
            self._close(RESET, SPINDOWN, at)

    def _close(self, phase: str, reason: str, at: float) -> None:
        """Shut everything down, the runtime first."""
        self.phase = phase
        self._current = None
        self._is_stale = False
        self._out += [CancelTimer(INIT_TIMER), CancelTimer(INVOKE_TIMER)]
        if self._farewell.begin(reason, at, self._has_runtime, self.grace_s if phase == SHUTDOWN else 0.0):
            self._closed(at)

    def _closed(self, at: float) -> None:
        """Nobody is there any more."""
        self._polls.clear()
        if self.phase == SHUTDOWN:
            self._out.append(Exit())
        elif self._begins_again:
            self._begins_again = False
            self._init(at)
        else:
            self.phase = IDLE
            self._advance(at)

    # -- callers --------------------------------------------------------------------------------------------------

    def _invoke_received(self, event: InvokeReceived, at: float) -> None:
        invocation = event.invocation
        if self.phase == IDLE:  # nobody waits, or it would have been taken up
            self._take_up(invocation, at)
        elif self.phase == SHUTDOWN:
            self._out.append(TurnAway(invocation, TurnAway.SHUTDOWN))
        elif not self._waiting.has_room_for(invocation):
            self._out.append(TurnAway(invocation, TurnAway.FULL))
        else:
            self._waiting.add(invocation)
            if invocation.patience_s is not None:
                self._out.append(SetTimer(PATIENCE + invocation.request_id, at + invocation.patience_s))
            if self.phase == BOOT:
                self._init(at)

    def _lose_patience(self, request_id: str) -> None:
        self._out += [TurnAway(invocation, TurnAway.BUSY) for invocation in self._waiting.give_up(request_id)]

    # -- rule 8 ---------------------------------------------------------------------------------------------------

    def _restore_polled(self, event: RestorePolled, at: float) -> None:
        """Where no snapshot is taken, the runtime is restored as soon as it asks."""
        if self.runtime != STARTED or self._is_closing or not self._reports.awaits_runtime:
            self._refuse_transition(event.exchange, "RestoreReady")
            return
        if self._is_template and self.phase == INIT:
            self._restore = event.exchange
            self._reports.runtime_ends("success", at)
            self._proceed(at)
            return
        self._reports.restore_begins(at)
        self._out.append(Restore(event.exchange))

    def _restored(self, event: Restored, at: float) -> None:
        """Rule 8: what had been written down goes on, maybe in several places."""
        if self.phase != PARKED:
            raise IllegalEvent(f"cannot go on from a snapshot: the phase is {self.phase}")
        self.phase = RESTORE
        self._reports.restore_begins(at)
        if self._restore is None:
            self._reports.runtime_ends("success", at)
            self._proceed(at)
            return
        exchange, self._restore = self._restore, None
        self._out += [SetTimer(RESTORE_TIMER, at + RESTORE_LIMIT_S), Restore(exchange)]

    # -- rule 5 ---------------------------------------------------------------------------------------------------

    def _forget_runtime(self) -> None:
        self.runtime = ABSENT
        self._restore = None

    def _fail_environment(self, cause: ExitCause, at: float) -> None:
        """Rule 5: somebody who is needed is gone, or about to be."""
        if self._is_closing:
            return
        if self.phase == INIT:
            self._report_cause("", cause)
            self._end_init("error", at, cause.error_type)
        elif self.phase in (PARKED, RESTORE):
            self._report_cause("", cause)
            self._reports.runtime_ends("error", at, cause.error_type)
            self._out.append(CancelTimer(RESTORE_TIMER))
        elif self.phase == INVOKE:
            assert self._current is not None
            if self._begins_with_init:
                self._reports.init_ends("error", at, cause.error_type)
            if not self._is_answered:
                self._report_cause(self._current.request_id, cause)
                in_init = "init-failure" if cause.body is None else "init-error"
                kind = in_init if self._begins_with_init else "exit"
                self._fail(cause.body_for(self._current.request_id), "failure", cause.error_type, at, kind)
            else:
                self._reports.end("success", at)
        self._close(RESET, FAILURE, at)

    def _report_cause(self, request_id: str, cause: ExitCause) -> None:
        if cause.message:  # an init error has been logged by the runtime itself
            prefix = f"RequestId: {request_id} " if request_id else ""
            self._out.append(ReportFault("", f"{prefix}Error: {cause.message}\n{cause.payload_type}"))

    def _end_init(self, status: str, at: float, error_type: str = "") -> None:
        self._out.append(CancelTimer(INIT_TIMER))
        self.init_result = self._reports.init_ends(status, at, error_type)


HANDLERS: "dict[type, Callable[..., None]]" = {
    **hosting.HANDLERS,
    **serving.HANDLERS,
    Booted: Machine._booted,
    InvokeReceived: Machine._invoke_received,
    RestorePolled: Machine._restore_polled,
    Restored: Machine._restored,
    TimerFired: Machine._timer_fired,
    CodeChanged: Machine._code_changed,
    ShutdownRequested: Machine._shutdown_requested,
}
