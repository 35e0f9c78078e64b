"""The store of code: kept by digest, whole or not at all, and gone once nobody uses it."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from test_api_world import zipped

from rie.clock import ManualClock
from rie.code.links import Links, key_in
from rie.code.store import CodeStore
from rie.errors import ArchiveInvalid, HostFault
from rie.model.code import Archive


def keep(store: CodeStore, content: bytes) -> Archive:
    with store.scratch() as scratch:
        (scratch / "uploaded").write_bytes(content)
        with store.keeping(scratch / "uploaded") as archive:
            return archive


def names(directory: Path) -> dict[str, int]:
    return {name: len(list((directory / name).iterdir())) for name in ("zip", "tree", "merged", "tmp")}


def test_an_archive_is_kept_as_it_came_and_unpacked_once(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    content = zipped({"a.py": "12345"})
    first, second = keep(store, content), keep(store, content)
    assert first == second
    assert (first.size, first.unpacked_size) == (len(content), 5)
    found = store.find(first.sha256)
    assert found is not None
    assert found.read_bytes() == content
    assert (store.tree(first) / "a.py").read_text() == "12345"
    assert store.tree(first).stat().st_mode & 0o777 == 0o755
    assert names(tmp_path) == {"zip": 1, "tree": 1, "merged": 0, "tmp": 0}


def test_of_what_is_refused_nothing_is_left(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    with pytest.raises(ArchiveInvalid):
        keep(store, b"no zip")
    assert names(tmp_path) == {"zip": 0, "tree": 0, "merged": 0, "tmp": 0}


def test_the_same_archive_from_many_threads_is_one(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    content = zipped({f"f{number}": "x" * number for number in range(50)})
    with ThreadPoolExecutor(8) as threads:
        archives = set(threads.map(lambda _: keep(store, content), range(16)))
    assert len(archives) == 1
    assert names(tmp_path) == {"zip": 1, "tree": 1, "merged": 0, "tmp": 0}


def test_what_was_lost_is_unpacked_and_merged_again(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    archive = keep(store, zipped())
    merged = store.merged([archive])
    shutil.rmtree(store.tree(archive))
    shutil.rmtree(merged)
    store.ready([archive])
    assert (store.tree(archive) / "app.py").exists()
    assert (store.merged([archive]) / "app.py").exists()


def test_an_archive_that_is_nowhere_is_a_host_fault(tmp_path: Path) -> None:
    with pytest.raises(HostFault):
        CodeStore(tmp_path).ready([Archive("a" * 64, 1, 1)])


def test_an_order_of_layers_is_merged_once_and_another_is_another(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    first, second = keep(store, zipped({"a": "1"})), keep(store, zipped({"a": "2"}))
    assert store.merged([first, second]) == store.merged([first, second])
    assert (store.merged([first, second]) / "a").read_text() == "2"
    assert (store.merged([second, first]) / "a").read_text() == "1"


def test_a_sweep_removes_what_was_unused_the_last_time_too(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    used, unused = keep(store, zipped({"a": "1"})), keep(store, zipped({"a": "2"}))
    store.merged([used])
    store.merged([unused])
    uses = [((used,), (used,))]
    assert store.sweep(uses) == 0
    assert store.sweep(uses) == 3
    assert names(tmp_path) == {"zip": 1, "tree": 1, "merged": 1, "tmp": 0}
    assert store.find(unused.sha256) is None
    assert store.sweep([], at_once=True) == 3


def test_a_sweep_leaves_what_is_being_kept(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    with store.scratch() as scratch:
        (scratch / "uploaded").write_bytes(zipped())
        with store.keeping(scratch / "uploaded") as archive:
            assert store.sweep([], at_once=True) == 0
    assert store.tree(archive).is_dir()
    assert store.sweep([], at_once=True) == 2


def test_what_was_being_made_when_a_process_died_is_gone_at_the_next_start(tmp_path: Path) -> None:
    archive = keep(CodeStore(tmp_path), zipped())
    (tmp_path / "tmp" / "half").mkdir()
    (tmp_path / "tmp" / "half" / "x").write_text("x")
    store = CodeStore(tmp_path)
    assert names(tmp_path)["tmp"] == 0
    assert store.tree(archive).is_dir()


def test_after_another_boot_trees_are_made_anew_from_the_zips(tmp_path: Path) -> None:
    archive = keep(CodeStore(tmp_path), zipped())
    (tmp_path / "boot").write_text("another")
    store = CodeStore(tmp_path)
    assert names(tmp_path)["tree"] == 0
    store.ready([archive])
    assert (store.tree(archive) / "app.py").exists()


# -- links ---------------------------------------------------------------------------------------------------------


def test_a_link_is_good_for_ten_minutes_and_for_one_archive(tmp_path: Path) -> None:
    clock = ManualClock()
    links = Links(key_in(tmp_path / "key"), clock)
    path, _, query = links.path("a" * 64).partition("?")
    assert links.read(path, query) == "a" * 64
    assert Links(key_in(tmp_path / "key"), clock).read(path, query) == "a" * 64  # after a restart too
    assert links.read(path.replace("a" * 64, "b" * 64), query) is None
    assert links.read(path, query.replace("Expires=1", "Expires=2")) is None
    assert links.read(path, "") is None
    assert links.read(path + "/../x", "Expires=é&Signature=é") is None
    assert Links(b"another", clock).read(path, query) is None
    clock.advance(timedelta(seconds=600).total_seconds())
    assert links.read(path, query) is None
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
