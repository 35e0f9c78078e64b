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


class Gauge:
    """Reads what processes have held. Files of /proc are kept open: reading one again costs a third of opening it."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}

    def peak_kb(self, pids: "list[int]") -> int:
        """The most that living processes have each had resident, added up."""
        self._forget_all_but(pids)
        return sum(_field_kb(self._read(f"/proc/{pid}/status"), b"\nVmHWM:") for pid in pids)

    def resident_kb(self, pids: "list[int]") -> int:
        """What living processes have resident now, added up."""
        return sum(_field_kb(self._read(f"/proc/{pid}/status"), b"\nVmRSS:") for pid in pids)

    def descendants(self, pid: int) -> "list[int]":
        """A process and all that descend from it."""
        found = [pid]
        for parent in found:
            found += [int(child) for child in self._read(f"/proc/{parent}/task/{parent}/children").split()]
        return found

    def _read(self, path: str) -> bytes:
        fd = self._fds.get(path)
        try:
            if fd is None:
                fd = self._fds[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(fd, 8192, 0)
        except OSError:  # the process has ended
            self._close(path)
            return b""

    def _close(self, path: str) -> None:
        fd = self._fds.pop(path, None)
        if fd is not None:
            os.close(fd)

    def _forget_all_but(self, pids: "list[int]") -> None:
        """Of thousands of processes none must stay open, and a number may be given to another process."""
        if len(self._fds) > 2 * len(pids) + 1:  # two of each, and the children of the first's parent
            for path in list(self._fds):
                self._close(path)


def _field_kb(status: bytes, name: bytes) -> int:
    """`name` begins with a newline: the name of a process can be anything, but has none in it."""
    at = status.find(name)
    return int(status[at + len(name) : status.index(b"kB", at)]) if at >= 0 else 0


def proportional_kb(pids: "list[int]") -> int:
    """What living processes hold, added up, where pages that several share count once; all of it if that is secret."""
    total_kb = 0
    for pid in pids:
        rollup = read(f"/proc/{pid}/smaps_rollup")
        total_kb += _field_kb(rollup, b"\nPss:") if rollup else _field_kb(read(f"/proc/{pid}/status"), b"\nVmRSS:")
    return total_kb


def others() -> "list[int]":
    """Every process that is seen here but ours."""
    own = str(os.getpid())
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != own]


def files_kb(place: str) -> int:
    """What the file system at a place holds; 0 if it can't be asked."""
    try:
        found = os.statvfs(place)
    except OSError:
        return 0
    return (found.f_blocks - found.f_bfree) * found.f_frsize // 1024


def limit_kb() -> int:
    """This container's limit, NO_LIMIT_KB if it has none."""
    for path in MEMORY_LIMITS:
        text = read(path).strip()
        if text.isdigit():
            return min(int(text) // 1024, NO_LIMIT_KB)
    return NO_LIMIT_KB


class OomKills:
    """Whether the kernel has killed, asked by whoever has lost a process; each kill is told once."""

    def __init__(self, paths: "tuple[str, ...]" = OOM_COUNTERS) -> None:
        self._paths = paths
        self._seen = oom_kills(paths)

    def have_risen(self) -> bool:
        """Whether there were any since the last call."""
        before, self._seen = self._seen, oom_kills(self._paths)
        return self._seen > before


def oom_kills(paths: "tuple[str, ...]" = OOM_COUNTERS) -> int:
    """How often the kernel has killed for want of memory, by the first of these counters that is there."""
    for path in paths:
        for line in read(path).decode("ascii", "replace").splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill" and value.isdigit():
                return int(value)
    return 0


def strays(runtime_api: str) -> "list[int]":
    """Children of ours that began as those of a runtime at this address, and whose own parent has ended."""
    mark = b"AWS_LAMBDA_RUNTIME_API=" + runtime_api.encode()
    children = read(f"/proc/self/task/{os.getpid()}/children").split()
    return [int(pid) for pid in children if mark in read_all(f"/proc/{int(pid)}/environ").split(b"\0")]


def read_all(path: str) -> bytes:
    """A file of the kernel's of any length; empty if it can't be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
