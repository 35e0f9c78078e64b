"""Durable executions in SQL: each with its operations and its history."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, or_, select
from sqlalchemy.sql import ColumnElement

from rie.durable.draft import Change, State
from rie.model.durable import OPEN, Execution, HistoryEvent, Operation
from rie.model.function import FunctionKey
from rie.store.codec import decode, encode
from rie.store.events import event_columns
from rie.store.schema import EVENTS, EXECUTION_EVENTS, EXECUTION_OPERATIONS, EXECUTIONS

DAY_S = 86_400.0
_X = EXECUTIONS.c
_O = EXECUTION_OPERATIONS.c
_H = EXECUTION_EVENTS.c
_PARTS = (EXECUTION_OPERATIONS, EXECUTION_EVENTS, EXECUTIONS)
Opens = Callable[[str], AbstractContextManager[Connection]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which executions of a function a list shows; None where it doesn't matter."""

    versions: Collection[str] | None = None
    name: str | None = None
    statuses: Collection[str] | None = None
    started_after: float | None = None
    started_before: float | None = None
    is_oldest_first: bool = False


class SqlDurable:
    """The part of a store that keeps durable executions. Blocks; from any thread; raises StoreFailed."""

    def __init__(self, reading: Opens, writing: Opens) -> None:
        self._reading = reading
        self._writing = writing

    def write(self, change: Change) -> None:
        """All of a change is durable afterwards, or nothing."""
        execution = change.state.execution
        changed = [each.operation_id for each in change.operations]
        with self._writing("store a durable execution") as connection:
            connection.execute(delete(EXECUTIONS).where(_X.execution_id == execution.execution_id))
            connection.execute(insert(EXECUTIONS).values(**_columns(execution)))
            if changed:
                mine = _O.execution_id == execution.execution_id
                for each in changed:
                    connection.execute(delete(EXECUTION_OPERATIONS).where(mine, _O.operation_id == each))
                connection.execute(insert(EXECUTION_OPERATIONS), _operations(change))
            if change.events:
                connection.execute(insert(EXECUTION_EVENTS), _events(change))
            if change.asked_by is not None:
                connection.execute(insert(EVENTS), event_columns(change.asked_by))

    def find(self, execution_id: str, now: float) -> State | None:
        """One execution, unless its retention is over."""
        with self._reading("read a durable execution") as connection:
            record = connection.scalar(select(_X.record).where(_X.execution_id == execution_id, _is_kept(now)))
            if record is None:
                return None
            found = connection.scalars(
                select(_O.record).where(_O.execution_id == execution_id).order_by(_O.position)
            ).all()
        operations = [decode(Operation, each) for each in found]
        return State(decode(Execution, record), {each.operation_id: each for each in operations})

    def running(self) -> list[str]:
        """The ids of those that have not ended, for a node that starts."""
        with self._reading("read durable executions") as connection:
            return list(connection.scalars(select(_X.execution_id).where(_X.status.in_(OPEN))))

    def page(
        self, key: FunctionKey, wanted: Wanted, now: float, *, after: tuple[float, str] | None = None, limit: int = 100
    ) -> list[Execution]:
        """Up to `limit` of a function's, the newest first unless asked otherwise, following `after` (instant, id)."""
        conditions: list[ColumnElement[bool]] = [_of(key), _is_kept(now)]
        if wanted.versions is not None:
            conditions.append(_X.version.in_(wanted.versions))
        if wanted.name is not None:
            conditions.append(_X.name == wanted.name)
        if wanted.statuses is not None:
            conditions.append(_X.status.in_(wanted.statuses))
        if wanted.started_after is not None:
            conditions.append(_X.started_at > wanted.started_after)
        if wanted.started_before is not None:
            conditions.append(_X.started_at < wanted.started_before)
        if after is not None:
            at, execution_id = after
            same = _X.started_at == at
            if wanted.is_oldest_first:
                conditions.append(or_(_X.started_at > at, and_(same, _X.execution_id > execution_id)))
            else:
                conditions.append(or_(_X.started_at < at, and_(same, _X.execution_id < execution_id)))
        order = [_X.started_at, _X.execution_id]
        statement = select(_X.record).where(*conditions).limit(limit)
        statement = statement.order_by(*(order if wanted.is_oldest_first else [each.desc() for each in order]))
        with self._reading("list durable executions") as connection:
            return [decode(Execution, record) for record in connection.scalars(statement)]

    def history(self, execution_id: str, *, after: int | None, limit: int, is_newest_first: bool) -> list[HistoryEvent]:
        """Up to `limit` events that follow the one of number `after`, in the order that is asked for."""
        statement = select(_H.record).where(_H.execution_id == execution_id).limit(limit)
        if after is not None:
            statement = statement.where(_H.number < after if is_newest_first else _H.number > after)
        statement = statement.order_by(_H.number.desc() if is_newest_first else _H.number)
        with self._reading("read the history of a durable execution") as connection:
            return [decode(HistoryEvent, record) for record in connection.scalars(statement)]

    def drop(self, key: FunctionKey) -> None:
        """A function is gone, and with it its executions."""
        self._remove("drop durable executions", _of(key))

    def remove(self, execution_id: str) -> None:
        """One execution, with all that is known of it."""
        self._remove("remove a durable execution", _X.execution_id == execution_id)

    def purge(self, now: float) -> None:
        """Remove those whose retention is over."""
        self._remove("remove old durable executions", _X.expires_at <= now)

    def _remove(self, what: str, which: ColumnElement[bool]) -> None:
        with self._writing(what) as connection:
            ids = select(_X.execution_id).where(which).scalar_subquery()
            for table in _PARTS:
                connection.execute(delete(table).where(table.c.execution_id.in_(ids)))


def _of(key: FunctionKey) -> ColumnElement[bool]:
    return and_(_X.account == key.account, _X.region == key.region, _X.function == key.name)


def _is_kept(now: float) -> ColumnElement[bool]:
    return or_(_X.expires_at.is_(None), _X.expires_at > now)


def _columns(execution: Execution) -> dict[str, Any]:
    ended_at = execution.ended_at
    return {
        "execution_id": execution.execution_id,
        "account": execution.key.account,
        "region": execution.key.region,
        "function": execution.key.name,
        "version": execution.version,
        "name": execution.name,
        "status": execution.status,
        "started_at": execution.started_at,
        "expires_at": None if ended_at is None else ended_at + execution.retention_days * DAY_S,
        "record": encode(execution),
    }


def _operations(change: Change) -> Sequence[dict[str, Any]]:
    positions = {operation_id: number for number, operation_id in enumerate(change.state.operations)}
    return [
        {
            "execution_id": change.state.execution.execution_id,
            "operation_id": each.operation_id,
            "position": positions[each.operation_id],
            "record": encode(each),
        }
        for each in change.operations
    ]


def _events(change: Change) -> Sequence[dict[str, Any]]:
    execution_id = change.state.execution.execution_id
    return [{"execution_id": execution_id, "number": each.number, "record": encode(each)} for each in change.events]
