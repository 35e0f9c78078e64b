"""What every store must do with records that are no functions (rie/store/base.py, Records)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from rie.model.function import Configuration, Function, FunctionKey
from rie.model.image import Image
from rie.model.record import Kind, Place, place_of
from rie.store import SqlStore, Store

KEY = FunctionKey("123456789012", "us-east-1", "f")


@dataclass(frozen=True, slots=True)
class Note:
    text: str
    count: int = 0


NOTES = Kind("note", Note)
OTHERS = Kind("other", Note)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = SqlStore(database_url)
    yield opened
    opened.close()


def test_a_record_is_found_as_it_was_stored_and_only_by_its_kind(store: Store) -> None:
    place = place_of(KEY, "a")
    assert store.records.change(NOTES, place, lambda before: Note("ü") if before is None else None) == Note("ü")
    assert store.records.find(NOTES, place) == Note("ü")
    assert store.records.find(OTHERS, place) is None


def test_deciding_for_none_removes(store: Store) -> None:
    place = place_of(KEY, "a")
    store.records.change(NOTES, place, lambda _: Note("x"))
    assert store.records.change(NOTES, place, lambda _: None) is None
    assert store.records.find(NOTES, place) is None
    assert not store.records.remove(NOTES, place)


def test_a_decision_that_raises_changes_nothing(store: Store) -> None:
    place = place_of(KEY, "a")
    store.records.change(NOTES, place, lambda _: Note("x"))

    def refuse(before: Note | None) -> Note:
        raise LookupError(before)

    with pytest.raises(LookupError):
        store.records.change(NOTES, place, refuse)
    assert store.records.find(NOTES, place) == Note("x")


def test_changes_from_many_threads_all_count(store: Store) -> None:
    place = place_of(KEY, "a")

    def add(_: int) -> None:
        store.records.change(NOTES, place, lambda before: Note("n", before.count + 1 if before else 1))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(40)))
    assert store.records.find(NOTES, place) == Note("n", 40)


def test_pages_follow_each_other_by_function_and_name(store: Store) -> None:
    places = [Place(KEY.account, KEY.region, function, name) for function in ("", "f", "g") for name in "ab"]
    for place in reversed(places):
        store.records.change(NOTES, place, lambda _, place=place: Note(place.name))
    store.records.change(NOTES, Place(KEY.account, "eu-west-1", "f", "a"), lambda _: Note("elsewhere"))
    seen: list[Place] = []
    after = ("", "")
    while page := store.records.page(NOTES, KEY.account, KEY.region, after=after, limit=2):
        seen += [place for place, _ in page]
        after = (seen[-1].function, seen[-1].name)
    assert seen == places
    assert [place.name for place, _ in store.records.of_function(NOTES, KEY)] == ["a", "b"]
    assert len(store.records.all(NOTES)) == 7


def test_what_hangs_on_a_function_goes_with_it(store: Store) -> None:
    configuration = Configuration("c", "role", "uri", Image("r", "d", "x86_64"))
    store.add(Function(KEY, configuration, None, "r1", "now"))
    alone = Place(KEY.account, KEY.region, "", "a")
    for place in (place_of(KEY, "a"), alone):
        store.records.change(NOTES, place, lambda _: Note("x"))
    assert store.remove(KEY)
    assert [place for place, _ in store.records.all(NOTES)] == [alone]


def test_versions_come_latest_first_then_by_number(store: Store) -> None:
    configuration = Configuration("c", "role", "uri", Image("r", "d", "x86_64"))
    for version in ("10", "$LATEST", "2", "1"):
        assert store.add(Function(KEY, configuration, None, version, "now", version=version))
    assert [each.version for each in store.versions(KEY)] == ["$LATEST", "1", "2", "10"]
    assert store.remove_version(KEY, "2")
    assert not store.remove_version(KEY, "2")
    assert [each.version for each in store.versions(KEY)] == ["$LATEST", "1", "10"]


def test_a_place_is_cleared_of_records_of_every_kind(store: Store) -> None:
    here, there = place_of(KEY, "a"), place_of(KEY, "b")
    for kind, place in ((NOTES, here), (OTHERS, here), (NOTES, there)):
        store.records.change(kind, place, lambda _: Note("x"))
    assert sorted(store.records.clear(here)) == ["note", "other"]
    assert store.records.clear(here) == []
    assert store.records.find(NOTES, there) == Note("x")


def test_a_version_takes_the_records_at_its_number_along(store: Store) -> None:
    configuration = Configuration("c", "role", "uri", Image("r", "d", "x86_64"))
    store.add(Function(KEY, configuration, None, "r1", "now", version="1"))
    for name in ("1", "2"):
        store.records.change(NOTES, place_of(KEY, name), lambda _: Note("x"))
    store.remove_version(KEY, "1")
    assert [place.name for place, _ in store.records.all(NOTES)] == ["2"]
