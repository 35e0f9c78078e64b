"""The runtime's process and everything that it starts: spawned, measured, killed and reaped."""

import os
import signal

from .commands import SpawnRuntime
from .events import RuntimeExited, SpawnFailed
from .settings import BOOTSTRAPS, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .records import Record

MAX_OPEN_FILES = 1_024  # AWS limit
# Where the kernel tells the memory limit of this container, by cgroup version.
MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
NO_LIMIT_KB = 1 << 42  # what stands there without a limit is larger, or "max"
# Where the kernel counts OOM kills of this container, by cgroup version; the word before the number.
OOM_COUNTERS = (
    ("/sys/fs/cgroup/memory.events", "oom_kill"),
    ("/sys/fs/cgroup/memory/memory.oom_control", "oom_kill"),
)


class Supervisor:
    """At most one runtime process at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.pid = 0
        self._peak_kb = 0  # of processes that have ended
        self._oom_kills = _oom_kills()
        self._limit_kb = _limit_kb()
        self._is_init = os.getpid() == 1

    def spawn(self, command: SpawnRuntime) -> "tuple[int, int] | SpawnFailed":
        """Start the runtime; the read ends of its standard output and error, or why it did not start."""
        settings = self._settings
        argv = list(settings.command) or _find_bootstrap()
        if not argv:
            return SpawnFailed(
                "Runtime.InvalidEntrypoint", f"Couldn't find valid bootstrap(s): [{' '.join(BOOTSTRAPS)}]"
            )
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        fault_read, fault_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _become_runtime(argv, settings, out_write, err_write, fault_write)
        for fd in (out_write, err_write, fault_write):
            os.close(fd)
        fault = os.read(fault_read, 512).decode("utf-8", "replace")  # end of file once exec has closed it
        os.close(fault_read)
        if fault:
            os.close(out_read)
            os.close(err_read)
            os.waitpid(self.pid, 0)
            self.pid = 0
            error_type, _, message = fault.partition(" ")
            return SpawnFailed(error_type, message)
        os.set_blocking(out_read, False)
        os.set_blocking(err_read, False)
        return out_read, err_read

    def terminate(self) -> None:
        """SIGTERM to the runtime's process group."""
        self._signal_group(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the runtime and, where we are PID 1, to everything else in the container."""
        self._signal_group(signal.SIGKILL)
        if self._is_init:
            # Processes that left the group by setsid() or a fork bomb: one call reaches all of them at once.
            try:
                os.kill(-1, signal.SIGKILL)
            except OSError:
                pass

    def _signal_group(self, number: int) -> None:
        if self.pid:
            try:
                os.killpg(self.pid, number)
            except OSError:
                pass

    def reap(self) -> "Record | None":
        """Collect what has ended; RuntimeExited if the runtime is among it and nothing it started is left."""
        exited: RuntimeExited | None = None
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self._peak_kb = max(self._peak_kb, usage.ru_maxrss)
            if pid == self.pid:
                exited = self._exited(status)
        return exited

    def _exited(self, status: int) -> RuntimeExited:
        self.kill()  # its children must not outlive it
        self.pid = 0
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            was_oom = False
            if number == signal.SIGKILL:
                kills = _oom_kills()
                was_oom, self._oom_kills = kills > self._oom_kills, kills
                if was_oom and self._limit_kb < NO_LIMIT_KB:
                    self._peak_kb = self._limit_kb  # all processes together; one alone may have held less
            return RuntimeExited(None, number, was_oom)
        return RuntimeExited(os.WEXITSTATUS(status))

    def peak_mb(self) -> int:
        """The most memory the function's processes have held, in MB, since the environment began (peak RSS)."""
        living_kb = sum(_peak_kb(pid) for pid in self._processes())
        self._peak_kb = max(self._peak_kb, living_kb)
        # Resident pages of files that others share count here but not against the limit, which is never passed.
        return -(-min(self._peak_kb, self._limit_kb) // 1024)

    def _processes(self) -> "list[int]":
        if self._is_init:
            return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]
        return _descendants(self.pid) if self.pid else []


def _find_bootstrap() -> "list[str]":
    return next(([path] for path in BOOTSTRAPS if os.path.isfile(path)), [])


def _become_runtime(argv: "list[str]", settings: Settings, out: int, err: int, fault: int) -> None:
    """In the child: never returns. What fails is told to the parent as "<error type> <message>"."""
    error_type, where = "Runtime.InvalidEntrypoint", argv[0]
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open("/dev/null", os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        _limit_files()
        _write("/proc/self/oom_score_adj", "1000")  # the kernel must pick the function, never the bootstrap
        if settings.user is not None:
            uid, gid = settings.user
            try:
                os.setgroups([])
                os.setgid(gid)
                os.setuid(uid)
            except PermissionError:
                pass  # a container without CAP_SETUID: it runs as the container's user
        error_type, where = "Runtime.InvalidWorkingDir", settings.working_directory
        os.chdir(settings.working_directory)
        error_type, where = "Runtime.InvalidEntrypoint", argv[0]
        environment = {**settings.variables, "PWD": settings.working_directory}
        os.execvpe(argv[0], argv, environment)
    except OSError as error:
        action = "chdir" if error_type == "Runtime.InvalidWorkingDir" else "fork/exec"
        text = f"{error_type} {action} {where}: {(error.strerror or str(error)).lower()}"
        os.write(fault, text.encode("utf-8", "replace")[:512])
    except BaseException as error:
        os.write(fault, f"Sandbox.Failure {error!r}".encode()[:512])
    finally:
        os._exit(127)


def _limit_files() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > MAX_OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))


def _write(path: str, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(fd, text.encode())
    except OSError:
        pass
    finally:
        os.close(fd)


def _read(path: str) -> bytes:
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


def _peak_kb(pid: int) -> int:
    text = _read(f"/proc/{pid}/status")
    at = text.find(b"VmHWM:")
    return int(text[at + 6 : text.index(b"kB", at)]) if at >= 0 else 0


def _descendants(pid: int) -> "list[int]":
    found = [pid]
    for parent in found:
        found += [int(child) for child in _read(f"/proc/{parent}/task/{parent}/children").split()]
    return found


def _limit_kb() -> int:
    for path in MEMORY_LIMITS:
        text = _read(path).strip()
        if text.isdigit():
            return min(int(text) // 1024, NO_LIMIT_KB)
    return NO_LIMIT_KB


def _oom_kills() -> int:
    for path, word in OOM_COUNTERS:
        for line in _read(path).decode("ascii", "replace").splitlines():
            name, _, value = line.partition(" ")
            if name == word and value.isdigit():
                return int(value)
    return 0
