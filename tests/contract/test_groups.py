"""Control groups of either version: needs root and the kernel's hierarchies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rie.errors import HostFault
from rie.limits import cgroup, share
from rie.limits.groups import Group, Groups

MB = 1 << 20


@pytest.fixture
def groups() -> Iterator[Groups]:
    """This test's own groups; all are gone afterwards."""
    found = Groups.find(f"test-groups-{os.getpid()}")
    yield found
    for engine in found.engines():
        found.clear(engine)
    assert not [root for root in found.roots.values() if root.exists()]


@pytest.fixture
def group(groups: Groups) -> Group:
    return groups.make("engine", "1")


@contextlib.contextmanager
def running(group: Group, program: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program in a group; it has printed a line when this begins."""
    join = f"import os\nfor door in {group.doors}:\n    open(door, 'w').write('0')\nprint('in', flush=True)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", join + program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "in\n"
        yield process
    finally:
        with contextlib.suppress(OSError):
            group.thaw()
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    """Wait for a condition."""
    gives_up_at = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < gives_up_at
        time.sleep(0.01)


def cpu_time(pid: int) -> int:
    """Clock ticks that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_process_past_its_memory_is_killed_and_counted(group: Group) -> None:
    group.limit(32, 100)
    with running(group, f"data = b'x' * (64 * {MB})") as process:
        assert process.wait(30) == -signal.SIGKILL
        assert group.out_of_memory_kills() == 1


def test_within_its_memory_nothing_happens(group: Group) -> None:
    group.limit(64, 100)
    with running(group, f"data = b'x' * (20 * {MB})\nprint(len(data), flush=True)") as process:
        assert process.wait(30) == 0
        assert group.out_of_memory_kills() == 0


def test_processes_are_bounded(group: Group) -> None:
    group.limit(64, 5)
    program = (
        "import time\nfor number in range(10):\n    try:\n        pid = os.fork()\n"
        "    except BlockingIOError:\n        print(number, flush=True)\n        break\n"
        "    if pid == 0:\n        time.sleep(60)\nimport signal\nos.killpg(0, 9)\n"
    )
    with running(group, "os.setpgid(0, 0)\n" + program) as process:
        assert process.stdout is not None and process.stdout.readline() == "4\n"


def test_a_quota_bounds_the_processor(group: Group) -> None:
    with running(group, "while True: pass") as process:
        cgroup.write_quota(group.cpu, share.quota(0.05))
        before = cpu_time(process.pid)
        time.sleep(2)
        used = (cpu_time(process.pid) - before) / os.sysconf("SC_CLK_TCK")
        assert used < 0.5
        cgroup.lift_quota(group.cpu)


def test_the_frozen_stand_still_until_they_are_thawed(group: Group) -> None:
    with running(group, "while True: pass") as process:
        group.freeze()
        group.freeze()
        time.sleep(0.2)  # each stops when it leaves the kernel
        before = cpu_time(process.pid)
        time.sleep(0.3)
        assert cpu_time(process.pid) == before
        group.thaw()
        until(lambda: cpu_time(process.pid) > before)


def test_a_group_in_use_is_not_removed_and_one_that_is_gone_is(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rie.limits.groups.REMOVE_S", 0.05)
    with running(group, "import time; time.sleep(60)"), pytest.raises(HostFault, match="cannot remove control group"):
        group.remove()
    group.remove()
    group.remove()


def test_what_a_dead_engine_left_is_found_killed_and_removed(groups: Groups) -> None:
    frozen = groups.make("dead", "1")
    groups.make("dead", "2")
    groups.make("alive", "1")
    with running(frozen, "import time; time.sleep(60)") as process:
        frozen.freeze()
        assert groups.engines() == {"dead", "alive"}
        assert groups.clear("dead") == 2
        assert process.wait(10) == -signal.SIGKILL
        assert groups.engines() == {"alive"}
        assert groups.clear("dead") == 0


def test_a_sandbox_is_shown_where_its_memory_is_counted(group: Group) -> None:
    ((directory, place),) = group.shown
    name = "memory.max" if group.is_unified else "memory.limit_in_bytes"
    assert (Path(directory) / name).exists()
    assert place == ("sys/fs/cgroup" if group.is_unified else "sys/fs/cgroup/memory")
