"""The catalog's own promises: notices in the order of commits, races with other nodes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from test_api_world import ROLE, World, resolve

from rie.clock import ManualClock
from rie.errors import HostFault, ServiceError, StoreFailed
from rie.functions.catalog import Catalog
from rie.functions.changes import Changes, NewFunction
from rie.model.function import Function, FunctionKey
from rie.store import SqlStore

KEY = FunctionKey("123456789012", "us-east-1", "f")
NEW = NewFunction(KEY, "reg/app:1", Changes(role=ROLE))


def test_the_last_notice_is_the_newest_record_however_many_threads_write() -> None:
    world = World()
    world.active()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: world.catalog.tag(KEY, {f"k{number % 40}": str(number)}), range(100)))
    assert world.notices[-1] == (KEY, "$LATEST", world.catalog.get(KEY))
    revisions = [function.revision_id for _, _, function in world.notices if function]
    assert len(revisions) == len(set(revisions)) == 102
    assert len(world.catalog.get(KEY).tags) == 40


def test_every_commit_is_told_before_the_deployment_is_asked_for() -> None:
    told: list[str] = []
    catalog = Catalog(
        SqlStore("sqlite://"),
        resolve,
        lambda _function: told.append("deploy"),
        lambda _key, _version, function: told.append("gone" if function is None else "changed"),
        ManualClock(),
    )
    made = catalog.create(NEW)
    catalog.mark_deployed(KEY, made.configuration.configuration_id)
    catalog.update_configuration(KEY, Changes(timeout_s=4))
    catalog.delete(KEY)
    assert told == ["changed", "deploy", "changed", "changed", "deploy", "gone"]


def test_nothing_is_told_of_what_could_not_be_stored() -> None:
    class Full(SqlStore):
        def add(self, *functions: Function) -> bool:
            raise StoreFailed("cannot store a function: database or disk is full")

    told: list[object] = []
    catalog = Catalog(Full("sqlite://"), resolve, told.append, lambda *notice: told.append(notice), ManualClock())
    with pytest.raises(StoreFailed):
        catalog.create(NEW)
    assert told == []


class Overtaken(SqlStore):
    """A store that another node writes to between every read and write, a number of times."""

    def __init__(self, times: int) -> None:
        super().__init__("sqlite://")
        self.times = times

    def replace(self, function: Function, expected_revision_id: str, *new: Function) -> bool:
        if self.times:
            self.times -= 1
            current = self.find(function.key)
            assert current is not None
            theirs = replace(current, revision_id=f"theirs{self.times}", tags={**current.tags, "theirs": "1"})
            super().replace(theirs, current.revision_id)
        return super().replace(function, expected_revision_id, *new)


def _catalog(store: SqlStore) -> Catalog:
    return Catalog(store, resolve, lambda _function: None, lambda _key, _version, _function: None, ManualClock())


def test_a_change_that_another_node_overtook_is_decided_again_and_loses_nothing() -> None:
    catalog = _catalog(Overtaken(times=2))
    catalog.create(NEW)
    catalog.tag(KEY, {"mine": "1"})
    assert dict(catalog.get(KEY).tags) == {"theirs": "1", "mine": "1"}


def test_a_revision_that_was_current_is_stale_once_another_node_overtook() -> None:
    store = Overtaken(times=0)
    catalog = _catalog(store)
    made = catalog.create(NEW)
    catalog.mark_deployed(KEY, made.configuration.configuration_id)
    store.times = 1
    with pytest.raises(ServiceError) as caught:
        catalog.update_configuration(KEY, Changes(), catalog.get(KEY).revision_id)
    assert caught.value.code == "PreconditionFailedException"


def test_being_overtaken_without_end_is_a_fault_and_no_hang() -> None:
    catalog = _catalog(Overtaken(times=100))
    catalog.create(NEW)
    with pytest.raises(HostFault, match="cannot update arn:aws:lambda"):
        catalog.tag(KEY, {"mine": "1"})


def test_all_functions_are_there_for_a_node_that_starts() -> None:
    world = World()
    for name in ("a", "b"):
        world.create(name)
    assert [function.key.name for function in world.catalog.all()] == ["a", "b"]
    assert world.catalog.find(KEY) is None
