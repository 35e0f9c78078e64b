"""Events and deliveries in SQL: what was acknowledged and has not ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from rie.model.event import Attempt, Delivery, Event
from rie.model.function import FunctionKey
from rie.store.codec import decode, encode
from rie.store.schema import DELIVERIES, EVENTS

_E = EVENTS.c
_D = DELIVERIES.c
Opens = Callable[[str], AbstractContextManager[Connection]]


@dataclass(frozen=True, slots=True)
class AddEvent:
    """An event is acknowledged."""

    event: Event


@dataclass(frozen=True, slots=True)
class UpdateEvent:
    """An attempt has ended: `attempts`, `due_at` and `last` are new."""

    event: Event


@dataclass(frozen=True, slots=True)
class EndEvent:
    """An event has ended; `deliveries` tell of it, and are there from the same moment on."""

    event_id: str
    deliveries: tuple[Delivery, ...] = ()


@dataclass(frozen=True, slots=True)
class DropEvents:
    """A function is gone, and with it its events."""

    key: FunctionKey


@dataclass(frozen=True, slots=True)
class AddDeliveries:
    """Something else than an event has ended, and must be told."""

    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class UpdateDelivery:
    """A delivery did not arrive and is tried again: `attempts` and `due_at` are new."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class RemoveDelivery:
    """A delivery has arrived, or never will."""

    delivery_id: str


Entry = AddEvent | UpdateEvent | EndEvent | DropEvents | AddDeliveries | UpdateDelivery | RemoveDelivery


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the scheduler must know of an event that waits; its payload stays in the database."""

    event_id: str
    key: FunctionKey
    due_at: float


class SqlEvents:
    """The part of a store that keeps events. Blocks; from any thread; raises StoreFailed."""

    def __init__(self, reading: Opens, writing: Opens) -> None:
        self._reading = reading
        self._writing = writing

    def apply(self, entries: Sequence[Entry]) -> None:
        """Write entries, in their order, in one transaction: all of them are durable afterwards, or none."""
        with self._writing("store events") as connection:
            begun = 0
            for number, each in enumerate(entries):
                if isinstance(each, DropEvents):
                    _apply(connection, entries[begun:number])
                    connection.execute(delete(EVENTS).where(_of(each.key)))
                    begun = number + 1
            _apply(connection, entries[begun:])

    def waiting(self) -> list[Waiting]:
        """Every event that has not ended, the oldest first, for a node that starts."""
        columns = select(_E.event_id, _E.account, _E.region, _E.function, _E.due_at).order_by(_E.accepted_at)
        with self._reading("read events") as connection:
            return [
                Waiting(event_id, FunctionKey(account, region, function), due_at)
                for event_id, account, region, function, due_at in connection.execute(columns)
            ]

    def find(self, event_id: str) -> Event | None:
        """One event, with its payload."""
        with self._reading("read an event") as connection:
            row = connection.execute(select(EVENTS).where(_E.event_id == event_id)).one_or_none()
        if row is None:
            return None
        return Event(
            event_id=row.event_id,
            key=FunctionKey(row.account, row.region, row.function),
            qualifier=row.qualifier,
            payload=row.payload,
            accepted_at=row.accepted_at,
            due_at=row.due_at,
            trace_id=row.trace_id,
            attempts=row.attempts,
            last=None if row.last is None else decode(Attempt, row.last),
            tenant_id=row.tenant_id,
        )

    def deliveries(self) -> list[Delivery]:
        """Every delivery that has not arrived."""
        with self._reading("read deliveries") as connection:
            rows = connection.execute(select(_D.due_at, _D.attempts, _D.record)).all()
        return [replace(decode(Delivery, record), due_at=due, attempts=attempts) for due, attempts, record in rows]


def _apply(connection: Connection, entries: Sequence[Entry]) -> None:
    """Many at once, kind by kind: what is said of one event or one delivery comes in this order anyway."""
    adds = [_event_columns(each.event) for each in entries if isinstance(each, AddEvent)]
    updates = [_progress_columns(each.event) for each in entries if isinstance(each, UpdateEvent)]
    ends = [each for each in entries if isinstance(each, EndEvent)]
    ended: list[dict[str, object]] = [{"gone": end.event_id} for end in ends]
    telling = [each for each in entries if isinstance(each, EndEvent | AddDeliveries)]
    made = [_delivery_columns(delivery) for each in telling for delivery in each.deliveries]
    moved = [_moved_columns(each.delivery) for each in entries if isinstance(each, UpdateDelivery)]
    gone: list[dict[str, object]] = [{"gone": each.delivery_id} for each in entries if isinstance(each, RemoveDelivery)]
    _many(connection, insert(EVENTS), adds)
    _many(connection, update(EVENTS).where(_E.event_id == bindparam("updated")), updates)
    _many(connection, delete(EVENTS).where(_E.event_id == bindparam("gone")), ended)
    _many(connection, insert(DELIVERIES), made)
    _many(connection, update(DELIVERIES).where(_D.delivery_id == bindparam("updated")), moved)
    _many(connection, delete(DELIVERIES).where(_D.delivery_id == bindparam("gone")), gone)


def _many(connection: Connection, statement: Any, rows: list[dict[str, object]]) -> None:
    if rows:
        connection.execute(statement, rows)


def _of(key: FunctionKey) -> Any:
    return (_E.account == key.account) & (_E.region == key.region) & (_E.function == key.name)


def _event_columns(event: Event) -> dict[str, object]:
    return {
        "event_id": event.event_id,
        "account": event.key.account,
        "region": event.key.region,
        "function": event.key.name,
        "qualifier": event.qualifier,
        "payload": event.payload,
        "accepted_at": event.accepted_at,
        "due_at": event.due_at,
        "trace_id": event.trace_id,
        "attempts": event.attempts,
        "last": None,
        "tenant_id": event.tenant_id,
    }


def _progress_columns(event: Event) -> dict[str, object]:
    return {
        "updated": event.event_id,
        "due_at": event.due_at,
        "attempts": event.attempts,
        "last": None if event.last is None else encode(event.last),
    }


def _delivery_columns(delivery: Delivery) -> dict[str, object]:
    return {
        "delivery_id": delivery.delivery_id,
        "due_at": delivery.due_at,
        "attempts": delivery.attempts,
        "record": encode(delivery),
    }


def _moved_columns(delivery: Delivery) -> dict[str, object]:
    return {"updated": delivery.delivery_id, "due_at": delivery.due_at, "attempts": delivery.attempts}
