"""What the kernel says of memory: how much processes have held, what the limit is, and whether it killed."""

import os

# Where the kernel tells the memory limit of this container, by cgroup version.
MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
NO_LIMIT_KB = 1 << 42  # what stands there without a limit is larger, or "max"
# Where the kernel counts OOM kills of this container, by cgroup version.
OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


def read(path: str) -> bytes:
    """The beginning of a small file of the kernel's; empty if it can't be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 8192)
    except OSError:
        return b""
    finally:
        os.close(fd)


def peak_kb(pid: int) -> int:
    """The most that a living process has had resident; 0 if it is gone."""
    text = read(f"/proc/{pid}/status")
    at = text.find(b"\nVmHWM:")  # a line of its own: the name of a process can be anything, but has no newline
    return int(text[at + 7 : text.index(b"kB", at)]) if at >= 0 else 0


def descendants(pid: int) -> "list[int]":
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        found += [int(child) for child in read(f"/proc/{parent}/task/{parent}/children").split()]
    return found


def limit_kb() -> int:
    """This container's limit, NO_LIMIT_KB if it has none."""
    for path in MEMORY_LIMITS:
        text = read(path).strip()
        if text.isdigit():
            return min(int(text) // 1024, NO_LIMIT_KB)
    return NO_LIMIT_KB


def oom_kills() -> int:
    """How often the kernel has killed in this container for want of memory."""
    for path in OOM_COUNTERS:
        for line in read(path).decode("ascii", "replace").splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill" and value.isdigit():
                return int(value)
    return 0
