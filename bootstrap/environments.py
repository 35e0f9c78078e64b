"""The environments of this process, mostly one: signals, processes that have ended, and the end of all."""

import os
import time

from .commands import ReportEnd, ReportIdle, SetTimer, TurnAway
from .events import Booted, InvokeReceived, ShutdownRequested
from .process import ended
from .quick import signal
from .selector import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .loop import Loop
    from .pool import Pool
    from .records import Record
    from .selector import Selector

REAP_PERIOD_S = 15.0  # in case a signal got lost


class Environments:
    """Each is a loop of its own on one selector; the last one's end is the process's."""

    def __init__(self, selector: "Selector") -> None:
        self._selector = selector
        self.loops: list[Loop] = []
        self._living = 0
        self.pool: Pool | None = None  # where there are several, who takes what is submitted, and who begins when

    def add(self, loop: "Loop") -> None:
        """One more, before any begins."""
        self.loops.append(loop)
        self._living += 1
        loop.on_exit = self._one_ended

    def begin(self, index: int = 0) -> None:
        """Boot an environment."""
        loop = self.loops[index]
        loop.tell(Booted(loop.supervisor.extension_names))

    def tell_all(self, event: "Record") -> None:
        """Something concerns all of them."""
        for loop in self.loops:
            loop.tell(event)

    def _one_ended(self) -> None:
        self._living -= 1
        if not self._living:
            self._selector.stop()

    # -- several --------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Begin, each as it shall."""
        if self.pool is None:
            self.begin()
        else:
            self._do(self.pool.boot())

    def drain(self) -> None:
        """Take what has been printed until now, at the end."""
        for loop in self.loops:
            loop.drain()

    def submit(self, event: InvokeReceived) -> None:
        """An invocation for whoever is free."""
        assert self.pool is not None
        self._do(self.pool.take(event.invocation, time.monotonic()))

    def share(self, loop: "Loop") -> None:
        """Let the pool hear of an environment when it has room; before anybody else listens in on its commands."""
        assert self.pool is not None
        index = self.loops.index(loop)
        for kind, told in ((ReportIdle, self.pool.is_idle), (ReportEnd, self.pool.has_ended_one)):
            before = loop.performers[kind]

            def perform(command: "Record", before=before, told=told) -> None:  # type: ignore[no-untyped-def]
                before(command)
                self._do(told(index))

            loop.performers[kind] = perform
        turn_away = loop.performers[TurnAway]

        def perform_turn_away(command: TurnAway) -> None:
            turn_away(command)
            if command.reason == TurnAway.DUPLICATE:  # the only one of what the pool has handed over
                self._do(self.pool.has_ended_one(index))  # type: ignore[union-attr]

        loop.performers[TurnAway] = perform_turn_away

    def _do(self, steps: "list[Record]") -> None:
        from .pool import Begin, Hand  # only who has several pays for the import

        for step in steps:
            if isinstance(step, Begin):
                self.begin(step.index)
            elif isinstance(step, SetTimer):
                self._selector.at(step.name, step.at, self._grow)
            elif isinstance(step, Hand):
                self.loops[step.index].tell(InvokeReceived(step.invocation))
            else:
                self.loops[0].performers[type(step)](step)

    def _grow(self) -> None:
        assert self.pool is not None
        self._do(self.pool.grow(time.monotonic()))

    # -- signals and processes ------------------------------------------------------------------------------------

    def watch_signals(self) -> None:
        """Before the first process is started, so that no end of one is missed."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._selector.watch(read, READ, lambda _: self._signalled(read))
        self._selector.repeat("reap", REAP_PERIOD_S, self._reap)

    def _signalled(self, fd: int) -> None:
        numbers = os.read(fd, 4096)
        self._reap()
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            if self.pool is not None:
                self._do(self.pool.close())
            self.tell_all(ShutdownRequested())

    def _reap(self) -> None:
        exits: dict[Loop, list[Record]] = {}
        for pid, status, usage in ended():
            for loop in self.loops:
                exited = loop.supervisor.exited(pid, status, usage)
                if exited is not None:
                    exits.setdefault(loop, []).append(exited)
        for loop, its_own in exits.items():
            loop.ended(its_own)
