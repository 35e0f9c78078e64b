"""The records that invocations see."""

from __future__ import annotations

from dataclasses import dataclass

from rie.invoke.mirror import Mirror
from rie.model.function import FunctionKey
from rie.model.record import Kind, Place, place_of

KEY = FunctionKey("123456789012", "us-east-1", "f")


@dataclass(frozen=True, slots=True)
class Note:
    text: str


NOTES = Kind("note", Note)


def test_a_record_is_seen_until_it_is_gone() -> None:
    mirror = Mirror()
    mirror.load(NOTES, [(place_of(KEY, "a"), Note("x"))])
    assert mirror.find(NOTES, place_of(KEY, "a")) == Note("x")
    mirror.update(NOTES, place_of(KEY, "a"), None)
    mirror.update(NOTES, place_of(KEY, "a"), None)
    assert mirror.find(NOTES, place_of(KEY, "a")) is None
    assert list(mirror.each(NOTES)) == []


def test_a_function_takes_what_hung_on_it_along_and_watchers_hear_of_it() -> None:
    mirror = Mirror()
    heard: list[tuple[Place, Note | None]] = []
    mirror.watch(NOTES, lambda place, note: heard.append((place, note)))
    alone = Place(KEY.account, KEY.region, "", "a")
    mirror.update(NOTES, place_of(KEY, "a"), Note("x"))
    mirror.update(NOTES, alone, Note("y"))
    mirror.forget(KEY)
    mirror.forget(KEY)
    assert list(mirror.each(NOTES)) == [(alone, Note("y"))]
    assert heard == [(place_of(KEY, "a"), Note("x")), (alone, Note("y")), (place_of(KEY, "a"), None)]
