"""The seam to whatever keeps records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from rie.model.function import LATEST, Function, FunctionKey
from rie.model.record import Kind, Place

R = TypeVar("R")


class Records(Protocol):
    """Keeps records of every kind but functions; as `Store`, and with its promises."""

    def find(self, kind: Kind[R], place: Place) -> R | None:
        """The record at a place."""

    def change(self, kind: Kind[R], place: Place, decide: Callable[[R | None], R | None]) -> R | None:
        """Store what `decide` makes of the record at a place (None: there is none), in one transaction.

        `decide` answers the record to be there from now on, None for none; what it raises leaves everything as it was.
        It must be quick: other writers wait meanwhile. Gives back its answer.
        """

    def remove(self, kind: Kind[R], place: Place) -> bool:
        """Remove the record at a place; False if there was none."""

    def clear(self, place: Place) -> list[str]:
        """Remove the records of every kind at a place, in one transaction; the names of those kinds."""

    def of_function(self, kind: Kind[R], key: FunctionKey) -> list[tuple[Place, R]]:
        """All that hang on a function, by name."""

    def page(
        self, kind: Kind[R], account: str, region: str, *, after: tuple[str, str] = ("", ""), limit: int | None = None
    ) -> list[tuple[Place, R]]:
        """Up to `limit` of an account and region, by function and name, following `after` (function, name)."""

    def all(self, kind: Kind[R]) -> list[tuple[Place, R]]:
        """Every record of a kind, of every account and region."""


class Store(Protocol):
    """Keeps functions. Every method may be called from any thread, blocks, and raises StoreFailed.

    A write that returned is durable: it survives the end of this process at any moment, and of the machine.
    Writers don't lock: they name the revision that they read, and learn whether it was still the newest.

        function = store.find(key)
        ...
        if not store.replace(changed, function.revision_id):
            ...                                        # another writer was faster: read again, decide again

    `SqlStore("sqlite://")` is the fake (in memory). Implementations pass tests/contract/test_store.py.
    """

    def add(self, *functions: Function) -> bool:
        """Store new functions and versions, all or none; False if one's key and version are taken."""

    def replace(self, function: Function, expected_revision_id: str, *new: Function) -> bool:
        """Store a new state of a function, and versions that are `new` with it, in one transaction.

        False, and nothing is stored, if it is gone, or at another revision than expected, or if a new one is taken.
        """

    def remove(self, key: FunctionKey) -> bool:
        """Remove every version of a function and all that hangs on it; False if there was none."""

    def remove_version(self, key: FunctionKey, version: str) -> bool:
        """Remove one version of a function, and the records at its number; False if there was none."""

    def find(self, key: FunctionKey, version: str = LATEST) -> Function | None:
        """One version of a function."""

    def versions(self, key: FunctionKey) -> list[Function]:
        """Every version of a function: $LATEST first, then the published ones ascending."""

    def page(self, account: str, region: str, after: str | None, limit: int) -> list[Function]:
        """Up to `limit` functions ($LATEST) whose names follow `after`, by name."""

    def page_versions(self, account: str, region: str, after: tuple[str, str] | None, limit: int) -> list[Function]:
        """Up to `limit` versions of all functions that follow `after` (name, version): by name, then as `versions`."""

    def count(self, account: str, region: str) -> int:
        """How many functions there are."""

    def all(self) -> list[Function]:
        """Every version of every function of every account and region."""

    def unsettled(self) -> list[Function]:
        """Those whose deployment has not ended: Pending, or with an update InProgress."""

    @property
    def records(self) -> Records:
        """What hangs on functions, and beside them."""

    def close(self) -> None:
        """Release what the store holds."""
