"""Events and deliveries in SQL: what was acknowledged and has not ended."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from rie.errors import StoreFailed
from rie.model.event import Attempt, Delivery, Event
from rie.model.function import FunctionKey
from rie.store.codec import decode, encode
from rie.store.event_batches import MAX_PAYLOAD, Batch, Batches, Staged, unpack
from rie.store.schema import DELIVERIES, EVENT_BATCHES, EVENT_ENDS, EVENTS

_E = EVENTS.c
_D = DELIVERIES.c
_B = EVENT_BATCHES.c
_N = EVENT_ENDS.c
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
    """The part of a store that keeps events. Blocks; from any thread; raises StoreFailed.

    New events are written in batches, those that are big or have had an attempt in rows of their own.
    """

    def __init__(self, reading: Opens, writing: Opens) -> None:
        self._reading = reading
        self._writing = writing
        self._applying = threading.Lock()
        self._loading = threading.Lock()
        self._loaded: Batches | None = None

    def apply(self, entries: Sequence[Entry]) -> None:
        """Write entries, in their order, in one transaction: all of them are durable afterwards, or none."""
        with self._applying:
            batches, staged = self._batches(), Staged()
            with self._writing("store events") as connection:
                begun = 0
                for number, each in enumerate(entries):
                    if isinstance(each, DropEvents):
                        _apply(connection, batches, staged, entries[begun:number])
                        batches.drop(staged, each.key)
                        connection.execute(delete(EVENTS).where(_of(each.key)))
                        begun = number + 1
                _apply(connection, batches, staged, entries[begun:])
                _apply_batches(connection, staged)
            batches.keep(staged)

    def waiting(self) -> list[Waiting]:
        """Every event that has not ended, the oldest first, for a node that starts."""
        columns = select(_E.event_id, _E.account, _E.region, _E.function, _E.due_at, _E.accepted_at)
        found = []
        with self._reading("read events") as connection:
            for event_id, account, region, function, due_at, accepted_at in connection.execute(columns):
                found.append((accepted_at, Waiting(event_id, FunctionKey(account, region, function), due_at)))
            for _, ended, events in _stored(connection):
                for number, event in enumerate(events):
                    if not ended >> number & 1:
                        found.append((event.accepted_at, Waiting(event.event_id, event.key, event.due_at)))
        return [waiting for _, waiting in sorted(found, key=lambda each: each[0])]

    def find(self, event_id: str) -> Event | None:
        """One event, with its payload."""
        place = self._batches().find(event_id)
        with self._reading("read an event") as connection:
            if place is not None:
                batch_id, number = place
                content = connection.scalar(select(_B.content).where(_B.batch_id == batch_id))
                if content is not None:
                    return next(itertools.islice(unpack(content), number, None))
            row = connection.execute(select(EVENTS).where(_E.event_id == event_id)).one_or_none()
        return None if row is None else _event(row)

    def _batches(self) -> Batches:
        with self._loading:
            if self._loaded is None:
                batches = Batches()
                with self._reading("read events") as connection:
                    batches.load(
                        Batch(batch_id, tuple((event.event_id, event.key) for event in events), ended)
                        for batch_id, ended, events in _stored(connection)
                    )
                self._loaded = batches
            return self._loaded

    def deliveries(self) -> list[Delivery]:
        """Every delivery that has not arrived."""
        with self._reading("read deliveries") as connection:
            rows = connection.execute(select(_D.due_at, _D.attempts, _D.record)).all()
        return [replace(decode(Delivery, record), due_at=due, attempts=attempts) for due, attempts, record in rows]


def _apply(connection: Connection, batches: Batches, staged: Staged, entries: Sequence[Entry]) -> None:
    """Many at once, kind by kind: what is said of one event or one delivery comes in this order anyway."""
    new = [each.event for each in entries if isinstance(each, AddEvent)]
    if (taken := batches.add(staged, [event for event in new if _fits(event)])) is not None:
        raise StoreFailed(f"cannot store events: {taken} is there already")
    adds = [event_columns(event) for event in new if not _fits(event)]
    moved = [each.event for each in entries if isinstance(each, UpdateEvent)]
    apart = [batches.end(staged, event.event_id) for event in moved]
    adds += [event_columns(event) for event, is_new in zip(moved, apart, strict=True) if is_new]
    updates = [_progress_columns(event) for event, is_new in zip(moved, apart, strict=True) if not is_new]
    ends = [each for each in entries if isinstance(each, EndEvent)]
    ended: list[dict[str, object]] = [{"gone": end.event_id} for end in ends if not batches.end(staged, end.event_id)]
    _many(connection, insert(EVENTS), adds)
    _many(connection, update(EVENTS).where(_E.event_id == bindparam("updated")), updates)
    _many(connection, delete(EVENTS).where(_E.event_id == bindparam("gone")), ended)
    _apply_deliveries(connection, entries)


def _apply_deliveries(connection: Connection, entries: Sequence[Entry]) -> None:
    telling = [each for each in entries if isinstance(each, EndEvent | AddDeliveries)]
    made = [_delivery_columns(delivery) for each in telling for delivery in each.deliveries]
    moved = [_moved_columns(each.delivery) for each in entries if isinstance(each, UpdateDelivery)]
    gone: list[dict[str, object]] = [{"gone": each.delivery_id} for each in entries if isinstance(each, RemoveDelivery)]
    _many(connection, insert(DELIVERIES), made)
    _many(connection, update(DELIVERIES).where(_D.delivery_id == bindparam("updated")), moved)
    _many(connection, delete(DELIVERIES).where(_D.delivery_id == bindparam("gone")), gone)


def _apply_batches(connection: Connection, staged: Staged) -> None:
    """Those whose events have all ended are gone; of the others the bits that changed are written."""
    made = {batch for batch, _ in staged.made}
    after = {batch: replace(batch, ended=ended) for batch, ended in staged.ended.items()}
    gone: list[dict[str, object]] = [{"gone": batch.batch_id} for batch, now in after.items() if now.has_ended]
    new = [(after.get(batch, batch), content) for batch, content in staged.made]
    rows: list[dict[str, object]] = [
        {"batch_id": batch.batch_id, "content": content} for batch, content in new if not batch.has_ended
    ]
    ends: list[dict[str, object]] = [
        {"batch_id": batch.batch_id, "ended": batch.bits} for batch, _ in new if not batch.has_ended
    ]
    changed: list[dict[str, object]] = [
        {"updated": batch.batch_id, "ended": now.bits}
        for batch, now in after.items()
        if batch not in made and not now.has_ended
    ]
    _many(connection, insert(EVENT_BATCHES), rows)
    _many(connection, insert(EVENT_ENDS), ends)
    _many(connection, update(EVENT_ENDS).where(_N.batch_id == bindparam("updated")), changed)
    _many(connection, delete(EVENT_BATCHES).where(_B.batch_id == bindparam("gone")), gone)
    _many(connection, delete(EVENT_ENDS).where(_N.batch_id == bindparam("gone")), gone)


def _stored(connection: Connection) -> Iterator[tuple[int, int, list[Event]]]:
    """(id, which events have ended as bits, events) of each batch."""
    rows = select(_B.batch_id, _N.ended, _B.content).join_from(EVENT_BATCHES, EVENT_ENDS, _B.batch_id == _N.batch_id)
    for batch_id, ended, content in connection.execute(rows.order_by(_B.batch_id)):
        yield batch_id, int.from_bytes(ended, "little"), list(unpack(content))


def _fits(event: Event) -> bool:
    """Whether a new event goes into a batch."""
    return len(event.payload) <= MAX_PAYLOAD


def _many(connection: Connection, statement: Any, rows: list[dict[str, object]]) -> None:
    if rows:
        connection.execute(statement, rows)


def _of(key: FunctionKey) -> Any:
    return (_E.account == key.account) & (_E.region == key.region) & (_E.function == key.name)


def _event(row: Any) -> Event:
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


def event_columns(event: Event) -> dict[str, object]:
    """An event as a row of its own."""
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
        "last": None if event.last is None else encode(event.last),
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
