"""The shell around one environment's machine: its processes, their pipes, its timers and its part of the log.

It feeds events in and carries commands out. What a command means on the wire is the doors' business: they register a
performer for each command type that is theirs.
"""

import os
import select
import time

from .commands import (
    CancelTimer,
    Exit,
    KillExtension,
    KillRuntime,
    LaunchExtension,
    ReportEnd,
    ReportExtension,
    ReportFault,
    ReportIdle,
    ReportInit,
    ReportInitRuntimeDone,
    ReportInitStart,
    ReportParked,
    ReportRestore,
    ReportRestoreStart,
    ReportRuntimeDone,
    ReportStart,
    SetTimer,
    SpawnRuntime,
    TerminateRuntime,
)
from .events import ExtensionExited, PollLost, TimerFired
from .frames import FrameReader
from .listener import Listener
from .output import LineReader
from .process import Started
from .quick import deque
from .selector import READ
from .supervisor import RUNTIME

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any, Callable, Protocol

    from .concurrent import ConcurrentMachine
    from .connection import Connection
    from .http1 import Request
    from .lifecycle import Machine
    from .log_lines import Lines
    from .output import Log
    from .records import Record
    from .selector import Selector
    from .settings import Settings
    from .strand import Strand
    from .supervisor import Supervisor

    class Door(Protocol):
        """What answers the requests of one listener."""

        max_body: int

        def handle(self, request: Request, connection: Connection) -> None:
            """Answer now, or keep the connection and answer later."""

        def wants_pieces(self, request: Request, connection: Connection) -> bool:
            """Whether the body of a request shall come in pieces, before `handle`."""

        def take_pieces(self, connection: Connection, pieces: list[bytes]) -> None:
            """Some of them."""

        def cut(self, connection: Connection) -> None:
            """The connection closed before the last one."""

        def truncated(self, connection: Connection) -> None:
            """The client has ended within a body, and may still listen: answer, or close the connection."""

    class Timekeeper(Protocol):
        """Who wants to know when the runtime began to answer and when it was back; mostly nobody does."""

        def answer_begins(self, request_id: str) -> None:
            """The head of an answer has come."""

        def runtime_polls(self) -> None:
            """The runtime asks for its next event."""


# A request that stops coming half-way is cut after this long, so that slow senders can't use up the connections.
MAX_SILENCE_S = 60.0
SWEEP_TIMER, MEMORY_TIMER = "sweep", "memory"
MEMORY_PERIOD_S = 0.05
IDLE_MEMORY_PERIOD_S = 1.0
BRIEF_MS, MEASURE_PERIOD_S = 2.0, 0.01


class Loop:
    """Carries out what the machine says, on a selector that it may share with other environments."""

    def __init__(
        self,
        machine: "Machine | ConcurrentMachine",
        settings: "Settings",
        supervisor: "Supervisor",
        log: "Log | Strand",
        lines: "Lines",
        selector: "Selector",
    ) -> None:
        self.selector = selector
        self.watch = selector.watch
        self.forget = selector.forget
        self.machine = machine
        self.settings = settings
        self.supervisor = supervisor
        self.log = log
        self.on_exit: Callable[[], None] = selector.stop
        self.lines = lines  # what the log says of the machine's reports
        self.tap: Callable[[str, bytes, bool], None] | None = None  # is told of all that the parties print
        self.timekeeper: Timekeeper | None = None
        self.last_report: ReportEnd | None = None
        self.used_mb = 0
        self.credentials = settings.credentials
        self._is_managed = settings.is_managed
        self._measured_at = 0.0
        self._later: list[ReportStart | ReportEnd] = []  # what the log says once the function is at work
        self._last_fault = ""
        self._last_hint = ""
        self._pipes: list[LineReader] = []
        self._pipes_ready = select.poll()
        self._listeners: list[Listener] = []
        self._events: deque[Record] = deque()
        self._is_telling = False
        self.performers: dict[type, Callable[[Any], None]] = {
            SpawnRuntime: self._spawn,
            LaunchExtension: self._launch,
            KillRuntime: lambda _: supervisor.kill(),
            KillExtension: lambda command: supervisor.kill(command.name),
            TerminateRuntime: lambda _: supervisor.terminate_runtime(),
            SetTimer: self._set_timer,
            CancelTimer: self._cancel_timer,
            ReportInitStart: self.report,
            ReportInitRuntimeDone: self.report if lines.has_runtime_done else lambda _: None,
            ReportInit: self._report_init,
            ReportParked: lambda _: None,
            ReportRestoreStart: self.report,
            ReportRestore: self.report,
            ReportStart: self._report_start,
            ReportFault: self._report_fault,
            ReportExtension: self.report,
            ReportRuntimeDone: self.report if lines.has_runtime_done else lambda _: None,
            ReportIdle: lambda _: None,
            ReportEnd: self._report_end,
            Exit: self._exit,
        }
        self.repeat(SWEEP_TIMER, MAX_SILENCE_S / 4, self._sweep)

    def tell(self, event: "Record") -> None:
        """Feed the machine, and do what it says; events that come up meanwhile are fed after."""
        if self._is_telling:
            self._events.append(event)
            return
        self._is_telling = True
        events, accept, performers = self._events, self.machine.accept, self.performers
        try:
            while True:
                for command in accept(event, time.monotonic()):
                    performers[type(command)](command)
                if self._later:
                    self._write_later()
                if not events:
                    return
                event = events.popleft()
        finally:
            self._is_telling = False

    def repeat(self, name: str, interval_s: float, action: "Callable[[], None]") -> None:
        """Call `action` every `interval_s` seconds from now on; replaces what had that name."""
        self.selector.repeat((self, name), interval_s, action)

    def _set_timer(self, command: SetTimer) -> None:
        name = command.name
        self.selector.at((self, name), command.at, lambda: self.tell(TimerFired(name)))

    def _cancel_timer(self, command: CancelTimer) -> None:
        self.selector.cancel((self, command.name))

    def once(self, name: str, at: float, action: "Callable[[], None]") -> None:
        """Call `action` at an instant (monotonic seconds); replaces what had that name."""
        self.selector.at((self, name), at, action)

    def _sweep(self) -> None:
        for listener in self._listeners:
            listener.close_stalled(time.monotonic() - MAX_SILENCE_S)

    def _exit(self, _: Exit) -> None:
        self.drain()
        self.supervisor.close()
        self.on_exit()

    # -- processes ------------------------------------------------------------------------------------------------

    def ended(self, exits: "list[Record]") -> None:
        """Processes of this environment have ended."""
        self.drain()
        for exited in exits:
            name = exited.name if isinstance(exited, ExtensionExited) else RUNTIME
            self._close_pipes(name)
            self.tell(exited)

    def _spawn(self, command: SpawnRuntime) -> None:
        self._watch_memory()
        self._take_up(RUNTIME, self.supervisor.spawn_runtime())

    def _watch_memory(self, period_s: float = MEMORY_PERIOD_S) -> None:
        """Where the kernel does not limit the function, look often enough, as long as it works."""
        if self.supervisor.watched_mb:
            self.selector.at((self, MEMORY_TIMER), time.monotonic() + period_s, self._check_memory)

    def _check_memory(self) -> None:
        if self.supervisor.kill_if_too_large():
            limit_mb = self.supervisor.watched_mb
            self.log.write(f"rie: the function held more than its {limit_mb} MB and was killed\n".encode())
        elif not self.machine.is_free:
            self._watch_memory()
        elif self._is_managed:  # nobody freezes it between invocations
            self._watch_memory(IDLE_MEMORY_PERIOD_S)

    def _launch(self, command: LaunchExtension) -> None:
        self._take_up(command.name, self.supervisor.launch_extension(command.name))

    def _take_up(self, name: str, result: "Record") -> None:
        if not isinstance(result, Started):
            self.tell(result)
            return
        for fd in result.pipes:
            reader = LineReader(fd, self, name) if name else FrameReader(fd, self)
            self._pipes.append(reader)
            self._pipes_ready.register(fd, select.POLLIN)
            self.watch(fd, READ, lambda _, reader=reader: self._read_pipe(reader))  # type: ignore[misc]

    def _read_pipe(self, reader: LineReader) -> None:
        if not reader.read():
            self._close_pipe(reader)

    def drain(self) -> None:
        """Take what the parties have printed until now."""
        for fd, _ in self._pipes_ready.poll(0):
            for reader in [reader for reader in self._pipes if reader.fd == fd]:
                self._read_pipe(reader)

    def _close_pipes(self, name: str) -> None:
        for reader in [reader for reader in self._pipes if reader.name == name]:
            reader.end()
            self._close_pipe(reader)

    def _close_pipe(self, reader: LineReader) -> None:
        self._pipes.remove(reader)
        self._pipes_ready.unregister(reader.fd)
        self.forget(reader.fd)
        os.close(reader.fd)

    # -- the log --------------------------------------------------------------------------------------------------

    def take_lines(self, name: str, text: bytes, is_record: bool) -> None:
        """As `output.Taker.take_lines`."""
        kept = self.lines.kept(text, is_record) if self.lines.has_filter else text
        if kept:
            write = self.log.write_record if is_record and self._is_managed else self.log.write
            write(kept)
        if self.tap is not None:
            self.tap(name, text, is_record)

    def report(self, report: "Record") -> None:
        """Write what a report says, after what the parties have printed before it."""
        self._write_later()
        self.drain()
        self._say(report)

    def _say(self, report: "Record") -> None:
        text = self.lines.of(report, self.used_mb)
        if text:
            written = text.encode("utf-8", "surrogateescape")
            if self._is_managed and "\nXRAY " in text:
                self._write_traced(written)
            else:
                self.log.write(written)

    def _write_traced(self, text: bytes) -> None:
        """END, and REPORT with what belongs to it."""
        end, _, report = text.partition(b"\n")
        self.log.write(end + b"\n")
        self.log.write_record(report)

    def _report_init(self, report: ReportInit) -> None:
        self.report(report)
        if report.status != "success" and not self.settings.is_compat and not self._is_managed:
            self._hint(report.error_type)

    def _hint(self, error_type: str) -> None:
        """Say what to check, once."""
        from . import hints

        hint = hints.hint_for(error_type, self._last_fault, self.settings)
        if hint and hint != self._last_hint:
            self._last_hint = hint
            self.log.write(f"rie: {hint}\n".encode("utf-8", "surrogateescape"))

    def _report_start(self, command: ReportStart) -> None:
        """Written once the runtime has its event; what was printed before comes before it."""
        if self._later:
            self._write_later()  # of the one before, where both come of the same event
        if self.supervisor.watched_mb:
            self._watch_memory()
        self.drain()
        self.log.begin()
        self._later.append(command)

    def _report_fault(self, fault: ReportFault) -> None:
        self._last_fault = fault.text
        self.report(fault)

    def _report_end(self, report: ReportEnd) -> None:
        """Measured and written at once for callers who are told of it, for the others once they have their answer."""
        if self._later:
            self._write_later()
        self.drain()
        for reader in self._pipes:
            if reader.partial:
                reader.flush()
        if report.invocation.wants_log or self._is_managed or self.tap is not None:
            self._write_end(report)
        else:
            self._later.append(report)

    def _write_later(self) -> None:
        reports, self._later = self._later, []
        for report in reports:
            if isinstance(report, ReportStart):
                self._say(report)
            else:
                self._write_end(report)

    def _write_end(self, report: ReportEnd) -> None:
        now = time.monotonic()
        # What a process has held at most is not forgotten while it lives: a look after each of the shortest invocations
        # would cost a tenth of their time and tell the same.
        if report.duration_ms > BRIEF_MS or now > self._measured_at + MEASURE_PERIOD_S or report.status != "success":
            self._measured_at = now
            self.used_mb = max(self.used_mb, self.supervisor.peak_mb())
        self.last_report = report
        self._say(report)

    # -- listeners and connections --------------------------------------------------------------------------------

    def listen(self, sock: "_socket.socket", door: "Door", limit: int) -> None:
        """Accept up to `limit` connections at a time on a bound socket and have `door` answer them."""
        self._listeners.append(Listener(self, sock, door, limit))

    def connection_closed(self, connection: "Connection") -> None:
        """A connection is gone; if it was a poll, the machine must know."""
        if connection.is_poll:
            self.tell(PollLost(connection))
