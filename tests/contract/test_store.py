"""What every store must do (rie/store/base.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from rie.errors import StoreFailed
from rie.model.function import Configuration, Function, FunctionKey, ImageConfig, Logging, Vpc
from rie.model.image import Image
from rie.store import SqlStore, Store

ACCOUNT = "123456789012"
REGION = "us-east-1"


@pytest.fixture
def opened(database_url: str) -> Iterator[Callable[[], Store]]:
    """Opens the same store again and again; in memory there is nothing to open again."""
    stores: list[Store] = []

    def open_again() -> Store:
        if stores and database_url == "sqlite://":
            pytest.fail("a store in memory is gone once it is closed")
        stores.append(SqlStore(database_url))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Callable[[], Store]) -> Store:
    return opened()


def function(name: str = "f", revision: str = "r1", region: str = REGION, **more: object) -> Function:
    """A function with every kind of member in it."""
    configuration = Configuration(
        configuration_id="c",
        role="role",
        image_uri="reg/app:1",
        image=Image("reg/app@sha256:0", "sha256:0", "x86_64", ("/e",), ("a.b",), "/w", {"PATH": "/bin"}, "root"),
        variables={"AB": "ü\u0000"},
        image_config=ImageConfig(command=("x", "y")),
        logging=Logging("g", "JSON", "INFO", "WARN"),
        vpc=Vpc(("subnet-1",), (), True),
    )
    made = Function(FunctionKey(ACCOUNT, region, name), configuration, None, revision, "now", tags={"k": "v"})
    return replace(made, **more)  # type: ignore[arg-type]


def test_what_was_added_is_found_as_it_was(store: Store) -> None:
    added = function()
    assert store.add(added)
    assert store.find(added.key) == added
    assert store.find(replace(added.key, name="g")) is None
    assert store.find(added.key, "1") is None


def test_a_key_is_taken_once(store: Store) -> None:
    assert store.add(function())
    assert not store.add(function(revision="r2"))
    found = store.find(function().key)
    assert found is not None
    assert found.revision_id == "r1"
    assert store.add(function(region="eu-west-1"))


def test_of_many_threads_that_add_one_key_one_succeeds(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda number: store.add(function(revision=f"r{number}")), range(8)))
    assert added.count(True) == 1


def test_replace_asks_for_the_revision_that_was_read(store: Store) -> None:
    store.add(function())
    changed = function(revision="r2", description="new")
    assert not store.replace(changed, "r0")
    assert store.replace(changed, "r1")
    assert not store.replace(changed, "r1")
    assert store.find(changed.key) == changed
    assert not store.replace(function("gone"), "r1")


def test_of_many_threads_that_replace_one_revision_one_succeeds(store: Store) -> None:
    store.add(function())
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda number: store.replace(function(revision=f"n{number}"), "r1"), range(8)))
    assert done.count(True) == 1


def test_remove_takes_every_version_and_says_whether_there_was_one(store: Store) -> None:
    store.add(function())
    store.add(function(version="1"))
    assert store.remove(function().key)
    assert not store.remove(function().key)
    assert store.all() == []


def test_pages_are_by_name_within_one_region_and_of_latest_only(store: Store) -> None:
    for name in ("c", "a", "b"):
        store.add(function(name))
    store.add(function("a", version="1"))
    store.add(function("z", region="eu-west-1"))
    assert [each.key.name for each in store.page(ACCOUNT, REGION, None, 2)] == ["a", "b"]
    assert [each.key.name for each in store.page(ACCOUNT, REGION, "b", 2)] == ["c"]
    assert store.page(ACCOUNT, "us-east-2", None, 2) == []
    assert store.count(ACCOUNT, REGION) == 3
    assert len(store.all()) == 5


def test_what_is_added_together_is_added_whole_or_not_at_all(store: Store) -> None:
    assert store.add(function(), function(version="1"))
    assert not store.add(function("g"), function(version="1"))
    assert [each.key.name for each in store.all()] == ["f", "f"]


def test_a_version_is_new_with_the_state_that_it_was_made_from_or_not_at_all(store: Store) -> None:
    store.add(function())
    published = function(revision="r2", last_version=1)
    assert not store.replace(published, "r0", function(version="1"))
    assert store.replace(published, "r1", function(version="1"))
    assert not store.replace(function(revision="r3"), "r2", function(version="1"))
    assert [(each.version, each.revision_id) for each in store.versions(function().key)] == [
        ("$LATEST", "r2"),
        ("1", "r1"),
    ]


def test_pages_of_all_versions_are_by_name_and_number(store: Store) -> None:
    for version in ("10", "2", "$LATEST"):
        store.add(function("b", version=version))
    store.add(function("a"))
    seen: list[tuple[str, str]] = []
    after = None
    while page := store.page_versions(ACCOUNT, REGION, after, 2):
        seen += [(each.key.name, each.version) for each in page]
        after = seen[-1]
    assert seen == [("a", "$LATEST"), ("b", "$LATEST"), ("b", "2"), ("b", "10")]


def test_unsettled_are_the_pending_and_the_updating(store: Store) -> None:
    store.add(function("pending"))
    store.add(function("active", state="Active", last_update_status="Successful"))
    store.add(function("updating", state="Active", last_update_status="InProgress"))
    store.add(function("failed", state="Failed", last_update_status="Failed"))
    assert [each.key.name for each in store.unsettled()] == ["pending", "updating"]
    store.replace(function("pending", "r2", state="Active"), "r1")
    assert [each.key.name for each in store.unsettled()] == ["updating"]


@pytest.mark.parametrize("database_url", ["file", "postgresql"], indirect=True)
def test_what_was_written_is_there_for_the_next_one_who_opens(opened: Callable[[], Store]) -> None:
    first = opened()
    first.add(function())
    second = opened()
    assert second.find(function().key) == function()
    second.replace(function(revision="r2"), "r1")
    found = first.find(function().key)
    assert found is not None
    assert found.revision_id == "r2"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_database_is_one_managers_until_it_closes_the_store(opened: Callable[[], Store]) -> None:
    first, second = opened(), opened()
    assert isinstance(first, SqlStore) and isinstance(second, SqlStore)
    first.hold()
    with pytest.raises(StoreFailed, match="another manager uses it"):
        second.hold(wait_s=0.2)
    first.close()
    second.hold()
