"""Records of every kind but functions, in one SQL table: read, and changed in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.sql import ColumnElement

from rie.model.function import FunctionKey
from rie.model.record import Kind, Place
from rie.store.codec import decode, encode
from rie.store.schema import RECORDS
from rie.store.transactions import Taken

R = TypeVar("R")
Opens = Callable[[str], AbstractContextManager[Connection]]
"""Begins a transaction; the text completes "cannot …" in a StoreFailed."""

_T = RECORDS.c


class SqlRecords:
    """The part of a store that keeps records by kind. Blocks; from any thread; raises StoreFailed."""

    def __init__(self, reading: Opens, writing: Opens) -> None:
        self._reading = reading
        self._writing = writing

    def find(self, kind: Kind[R], place: Place) -> R | None:
        """The record at a place."""
        with self._reading(f"read a record ({kind.name})") as connection:
            text = connection.scalar(select(_T.record).where(_at(kind, place)))
        return None if text is None else decode(kind.record, text)

    def change(self, kind: Kind[R], place: Place, decide: Callable[[R | None], R | None]) -> R | None:
        """Store what `decide` makes of the record at a place (None: there is none), in one transaction.

        `decide` answers the record to be there from now on, None for none; what it raises leaves everything as it was.
        It must be quick: other writers wait meanwhile. Gives back its answer.
        """
        while True:
            try:
                return self._change(kind, place, decide)
            except Taken:
                continue  # on PostgreSQL another node may insert between our look and our insert

    def _change(self, kind: Kind[R], place: Place, decide: Callable[[R | None], R | None]) -> R | None:
        with self._writing(f"store a record ({kind.name})") as connection:
            # PostgreSQL's writers wait here for each other, as SQLite's do for the whole file.
            text = connection.scalar(select(_T.record).where(_at(kind, place)).with_for_update())
            before = None if text is None else decode(kind.record, text)
            after = decide(before)
            if after is None and text is not None:
                connection.execute(delete(RECORDS).where(_at(kind, place)))
            elif after is not None and text is None:
                connection.execute(insert(RECORDS).values(**_columns(kind, place), record=encode(after)))
            elif after is not None and after != before:
                connection.execute(update(RECORDS).where(_at(kind, place)).values(record=encode(after)))
        return after

    def remove(self, kind: Kind[R], place: Place) -> bool:
        """Remove the record at a place; False if there was none."""
        with self._writing(f"remove a record ({kind.name})") as connection:
            return connection.execute(delete(RECORDS).where(_at(kind, place))).rowcount > 0

    def clear(self, place: Place) -> list[str]:
        """Remove the records of every kind at a place, in one transaction; the names of those kinds."""
        with self._writing("remove the records at a place") as connection:
            return clear(connection, place)

    def of_function(self, kind: Kind[R], key: FunctionKey) -> list[tuple[Place, R]]:
        """All that hang on a function, by name."""
        return list(self._select(kind, _T.account == key.account, _T.region == key.region, _T.function == key.name))

    def page(
        self, kind: Kind[R], account: str, region: str, *, after: tuple[str, str] = ("", ""), limit: int | None = None
    ) -> list[tuple[Place, R]]:
        """Up to `limit` of an account and region, by function and name, following `after` (function, name)."""
        function, name = after
        follows = (_T.function > function) | ((_T.function == function) & (_T.name > name))
        return list(self._select(kind, _T.account == account, _T.region == region, follows, limit=limit))

    def all(self, kind: Kind[R]) -> list[tuple[Place, R]]:
        """Every record of a kind, of every account and region."""
        return list(self._select(kind))

    def _select(
        self, kind: Kind[R], *conditions: ColumnElement[bool], limit: int | None = None
    ) -> Iterator[tuple[Place, R]]:
        statement = select(_T.account, _T.region, _T.function, _T.name, _T.record)
        statement = statement.where(_T.kind == kind.name, *conditions)
        statement = statement.order_by(_T.account, _T.region, _T.function, _T.name).limit(limit)
        with self._reading(f"read records ({kind.name})") as connection:
            for account, region, function, name, record in connection.execute(statement):
                yield Place(account, region, function, name), decode(kind.record, record)


def remove_of(connection: Connection, key: FunctionKey) -> None:
    """Remove all that hangs on a function, in the caller's transaction."""
    connection.execute(
        delete(RECORDS).where(_T.account == key.account, _T.region == key.region, _T.function == key.name)
    )


def clear(connection: Connection, place: Place) -> list[str]:
    """Remove what lies at a place, in the caller's transaction; the names of the kinds that did."""
    there = list(connection.scalars(select(_T.kind).where(_lies(place))))
    if there:
        connection.execute(delete(RECORDS).where(_lies(place)))
    return there


def _columns(kind: Kind[R], place: Place) -> dict[str, str]:
    return {
        "kind": kind.name,
        "account": place.account,
        "region": place.region,
        "function": place.function,
        "name": place.name,
    }


def _at(kind: Kind[R], place: Place) -> ColumnElement[bool]:
    return (_T.kind == kind.name) & _lies(place)


def _lies(place: Place) -> ColumnElement[bool]:
    return (
        (_T.account == place.account)
        & (_T.region == place.region)
        & (_T.function == place.function)
        & (_T.name == place.name)
    )
