"""The extensions of an environment: who is registered for what, and who is where (service spec §3.7). No I/O.

    state        register      GET event/next          POST init/error, exit/error
    LAUNCHED     → REGISTERED  (it has no identifier)  (it has no identifier)
    REGISTERED   403           → READY                 → FAILED
    READY        403           403                     → FAILED (exit/error)
    RUNNING      403           → READY                 → FAILED (exit/error)
    FAILED       403           403                     202, again

An *external* extension is a program in /opt/extensions, a process of its own; an *internal* one is registered by the
runtime's process, lives in it and may not subscribe to SHUTDOWN.
"""

from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LAUNCHED, REGISTERED, READY, RUNNING, FAILED = "Launched", "Registered", "Ready", "Running", "Failed"
INVOKE, SHUTDOWN = "INVOKE", "SHUTDOWN"
MAX_EXTENSIONS = 10  # AWS limit
INTERNAL_BUDGET_S = 0.5  # AWS: what a shutdown may take with internal extensions only
EXTERNAL_BUDGET_S = 2.0  # AWS: and with external ones


class Refusal(Record):
    """Why an extension's request is not granted; always 403."""

    error_type: str
    message: str


class Extension:
    """One of them. `exchange` is the poll that waits; `owes` the event that it gets at its next one."""

    def __init__(self, name: str, is_external: bool) -> None:
        self.name = name
        self.is_external = is_external
        self.identifier = ""
        self.events: tuple[str, ...] = ()
        self.state = LAUNCHED
        self.exchange: Any = None
        self.owes_shutdown = False
        self.is_alive = is_external  # an internal one lives and dies with the runtime

    def __repr__(self) -> str:
        return f"<Extension {self.name} {self.state}>"


class Roster:
    """All extensions of one life of the environment: it begins empty again with every init."""

    def __init__(self, hears_of_invocations: bool = True) -> None:
        """Without `hears_of_invocations` nobody may subscribe to INVOKE, and an internal extension to nothing."""
        self._hears_of_invocations = hears_of_invocations
        self._all: dict[str, Extension] = {}
        self.is_closed = False  # no more may register

    def __iter__(self) -> "Any":
        return iter(list(self._all.values()))

    def begin(self, names: "tuple[str, ...]") -> None:
        """A new life, with external extensions of these names about to be launched."""
        self._all = {name: Extension(name, is_external=True) for name in names}
        self.is_closed = False

    def drop_internal(self) -> None:
        """The runtime's process is gone, and with it the extensions in it."""
        self._all = {name: extension for name, extension in self._all.items() if extension.is_external}

    @property
    def are_registered(self) -> bool:
        """Whether every external extension has registered, so that the runtime may start."""
        return all(extension.state != LAUNCHED for extension in self._all.values())

    @property
    def are_ready(self) -> bool:
        """Whether every extension waits for an event."""
        return not self._all or all(extension.state == READY for extension in self._all.values())

    @property
    def are_back(self) -> bool:
        """Whether every extension that was told of the invocation has come back from it."""
        return not self._all or all(extension.state == READY for extension in self.subscribers(INVOKE))

    @property
    def budget_s(self) -> float:
        """What a shutdown may take."""
        if any(extension.is_external for extension in self._all.values()):
            return EXTERNAL_BUDGET_S
        return INTERNAL_BUDGET_S if self._all else 0.0

    def subscribers(self, event: str) -> "list[Extension]":
        """Those that want to hear of an event."""
        return [extension for extension in self._all.values() if event in extension.events] if self._all else []

    def living(self) -> "list[Extension]":
        """External extensions whose process has not ended."""
        return [extension for extension in self._all.values() if extension.is_alive]

    def named(self, name: str) -> "Extension | None":
        """The extension of that name."""
        return self._all.get(name)

    def known(self, identifier: str) -> "Extension | None":
        """The extension that was given that identifier."""
        return next((e for e in self._all.values() if e.identifier and e.identifier == identifier), None)

    def register(self, name: str, events: "tuple[str, ...]", identifier: str) -> "Extension | Refusal":
        """Enter an extension, or say why not; in the order in which the service checks."""
        if not name:
            return Refusal("Extension.InvalidExtensionName", "Empty extension name")
        extension = self._all.get(name)
        if extension is None:
            if self.is_closed:
                return Refusal("Extension.RegistrationClosed", "Extension registration closed already")
            extension = Extension(name, is_external=False)
        elif extension.state != LAUNCHED:
            if not extension.is_external:
                return Refusal("Extension.InvalidExtensionState", "Extension with this name already registered")
            return Refusal("Extension.InvalidExtensionState", _transition(extension, REGISTERED))
        why = self._fault_of(events, extension)
        if why:
            return Refusal("Extension.InvalidEventType", why)
        if name not in self._all and len(self._all) >= MAX_EXTENSIONS:
            return Refusal("Extension.TooManyExtensions", f"Extension limit ({MAX_EXTENSIONS}) reached")
        self._all[name] = extension
        extension.state, extension.events, extension.identifier = REGISTERED, tuple(dict.fromkeys(events)), identifier
        return extension

    def _fault_of(self, events: "tuple[str, ...]", extension: Extension) -> str:
        """Why these can't be subscribed to; empty if they can."""
        if events and not extension.is_external and not self._hears_of_invocations:
            return "No events allowed for internal extensions"
        for event in events:
            if event == SHUTDOWN and not extension.is_external:
                return f"{event}: ShutdownEventNotSupportedForInternalExtension"
            if event not in (INVOKE, SHUTDOWN) or (event == INVOKE and not self._hears_of_invocations):
                return f"{event}: ErrorInvalidEventType"
        return ""

    def poll(self, identifier: str, exchange: "Any") -> "Extension | Refusal":
        """An extension waits for its next event."""
        extension = self.known(identifier)
        if extension is None:
            return unknown(identifier)
        if extension.state not in (REGISTERED, RUNNING):
            return Refusal("Extension.InvalidExtensionState", _transition(extension, READY))
        extension.state, extension.exchange = READY, exchange
        return extension

    def fail(self, identifier: str, at_init: bool) -> "Extension | Refusal":
        """An extension reports an error of its own and is about to exit."""
        extension = self.known(identifier)
        if extension is None:  # worded in another way than where it asks for events
            return Refusal("Extension.UnknownExtensionIdentifier", "Unknown Lambda-Extension-Identifier")
        if extension.state != FAILED and at_init and extension.state != REGISTERED:
            return Refusal("Extension.InvalidExtensionState", _transition(extension, "InitError"))
        return extension

    def subscribe(self, identifier: str, api: str, is_in_init: bool) -> "Extension | Refusal":
        """An extension wants to be sent telemetry, which it must say before init has ended."""
        extension = self.known(identifier)
        if extension is None:
            return unknown(identifier)
        return extension if is_in_init else closed_to(api)


def closed_to(api: str) -> Refusal:
    """Nobody may subscribe any more."""
    return Refusal(f"{api}.SubscriptionClosed", f"{api} API subscription is closed")


def unknown(identifier: str) -> Refusal:
    """Nobody was given this identifier."""
    return Refusal("Extension.UnknownExtensionIdentifier", f"Unknown extension {identifier}")


def _transition(extension: Extension, to: str) -> str:
    return (
        f"State transition from {extension.state} to {to} failed for extension {extension.name}. "
        "Error: State transition is not allowed"
    )
