"""Control groups of our own, versions 1 and 2: made, limited, frozen, read and removed.

Every sandbox has a group in each hierarchy that counts: memory, pids, cpu and the freezer. They stand at
<hierarchy>/rie-<owner>/<engine>/<number>, so that what is left of a dead engine can be found by its name. Without root
they stand in the group that this process is in, where that was given to its user, and some or all may not be there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rie.errors import EngineUnavailable, HostFault
from rie.limits import cgroup
from rie.limits.share import Quota

CONTROLLERS = ("memory", "pids", "cpu")
MB = 1024 * 1024
REMOVE_S = 2.0  # how long the last process may take to leave its group, once it has ended
PAUSE_S = 0.002
PREFIX = "rie-"


@dataclass(frozen=True, slots=True)
class Group:
    """One sandbox's control groups, None where there is no such controller; in version 2 the directories are one."""

    memory: Path | None
    pids: Path | None
    cpu: Path | None
    freezer: Path | None
    is_unified: bool

    @property
    def directories(self) -> tuple[Path, ...]:
        """Each of them once."""
        found = (self.memory, self.pids, self.cpu, self.freezer)
        return tuple(dict.fromkeys(directory for directory in found if directory is not None))

    @property
    def doors(self) -> list[str]:
        """The files that a process of one thread writes "0" to, to join.

        Version 1 has one for threads: who writes to that of processes waits until every processor has been elsewhere,
        7 to 40 ms in which nobody on the machine can fork (measured).
        """
        name = "cgroup.procs" if self.is_unified else "tasks"
        return [str(directory / name) for directory in self.directories]

    @property
    def shown(self) -> list[list[str]]:
        """Pairs of a directory and where a sandbox sees it, read-only: the memory's numbers."""
        place = "sys/fs/cgroup" if self.is_unified else "sys/fs/cgroup/memory"
        return [[str(self.memory), place]] if self.memory is not None else []

    def limit(self, memory_mb: int, processes: int) -> None:
        """Bound memory, without swap, and processes. Raises OSError."""
        size = str(memory_mb * MB)
        if self.pids is not None:
            _write(self.pids / "pids.max", str(processes))
        if self.memory is None:
            return
        if self.is_unified:
            _write(self.memory / "memory.max", size)
            with contextlib.suppress(OSError):  # a kernel without swap
                _write(self.memory / "memory.swap.max", "0")
        else:
            _write(self.memory / "memory.limit_in_bytes", size)
            with contextlib.suppress(OSError):  # memory and swap together, where swap is accounted for
                _write(self.memory / "memory.memsw.limit_in_bytes", size)

    def limit_cpu(self, quota: Quota) -> None:
        """Bound the share of CPU time from now on. Raises OSError."""
        if self.cpu is not None:
            cgroup.write_quota(self.cpu, quota)

    def lift_cpu_limit(self) -> None:
        """Take that bound away. Raises OSError."""
        if self.cpu is not None:
            cgroup.lift_quota(self.cpu)

    def freeze(self) -> None:
        """Have every process stop where it is; each does so as soon as it leaves the kernel. Raises OSError."""
        if self.freezer is None:
            return
        if self.is_unified:
            _write(self.freezer / "cgroup.freeze", "1")
        else:
            _write(self.freezer / "freezer.state", "FROZEN")

    def thaw(self) -> None:
        """Let them go on. Raises OSError."""
        if self.freezer is None:
            return
        if self.is_unified:
            _write(self.freezer / "cgroup.freeze", "0")
        else:
            _write(self.freezer / "freezer.state", "THAWED")

    def out_of_memory_kills(self) -> int:
        """How often the kernel has killed in here for want of memory."""
        if self.memory is None:
            return 0
        name = "memory.events" if self.is_unified else "memory.oom_control"
        with contextlib.suppress(OSError):
            for line in (self.memory / name).read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return 0

    def remove(self) -> None:
        """Remove the groups, once the last process is out; nothing if they are gone. Raises HostFault."""
        for directory in self.directories:
            _remove(directory)


@dataclass(frozen=True, slots=True)
class Groups:
    """Where an engine's groups stand: `roots` are the owner's directories by controller, as far as there are any."""

    roots: dict[str, Path]
    is_unified: bool

    @classmethod
    def find(cls, owner: str) -> Groups:
        """Look for the hierarchies; without root, for what this user may change of them.

        Raises EngineUnavailable, with what to mount, when root misses a controller.
        """
        if os.geteuid() != 0:
            own, is_unified = cgroup.delegated()
            return cls({name: place / f"{PREFIX}{owner}" for name, place in own.items()}, is_unified)
        found, is_unified = cgroup.hierarchies()
        wanted = (*CONTROLLERS, "freezer")
        lacking = [name for name in wanted if name not in found]
        if lacking:
            raise EngineUnavailable(
                f"cannot limit sandboxes: no control group hierarchy has {', '.join(lacking)}; mount it: "
                f"mount -t cgroup2 cgroup2 /sys/fs/cgroup (or version 1's of that name)"
            )
        return cls({name: found[name] / f"{PREFIX}{owner}" for name in wanted}, is_unified)

    def make(self, engine: str, name: str) -> Group:
        """Make a sandbox's groups. Raises HostFault."""
        try:
            return self._make(engine, name)
        except OSError as error:
            raise HostFault(f"cannot make a control group: {error}") from error

    def _make(self, engine: str, name: str) -> Group:
        for root in dict.fromkeys(self.roots.values()):
            parent = root / engine
            if not parent.is_dir():
                parent.mkdir(parents=True, exist_ok=True)
                if self.is_unified:
                    names = [name for name in CONTROLLERS if name in self.roots]
                    for level in (root.parent, root, parent):
                        _delegate(level, names)
        group = self.group(engine, name)
        for directory in group.directories:
            directory.mkdir()
        return group

    def group(self, engine: str, name: str) -> Group:
        """A sandbox's groups by name, whether they are there or not."""
        at = {controller: root / engine / name for controller, root in self.roots.items()}
        return Group(at.get("memory"), at.get("pids"), at.get("cpu"), at.get("freezer"), self.is_unified)

    def engines(self) -> set[str]:
        """The engines of this owner of which there are groups."""
        return {path.name for root in self.roots.values() for path in _children(root)}

    def names(self, engine: str) -> set[str]:
        """The sandboxes' groups of an engine."""
        return {path.name for root in self.roots.values() for path in _children(root / engine)}

    def clear(self, engine: str) -> int:
        """Kill all that still runs in an engine's groups and remove them; how many sandboxes there were."""
        names = self.names(engine)
        for name in names:
            group = self.group(engine, name)
            with contextlib.suppress(OSError):
                group.thaw()  # version 1 lets nobody die who is frozen
            for directory in group.directories:
                _kill_all(directory)
        for name in names:
            self.group(engine, name).remove()
        self.close(engine)
        return len(names)

    def close(self, engine: str) -> None:
        """Remove an engine's own directories, and the owner's if that was the last; nothing if they are in use."""
        for root in dict.fromkeys(self.roots.values()):
            for directory in (root / engine, root):
                with contextlib.suppress(OSError):
                    directory.rmdir()


def _delegate(directory: Path, controllers: Sequence[str]) -> None:
    """Have the groups below a directory use the controllers (version 2)."""
    text = " ".join(f"+{name}" for name in controllers)
    try:
        _write(directory / "cgroup.subtree_control", text)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        # In a container, processes sit where the kernel wants none beside groups: they move one level down.
        leaf = directory / cgroup.HOST
        leaf.mkdir(exist_ok=True)
        for pid in (directory / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                _write(leaf / "cgroup.procs", pid)
        _write(directory / "cgroup.subtree_control", text)


def _kill_all(directory: Path) -> None:
    with contextlib.suppress(OSError):
        _write(directory / "cgroup.kill", "1")  # version 2, since Linux 5.14
        return
    until = time.monotonic() + REMOVE_S
    while time.monotonic() < until:
        try:
            pids = (directory / "cgroup.procs").read_text().split()
        except OSError:
            return
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(PAUSE_S)


def _remove(directory: Path) -> None:
    until = time.monotonic() + REMOVE_S
    while True:
        try:
            directory.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > until:
                raise HostFault(f"cannot remove control group {directory}: {error}") from error
        time.sleep(PAUSE_S)


def _write(path: Path, text: str) -> None:
    """One write(2), without creating anything."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _children(directory: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from (path for path in directory.iterdir() if path.is_dir())
