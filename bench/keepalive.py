"""How long idle environments are kept: by what arrivals say, beside ten minutes for all; a trace replayed.

Both parties are the pool's own code (rie.environments.keep_alive), with a clock that the trace moves. There is memory
for all, so that nothing but time lets an environment go.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from bench.effort import Effort
from bench.figures import Figure, Report, compare, quantile
from bench.trace import DAY_S, HOUR_S, Caller, synthesise
from rie.environments.arrivals import Arrivals
from rie.environments.keep_alive import KeepAlive, Slot

FIXED_S = 600.0
GB = 1_024  # MB


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of what is replayed: a trace for each seed."""

    seeds: int
    functions: int
    days: int


SIZES = {Effort.FULL: Sizes(7, 300, 10), Effort.QUICK: Sizes(2, 60, 4)}


@dataclass(frozen=True, slots=True)
class Found:
    """Of one function: the share of its calls that were cold, MB·s that lay idle, environments started for nobody."""

    cold: float
    idle_mb_s: float
    ahead: int


def run(effort: Effort) -> Report:
    """Cold starts and idle memory of both; no engine is needed."""
    sizes = SIZES[effort]
    ours, fixed = [], []
    for seed in range(1, sizes.seeds + 1):
        print(f"keepalive, seed {seed} of {sizes.seeds}", file=sys.stderr, flush=True)
        callers = synthesise(seed, sizes.functions, sizes.days)
        until = sizes.days * DAY_S
        ours.append([replay(caller, until, is_learned=True) for caller in callers])
        fixed.append([replay(caller, until, is_learned=False) for caller in callers])
    figures = (
        _figure("cold starts, the median function", "% of its calls", ours, fixed, lambda one: cold(one, 0.5)),
        _figure("cold starts, the 75th percentile", "% of its calls", ours, fixed, lambda one: cold(one, 0.75)),
        _figure("memory that lies idle", "GB·h a day", ours, fixed, lambda one: idle(one) / sizes.days),
    )
    started = quantile([sum(one.ahead for one in each) / sizes.functions / sizes.days for each in ours], 0.5)
    notes = (
        f"{sizes.functions} functions over {sizes.days} days, made up from {sizes.seeds} seeds (bench/trace.py); "
        "what is learned begins with nothing; starting takes no time; memory is what each function is promised",
        f"started ahead of a call: {started:.2f} a day and function",
    )
    return Report("keepalive", "a fixed ten minutes", figures, notes)


def _figure(
    name: str, unit: str, ours: list[list[Found]], fixed: list[list[Found]], of: Callable[[list[Found]], float]
) -> Figure:
    """One number for each seed."""
    return compare(name, unit, [[of(one)] for one in ours], [[of(one)] for one in fixed])


def cold(found: list[Found], share: float) -> float:
    """A quantile over functions, in percent."""
    return 100 * quantile([one.cold for one in found], share)


def idle(found: list[Found]) -> float:
    """The sum, in GB·h."""
    return sum(one.idle_mb_s for one in found) / GB / HOUR_S


def replay(caller: Caller, until: float, *, is_learned: bool) -> Found:
    """All calls of one function."""
    replayed = _Replay(is_learned)
    for at, duration_s in caller.calls:
        replayed.advance(at)
        replayed.call(at, duration_s)
    replayed.end(until)
    return Found(replayed.cold / len(caller.calls), replayed.idle_s * caller.memory_mb, replayed.ahead)


class _Replay:
    """Does what the pool does, to environments that are numbers."""

    def __init__(self, is_learned: bool) -> None:
        self.cold = self.ahead = 0
        self.idle_s = 0.0
        self._keep_alive = KeepAlive[str, None](FIXED_S, is_learned=is_learned)
        self._arrivals = Arrivals()
        self._running: list[tuple[float, str]] = []
        self._idle: dict[str, float] = {}  # since when, the warmest last
        self._names = map(str, count())

    def call(self, at: float, duration_s: float) -> None:
        """One comes."""
        self._arrivals.begin(at)
        if self._idle:
            name, since = self._idle.popitem()
            self.idle_s += at - since
            self._keep_alive.note_taken(name)
        else:
            name = next(self._names)
            self.cold += 1
        heapq.heappush(self._running, (at + duration_s, name))

    def advance(self, to: float) -> None:
        """Have everything happen that is due before."""
        while True:
            looks_at = self._keep_alive.looks_at
            if self._running and self._running[0][0] <= min(to, looks_at if looks_at is not None else to):
                self._return(*heapq.heappop(self._running))
            elif looks_at is not None and looks_at < to:
                self._look(looks_at)
            else:
                return

    def end(self, at: float) -> None:
        """The trace is over."""
        self.advance(at)
        self.idle_s += sum(max(0.0, at - since) for since in self._idle.values())

    def _return(self, at: float, name: str) -> None:
        slot = Slot("function", self._arrivals.end(at))
        self._idle[name] = at
        self._keep_alive.note_idle(name, slot, self._arrivals, None, at)

    def _look(self, at: float) -> None:
        for name in self._keep_alive.overdue(at):
            self.idle_s += at - self._idle.pop(name)
        for start in self._keep_alive.starts(at):
            if len(self._idle) + self._arrivals.busy < start.slot.needed:
                name = next(self._names)
                self.ahead += 1
                self._idle = {name: at, **self._idle}
                self._keep_alive.note_ready(name, start)
