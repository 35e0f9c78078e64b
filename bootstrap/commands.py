"""What the machine wants done: its outputs, named in the imperative, carried out by the shell in order."""

from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .events import Invocation


class SpawnRuntime(Record):
    """Start the runtime's process; failing that, tell SpawnFailed."""


class KillRuntime(Record):
    """SIGKILL the runtime and all that it started; RuntimeExited follows."""


class TerminateRuntime(Record):
    """SIGTERM the runtime; it has until the EXIT timer to end."""


class Deliver(Record):
    """Answer the runtime's poll with an event; `deadline_at` on the clock of the machine's instants."""

    exchange: "Any"
    invocation: "Invocation"
    deadline_at: float


class Accept(Record):
    """Answer the runtime's post with 202."""

    exchange: "Any"


class Restore(Record):
    """Tell the runtime that it has been restored."""

    exchange: "Any"


class Refuse(Record):
    """Answer the runtime's request with an error."""

    exchange: "Any"
    status: int
    error_type: str
    message: str


class Answer(Record):
    """Give the caller the result; `is_error` says that `body` is an error of the function.

    `kind` is one of "success", "error", "timeout", "exit", "init-error" (the runtime's own words), "init-failure".
    """

    invocation: "Invocation"
    body: bytes
    is_error: bool = False
    kind: str = "success"


class TurnAway(Record):
    """Tell the caller that the invocation did not run and will not: `reason` is one of those below."""

    SHUTDOWN = "the execution environment is shutting down"
    FULL = "too many invocations wait for this execution environment"
    BUSY = "the execution environment has not finished its last invocation"
    DUPLICATE = "an invocation of the same request id is not over yet"

    invocation: "Invocation"
    reason: str


class LaunchExtension(Record):
    """Start the program of an external extension; failing that, tell LaunchFailed."""

    name: str


class KillExtension(Record):
    """SIGKILL an external extension and all that it started; ExtensionExited follows."""

    name: str


class LetIn(Record):
    """Tell an extension that it is registered."""

    exchange: "Any"
    identifier: str
    wants_account: bool


class Subscribe(Record):
    """An extension may be sent telemetry: read what it asks for, and tell it."""

    exchange: "Any"
    name: str
    api: str
    body: bytes


class DeliverInvoke(Record):
    """Answer an extension's poll with an INVOKE event."""

    exchange: "Any"
    invocation: "Invocation"
    deadline_at: float


class DeliverShutdown(Record):
    """Answer an extension's poll with a SHUTDOWN event; `reason` is "spindown", "timeout" or "failure"."""

    exchange: "Any"
    reason: str
    deadline_at: float


class BeginStream(Record):
    """Pass the pieces of the runtime's answer on to the caller from now on."""

    exchange: "Any"
    invocation: "Invocation"
    content_type: str


class Piece(Record):
    """Send a piece on to the caller; the shell's own, between its doors."""

    invocation: "Invocation"
    data: bytes
    source: "Any"


class EndStream(Record):
    """The caller has got the last piece; an `error_type` says that the answer failed on its way."""

    invocation: "Invocation"
    error_type: str = ""
    error_body: bytes = b""


class SetTimer(Record):
    """Have TimerFired(name) told at an instant; replaces the timer of that name."""

    name: str
    at: float


class CancelTimer(Record):
    """Forget the timer of that name, if there is one."""

    name: str


class ReportInitStart(Record):
    """Init begins: `phase` "init", or "invoke" for one within `invocation`."""

    phase: str
    invocation: "Invocation | None" = None


class ReportInitRuntimeDone(Record):
    """The runtime's part of init has ended; `status` "success", "error" or "timeout"."""

    phase: str
    status: str
    error_type: str = ""


class ReportInit(Record):
    """The init phase, or its repeat within an invocation, has ended. Duration in ms; `phase` "init" or "invoke"."""

    phase: str
    status: str
    duration_ms: float
    error_type: str = ""


class ReportRestoreStart(Record):
    """The runtime's hooks for the time after a snapshot begin."""


class ReportParked(Record):
    """Init has ended well, and nothing will go on before a snapshot has been taken."""


class ReportRestore(Record):
    """They have ended; `status` "success", "error" or "timeout"."""

    status: str
    duration_ms: float
    error_type: str = ""


class ReportExtension(Record):
    """An extension is ready, or will never be."""

    name: str
    state: str
    events: "tuple[str, ...]" = ()
    error_type: str = ""


class ReportSubscription(Record):
    """An extension has subscribed to telemetry; the shell's own. `state` "Subscribed" or "Already subscribed"."""

    api: str
    name: str
    state: str
    types: "tuple[str, ...]"


class ReportRuntimeDone(Record):
    """The runtime has answered an invocation, or never will."""

    invocation: "Invocation"
    status: str
    duration_ms: float
    produced: int = 0
    error_type: str = ""


class ReportStart(Record):
    """The invoke phase begins."""

    invocation: "Invocation"


class ReportIdle(Record):
    """The environment waits for an invocation, and none waits for it."""


class ReportFault(Record):
    """Tell the log what went wrong with an invocation or with init; `request_id` is empty outside of one."""

    request_id: str
    text: str


class ReportEnd(Record):
    """The invoke phase has ended: the END and REPORT lines. `init_ms` None when init was not part of this one.

    Nor, where `restore_ms` is not None, is it when the runtime has been restored since.
    """

    invocation: "Invocation"
    status: str
    duration_ms: float
    init_ms: "float | None" = None
    error_type: str = ""
    restore_ms: "float | None" = None


class Exit(Record):
    """End this process; nothing of the runtime is left."""
