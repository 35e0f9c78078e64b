"""The seam to whatever keeps records."""

from __future__ import annotations

from typing import Protocol

from rie.model.function import LATEST, Function, FunctionKey


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

    def add(self, function: Function) -> bool:
        """Store a new function; False if its key and version are taken."""

    def replace(self, function: Function, expected_revision_id: str) -> bool:
        """Store a new state of a function; False if it is gone, or at another revision than expected."""

    def remove(self, key: FunctionKey) -> bool:
        """Remove every version of a function; False if there was none."""

    def find(self, key: FunctionKey, version: str = LATEST) -> Function | None:
        """One version of a function."""

    def page(self, account: str, region: str, after: str | None, limit: int) -> list[Function]:
        """Up to `limit` functions ($LATEST) whose names follow `after`, by name."""

    def count(self, account: str, region: str) -> int:
        """How many functions there are."""

    def all(self) -> list[Function]:
        """Every version of every function of every account and region."""

    def unsettled(self) -> list[Function]:
        """Those whose deployment has not ended: Pending, or with an update InProgress."""

    def close(self) -> None:
        """Release what the store holds."""
