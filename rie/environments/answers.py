"""What a sandbox answers, read: the end of an init, of what came after a snapshot, of an invocation (pure)."""

from __future__ import annotations

from base64 import b64decode

import orjson

from bootstrap import wire
from rie.environments.door import DoorAnswer
from rie.errors import InitFailed, ServiceError
from rie.model.invocation import Outcome

_REPORT, _STREAM_ERROR, _STREAM_ERROR_BODY, _FUNCTION_ERROR, _LOG_RESULT = (
    name.lower()
    for name in (wire.REPORT, wire.STREAM_ERROR, wire.STREAM_ERROR_BODY, wire.FUNCTION_ERROR, wire.LOG_RESULT)
)


def how_it_ended(answer: DoorAnswer) -> tuple[str, str]:
    """Status and error type of an init, or of what came after a snapshot."""
    try:
        report = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        report = None
    if not isinstance(report, dict):
        return "error", ""
    return str(report.get("status")), str(report.get("errorType") or "")


def init_failed(error_type: str) -> InitFailed:
    """With the StateReasonCode for what a template's init has ended with (lambda.md §1.12)."""
    codes = {
        "Sandbox.Timedout": "InitTimeout",
        "Runtime.InvalidEntrypoint": "InvalidEntryPoint",
        "Runtime.InvalidWorkingDir": "InvalidWorkingDirectory",
    }
    other = "ExtensionInitError" if error_type.startswith("Extension.") else "RuntimeInitError"
    return InitFailed(f"FunctionError.{codes.get(error_type, other)}", error_type or "its init has failed")


def restore_failed(status: str, error_type: str) -> ServiceError:
    """The hooks for the time after a snapshot have not ended well (lambda.md §2)."""
    if status == "timeout":
        text = "Lambda couldn't restore the snapshot within the timeout limit."
        return ServiceError("SnapStartTimeoutException", text)
    return ServiceError("SnapStartException", f"The afterRestore() runtime hook encountered an error: {error_type}.")


def outcome_of(answer: DoorAnswer, version: str, trace_id: str) -> Outcome:
    """What an answer says. Raises ValueError for one that no bootstrap gives."""
    headers = answer.headers
    duration, billed, memory, init, status = headers.get(_REPORT, "0;0;0;;success").split(";")
    error_type = headers.get(_STREAM_ERROR, "")
    return Outcome(
        payload=b64decode(headers.get(_STREAM_ERROR_BODY, "")) if answer.is_heard else answer.body,
        executed_version=version,
        function_error="Unhandled" if error_type else headers.get(_FUNCTION_ERROR),
        log_tail=headers.get(_LOG_RESULT),
        duration_ms=float(duration),
        billed_ms=int(billed),
        max_memory_mb=int(memory),
        init_ms=float(init) if init else None,
        status=status,
        trace_id=trace_id,
        is_heard=answer.is_heard,
        error_type=error_type,
    )
