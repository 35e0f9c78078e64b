"""What any machine does for the parties of its environment: lets extensions in, tells them, misses who has ended."""

from .commands import Accept, CancelTimer, LetIn, Refuse, ReportExtension, Subscribe
from .errors import IllegalEvent
from .events import (
    ExtensionErrorPosted,
    ExtensionExited,
    ExtensionPolled,
    ExtensionRegistered,
    LaunchFailed,
    PollLost,
    RuntimeExited,
    SpawnFailed,
    SubscriptionPosted,
)
from .extensions import FAILED, READY, Extension, Refusal, Roster
from .farewell import EXIT_TIMER, Farewell
from .faults import ExitCause, cause_of, extension_cause
from .waiting import Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .records import Record

INIT_TIMER = "init"
EXIT_GRACE_S = 0.5  # how long a runtime that reported an init error may take to end
PROVISIONED_INIT_LIMIT_S = 130.0  # the service's for an init ahead of any invocation, or the timeout if that is longer


class Hosting:
    """One part of a machine; the others have the phases, and what the runtime asks for."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self._out: list[Record] = []
        self._farewell = Farewell(roster, self._out)
        self._external: tuple[str, ...] = ()
        self._waiting = Waiting()
        self._polls: list[Any] = []  # the runtime's requests that wait for an event
        self._cause: ExitCause | None = None  # why the runtime's end is already known

    @property
    def waiting(self) -> int:
        """How many invocations wait in line."""
        return len(self._waiting)

    @property
    def _is_in_init(self) -> bool:
        """Whether extensions may subscribe, and are reported when they wait for their first event."""
        raise NotImplementedError

    @property
    def _is_closing(self) -> bool:
        """Whether everybody is about to end."""
        raise NotImplementedError

    @property
    def _has_runtime(self) -> bool:
        """Whether the runtime's process is there."""
        raise NotImplementedError

    def _forget_runtime(self) -> None:
        """Its process is not there, and nothing that it has asked for is due."""
        raise NotImplementedError

    def _proceed(self, at: float) -> None:
        """Someone has registered or waits for an event: whatever was waiting for that goes on."""
        raise NotImplementedError

    def _fail_environment(self, cause: ExitCause, at: float) -> None:
        """Somebody who is needed is gone, or about to be."""
        raise NotImplementedError

    def _closed(self, at: float) -> None:
        """Nobody is there any more."""
        raise NotImplementedError

    # -- extensions -----------------------------------------------------------------------------------------------

    def _extension_registered(self, event: ExtensionRegistered, at: float) -> None:
        result = self.roster.register(event.name, event.events, event.identifier)
        if self._is_let(result, event.exchange):
            self._out.append(LetIn(event.exchange, event.identifier, event.wants_account))
            self._proceed(at)

    def _extension_polled(self, event: ExtensionPolled, at: float) -> None:
        extension = self.roster.poll(event.identifier, event.exchange)
        if not self._is_let(extension, event.exchange):
            return
        assert isinstance(extension, Extension)
        if extension.owes_shutdown:
            self._farewell.tell(extension)
        elif not self._is_closing:
            if self._is_in_init:
                self._out.append(ReportExtension(extension.name, READY, extension.events))
            self._proceed(at)

    def _subscription_posted(self, event: SubscriptionPosted, at: float) -> None:
        extension = self.roster.subscribe(event.identifier, event.api, self._is_in_init)
        if self._is_let(extension, event.exchange):
            assert isinstance(extension, Extension)
            self._out.append(Subscribe(event.exchange, extension.name, event.api, event.body))

    def _extension_error_posted(self, event: ExtensionErrorPosted, at: float) -> None:
        extension = self.roster.fail(event.identifier, event.at_init)
        if not self._is_let(extension, event.exchange):
            return
        assert isinstance(extension, Extension)
        self._out.append(Accept(event.exchange))
        if extension.state != FAILED:
            extension.state = FAILED
            kind = "Extension.InitError" if event.at_init else "Extension.ExitError"
            self._report_failure(extension, kind.partition(".")[2], event.error_type)
            self._fail_environment(ExitCause(kind, event.error_type), at)

    def _is_let(self, result: "Extension | Refusal", exchange: "Any") -> bool:
        if isinstance(result, Refusal):
            self._out.append(Refuse(exchange, 403, result.error_type, result.message))
            return False
        return True

    def _extension_exited(self, event: ExtensionExited, at: float) -> None:
        extension = self.roster.named(event.name)
        if extension is None or not extension.is_alive:
            raise IllegalEvent(f"cannot end the extension {event.name}: there is none")
        extension.is_alive = False
        if not self._is_closing:
            if extension.state != FAILED:
                extension.state = FAILED
                self._report_failure(extension, "Exited", "Extension.Crash")
            self._fail_environment(extension_cause(event), at)
        elif self._farewell.extension_has_ended(self._has_runtime):
            self._closed(at)

    def _report_failure(self, extension: Extension, state: str, error_type: str) -> None:
        """In init, of one that will never be ready."""
        if self._is_in_init and not self._is_closing:
            self._out.append(ReportExtension(extension.name, state, extension.events, error_type))

    def _launch_failed(self, event: LaunchFailed, at: float) -> None:
        extension = self.roster.named(event.name)
        assert extension is not None
        extension.is_alive = False
        self._out.append(ReportExtension(event.name, "LaunchError", (), "Extension.LaunchError"))
        self._fail_environment(ExitCause("Extension.LaunchError", event.message), at)

    # -- the runtime's process ------------------------------------------------------------------------------------

    def _poll_lost(self, event: PollLost, at: float) -> None:
        if event.exchange in self._polls:
            self._polls.remove(event.exchange)

    def _spawn_failed(self, event: SpawnFailed, at: float) -> None:
        self._runtime_ended(ExitCause(event.error_type, event.message), at)

    def _runtime_exited(self, event: RuntimeExited, at: float) -> None:
        if not self._has_runtime:
            raise IllegalEvent("cannot end the runtime: there is none")
        self._runtime_ended(self._cause or cause_of(event), at)

    def _runtime_ended(self, cause: ExitCause, at: float) -> None:
        self._forget_runtime()
        self._cause = None
        self._polls.clear()
        self._out.append(CancelTimer(EXIT_TIMER))
        if not self._is_closing:
            self._fail_environment(cause, at)
        elif self._farewell.runtime_has_ended():
            self._closed(at)


HANDLERS: "dict[type, Callable[..., None]]" = {
    ExtensionRegistered: Hosting._extension_registered,
    ExtensionPolled: Hosting._extension_polled,
    ExtensionErrorPosted: Hosting._extension_error_posted,
    SubscriptionPosted: Hosting._subscription_posted,
    ExtensionExited: Hosting._extension_exited,
    LaunchFailed: Hosting._launch_failed,
    PollLost: Hosting._poll_lost,
    SpawnFailed: Hosting._spawn_failed,
    RuntimeExited: Hosting._runtime_exited,
}
