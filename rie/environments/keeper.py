"""Has idle environments let go when their time is over, and others started ahead: the clock and alarm of KeepAlive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from rie.environments.arrivals import Arrivals
from rie.environments.environment import Address, Environment
from rie.environments.keep_alive import Ahead, KeepAlive, Slot
from rie.model.function import Configuration, Function

MIN_SWEEP_S = 0.05

Model = tuple[Function, Configuration]
Start = Ahead[Address, Model]


class Keeper:
    """Of the event loop. `let_go` is told ids of idle environments, `start` what to start ahead."""

    def __init__(
        self, keep_alive: KeepAlive[Address, Model], let_go: Callable[[str], None], start: Callable[[Start], None]
    ) -> None:
        self._keep_alive = keep_alive
        self._let_go = let_go
        self._start = start
        self._alarm: asyncio.TimerHandle | None = None
        self._rings_at = 0.0
        self._is_closed = False

    @property
    def places(self) -> set[Address]:
        """Where environments are to be started ahead."""
        return self._keep_alive.places

    def note_idle(self, environment: Environment, arrivals: Arrivals, count: int, now: float) -> None:
        """It has ended its invocation; so many ran until then."""
        slot = Slot(environment.address, count)
        model = environment.function, environment.configuration
        self._keep_alive.note_idle(environment.environment_id, slot, arrivals, model, now)
        self._set_alarm(now)

    def note_ready(self, environment: Environment, start: Start) -> None:
        """What was started ahead is idle."""
        self._keep_alive.note_ready(environment.environment_id, start)
        self._set_alarm(time.monotonic())

    def note_taken(self, environment: Environment) -> None:
        """It is idle no more."""
        self._keep_alive.note_taken(environment.environment_id)

    def forget(self, is_gone: Callable[[Address], bool]) -> None:
        """Nothing is started ahead for these any more."""
        self._keep_alive.forget(is_gone)

    def close(self) -> None:
        """Say nothing more."""
        self._is_closed = True
        if self._alarm is not None:
            self._alarm.cancel()

    def _set_alarm(self, now: float) -> None:
        at = self._keep_alive.looks_at
        if at is None or self._is_closed or (self._alarm is not None and self._rings_at <= at):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._rings_at = max(at, now + MIN_SWEEP_S)
        self._alarm = asyncio.get_running_loop().call_later(self._rings_at - now, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        now = time.monotonic()
        for environment_id in self._keep_alive.overdue(now):
            self._let_go(environment_id)
        for start in self._keep_alive.starts(now):
            self._start(start)
        self._set_alarm(now)
