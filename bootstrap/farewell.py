"""How the parties of an environment are shut down: the runtime first, then its extensions (`lifecycle`, rule 6)."""

from . import extensions
from .commands import (
    CancelTimer,
    DeliverShutdown,
    KillExtension,
    KillRuntime,
    SetTimer,
    TerminateRuntime,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .extensions import Extension, Roster
    from .records import Record

EXIT_TIMER, GRACE_TIMER = "exit", "grace"
RUNTIME_SHARE = 0.3  # of a shutdown's budget is the runtime's
SPINDOWN, TIMEOUT, FAILURE = "spindown", "timeout", "failure"


class Farewell:
    """One after the other of an environment's shutdowns; what returns True says that nobody is there any more."""

    def __init__(self, roster: "Roster", out: "list[Record]") -> None:
        """The commands go to `out`."""
        self._roster = roster
        self._out = out
        self._reason = ""
        self._closes_at = 0.0  # when the budget is used up

    def begin(self, reason: str, at: float, has_runtime: bool, grace_s: float) -> bool:
        """`grace_s` is what the runtime has where there are no extensions; 0: it is killed at once."""
        budget_s = self._roster.budget_s
        self._reason, self._closes_at = reason, at + budget_s
        if not has_runtime:
            return self.runtime_has_ended()
        if budget_s or grace_s:
            until = at + (budget_s * RUNTIME_SHARE if budget_s else grace_s)
            self._out += [TerminateRuntime(), SetTimer(EXIT_TIMER, until)]
        else:
            self._out.append(KillRuntime())
        return False

    def runtime_has_ended(self) -> bool:
        """Tell those who want to know, kill those who don't."""
        self._roster.drop_internal()
        living = self._roster.living()
        if not living:
            return self._over()
        self._out.append(SetTimer(GRACE_TIMER, self._closes_at))
        for extension in living:
            if extensions.SHUTDOWN not in extension.events:
                self._out.append(KillExtension(extension.name))
            elif extension.state == extensions.READY:
                self.tell(extension)
            else:
                extension.owes_shutdown = True
        return False

    def tell(self, extension: "Extension") -> None:
        """Its poll is answered with why it ends."""
        extension.state = extensions.RUNNING
        extension.owes_shutdown = False
        self._out.append(DeliverShutdown(extension.exchange, self._reason, self._closes_at))

    def extension_has_ended(self, has_runtime: bool) -> bool:
        """One of them; the roster knows."""
        return not has_runtime and not self._roster.living() and self._over()

    def time_is_up(self) -> None:
        """Who is left is killed."""
        self._out += [KillExtension(extension.name) for extension in self._roster.living()]

    def _over(self) -> bool:
        self._out += [CancelTimer(EXIT_TIMER), CancelTimer(GRACE_TIMER)]
        return True
