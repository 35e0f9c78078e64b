"""What the platform reports, as the records of telemetry and of the JSON log format (service spec §11.6). No I/O."""

from .commands import (
    ReportEnd,
    ReportExtension,
    ReportFault,
    ReportInit,
    ReportInitRuntimeDone,
    ReportInitStart,
    ReportRestore,
    ReportRestoreStart,
    ReportRuntimeDone,
    ReportStart,
    ReportSubscription,
)
from .output import billed_ms, timestamp, whole_ms
from .wire import LOGS_API

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .records import Record
    from .settings import Settings

    Content = dict[str, Any]

# The schemas of the Logs API have fewer events, and an END; what is not listed here is not among them.
OF_LOGS_API = {
    "platform.start": ("requestId", "version"),
    "platform.report": ("requestId", "metrics", "tracing"),
    "platform.runtimeDone": ("requestId", "status"),
    "platform.extension": ("name", "state", "events"),
    "platform.logsSubscription": ("name", "state", "types"),
    "platform.logsDropped": ("reason", "droppedRecords", "droppedBytes"),
}
ONLY_OF_LOGS_API = ("platform.end", "platform.fault", "platform.logsSubscription")
SINCE_2022_12 = ("functionName", "functionVersion", "functionArn", "instanceId", "instanceMaxMemory", "tenantId")
FIRST_OF_TELEMETRY, FIRST_OF_LOGS = "2022-07-01", "2020-08-15"
FALLEN_BEHIND = "Consumer seems to have fallen behind as it has not acknowledged receipt of logs."


class Span:
    """A part of an invocation, by its name: when it began (seconds since 1970), and how long it took."""

    def __init__(self, name: str, began_at: float, duration_ms: float) -> None:
        self.content = {"name": name, "start": timestamp(began_at), "durationMs": _ms(duration_ms)}


class Platform:
    """Renders the machine's reports; each method gives the content of one record."""

    def __init__(self, settings: "Settings", version: str) -> None:
        """`version` is the bootstrap's own."""
        self._settings = settings
        self._version = version
        kind = settings.variables["AWS_LAMBDA_INITIALIZATION_TYPE"]
        self._is_concurrent = settings.max_concurrency is not None
        self._kind = "lambda-managed-instances" if self._is_concurrent else kind
        self._renderers: dict[type, tuple[str, Callable[..., Any]]] = {
            ReportInitStart: ("platform.initStart", self._init_start),
            ReportInitRuntimeDone: ("platform.initRuntimeDone", self._init_runtime_done),
            ReportInit: ("platform.initReport", self._init_report),
            ReportRestoreStart: ("platform.restoreStart", lambda _: self._environment()),
            ReportExtension: ("platform.extension", self._extension),
            ReportStart: ("platform.start", self._start),
            ReportRuntimeDone: ("platform.runtimeDone", self._runtime_done),
            ReportEnd: ("platform.report", self._report),
        }

    def render(
        self, report: "Record", used_mb: int = 0, spans: "tuple[Span, ...]" = ()
    ) -> "list[tuple[str, Content | str]]":
        """(type, record) of each event that a report stands for."""
        if isinstance(report, ReportFault):
            return [("platform.fault", fault_text(report))]
        if isinstance(report, ReportRestore):
            return self._restored(report)
        if isinstance(report, ReportSubscription):
            kind = "platform.logsSubscription" if report.api == LOGS_API else "platform.telemetrySubscription"
            return [(kind, {"name": report.name, "state": report.state, "types": list(report.types)})]
        kind, renderer = self._renderers[type(report)]
        content = renderer(report)
        if isinstance(report, ReportEnd):
            content["metrics"].update(self._resources(report, used_mb))
        if spans:
            content["spans"] = [span.content for span in spans]
        events: list[tuple[str, Any]] = [(kind, content)]
        if isinstance(report, ReportEnd):
            events.insert(0, ("platform.end", {"requestId": report.invocation.request_id}))
        return events

    def _environment(self) -> "Content":
        settings = self._settings
        stream = settings.variables["AWS_LAMBDA_LOG_STREAM_NAME"]
        return {
            "runtimeVersion": f"rie:{self._version}",
            "runtimeVersionArn": "",
            "functionName": settings.function_name,
            "functionVersion": settings.function_version,
            "instanceId": stream.replace("/[", f"/{settings.function_name}[", 1),
            "instanceMaxMemory": settings.memory_mb << 20,
        }

    def _init_start(self, report: ReportInitStart) -> "Content":
        content = {"initializationType": self._kind, "phase": report.phase, **self._environment()}
        return _traced(content, report.invocation)

    def _init_runtime_done(self, report: ReportInitRuntimeDone) -> "Content":
        content = {"initializationType": self._kind, "phase": report.phase, "status": report.status}
        return _with_error(content, report.error_type)

    def _init_report(self, report: ReportInit) -> "Content":
        content = {"initializationType": self._kind, "phase": report.phase, "status": report.status}
        return {**_with_error(content, report.error_type), "metrics": {"durationMs": _ms(report.duration_ms)}}

    def _restored(self, report: ReportRestore) -> "list[tuple[str, Content | str]]":
        done = _with_error({"status": report.status}, report.error_type)
        metrics = {"durationMs": _ms(report.duration_ms)}
        return [("platform.restoreRuntimeDone", done), ("platform.restoreReport", {**done, "metrics": metrics})]

    def _extension(self, report: ReportExtension) -> "Content":
        content = {"name": report.name, "state": report.state, "events": list(report.events)}
        return _with_error(content, report.error_type)

    def _start(self, report: ReportStart) -> "Content":
        invocation = report.invocation
        content = {"requestId": invocation.request_id, "version": self._settings.function_version}
        if invocation.function_arn:
            content["functionArn"] = invocation.function_arn
        if invocation.tenant_id:
            content["tenantId"] = invocation.tenant_id
        return _traced(content, invocation)

    def _runtime_done(self, report: ReportRuntimeDone) -> "Content":
        content = _with_error({"requestId": report.invocation.request_id, "status": report.status}, report.error_type)
        content["metrics"] = {"durationMs": _ms(report.duration_ms), "producedBytes": report.produced}
        return _traced(content, report.invocation)

    def _report(self, report: ReportEnd) -> "Content":
        content = _with_error({"requestId": report.invocation.request_id, "status": report.status}, report.error_type)
        content["metrics"] = {"durationMs": _ms(report.duration_ms)}
        return _traced(content, report.invocation)

    def _resources(self, report: ReportEnd, used_mb: int) -> "Content":
        """What one invocation alone has used; nobody can say that where several run at a time."""
        if self._is_concurrent:
            return {}
        metrics: Content = {
            "billedDurationMs": billed_ms(report),
            "memorySizeMB": self._settings.memory_mb,
            "maxMemoryUsedMB": used_mb,
        }
        if report.init_ms is not None:
            metrics["initDurationMs"] = _ms(report.init_ms)
        if report.restore_ms is not None:
            metrics["restoreDurationMs"] = _ms(report.restore_ms)
            metrics["billedRestoreDurationMs"] = whole_ms(report.restore_ms)
        return metrics


def fault_text(fault: ReportFault) -> str:
    """The words of the text format's line."""
    prefix = f"{timestamp()} {fault.request_id} " if fault.request_id else ""
    return f"{prefix}{fault.text}".rstrip("\n")


def dropped(records: int, octets: int) -> "tuple[str, Content]":
    """The event that tells a subscriber what it has missed."""
    return "platform.logsDropped", {"reason": FALLEN_BEHIND, "droppedRecords": records, "droppedBytes": octets}


def shaped(api: str, schema: str, kind: str, content: "Content | str") -> "Content | str | None":
    """A record as a schema has it; None where it has no such event."""
    if api != LOGS_API:
        if kind in ONLY_OF_LOGS_API:
            return None
        if schema == FIRST_OF_TELEMETRY and isinstance(content, dict):
            return {name: value for name, value in content.items() if name not in SINCE_2022_12}
        return content
    if isinstance(content, str) or kind == "platform.end":
        return content
    if kind not in OF_LOGS_API or (kind == "platform.runtimeDone" and schema == FIRST_OF_LOGS):
        return None
    kept = {name: content[name] for name in OF_LOGS_API[kind] if name in content}
    if kept.get("status") == "error":
        kept["status"] = "failure"  # which is all that this API calls what is no success and no timeout
    return kept


def level_of(kind: str, content: "Content | str") -> str:
    """The level of an event in the system's log (service spec §11.5)."""
    if isinstance(content, str) or kind == "platform.logsDropped":
        return "WARN"
    is_well = content.get("status", "success") == "success"
    if kind.endswith("untimeDone"):
        return "DEBUG" if is_well else "WARN"
    if kind == "platform.initReport" and content["initializationType"] == "on-demand":
        return "DEBUG" if is_well else "WARN"
    if kind == "platform.extension":
        return "INFO" if content["state"] == "Ready" else "WARN"
    return "INFO" if is_well or kind == "platform.initReport" else "WARN"


def _traced(content: "Content", invocation: "Any") -> "Content":
    if invocation is not None and invocation.trace_id:
        content["tracing"] = {"type": "X-Amzn-Trace-Id", "value": invocation.trace_id}
    return content


def _with_error(content: "Content", error_type: str) -> "Content":
    if error_type:
        content["errorType"] = error_type
    return content


def _ms(duration_ms: float) -> float:
    return round(duration_ms, 3)
