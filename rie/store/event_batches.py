"""Events as they are first written: many in one row, with a bit for each that says whether it has ended.

A row for each event costs a page of an index for each, because their ids are random: 26 µs of an event and 24 ms of a
commit of 128 against 4 µs and 4 ms for one row with all of them (measured). Most events end at their first attempt, and
nobody looks for them in the database until then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import orjson

from rie.model.event import Event
from rie.model.function import FunctionKey

MAX_PAYLOAD = 16_384  # bytes; a bigger event has a row of its own, so that reading one reads no megabytes
MAX_EVENTS = 1_024
MAX_BYTES = 262_144  # of payloads


@dataclass(slots=True, eq=False)
class Batch:
    """The events of one row, in their order; bit n of `ended` is set when event n has ended, or has its own row."""

    batch_id: int
    events: tuple[tuple[str, FunctionKey], ...]
    ended: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether no event is left."""
        return self.ended.bit_count() == len(self.events)

    @property
    def bits(self) -> bytes:
        """`ended` as it is stored."""
        return self.ended.to_bytes((len(self.events) + 7) // 8, "little")


@dataclass(slots=True)
class Staged:
    """What one transaction changes: batches with their contents, and what `ended` becomes of those and older ones."""

    made: list[tuple[Batch, bytes]] = field(default_factory=list)
    ended: dict[Batch, int] = field(default_factory=dict)
    places: dict[str, tuple[Batch, int]] = field(default_factory=dict)


class Batches:
    """Where each event is that has no row of its own. What is staged counts once it is `keep`t: its commit may fail.

    One thread writes; `find` may be called on any.
    """

    def __init__(self) -> None:
        self._batches: dict[int, Batch] = {}
        self._places: dict[str, tuple[Batch, int]] = {}
        self._next_id = 1

    def load(self, batches: Iterable[Batch]) -> None:
        """Take over what is stored."""
        for batch in batches:
            self._next_id = max(self._next_id, batch.batch_id + 1)
            self._take(batch)

    def find(self, event_id: str) -> tuple[int, int] | None:
        """(batch, number in it) of an event that is in one, and has not ended."""
        place = self._places.get(event_id)
        return None if place is None else (place[0].batch_id, place[1])

    def add(self, staged: Staged, events: Sequence[Event]) -> str | None:
        """Stage new events; the id of one that is there already, if there is one."""
        for group in _groups(events):
            # An id is never used again: whether a commit that failed has done nothing is the database's secret.
            batch = Batch(self._next_id, tuple((event.event_id, event.key) for event in group))
            self._next_id += 1
            staged.made.append((batch, pack(group)))
            for number, event in enumerate(group):
                if event.event_id in staged.places or event.event_id in self._places:
                    return event.event_id
                staged.places[event.event_id] = batch, number
        return None

    def end(self, staged: Staged, event_id: str) -> bool:
        """Stage the end of an event; False if it is in no batch."""
        place = staged.places.get(event_id) or self._places.get(event_id)
        if place is None:
            return False
        batch, number = place
        staged.ended[batch] = staged.ended.get(batch, batch.ended) | 1 << number
        return True

    def drop(self, staged: Staged, key: FunctionKey) -> None:
        """Stage the end of every event of a function."""
        for batch in [*self._batches.values(), *(batch for batch, _ in staged.made)]:
            for event_id, owner in batch.events:
                if owner == key and event_id in (self._places if batch.batch_id in self._batches else staged.places):
                    self.end(staged, event_id)

    def keep(self, staged: Staged) -> None:
        """What was staged is durable."""
        for batch, _ in staged.made:
            self._take(batch)
        for batch, ended in staged.ended.items():
            for number in _bits(ended & ~batch.ended):
                self._places.pop(batch.events[number][0], None)
            batch.ended = ended
            if batch.has_ended:
                self._batches.pop(batch.batch_id, None)

    def _take(self, batch: Batch) -> None:
        if batch.has_ended:
            return
        self._batches[batch.batch_id] = batch
        for number, (event_id, _) in enumerate(batch.events):
            if not batch.ended >> number & 1:
                self._places[event_id] = batch, number


def pack(events: Sequence[Event]) -> bytes:
    """Events that have had no attempt: a line of JSON about them, then their payloads."""
    about = [
        (
            event.event_id,
            event.key.account,
            event.key.region,
            event.key.name,
            event.qualifier,
            len(event.payload),
            event.accepted_at,
            event.due_at,
            event.trace_id,
            event.tenant_id,
        )
        for event in events
    ]
    return b"".join([orjson.dumps(about), b"\n", *[event.payload for event in events]])


def unpack(content: bytes) -> Iterator[Event]:
    """The events of a batch, in their order."""
    about, _, payloads = content.partition(b"\n")
    begin = 0
    for event_id, account, region, name, qualifier, size, accepted_at, due_at, trace_id, tenant_id in orjson.loads(
        about
    ):
        payload = payloads[begin : begin + size]
        begin += size
        key = FunctionKey(account, region, name)
        yield Event(event_id, key, qualifier, payload, accepted_at, due_at, trace_id, tenant_id=tenant_id)


def _groups(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    begun = octets = 0
    for number, event in enumerate(events):
        octets += len(event.payload)
        if number > begun and (octets > MAX_BYTES or number - begun == MAX_EVENTS):
            yield events[begun:number]
            begun, octets = number, len(event.payload)
    if begun < len(events):
        yield events[begun:]


def _bits(value: int) -> Iterator[int]:
    while value:
        lowest = value & -value
        yield lowest.bit_length() - 1
        value ^= lowest
