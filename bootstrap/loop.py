"""The shell around the machine: one thread, one selector, sockets, pipes, signals and timers.

It feeds events in and carries commands out. What a command means on the wire is the doors' business: they register a
performer for each command type that is theirs.
"""

import os
import select
import sys
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
from .events import ExtensionExited, PollLost, ShutdownRequested, TimerFired
from .listener import Listener
from .output import PAUSE_S, LineReader, Log, end_lines, extension_line, init_report_line, start_line, timestamp
from .process import Started
from .quick import deque, signal
from .supervisor import RUNTIME

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any, Callable, Protocol

    from .concurrent import ConcurrentMachine
    from .connection import Connection
    from .http1 import Request
    from .lifecycle import Machine
    from .records import Record
    from .settings import Settings
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
READ = select.EPOLLIN
WRITE = select.EPOLLOUT


class Loop:
    """Owns every descriptor of the process."""

    def __init__(
        self, machine: "Machine | ConcurrentMachine", settings: "Settings", supervisor: "Supervisor", log: Log
    ) -> None:
        self.machine = machine
        self.settings = settings
        self.supervisor = supervisor
        self.log = log
        self.last_report: ReportEnd | None = None
        self.used_mb = 0
        self._last_fault = ""
        self._last_hint = ""
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[int], None]] = {}
        self._timers: dict[str, float] = {}
        self._repeated: dict[str, tuple[float, Callable[[], None]]] = {}  # timers of the shell, not of the machine
        self._pipes: list[LineReader] = []
        self._pipes_ready = select.poll()
        self._listeners: list[Listener] = []
        self._events: deque[Record] = deque()
        self._is_telling = False
        self._is_over = False
        self._log_is_watched = False
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

    # -- running --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until the machine says Exit."""
        self.repeat(SWEEP_TIMER, MAX_SILENCE_S / 4, self._sweep)
        while not self._is_over:
            ready = self._epoll.poll(self._until_next_event())
            if self.log.has_backlog and not self.log.is_blocked and (not ready or self.log.is_due(time.monotonic())):
                self.log.flush()
            for fd, mask in ready:
                watcher = self._watched.get(fd)
                if watcher is not None:
                    self._guarded(lambda watcher=watcher, mask=mask: watcher(mask))  # type: ignore[misc]
            self._guarded(self._fire_timers)
            self._watch_log()
        self._drain()
        self.log.flush()

    def _guarded(self, action: "Callable[[], None]") -> None:
        """One thing that goes wrong must not end PID 1, and with it the container."""
        try:
            action()
        except Exception:
            import traceback

            sys.stderr.write(f"rie: {traceback.format_exc()}")

    def tell(self, event: "Record") -> None:
        """Feed the machine, and do what it says; events that come up meanwhile are fed after."""
        self._events.append(event)
        if self._is_telling:
            return
        self._is_telling = True
        try:
            while self._events:
                for command in self.machine.accept(self._events.popleft(), time.monotonic()):
                    self.performers[type(command)](command)
        finally:
            self._is_telling = False

    def watch(self, fd: int, mask: int, watcher: "Callable[[int], None]") -> None:
        """Call `watcher(mask)` when `fd` is ready; replaces what was watched of it."""
        if fd in self._watched:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._watched[fd] = watcher

    def forget(self, fd: int) -> None:
        """Stop watching `fd`, which is still open."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _until_next_event(self) -> float:
        timeout = max(0.0, min(self._timers.values()) - time.monotonic())
        return min(timeout, PAUSE_S) if self.log.has_backlog and not self.log.is_blocked else timeout

    def _fire_timers(self) -> None:
        now = time.monotonic()
        for name in [name for name, at in self._timers.items() if at <= now]:
            if name in self._repeated:
                interval_s, action = self._repeated[name]
                self._timers[name] = now + interval_s
                action()
            elif name == MEMORY_TIMER:
                self._check_memory()
            else:
                del self._timers[name]
                self.tell(TimerFired(name))

    def repeat(self, name: str, interval_s: float, action: "Callable[[], None]") -> None:
        """Call `action` every `interval_s` seconds from now on; replaces what had that name."""
        self._repeated[name] = (interval_s, action)
        self._timers[name] = time.monotonic() + interval_s

    def _sweep(self) -> None:
        for listener in self._listeners:
            listener.close_stalled(time.monotonic() - MAX_SILENCE_S)
        self._reap()
        self._reap()

    def _set_timer(self, command: SetTimer) -> None:
        self._timers[command.name] = command.at

    def _cancel_timer(self, command: CancelTimer) -> None:
        self._timers.pop(command.name, None)

    def _exit(self, _: Exit) -> None:
        self._is_over = True

    # -- signals and the runtime's process ------------------------------------------------------------------------

    def watch_signals(self) -> None:
        """Before the first process is started, so that no end of one is missed."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self.watch(read, READ, lambda _: self._signalled(read))

    def _signalled(self, fd: int) -> None:
        numbers = os.read(fd, 4096)
        self._reap()
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self.tell(ShutdownRequested())

    def _reap(self) -> None:
        exits = self.supervisor.reap()
        if exits:
            self._drain()
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
            self._timers[MEMORY_TIMER] = time.monotonic() + MEMORY_PERIOD_S

    def _check_memory(self) -> None:
        del self._timers[MEMORY_TIMER]
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

    def _drain(self) -> None:
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
        self._drain()
        if (report.status != "success" or self.settings.is_provisioned) and not self.settings.is_compat:
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
        self._watch_memory()
        self._drain()
        self.log.begin()
        self.log.write(start_line(command.invocation.request_id, self.settings.function_version).encode())

    def _report_fault(self, fault: ReportFault) -> None:
        self._last_fault = fault.text
        self._drain()
        if self.settings.is_compat:
            return
        prefix = f"{timestamp()} {fault.request_id} " if fault.request_id else ""
        self.log.write(f"{prefix}{fault.text}\n".encode())

    def _report_end(self, report: ReportEnd) -> None:
        self._drain()
        for reader in self._pipes:
            reader.flush()
        self.used_mb = max(self.used_mb, self.supervisor.peak_mb())
        self.last_report = report
        if self.settings.is_compat:
            from .compat import end_lines as compat_end_lines

            self.log.write(compat_end_lines(report, self.settings.memory_mb).encode())
            return
        self.log.write(end_lines(report, self.settings.memory_mb, self.used_mb).encode())

    def _watch_log(self) -> None:
        """Have the backlog written as its reader takes it."""
        if self.log.is_blocked == self._log_is_watched:
            return
        self._log_is_watched = self.log.is_blocked
        if not self._log_is_watched:
            self.forget(self.log.fd)
            return
        try:
            self.watch(self.log.fd, WRITE, lambda _: self.log.flush())
        except PermissionError:
            self._log_is_watched = False  # a regular file is always ready and can't be watched

    # -- listeners and connections --------------------------------------------------------------------------------

    def listen(self, sock: "_socket.socket", door: "Door", limit: int) -> None:
        """Accept up to `limit` connections at a time on a bound socket and have `door` answer them."""
        self._listeners.append(Listener(self, sock, door, limit))

    def connection_closed(self, connection: "Connection") -> None:
        """A connection is gone; if it was a poll, the machine must know."""
        if connection.is_poll:
            self.tell(PollLost(connection))
