"""What is due when, where most of it is put off again before it is: set and removed in constant time; pure."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from itertools import count
from typing import Generic, TypeVar

SPARE = 64  # entries of what is not due any more, beside as many as are

T = TypeVar("T", bound=Hashable)


class Timetable(Generic[T]):
    """An item is due once, at the instant that was set last. Instants are seconds of whatever clock.

    An entry of the heap stays where it is when its item is put off or removed, and is looked at again when its time
    comes: an environment that serves a thousand calls a second costs no heap a thousand entries.
    """

    def __init__(self) -> None:
        self._due: dict[T, float] = {}
        self._heap: list[tuple[float, int, T]] = []
        self._entries: dict[T, float] = {}  # the earliest entry of each
        self._number = count()  # items need not be comparable

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, item: T) -> bool:
        return item in self._due

    @property
    def looks_at(self) -> float | None:
        """When to call `pop_due` again: something may be due then, nothing is before."""
        return self._heap[0][0] if self._heap else None

    def set(self, item: T, at: float) -> None:
        """The item is due then, whatever was said before."""
        self._due[item] = at
        entry_at = self._entries.get(item)
        if entry_at is None or entry_at > at:
            self._push(item, at)
            if len(self._heap) > 2 * len(self._due) + SPARE:
                self._rebuild()

    def remove(self, item: T) -> None:
        """It is not due any more."""
        self._due.pop(item, None)

    def pop_due(self, now: float) -> Iterator[T]:
        """Take out what is due, the earliest first."""
        while self._heap and self._heap[0][0] <= now:
            entry_at, _, item = heapq.heappop(self._heap)
            if self._entries.get(item) != entry_at:
                continue
            del self._entries[item]
            at = self._due.get(item)
            if at is None:
                continue
            if at > now:
                self._push(item, at)
            else:
                del self._due[item]
                yield item

    def _push(self, item: T, at: float) -> None:
        heapq.heappush(self._heap, (at, next(self._number), item))
        self._entries[item] = at

    def _rebuild(self) -> None:
        self._heap = [(at, next(self._number), item) for item, at in self._due.items()]
        heapq.heapify(self._heap)
        self._entries = dict(self._due)
