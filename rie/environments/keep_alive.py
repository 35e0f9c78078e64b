"""Until when each idle environment is kept, and when one is started ahead of a call; pure, the clock is the caller's.

The pool does what this says, and so does the benchmark that replays traces (bench/keepalive.py).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from rie.environments.arrivals import Arrivals
from rie.environments.idle_times import Window
from rie.environments.timetable import Timetable

MOST_PLANS = 4_096  # environments that are to be started ahead; more would not find memory anyway

PLACE = TypeVar("PLACE", bound=Hashable)
MODEL = TypeVar("MODEL")


class Slot(NamedTuple, Generic[PLACE]):
    """One of the environments of a place that stand in for each other: the one used when `needed` are."""

    place: PLACE
    needed: int


@dataclass(frozen=True, slots=True)
class Ahead(Generic[PLACE, MODEL]):
    """Start one now from this model, unless so many are there; it was last used then, and is kept until then."""

    slot: Slot[PLACE]
    model: MODEL
    used_at: float
    until: float


class KeepAlive(Generic[PLACE, MODEL]):
    """`standard_s`: how long where nothing else is known; `is_learned`: by what the arrivals say, else always so."""

    def __init__(self, standard_s: float, *, is_learned: bool) -> None:
        self._standard = Window(standard_s)
        self._is_learned = is_learned
        self._idle: Timetable[str] = Timetable()
        self._starts: Timetable[Slot[PLACE]] = Timetable()
        self._plans: dict[Slot[PLACE], Ahead[PLACE, MODEL]] = {}

    @property
    def looks_at(self) -> float | None:
        """When to ask again what is due, None: not before something changes."""
        both = [at for at in (self._idle.looks_at, self._starts.looks_at) if at is not None]
        return min(both) if both else None

    @property
    def places(self) -> set[PLACE]:
        """Where environments are to be started ahead."""
        return {slot.place for slot in self._plans}

    def note_idle(self, item: str, slot: Slot[PLACE], arrivals: Arrivals, model: MODEL, now: float) -> None:
        """An environment has ended its invocation; `model` is what another would be made from."""
        window = arrivals.window(slot.needed, self._standard.keep_s) if self._is_learned else self._standard
        self._idle.set(item, now + window.keep_s)
        if window.ahead_s is not None and (slot in self._plans or len(self._plans) < MOST_PLANS):
            self._plans[slot] = Ahead(slot, model, now, now + window.until_s)
            self._starts.set(slot, now + window.ahead_s)
        elif self._plans.pop(slot, None) is not None:
            self._starts.remove(slot)

    def note_ready(self, item: str, ahead: Ahead[PLACE, MODEL]) -> None:
        """What was started ahead is idle."""
        self._idle.set(item, ahead.until)

    def note_taken(self, item: str) -> None:
        """It is idle no more."""
        self._idle.remove(item)

    def overdue(self, now: float) -> list[str]:
        """The environments whose time is over; they are told once."""
        return list(self._idle.pop_due(now))

    def starts(self, now: float) -> list[Ahead[PLACE, MODEL]]:
        """What is to be started ahead now; told once."""
        return [self._plans.pop(slot) for slot in self._starts.pop_due(now)]

    def forget(self, is_gone: Callable[[PLACE], bool]) -> None:
        """Nothing is started ahead in these places any more."""
        for slot in [slot for slot in self._plans if is_gone(slot.place)]:
            del self._plans[slot]
            self._starts.remove(slot)
