"""CPU shares, and control groups found in a /proc made of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rie.limits import cgroup, loop, share, storage
from rie.limits.share import Quota


@pytest.mark.parametrize(
    ("memory_mb", "cpus"),
    [(1769, 1.0), (3538, 2.0), (128, 128 / 1769), (10_240, 10_240 / 1769), (10_614, 6.0), (20_000, 6.0)],
)
def test_1769_mb_are_one_cpu_and_six_are_the_most(memory_mb: int, cpus: float) -> None:
    assert share.cpus(memory_mb) == pytest.approx(cpus)


@pytest.mark.parametrize(("share_", "quota_us"), [(1.0, 20_000), (0.0724, 1_448), (6.0, 120_000), (0.001, 1_000)])
def test_a_share_is_a_quota_of_20_ms(share_: float, quota_us: int) -> None:
    assert share.quota(share_) == Quota(quota_us, 20_000)


def proc(root: Path, groups: str, mounts: str) -> Path:
    """A /proc with process 7."""
    (root / "proc/7").mkdir(parents=True)
    (root / "proc/self").mkdir()
    (root / "proc/7/cgroup").write_text(groups)
    (root / "proc/self/mountinfo").write_text(mounts)
    return root / "proc"


def test_a_group_of_version_1_is_found_and_limited(tmp_path: Path) -> None:
    group = tmp_path / "cg/cpu,cpuacct/docker/abc"
    group.mkdir(parents=True)
    for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"):
        (group / name).write_text("-1")
    mounts = (
        f"30 1 0:2 / {tmp_path}/cg/cpuset rw - cgroup cgroup rw,cpuset\n"
        f"31 1 0:3 / {tmp_path}/cg/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
        f"32 1 0:4 / {tmp_path}/cg/unified rw - cgroup2 cgroup2 rw\n"
    )
    groups = "5:cpuset:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/docker/abc\n"
    found = cgroup.cpu_directory(7, proc(tmp_path, groups, mounts))
    assert found == group
    cgroup.write_quota(group, Quota(1_448))
    assert (group / "cpu.cfs_quota_us").read_text() == "1448"
    assert (group / "cpu.cfs_period_us").read_text() == "20000"


def test_a_group_of_version_2_is_found_and_limited(tmp_path: Path) -> None:
    group = tmp_path / "cg/system.slice/docker-abc.scope"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("max 100000")
    mounts = f"30 1 0:2 / {tmp_path}/cg rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
    found = cgroup.cpu_directory(7, proc(tmp_path, "0::/system.slice/docker-abc.scope\n", mounts))
    assert found == group
    cgroup.write_quota(group, Quota(1_448))
    assert (group / "cpu.max").read_text() == "1448 20000"


def test_a_mount_that_shows_part_of_the_hierarchy_counts_from_its_root(tmp_path: Path) -> None:
    group = tmp_path / "c g/abc"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("max 100000")
    point = str(tmp_path / "c g").replace(" ", "\\040")
    mounts = f"30 1 0:2 /outer {point} rw - cgroup2 cgroup2 rw\n"
    directory = proc(tmp_path, "0::/outer/abc\n", mounts)
    assert cgroup.cpu_directory(7, directory) == group
    (tmp_path / "proc/7/cgroup").write_text("0::/outermost/abc\n")
    assert cgroup.cpu_directory(7, directory) is None


def test_without_controllers_or_process_there_is_no_group(tmp_path: Path) -> None:
    (tmp_path / "cg/abc").mkdir(parents=True)
    directory = proc(tmp_path, "0::/abc\n", f"30 1 0:2 / {tmp_path}/cg rw - cgroup2 cgroup2 rw\n")
    assert cgroup.cpu_directory(7, directory) is None
    assert cgroup.cpu_directory(8, directory) is None


def test_whether_tmp_can_be_on_disk_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert storage.unavailable() == "not root"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(loop, "CONTROL", Path("/nonexistent"))
    assert storage.unavailable() == "no loop devices"
