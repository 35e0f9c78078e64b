"""What to do about an invocation for which no environment is idle: decided here, without I/O, carried out by the pool.

Whether it may run at all was decided before (rie.environments.concurrency).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rie.environments.concurrency import CONCURRENCY


@dataclass(frozen=True, slots=True)
class Limits:
    """`concurrency` of an account in a region; `memory_mb` of all environments together: what each was promised."""

    concurrency: int
    memory_mb: int


@dataclass(frozen=True, slots=True)
class Start:
    """Start a new environment, having evicted these idle ones."""

    evict: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Throttle:
    """Refuse; `reason` is one of the service's throttle reasons."""

    reason: str


Decision = Start | Throttle


class Throttled(Exception):
    """No environment may run this invocation now; `reason` is one of the service's throttle reasons."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def plan(memory_mb: int, free_mb: int, refusal: str | None, idle_coldest_first: Iterable[tuple[str, int]]) -> Decision:
    """Decide, by the first case that holds (service specification §7.5).

    `memory_mb` is what the function is promised; `free_mb` what nobody was promised; `refusal` why none may be started
    now, if so; `idle_coldest_first` the (id, memory in MB) of every environment that may be evicted.

    1. Too many were started lately: throttle.
    2. A new one fits into the memory: start it.
    3. It fits once the coldest idle ones are gone: evict just enough of them and start it.
    4. It does not: throttle.
    """
    if refusal is not None:
        return Throttle(refusal)
    missing = memory_mb - free_mb
    if missing <= 0:
        return Start()
    evicted = []
    for environment_id, freed_mb in idle_coldest_first:
        evicted.append(environment_id)
        missing -= freed_mb
        if missing <= 0:
            return Start(tuple(evicted))
    return Throttle(CONCURRENCY)
