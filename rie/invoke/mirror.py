"""The records that invocations need, in memory, on the event loop, told of every change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

from rie.model.function import FunctionKey
from rie.model.record import Kind, Place

R = TypeVar("R")


class Mirror:
    """Reads cost two dictionary look-ups, because some stand in the way of every invocation."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[Place, Any]] = {}
        self._by_function: dict[FunctionKey, set[tuple[str, Place]]] = {}
        self._watchers: dict[str, list[Callable[[Place, Any], None]]] = {}

    def load(self, kind: Kind[R], records: Iterable[tuple[Place, R]]) -> None:
        """Take over what the store has of a kind, at the start of a node."""
        for place, record in records:
            self.update(kind, place, record)

    def update(self, kind: Kind[Any], place: Place, record: Any) -> None:
        """A record was made or changed; None when it is gone."""
        held = self._kinds.setdefault(kind.name, {})
        if record is not None:
            held[place] = record
            if place.function:
                self._by_function.setdefault(place.key, set()).add((kind.name, place))
        elif held.pop(place, None) is not None and place.function:
            self._by_function[place.key].discard((kind.name, place))
        for tell in self._watchers.get(kind.name, ()):
            tell(place, record)

    def forget(self, key: FunctionKey) -> None:
        """A function is gone, and all that hung on it."""
        for name, place in self._by_function.pop(key, set()):
            del self._kinds[name][place]
            for tell in self._watchers.get(name, ()):
                tell(place, None)

    def clear(self, place: Place) -> None:
        """A version is gone, and the records of every kind at its number."""
        for name, held in self._kinds.items():
            if place in held:
                self.update(Kind(name, object), place, None)

    def find(self, kind: Kind[R], place: Place) -> R | None:
        """The record at a place."""
        held = self._kinds.get(kind.name)
        return cast("R | None", held.get(place)) if held else None

    def of_function(self, kind: Kind[R], key: FunctionKey) -> list[tuple[Place, R]]:
        """Every record of a kind that hangs on a function."""
        held = self._kinds.get(kind.name, {})
        return [(place, held[place]) for name, place in self._by_function.get(key, ()) if name == kind.name]

    def each(self, kind: Kind[R]) -> Iterator[tuple[Place, R]]:
        """Every record of a kind, in no order."""
        yield from list(self._kinds.get(kind.name, {}).items())

    def watch(self, kind: Kind[R], tell: Callable[[Place, R | None], None]) -> None:
        """Have `tell` called, on the event loop, for every change of a kind from now on."""
        self._watchers.setdefault(kind.name, []).append(tell)
