"""A memory control group for the function, below the container's own, where the container may make one.

Version 1: /sys/fs/cgroup/memory is writable in privileged containers. Version 2: so is /sys/fs/cgroup; there a group
with processes of its own may not limit groups below it, so ours move to a group beside the function's first.
"""

import os
import re

from .memory import read, read_all

OURS, FUNCTIONS = "rie-bootstrap", "rie-function-"
V1_LIMITS = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")  # the latter where swap is accounted
V1_OOM, V2_OOM = "memory.oom_control", "memory.events"
OCTAL = re.compile(r"\\([0-7]{3})")


class Cgroup:
    """One of them, with a limit; made by `make`."""

    def __init__(self, directory: str, oom_counter: str) -> None:
        self.directory = directory
        self.oom_counter = f"{directory}/{oom_counter}"

    @property
    def processes_path(self) -> str:
        """A process that writes "0" there belongs to the group from then on, with all that it starts."""
        return f"{self.directory}/cgroup.procs"

    def processes(self) -> "list[int]":
        """Who is in it."""
        return [int(pid) for pid in read_all(self.processes_path).split()]

    def remove(self) -> None:
        """Once nobody is in it any more."""
        try:
            os.rmdir(self.directory)
        except OSError:
            pass


def make(limit_mb: int, number: int) -> "Cgroup | None":
    """A new one for the environment of that number; None where the container may not, or has no memory controller."""
    groups, mounts = (read_all(f"/proc/self/{name}").decode("utf-8", "replace") for name in ("cgroup", "mountinfo"))
    try:
        version, directory = own_directory(groups, mounts)
        if version == 1:
            return _make_v1(directory, limit_mb, number)
        if version == 2:
            return _make_v2(directory, limit_mb, number)
    except OSError:
        pass
    return None


def own_directory(groups: str, mounts: str) -> "tuple[int, str]":
    """(version, where the group is that governs our memory), out of /proc/self/cgroup and mountinfo; 0 if none is."""
    for line in groups.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or "memory" in controllers.split(","):
            version = 2 if number == "0" else 1
            directory = _under_mount(mounts, path, version)
            if directory and (version == 1 or b"memory" in read(f"{directory}/cgroup.controllers").split()):
                return version, directory
    return 0, ""


def _under_mount(mounts: str, path: str, version: int) -> str:
    """Where a group's path can be seen; the newest mount that shows it wins."""
    for line in reversed(mounts.splitlines()):
        fields, _, tail = line.partition(" - ")
        kind, _, options = tail.split(" ", 2)
        if kind != ("cgroup2" if version == 2 else "cgroup") or (version == 1 and "memory" not in options.split(",")):
            continue
        root, point = fields.split(" ")[3:5]
        root = "" if root == "/" else _unescaped(root)
        if path == root or path.startswith(f"{root}/"):
            return _unescaped(point) + path[len(root) :].rstrip("/")
    return ""


def _unescaped(text: str) -> str:
    return OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def _make_v1(parent: str, limit_mb: int, number: int) -> Cgroup:
    directory = f"{parent}/{FUNCTIONS}{number}"
    os.makedirs(directory, exist_ok=True)
    for name in V1_LIMITS:
        if os.path.exists(f"{directory}/{name}"):
            _write(f"{directory}/{name}", str(limit_mb << 20))
    return Cgroup(directory, V1_OOM)


def _make_v2(parent: str, limit_mb: int, number: int) -> Cgroup:
    if b"memory" not in read(f"{parent}/cgroup.subtree_control").split():
        os.makedirs(f"{parent}/{OURS}", exist_ok=True)
        for pid in read_all(f"{parent}/cgroup.procs").split():
            _write(f"{parent}/{OURS}/cgroup.procs", pid.decode())
        _write(f"{parent}/cgroup.subtree_control", "+memory")
    directory = f"{parent}/{FUNCTIONS}{number}"
    os.makedirs(directory, exist_ok=True)
    _write(f"{directory}/memory.max", str(limit_mb << 20))
    if os.path.exists(f"{directory}/memory.swap.max"):
        _write(f"{directory}/memory.swap.max", "0")
    return Cgroup(directory, V2_OOM)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
