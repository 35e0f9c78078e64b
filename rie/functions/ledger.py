"""Records that hang on functions, or stand beside them: written one at a time, and told to the data plane in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rie.model.function import FunctionKey
from rie.model.record import Kind, Place
from rie.store.base import Records

R = TypeVar("R")
Noted = Callable[[Kind[Any], Place, Any], None]
"""Told of every commit in the order of commits: the newest record, None when it is gone. Must be quick, must not call
the ledger, and runs on the thread of whoever committed."""


class Ledger:
    """Every method blocks and may be called from any thread. Raises StoreFailed, and what `decide` raises."""

    def __init__(self, records: Records, noted: Noted) -> None:
        self._records = records
        self._noted = noted
        # Held from a commit to its notice, so that notices come in order.
        self._writing = threading.RLock()

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Nobody else of this node writes a record, or removes a function or a version, until the end.

        For rules over several records, and for records that need what they hang on: read, check and write inside.
        """
        with self._writing:
            yield

    def find(self, kind: Kind[R], place: Place) -> R | None:
        """The record at a place."""
        return self._records.find(kind, place)

    def change(self, kind: Kind[R], place: Place, decide: Callable[[R | None], R | None]) -> R | None:
        """As `Records.change`: what `decide` makes of the record at a place is there from now on, None for none."""
        with self._writing:
            after = self._records.change(kind, place, decide)
            self._noted(kind, place, after)
        return after

    def put(self, kind: Kind[R], place: Place, record: R) -> R:
        """Store a record, whatever was there before."""
        self.change(kind, place, lambda _: record)
        return record

    def remove(self, kind: Kind[R], place: Place) -> bool:
        """Remove the record at a place; False if there was none."""
        with self._writing:
            was_there = self._records.remove(kind, place)
            self._noted(kind, place, None)
        return was_there

    def clear(self, place: Place) -> None:
        """Remove the records of every kind at a place: all that hangs on an alias goes with it."""
        with self._writing:
            for name in self._records.clear(place):
                self._noted(Kind(name, object), place, None)

    def of_function(self, kind: Kind[R], key: FunctionKey) -> list[tuple[Place, R]]:
        """All that hang on a function, by name."""
        return self._records.of_function(kind, key)

    def page(
        self, kind: Kind[R], account: str, region: str, *, after: tuple[str, str] = ("", ""), limit: int | None = None
    ) -> list[tuple[Place, R]]:
        """Up to `limit` of an account and region, by function and name, following `after` (function, name)."""
        return self._records.page(kind, account, region, after=after, limit=limit)

    def all(self, kind: Kind[R]) -> list[tuple[Place, R]]:
        """Every record of a kind, for a node that starts."""
        return self._records.all(kind)
