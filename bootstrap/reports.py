"""What a machine tells of its phases: when each began, how long it took, how it ended. No I/O, no clock."""

from .commands import (
    ReportEnd,
    ReportInit,
    ReportInitRuntimeDone,
    ReportInitStart,
    ReportRestore,
    ReportRestoreStart,
    ReportRuntimeDone,
    ReportStart,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .events import Invocation
    from .records import Record


class Reports:
    """Of one environment at a time that it is in: an init, then one invocation after the other.

    An init has up to three parts: the runtime's own, its hooks for the time after a snapshot, and that of extensions,
    which ends with the whole. The first REPORT after it tells how long it took.
    """

    def __init__(self, out: "list[Record]", is_provisioned: bool = False) -> None:
        """The commands go to `out`; `is_provisioned`: init is no part of any invocation."""
        self._is_provisioned = is_provisioned
        self._out = out
        self._phase = ""  # of the init: "init", or "invoke" for one within an invocation
        self._init_began_at = 0.0
        self._init_ms: float | None = None  # until a REPORT has told it
        self._awaits_runtime = False  # it has been started, and not come to its first poll
        self._restores_since: float | None = None
        self._restore_ms: float | None = None  # until a REPORT has told it
        self._invocation: Invocation | None = None
        self.began_at = 0.0  # of the invocation
        self.is_complete = True  # the end of the invocation has been told

    # -- init -----------------------------------------------------------------------------------------------------

    def init_begins(self, phase: str, invocation: "Invocation | None", at: float) -> None:
        """At boot, or within an invocation."""
        self._phase, self._init_began_at = phase, at
        self._awaits_runtime, self._restores_since = False, None
        self._out.append(ReportInitStart(phase, invocation))

    def runtime_begins(self) -> None:
        """Its process is being started."""
        self._awaits_runtime = True

    @property
    def awaits_runtime(self) -> bool:
        """Whether the runtime is still in its own part of init."""
        return self._awaits_runtime

    def restore_begins(self, at: float) -> None:
        """The runtime is ready for a snapshot, and restored from it."""
        self.runtime_ends("success", at)
        self._restores_since = at
        self._out.append(ReportRestoreStart())

    def runtime_ends(self, status: str, at: float, error_type: str = "") -> None:
        """Its part of init is over, or its hooks are; whichever it was in."""
        if self._awaits_runtime:
            self._awaits_runtime = False
            self._out.append(ReportInitRuntimeDone(self._phase, status, error_type))
        elif self._restores_since is not None:
            self._restore_ms = (at - self._restores_since) * 1e3
            self._restores_since = None
            self._out.append(ReportRestore(status, self._restore_ms, error_type))

    def init_ends(self, status: str, at: float, error_type: str = "") -> ReportInit:
        """All of it; what it took is part of the next REPORT if it ended well, and ran by itself and on demand."""
        self.runtime_ends(status, at, error_type)
        report = ReportInit(self._phase, status, (at - self._init_began_at) * 1e3, error_type)
        self._out.append(report)
        if status == "success" and self._phase == "init" and not self._is_provisioned:
            self._init_ms = report.duration_ms
        return report

    # -- an invocation --------------------------------------------------------------------------------------------

    def begin(self, invocation: "Invocation", at: float) -> None:
        """The invoke phase begins."""
        self._invocation, self.began_at, self.is_complete = invocation, at, False
        self._out.append(ReportStart(invocation))

    def runtime_done(self, status: str, at: float, produced: int, error_type: str = "") -> None:
        """The runtime has answered, or never will."""
        assert self._invocation is not None
        duration_ms = (at - self.began_at) * 1e3
        self._out.append(ReportRuntimeDone(self._invocation, status, duration_ms, produced, error_type))

    def end(self, status: str, at: float, error_type: str = "") -> None:
        """The invoke phase has ended; what is told once is not told again."""
        if self.is_complete:
            return
        assert self._invocation is not None
        duration_ms = (at - self.began_at) * 1e3
        self._out.append(ReportEnd(self._invocation, status, duration_ms, self._init_ms, error_type, self._restore_ms))
        self._init_ms = self._restore_ms = None
        self.is_complete = True
