"""What happens to the machine: its inputs, named in the past tense.

An *exchange* is an open request of the runtime that waits for its answer; the machine only passes it back.
"""

from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Invocation(Record):
    """One call. `caller` is the exchange that waits for the answer, None for an asynchronous call."""

    request_id: str
    body: bytes
    caller: "Any" = None
    function_arn: str = ""
    trace_id: str = ""
    client_context: str = ""
    cognito_identity: str = ""
    wants_log: bool = False
    wants_stream: bool = False
    tenant_id: str = ""
    patience_s: "float | None" = None  # how long it may wait for its turn; None for ever
    http: "Any" = None  # what HTTP mode knows of the answer that its caller waits for


class Booted(Record):
    """The process is up; init begins. `extensions` names the programs in /opt/extensions."""

    extensions: "tuple[str, ...]" = ()


class InvokeReceived(Record):
    """A caller wants the function to run."""

    invocation: Invocation


class NextPolled(Record):
    """The runtime asked for the next event."""

    exchange: "Any"


class PollLost(Record):
    """The connection of a runtime that waited for an event has closed."""

    exchange: "Any"


class ResponsePosted(Record):
    """The runtime answered. `too_large` when the body passed the limit and was not kept."""

    exchange: "Any"
    request_id: str
    body: bytes
    too_large: bool = False


class ErrorPosted(Record):
    """The runtime answered with an error; `body` goes to the caller as it is."""

    exchange: "Any"
    request_id: str
    body: bytes
    error_type: str = ""


class RestorePolled(Record):
    """The runtime is ready for its snapshot, and waits to be restored from it."""

    exchange: "Any"


class Restored(Record):
    """We have been made from a snapshot, and `caller` waits for what comes of it."""

    caller: "Any"


class InitErrorPosted(Record):
    """The runtime could not initialise; it is expected to exit."""

    exchange: "Any"
    body: bytes
    error_type: str = ""


class RuntimeExited(Record):
    """The runtime's process has ended, and with it all that it had started.

    `exit_status` is that of exit(), or None when `signal` ended it; `was_oom` when the kernel killed for memory.
    """

    exit_status: "int | None" = None
    signal: "int | None" = None
    was_oom: bool = False


class ExtensionRegistered(Record):
    """An extension asks to be told of some events; `identifier` is what it will be known by if it is let in."""

    exchange: "Any"
    name: str
    events: "tuple[str, ...]"
    identifier: str
    wants_account: bool = False


class ExtensionPolled(Record):
    """An extension asked for its next event."""

    exchange: "Any"
    identifier: str


class ExtensionErrorPosted(Record):
    """An extension reports an error of its own, at init or on its way out."""

    exchange: "Any"
    identifier: str
    error_type: str
    at_init: bool


class SubscriptionPosted(Record):
    """An extension wants to be sent telemetry; `api` is "Telemetry" or "Logs", `body` what it asks for, unread."""

    exchange: "Any"
    identifier: str
    api: str
    body: bytes


class ExtensionExited(Record):
    """The process of an external extension has ended; the fields as in RuntimeExited."""

    name: str
    exit_status: "int | None" = None
    signal: "int | None" = None


class LaunchFailed(Record):
    """An external extension could not be started."""

    name: str
    message: str


class ResponseBegun(Record):
    """The runtime begins to answer in pieces, which the shell passes to the caller as they come."""

    exchange: "Any"
    request_id: str
    content_type: str


class ResponseEnded(Record):
    """The last piece has come. An `error_type` says that the answer failed on its way."""

    exchange: "Any"
    produced: int
    error_type: str = ""
    error_body: bytes = b""


class SpawnFailed(Record):
    """The runtime's process could not be started; `error_type` is "Runtime.InvalidEntrypoint" or the like."""

    error_type: str
    message: str


class TimerFired(Record):
    """A timer set with SetTimer has run down."""

    name: str


class CodeChanged(Record):
    """The function's files are no longer those that its runtime has read."""


class ShutdownRequested(Record):
    """The environment is to end."""
