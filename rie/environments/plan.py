"""What to do about an invocation that needs an environment: decided here, without I/O, carried out by the pool."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

CONCURRENCY_REASON = "ConcurrentInvocationLimitExceeded"


@dataclass(frozen=True, slots=True)
class Limits:
    """What all environments together may use. `memory_mb` counts what each was promised, not what it uses."""

    concurrency: int
    memory_mb: int


@dataclass(frozen=True, slots=True)
class Load:
    """What they use now: `busy` ones (starting included) and the memory promised to all, idle ones included."""

    busy: int
    memory_mb: int


@dataclass(frozen=True, slots=True)
class Reuse:
    """Run it in this idle environment."""

    environment_id: str


@dataclass(frozen=True, slots=True)
class Start:
    """Start a new environment, having evicted these idle ones."""

    evict: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Throttle:
    """Refuse; `reason` is one of the service's throttle reasons."""

    reason: str


Decision = Reuse | Start | Throttle


def plan(
    memory_mb: int, warm: str | None, load: Load, limits: Limits, idle_coldest_first: Iterable[tuple[str, int]]
) -> Decision:
    """Decide, by the first case that holds (service specification §7.5).

    `memory_mb` is what the function is promised; `warm` the most recently used idle environment of its configuration;
    `idle_coldest_first` the (id, memory in MB) of every idle environment, least recently used first.

    1. As many invocations run as may: throttle.
    2. A warm environment is idle: reuse it.
    3. A new one fits into the memory: start it.
    4. It fits once the coldest idle ones are gone: evict just enough of them and start it.
    5. It does not: throttle.
    """
    if load.busy >= limits.concurrency:
        return Throttle(CONCURRENCY_REASON)
    if warm is not None:
        return Reuse(warm)
    excess = load.memory_mb + memory_mb - limits.memory_mb
    if excess <= 0:
        return Start()
    evicted = []
    for environment_id, freed_mb in idle_coldest_first:
        evicted.append(environment_id)
        excess -= freed_mb
        if excess <= 0:
            return Start(tuple(evicted))
    return Throttle(CONCURRENCY_REASON)
