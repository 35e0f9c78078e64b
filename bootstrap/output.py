"""Log lines: what the runtime prints and what the platform says, to one place, and the tail that callers may ask for.

A function is never held up by its log: what the reader of our log does not take in time is dropped and counted.
"""

import os
import time

from .records import Record
from .wire import LINE_JOINT, MAX_LOG_TAIL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from .commands import ReportEnd, ReportExtension, ReportInit, ReportRestore, ReportSubscription

    class Taker(Protocol):
        """Who takes what the parties print."""

        def take_lines(self, name: str, text: bytes, is_record: bool) -> None:
            """Whole lines of the party `name`, newline included, or one record of perhaps several."""


MAX_LINE = 262_144  # a longer line is cut into several, as the service does
MAX_BACKLOG = 4_194_304  # bytes that wait for a slow reader before lines are dropped
PIPE_READ = 65_536
# Each write wakes whoever copies the log, who then takes the processor from the function: lines wait for a pause in
# the work, and for no longer than this. Measured: with a write for each line an invocation takes up to twice as long.
PAUSE_S = 0.002
MAX_AGE_S = 0.010
MAX_ROUNDS = 16  # of reading one pipe before others have their turn


class Dropped(Record):
    """How much was lost since the reader last kept up."""

    lines: int
    octets: int


class Log:
    """One destination for whole lines, and the last 4 KB of the current invocation."""

    def __init__(self, path: str = "") -> None:
        self._fd = _open_log(path)
        self._backlog = bytearray()
        self._lost_lines = 0
        self._lost_bytes = 0
        self._tail = bytearray()
        self._waits_since = 0.0
        self.is_blocked = False  # the reader has to take something before more can be written

    @property
    def fd(self) -> int:
        """The descriptor to watch while `is_blocked`."""
        return self._fd

    @property
    def has_backlog(self) -> bool:
        """Whether lines wait to be written."""
        return bool(self._backlog)

    def is_due(self, now: float) -> bool:
        """Whether they have waited long enough for company (monotonic seconds)."""
        return bool(self._backlog) and now - self._waits_since > MAX_AGE_S

    def begin(self) -> None:
        """A new invocation: its tail starts empty."""
        self._tail.clear()

    def tail(self) -> bytes:
        """The last 4 KB since `begin`."""
        return bytes(self._tail[-MAX_LOG_TAIL:])

    def write(self, text: bytes) -> None:
        """Take whole lines, newline included; they are written by `flush`."""
        self._take(text, text)

    def write_record(self, text: bytes) -> None:
        """As `write`, lines that belong together: the manager, who reads our log, takes them for one."""
        self._take(text, text[:-1].replace(b"\n", LINE_JOINT.encode()) + b"\n")

    def _take(self, text: bytes, written: bytes) -> None:
        tail, backlog = self._tail, self._backlog
        tail += text
        if len(tail) > 16 * MAX_LOG_TAIL:
            del tail[:-MAX_LOG_TAIL]
        if len(backlog) + len(written) > MAX_BACKLOG:
            self._lost_lines += written.count(b"\n")
            self._lost_bytes += len(written)
            return
        if not backlog:
            self._waits_since = time.monotonic()
        backlog += written

    def flush(self) -> None:
        """Write what the reader takes now."""
        self.is_blocked = False
        while self._backlog:
            try:
                written = os.write(self._fd, self._backlog[:PIPE_READ])
            except BlockingIOError:
                self.is_blocked = True
                return
            except OSError:
                self._backlog.clear()  # nobody reads any more
                return
            del self._backlog[:written]
        if self._lost_lines:
            notice = f"rie: {self._lost_lines} lines ({self._lost_bytes} bytes) dropped: the log's reader is too slow\n"
            self._lost_lines = self._lost_bytes = 0
            self._backlog += notice.encode()
            self.flush()


def _open_log(path: str) -> int:
    """A non-blocking descriptor of our own; standard output's, opened anew so that others' keep their mode."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path or "/proc/self/fd/1", flags)
    except OSError:
        if path:
            raise
        return 1  # a socket can't be opened anew; then writing waits for its reader


class LineReader:
    """Cuts what a pipe of the party `name` gives into lines."""

    def __init__(self, fd: int, taker: "Taker", name: str = "") -> None:
        self.fd = fd
        self.name = name
        self._take_lines = taker.take_lines
        self.partial = bytearray()  # the line that has no end yet

    def read(self) -> bool:
        """Pass on what is there; False at the end of the pipe."""
        for _ in range(MAX_ROUNDS):
            try:
                data = os.read(self.fd, PIPE_READ)
            except BlockingIOError:
                return True
            except OSError:
                data = b""
            if not data:
                self.end()
                return False
            self._take(data)
            if len(data) < PIPE_READ:
                break
        return True

    def _take(self, data: bytes) -> None:
        if len(self.partial) + len(data) > MAX_LINE:
            data = self._cut(data)
        end = data.rfind(b"\n") + 1
        if end:
            self._take_lines(self.name, bytes(self.partial) + data[:end], False)
            self.partial = bytearray(data[end:])
        else:
            self.partial += data

    def _cut(self, data: bytes) -> bytes:
        """Pass on the line that is too long, in parts that end where a character does; what comes after it."""
        end = data.find(b"\n") + 1 or len(data)
        self.partial += data[:end]
        while len(self.partial) - self.partial.endswith(b"\n") > MAX_LINE:
            at = character_end(self.partial, MAX_LINE)
            self._take_lines(self.name, bytes(self.partial[:at]) + b"\n", False)
            del self.partial[:at]
        if self.partial.endswith(b"\n"):
            self._take_lines(self.name, bytes(self.partial), False)
            self.partial.clear()
        return data[end:]

    def flush(self) -> None:
        """Pass on a line that has no end yet, because what it belongs to is over."""
        if self.partial:
            self._take_lines(self.name, bytes(self.partial) + b"\n", False)
            self.partial.clear()

    def end(self) -> None:
        """Nothing more will come."""
        self.flush()


def character_end(text: bytearray, most: int) -> int:
    """The last place at or before `most` where no character of UTF-8 is cut."""
    at = most
    while at > most - 4 and text[at] & 0xC0 == 0x80:
        at -= 1
    return at


def timestamp(at: "float | None" = None) -> str:
    """An instant (seconds since 1970; now), as the service writes it: 2025-11-25T02:26:54.123Z."""
    now = time.time() if at is None else at
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"


# -- the platform's lines, text format (service spec §11.2); fields are separated by one tab ---------------------------


def init_start_line(version: str) -> str:
    """INIT_START, once for each environment."""
    return f"INIT_START Runtime Version: rie:{version}\tRuntime Version ARN: \n"


def restore_start_line(version: str) -> str:
    """RESTORE_START, of a runtime that asks to be restored from a snapshot."""
    return f"RESTORE_START Runtime Version: rie:{version}\tRuntime Version ARN: \n"


def restore_report_line(report: "ReportRestore") -> str:
    """RESTORE_REPORT, only for hooks that did not end well."""
    line = f"RESTORE_REPORT Restore Duration: {report.duration_ms:.2f} ms\tStatus: {report.status}"
    return f"{line}\tError Type: {report.error_type}\n" if report.error_type else f"{line}\n"


def subscription_line(report: "ReportSubscription") -> str:
    """TELEMETRY or LOGS, when an extension has subscribed."""
    types = ",".join(kind.capitalize() for kind in report.types)
    return f"{report.api.upper()}\tName: {report.name}\tState: {report.state}\tTypes: [{types}]\n"


def init_report_line(report: "ReportInit") -> str:
    """INIT_REPORT, only for an init that did not end well, or was ahead of any invocation."""
    line = f"INIT_REPORT Init Duration: {report.duration_ms:.2f} ms\tPhase: {report.phase}\tStatus: {report.status}"
    if report.error_type and report.status == "error":
        line += f"\tError Type: {report.error_type}"
    return line + "\n"


def extension_line(report: "ReportExtension") -> str:
    """EXTENSION, when one is ready or will never be."""
    line = f"EXTENSION\tName: {report.name}\tState: {report.state}\tEvents: [{','.join(report.events)}]"
    return f"{line}\tError Type: {report.error_type}\n" if report.error_type else f"{line}\n"


def start_line(request_id: str, version: str) -> str:
    """START."""
    return f"START RequestId: {request_id} Version: {version}\n"


def billed_ms(report: "ReportEnd") -> int:
    """Whole milliseconds, init included where it was part of this invocation's environment starting."""
    return max(1, whole_ms(report.duration_ms + (report.init_ms or 0.0)))


def whole_ms(duration_ms: float) -> int:
    """Whole milliseconds, a begun one counted."""
    return int(duration_ms) + (duration_ms > int(duration_ms))


def end_lines(report: "ReportEnd", memory_mb: int, used_mb: int) -> str:
    """END and REPORT. A handler's own error adds nothing to REPORT; the trailing tab is real."""
    request_id = report.invocation.request_id
    line = (
        f"END RequestId: {request_id}\n"
        f"REPORT RequestId: {request_id}\tDuration: {report.duration_ms:.2f} ms\t"
        f"Billed Duration: {billed_ms(report)} ms\tMemory Size: {memory_mb} MB\tMax Memory Used: {used_mb} MB\t"
    )
    if report.init_ms is not None:
        line += f"Init Duration: {report.init_ms:.2f} ms\t"
    if report.restore_ms is not None:
        billed = whole_ms(report.restore_ms)
        line += f"Restore Duration: {report.restore_ms:.2f} ms\tBilled Restore Duration: {billed} ms\t"
    if report.status == "timeout":
        line += "Status: timeout"
    elif report.status == "failure":
        line += f"Status: error\tError Type: {report.error_type}"
    trace_id = report.invocation.trace_id
    return line + ("\n" if "Sampled=1" not in trace_id else f"\n{xray_line(trace_id)}")


def xray_line(trace_id: str) -> str:
    """What follows REPORT of an invocation that is traced: the function's segment is its runtime's parent."""
    fields = dict(field.strip().partition("=")[::2] for field in trace_id.split(";"))
    segment = fields.get("Parent", "")
    return f"XRAY TraceId: {fields.get('Root', '')}\tSegmentId: {segment}\tSampled: true\t\n"
