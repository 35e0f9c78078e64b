"""What the log says of the machine's reports: the text format of the service (service spec §11.2). No I/O."""

from . import output
from .commands import (
    ReportEnd,
    ReportExtension,
    ReportFault,
    ReportInit,
    ReportInitStart,
    ReportRestore,
    ReportRestoreStart,
    ReportStart,
    ReportSubscription,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Protocol

    from .records import Record
    from .settings import Settings

    class Lines(Protocol):
        """A log format; `has_runtime_done` says that it has something to say of the runtime's part alone."""

        has_runtime_done: bool
        has_filter: bool  # not all is written that the parties print

        def of(self, report: Record, used_mb: int) -> str:
            """The lines that a report makes, newline included; none if it says nothing. `used_mb`: by now, at most."""

        def kept(self, text: bytes, is_record: bool) -> bytes:
            """What is written of lines that a party has printed, or of one record of several."""


class TextLines:
    """The default format."""

    has_runtime_done = False
    has_filter = False

    def __init__(self, settings: "Settings", version: str) -> None:
        """`version` is the bootstrap's own."""
        self._settings = settings
        self._version = version
        self._is_ahead = settings.variables["AWS_LAMBDA_INITIALIZATION_TYPE"] in (
            "provisioned-concurrency",
            "snap-start",
        )
        self._renderers: dict[type, Callable[[Any], str]] = {
            ReportInitStart: self._init_start,
            ReportInit: self._init_report,
            ReportRestoreStart: lambda _: output.restore_start_line(version),
            ReportRestore: lambda report: "" if report.status == "success" else output.restore_report_line(report),
            ReportExtension: output.extension_line,
            ReportSubscription: output.subscription_line,
            ReportStart: lambda report: output.start_line(report.invocation.request_id, settings.function_version),
            ReportFault: fault_line,
        }

    def of(self, report: "Record", used_mb: int) -> str:
        """As `Lines.of`."""
        if isinstance(report, ReportEnd):
            return output.end_lines(report, self._settings.memory_mb, used_mb)
        return self._renderers[type(report)](report)

    def kept(self, text: bytes, is_record: bool) -> bytes:
        """As `Lines.kept`: all."""
        return text

    def _init_start(self, report: ReportInitStart) -> str:
        """Within an invocation, init has no line of its own before INIT_REPORT."""
        return output.init_start_line(self._version) if report.phase == "init" else ""

    def _init_report(self, report: ReportInit) -> str:
        return "" if report.status == "success" and not self._is_ahead else output.init_report_line(report)


class CompatLines:
    """What AWS's emulator logs: of init, extensions and faults nothing."""

    has_runtime_done = False
    has_filter = False

    def __init__(self, settings: "Settings") -> None:
        from .compat import end_lines

        self._end_lines = end_lines
        self._settings = settings

    def of(self, report: "Record", used_mb: int) -> str:
        """As `Lines.of`."""
        if isinstance(report, ReportStart):
            return output.start_line(report.invocation.request_id, self._settings.function_version)
        return self._end_lines(report, self._settings.memory_mb) if isinstance(report, ReportEnd) else ""

    def kept(self, text: bytes, is_record: bool) -> bytes:
        """As `Lines.kept`: all."""
        return text


def fault_line(fault: ReportFault) -> str:
    """What went wrong, with the instant and the request where it belongs to one."""
    prefix = f"{output.timestamp()} {fault.request_id} " if fault.request_id else ""
    return f"{prefix}{fault.text}\n"
