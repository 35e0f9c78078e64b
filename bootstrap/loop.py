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
    ReportRuntimeDone,
    ReportStart,
    SetTimer,
    SpawnRuntime,
    TerminateRuntime,
)
from .events import ExtensionExited, PollLost, TimerFired
from .listener import Listener
from .output import LineReader, end_lines, extension_line, init_report_line, start_line, timestamp
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


# A request that stops coming half-way is cut after this long, so that slow senders can't use up the connections.
MAX_SILENCE_S = 60.0
SWEEP_TIMER, MEMORY_TIMER = "sweep", "memory"
MEMORY_PERIOD_S = 0.05
BRIEF_MS, MEASURE_PERIOD_S = 2.0, 0.01


class Loop:
    """Carries out what the machine says, on a selector that it may share with other environments."""

    def __init__(
        self,
        machine: "Machine | ConcurrentMachine",
        settings: "Settings",
        supervisor: "Supervisor",
        log: "Log | Strand",
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
        self.last_report: ReportEnd | None = None
        self.used_mb = 0
        self._measured_at = 0.0
        self._unwritten: list[ReportEnd] = []
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
            ReportInit: self._report_init,
            ReportStart: self._report_start,
            ReportFault: self._report_fault,
            ReportExtension: self._report_extension,
            ReportRuntimeDone: lambda _: None,
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
                if self._unwritten:
                    self._write_ends()
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

    def _watch_memory(self) -> None:
        """Where the kernel does not limit the function, look often enough, as long as it works."""
        if self.supervisor.watched_mb:
            self.selector.at((self, MEMORY_TIMER), time.monotonic() + MEMORY_PERIOD_S, self._check_memory)

    def _check_memory(self) -> None:
        if self.supervisor.kill_if_too_large():
            limit_mb = self.supervisor.watched_mb
            self.log.write(f"rie: the function held more than its {limit_mb} MB and was killed\n".encode())
        elif not self.machine.is_free:
            self._watch_memory()

    def _launch(self, command: LaunchExtension) -> None:
        self._take_up(command.name, self.supervisor.launch_extension(command.name))

    def _take_up(self, name: str, result: "Record") -> None:
        if not isinstance(result, Started):
            self.tell(result)
            return
        for fd in result.pipes:
            reader = LineReader(fd, self.log, name)
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
            reader.flush()
            self._close_pipe(reader)

    def _close_pipe(self, reader: LineReader) -> None:
        self._pipes.remove(reader)
        self._pipes_ready.unregister(reader.fd)
        self.forget(reader.fd)
        os.close(reader.fd)

    # -- the log --------------------------------------------------------------------------------------------------

    def _report_init(self, report: ReportInit) -> None:
        self.drain()
        if report.status != "success" and not self.settings.is_compat:
            self.log.write(init_report_line(report).encode())
            if not self.settings.is_managed:
                self._hint(report.error_type)

    def _hint(self, error_type: str) -> None:
        """Say what to check, once."""
        from . import hints

        hint = hints.hint_for(error_type, self._last_fault, self.settings)
        if hint and hint != self._last_hint:
            self._last_hint = hint
            self.log.write(f"rie: {hint}\n".encode("utf-8", "surrogateescape"))

    def _report_extension(self, report: ReportExtension) -> None:
        if not self.settings.is_compat:
            self.log.write(extension_line(report).encode())

    def _report_start(self, command: ReportStart) -> None:
        self._write_ends()  # of the one before, where both come of the same event
        self._watch_memory()
        self.drain()
        self.log.begin()
        self.log.write(start_line(command.invocation.request_id, self.settings.function_version).encode())

    def _report_fault(self, fault: ReportFault) -> None:
        self._last_fault = fault.text
        self.drain()
        if self.settings.is_compat:
            return
        prefix = f"{timestamp()} {fault.request_id} " if fault.request_id else ""
        self.log.write(f"{prefix}{fault.text}\n".encode())

    def _report_end(self, report: ReportEnd) -> None:
        """Measured and written at once for callers who are told of it, for the others once they have their answer."""
        self.drain()
        for reader in self._pipes:
            reader.flush()
        if report.invocation.wants_log or self.settings.is_managed:
            self._write_end(report)
        else:
            self._unwritten.append(report)

    def _write_ends(self) -> None:
        reports, self._unwritten = self._unwritten, []
        for report in reports:
            self._write_end(report)

    def _write_end(self, report: ReportEnd) -> None:
        now = time.monotonic()
        # What a process has held at most is not forgotten while it lives: a look after each of the shortest invocations
        # would cost a tenth of their time and tell the same.
        if report.duration_ms > BRIEF_MS or now > self._measured_at + MEASURE_PERIOD_S or report.status != "success":
            self._measured_at = now
            self.used_mb = max(self.used_mb, self.supervisor.peak_mb())
        self.last_report = report
        if self.settings.is_compat:
            from .compat import end_lines as compat_end_lines

            self.log.write(compat_end_lines(report, self.settings.memory_mb).encode())
            return
        self.log.write(end_lines(report, self.settings.memory_mb, self.used_mb).encode())

    # -- listeners and connections --------------------------------------------------------------------------------

    def listen(self, sock: "_socket.socket", door: "Door", limit: int) -> None:
        """Accept up to `limit` connections at a time on a bound socket and have `door` answer them."""
        self._listeners.append(Listener(self, sock, door, limit))

    def connection_closed(self, connection: "Connection") -> None:
        """A connection is gone; if it was a poll, the machine must know."""
        if connection.is_poll:
            self.tell(PollLost(connection))
