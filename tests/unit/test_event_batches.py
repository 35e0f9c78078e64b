"""Events written together: found, ended one by one, moved to rows of their own, dropped; also after a restart."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rie.model.event import Attempt, Delivery, Event
from rie.model.function import FunctionKey
from rie.store import SqlStore
from rie.store.event_batches import MAX_PAYLOAD, pack, unpack
from rie.store.events import AddDeliveries, AddEvent, DropEvents, EndEvent, UpdateEvent
from rie.store.transactions import Taken

KEY = FunctionKey("123456789012", "us-east-1", "f")
OTHER = FunctionKey("123456789012", "us-east-1", "g")


def event(name: str, key: FunctionKey = KEY, payload: bytes = b'"x"', at: float = 1_000.0) -> Event:
    return Event(name, key, "live", payload, at, at + 1, "Root=1-2", tenant_id="t")


def store(directory: Path) -> SqlStore:
    return SqlStore(f"sqlite:///{directory}/rie.db")


def waiting(kept: SqlStore) -> list[str]:
    return [each.event_id for each in kept.events.waiting()]


def rows(directory: Path, table: str) -> int:
    with sqlite3.connect(directory / "rie.db") as database:
        return int(database.execute(f"select count(*) from {table}").fetchone()[0])


@given(st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=300), st.none() | st.text(max_size=5)), max_size=20))
def test_a_batch_gives_back_what_it_was_given(contents: list[tuple[str, bytes, str | None]]) -> None:
    events = [
        replace(event(f"{number}{name}"), payload=payload, qualifier=qualifier, trace_id=name)
        for number, (name, payload, qualifier) in enumerate(contents)
    ]
    assert list(unpack(pack(events))) == events


def test_events_that_come_together_share_a_row_until_the_last_has_ended(tmp_path: Path) -> None:
    kept = store(tmp_path)
    kept.events.apply([AddEvent(event(f"e{number}", at=1_000.0 + number)) for number in range(5)])
    assert (rows(tmp_path, "event_batches"), rows(tmp_path, "events")) == (1, 0)
    kept.events.apply([EndEvent("e1"), EndEvent("e3")])
    kept.close()
    kept = store(tmp_path)
    assert waiting(kept) == ["e0", "e2", "e4"]
    assert kept.events.find("e2") == event("e2", at=1_002.0)
    assert kept.events.find("e3") is None
    kept.events.apply([EndEvent("e0"), EndEvent("e2")])
    assert rows(tmp_path, "event_batches") == rows(tmp_path, "event_ends") == 1
    kept.events.apply([EndEvent("e4"), AddEvent(event("e5"))])
    assert rows(tmp_path, "event_batches") == rows(tmp_path, "event_ends") == 1
    assert waiting(store(tmp_path)) == ["e5"]


def test_a_batch_written_after_a_restart_overwrites_none(tmp_path: Path) -> None:
    first = store(tmp_path)
    first.events.apply([AddEvent(event("e0"))])
    second = store(tmp_path)
    second.events.apply([AddEvent(event("e1"))])
    assert sorted(waiting(second)) == ["e0", "e1"]


def test_an_event_that_has_had_an_attempt_has_a_row_of_its_own(tmp_path: Path) -> None:
    kept = store(tmp_path)
    kept.events.apply([AddEvent(event("e0", at=999.0)), AddEvent(event("e1"))])
    tried = replace(event("e1"), attempts=1, due_at=2_000.0, last=Attempt("null", "3", "Unhandled"))
    kept.events.apply([UpdateEvent(tried)])
    assert kept.events.find("e1") == tried
    again = replace(tried, attempts=2, due_at=3_000.0)
    kept.events.apply([UpdateEvent(again)])
    kept.close()
    kept = store(tmp_path)
    assert waiting(kept) == ["e0", "e1"]
    assert kept.events.find("e1") == again
    kept.events.apply([EndEvent("e1")])
    assert waiting(store(tmp_path)) == ["e0"]


def test_a_big_event_has_a_row_of_its_own(tmp_path: Path) -> None:
    kept = store(tmp_path)
    big = event("big", payload=b'"' + b"x" * MAX_PAYLOAD + b'"')
    kept.events.apply([AddEvent(event("small")), AddEvent(big)])
    assert (rows(tmp_path, "event_batches"), rows(tmp_path, "events")) == (1, 1)
    assert kept.events.find("big") == big
    kept.events.apply([EndEvent("small"), EndEvent("big")])
    assert not waiting(kept)


def test_what_is_dropped_with_its_function_is_gone_and_what_comes_after_is_not(tmp_path: Path) -> None:
    kept = store(tmp_path)
    kept.events.apply([AddEvent(event("e0")), AddEvent(event("o0", OTHER)), AddEvent(event("e1"))])
    kept.events.apply([UpdateEvent(replace(event("e1"), attempts=1))])
    kept.events.apply([AddEvent(event("e2")), DropEvents(KEY), AddEvent(event("e3")), AddEvent(event("o1", OTHER))])
    assert sorted(waiting(kept)) == sorted(waiting(store(tmp_path))) == ["e3", "o0", "o1"]


def test_what_was_not_committed_has_not_happened(tmp_path: Path) -> None:
    kept = store(tmp_path)
    kept.events.apply([AddEvent(event("e0"))])
    told = AddDeliveries((Delivery("d", "arn:a", "{}", "us-east-1", "role", 1.0),))
    kept.events.apply([told])
    with pytest.raises(Taken):
        kept.events.apply([EndEvent("e0"), AddEvent(event("e1")), told])  # the same delivery twice
    assert waiting(kept) == waiting(store(tmp_path)) == ["e0"]
    assert kept.events.find("e0") == event("e0")
    assert kept.events.find("e1") is None
    kept.events.apply([EndEvent("e0"), AddEvent(event("e1"))])
    assert waiting(kept) == waiting(store(tmp_path)) == ["e1"]
