"""What a log says of an invocation whose environment has said nothing: what its bootstrap would have."""

from __future__ import annotations

import json

from bootstrap.commands import ReportEnd
from bootstrap.events import Invocation as Called
from bootstrap.output import billed_ms, end_lines, timestamp
from rie.model.function import Configuration


def overdue_report(request_id: str, configuration: Configuration) -> ReportEnd:
    """The end of an invocation that took all the time there was."""
    return ReportEnd(Called(request_id, b""), "timeout", configuration.timeout_s * 1e3)


def overdue_lines(report: ReportEnd, message: str, configuration: Configuration) -> str:
    """Its lines, in the function's format (service specification §11.2, §11.6), newline included."""
    request_id = report.invocation.request_id
    memory_mb = configuration.memory_mb
    fault = f"{timestamp()} {request_id} {message}"
    if configuration.logging.format != "JSON":
        return f"{fault}\n\n{end_lines(report, memory_mb, memory_mb)}"
    metrics = {
        "durationMs": report.duration_ms,
        "billedDurationMs": billed_ms(report),
        "memorySizeMB": memory_mb,
        "maxMemoryUsedMB": memory_mb,
    }
    done = {"requestId": request_id, "status": "timeout", "metrics": metrics}
    return _event("platform.fault", fault) + _event("platform.report", done)


def _event(kind: str, record: object) -> str:
    return json.dumps({"time": timestamp(), "type": kind, "record": record}, separators=(",", ":")) + "\n"
