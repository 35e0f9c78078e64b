"""What a caller and the log are told when a runtime ends, fails to start or reports an error (service spec §2.3)."""

from .records import Record
from .wire import MAX_RESPONSE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .events import ExtensionExited, RuntimeExited

# How the service spells the signals that end a process; others appear as "signal <n>".
SIGNAL_NAMES = {
    1: "hangup",
    2: "interrupt",
    3: "quit",
    4: "illegal instruction",
    6: "aborted",
    7: "bus error",
    8: "floating point exception",
    9: "killed",
    11: "segmentation fault",
    13: "broken pipe",
    14: "alarm clock",
    15: "terminated",
}
LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
CAPITALS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


class ExitCause(Record):
    """Why the runtime is gone. `error_type` is for the log; `body` replaces the error made from `message`."""

    error_type: str
    message: str
    body: "bytes | None" = None

    @property
    def payload_type(self) -> str:
        """The error type that the caller sees: an OOM shows as an exit there, and as itself in the log."""
        return "Runtime.ExitError" if self.error_type == "Runtime.OutOfMemory" else self.error_type

    def body_for(self, request_id: str) -> bytes:
        """The error document for the caller of `request_id`."""
        if self.body is not None:
            return self.body
        return error_body(self.payload_type, f"RequestId: {request_id} Error: {self.message}")


def cause_of(exited: "RuntimeExited") -> ExitCause:
    """The cause that an exit status or a signal stands for."""
    if exited.signal is not None:
        name = SIGNAL_NAMES.get(exited.signal, str(exited.signal))
        kind = "Runtime.OutOfMemory" if exited.was_oom else "Runtime.ExitError"
        return ExitCause(kind, f"Runtime exited with error: signal: {name}")
    if exited.exit_status:
        return ExitCause("Runtime.ExitError", f"Runtime exited with error: exit status {exited.exit_status}")
    return ExitCause("Runtime.ExitError", "Runtime exited without providing a reason")


def extension_cause(exited: "ExtensionExited") -> ExitCause:
    """The cause that the end of an extension's process stands for."""
    if exited.signal is not None:
        return ExitCause("Extension.Crash", f"signal: {SIGNAL_NAMES.get(exited.signal, str(exited.signal))}")
    text = f"exit status {exited.exit_status}" if exited.exit_status else "exit code 0"
    return ExitCause("Extension.Crash", text)


def error_body(error_type: str, message: str) -> bytes:
    """The service's error document, members in its order."""
    import json  # 4 ms that only failures pay

    return json.dumps({"errorType": error_type, "errorMessage": message}, separators=(",", ":")).encode()


def too_large_body() -> bytes:
    """What a caller gets instead of an answer past the limit."""
    message = f"Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE} bytes)."
    return error_body("Function.ResponseSizeTooLarge", message)


def known_error_type(text: str) -> str:
    """What the platform records of a runtime's error type: (Runtime|Function).Name, else that family's Unknown."""
    family, dot, name = text.partition(".")
    if dot and family in ("Runtime", "Function") and len(name) > 1 and name[0] in CAPITALS and LETTERS.issuperset(name):
        return text
    return "Function.Unknown" if text.startswith("Function.") else "Runtime.Unknown"
