"""What hangs on functions and beside them (aliases, policies, URLs, layers …): kinds of records, and their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from rie.model.function import FunctionKey

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Kind(Generic[Record]):
    """One kind of record, declared once, beside its dataclass: `ALIASES = Kind("alias", Alias)`.

    `name` is what the store knows it by, and is never changed; `record` a frozen dataclass that the store's codec can
    write (fields of str, int, float, bool, None, tuples, mappings and other such dataclasses).
    """

    name: str
    record: type[Record]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one record of a kind lies, unique within the kind.

    `function` is the name of the function that it hangs on and is removed with, "" for what stands alone; `name` tells
    it from its siblings: an alias's name, a qualifier ("$LATEST" for the unqualified function), a UUID.
    """

    account: str
    region: str
    function: str
    name: str

    @property
    def key(self) -> FunctionKey:
        """The function that it hangs on."""
        return FunctionKey(self.account, self.region, self.function)


def place_of(key: FunctionKey, name: str) -> Place:
    """The place of a record that hangs on a function."""
    return Place(key.account, key.region, key.name, name)
