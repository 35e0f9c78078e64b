"""Where a container's memory group is, and what is written to make one below it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap import cgroup

V1_GROUPS = "9:pids:/docker/abc\n4:memory:/docker/abc\n0::/system.slice/docker.service\n"
V1_MOUNTS = (
    "30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "31 30 0:27 /docker/abc /sys/fs/cgroup/memory rw,relatime master:11 - cgroup cgroup rw,memory\n"
    "32 30 0:28 /docker/abc /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
)


def test_version_1_is_found_below_the_mount_that_shows_it() -> None:
    assert cgroup.own_directory(V1_GROUPS, V1_MOUNTS) == (1, "/sys/fs/cgroup/memory")
    whole = V1_MOUNTS.replace("0:27 /docker/abc", "0:27 /")
    assert cgroup.own_directory(V1_GROUPS, whole) == (1, "/sys/fs/cgroup/memory/docker/abc")


def test_a_group_that_no_mount_shows_is_not_found() -> None:
    assert cgroup.own_directory(V1_GROUPS, V1_MOUNTS.replace("/docker/abc /sys", "/docker/xyz /sys")) == (0, "")
    assert cgroup.own_directory("", "") == (0, "")


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    (tmp_path / "cgroup.procs").write_text("1\n7\n")
    (tmp_path / cgroup.OURS).mkdir()
    (tmp_path / cgroup.OURS / "cgroup.procs").write_text("")
    own = tmp_path / f"{cgroup.FUNCTIONS}2"
    own.mkdir()
    for name in ("memory.max", "memory.swap.max", "cgroup.procs"):
        (own / name).write_text("")
    return tmp_path


def test_version_2_is_one_only_where_it_has_the_memory_controller(unified: Path) -> None:
    mounts = f"30 25 0:26 / {unified} rw - cgroup2 cgroup rw\n"
    assert cgroup.own_directory("0::/\n", mounts) == (2, str(unified))
    (unified / "cgroup.controllers").write_text("cpu pids\n")
    assert cgroup.own_directory("0::/\n", mounts) == (0, "")


def test_in_version_2_our_processes_make_room_before_the_controller_is_passed_on(
    unified: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, str]] = []
    monkeypatch.setattr(
        cgroup, "_write", lambda path, text: written.append((str(Path(path).relative_to(unified)), text))
    )
    monkeypatch.setattr(cgroup, "own_directory", lambda *_: (2, str(unified)))
    made = cgroup.make(128, 2)
    assert made is not None and made.directory == str(unified / "rie-function-2")
    assert written == [
        ("rie-bootstrap/cgroup.procs", "1"),
        ("rie-bootstrap/cgroup.procs", "7"),
        ("cgroup.subtree_control", "+memory"),
        ("rie-function-2/memory.max", "134217728"),
        ("rie-function-2/memory.swap.max", "0"),
    ]


def test_without_the_right_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "own_directory", lambda *_: (1, "/proc/no/such"))
    assert cgroup.make(128, 1) is None
