"""What any machine does for the extensions of its environment: lets them in, tells them, and misses them."""

from .commands import Accept, LetIn, Refuse, ReportExtension, Subscribe
from .errors import IllegalEvent
from .extensions import FAILED, READY, Extension, Refusal, Roster
from .farewell import Farewell
from .faults import ExitCause, extension_cause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .events import (
        ExtensionErrorPosted,
        ExtensionExited,
        ExtensionPolled,
        ExtensionRegistered,
        LaunchFailed,
        SubscriptionPosted,
    )
    from .records import Record


class Hosting:
    """One part of a machine; the other has the phases."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self._out: list[Record] = []
        self._farewell = Farewell(roster, self._out)

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

    def _proceed(self, at: float) -> None:
        """Someone has registered or waits for an event: whatever was waiting for that goes on."""
        raise NotImplementedError

    def _fail_environment(self, cause: ExitCause, at: float) -> None:
        """Somebody who is needed is gone, or about to be."""
        raise NotImplementedError

    def _closed(self, at: float) -> None:
        """Nobody is there any more."""
        raise NotImplementedError

    def _extension_registered(self, event: "ExtensionRegistered", at: float) -> None:
        result = self.roster.register(event.name, event.events, event.identifier)
        if self._is_let(result, event.exchange):
            self._out.append(LetIn(event.exchange, event.identifier, event.wants_account))
            self._proceed(at)

    def _extension_polled(self, event: "ExtensionPolled", at: float) -> None:
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

    def _subscription_posted(self, event: "SubscriptionPosted", at: float) -> None:
        extension = self.roster.subscribe(event.identifier, event.api, self._is_in_init)
        if self._is_let(extension, event.exchange):
            assert isinstance(extension, Extension)
            self._out.append(Subscribe(event.exchange, extension.name, event.api, event.body))

    def _extension_error_posted(self, event: "ExtensionErrorPosted", at: float) -> None:
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

    def _extension_exited(self, event: "ExtensionExited", at: float) -> None:
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

    def _launch_failed(self, event: "LaunchFailed", at: float) -> None:
        extension = self.roster.named(event.name)
        assert extension is not None
        extension.is_alive = False
        self._out.append(ReportExtension(event.name, "LaunchError", (), "Extension.LaunchError"))
        self._fail_environment(ExitCause("Extension.LaunchError", event.message), at)
