"""The processes of an environment, the runtime's and its extensions': started, measured, killed and reaped."""

import os
import time

from . import memory, process
from .command_line import BOOTSTRAPS
from .events import ExtensionExited, LaunchFailed, RuntimeExited, SpawnFailed
from .process import NotStarted, Program, Started
from .quick import signal
from .settings import Settings
from .wire import ENV_LOG_FD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resource import struct_rusage

    from .cgroup import Cgroup
    from .records import Record

LAST_BREATH_S = 5.0  # for what was killed to be gone: a fork bomb's death takes CPU, and a frozen one dies once thawed
MAX_MEASURED = 64  # processes; a fork bomb has more, and the kernel's limits are what counts then
RUNTIME = ""  # the runtime's name among the parties; extensions have names


class Supervisor:
    """At most one runtime process at a time, and one for each external extension."""

    def __init__(self, settings: Settings, kills: "memory.OomKills | None" = None, is_alone: bool = True) -> None:
        """`kills` is the container's; `is_alone`: every process in it but ours is this environment's."""
        self._settings = settings
        self._is_alone = is_alone
        self._parties: dict[int, str] = {}
        self._paths = {path.rpartition("/")[2]: path for path in settings.extensions}
        self._peak_kb = 0  # of processes that have ended
        self._limit_kb = memory.limit_kb()
        self._cgroup = self._own_cgroup()
        self._kills = kills or memory.OomKills()
        if self._cgroup is not None:
            self._limit_kb = settings.memory_limit_mb * 1024
            self._kills = memory.OomKills((self._cgroup.oom_counter,))
        self._gauge = memory.Gauge()
        self._was_killed_for_memory = False
        self._owns_all = is_alone and (os.getpid() == 1 or settings.is_template)
        self._are_dying = False

    def close(self) -> None:
        """Nobody will be started any more."""
        if self._cgroup is not None:
            self._cgroup.remove()

    def _own_cgroup(self) -> "Cgroup | None":
        """Where somebody asked for a limit that the container's is not, and we may have the kernel keep it."""
        limit_mb = self._settings.memory_limit_mb
        if os.getpid() != 1 or not limit_mb or (self._is_alone and limit_mb * 1024 >= self._limit_kb):
            return None  # on a host, which is no container, groups would stay behind
        if self._settings.is_managed:
            return None  # the manager has none to give
        from . import cgroup

        return cgroup.make(limit_mb, self._settings.number)

    @property
    def extension_names(self) -> "tuple[str, ...]":
        """The external extensions that there are."""
        return tuple(self._paths)

    def spawn_runtime(self) -> "Started | SpawnFailed":
        """Start the runtime."""
        settings = self._settings
        argv = list(settings.command) or next(([path] for path in BOOTSTRAPS if os.path.isfile(path)), [])
        if not argv:
            message = f"Couldn't find valid bootstrap(s): [{' '.join(BOOTSTRAPS)}]"
            return SpawnFailed(process.INVALID_ENTRYPOINT, message)
        result = self._start(RUNTIME, argv, settings.runtime_variables, settings.working_directory)
        return SpawnFailed(result.error_type, result.message) if isinstance(result, NotStarted) else result

    def launch_extension(self, name: str) -> "Started | LaunchFailed":
        """Start an external extension."""
        result = self._start(name, [self._paths[name]], self._settings.extension_variables, "/")
        return LaunchFailed(name, result.message) if isinstance(result, NotStarted) else result

    def _start(self, name: str, argv: "list[str]", variables: "dict[str, str]", place: str) -> "Started | NotStarted":
        if self._are_dying:
            self._await_the_killed()
        settings = self._settings
        cgroup = self._cgroup.processes_path if self._cgroup is not None else ""
        has_log_fd = name == RUNTIME and ENV_LOG_FD in variables
        result = process.start(Program(argv, variables, place, settings.user, settings.is_managed, cgroup, has_log_fd))
        if isinstance(result, Started):
            self._parties[result.pid] = name
        return result

    def terminate_runtime(self) -> None:
        """SIGTERM to the runtime's process group."""
        self._signal(RUNTIME, signal.SIGTERM)

    def kill(self, name: str = RUNTIME) -> None:
        """SIGKILL to a party and all that can be seen to descend from it; what got away ends with the last party."""
        pid = self._pid_of(name)
        descendants = self._gauge.descendants(pid) if pid else []
        self._signal(name, signal.SIGKILL)
        for descendant in descendants[1:]:
            _kill(descendant)
        if len(self._parties) <= 1:
            self._sweep()

    def _pid_of(self, name: str) -> int:
        return next((pid for pid, party in self._parties.items() if party == name), 0)

    def _signal(self, name: str, number: int) -> None:
        pid = self._pid_of(name)
        if pid:
            try:
                os.killpg(pid, number)
            except OSError:
                pass

    def _sweep(self) -> None:
        """Where we are PID 1, one call reaches at once whatever a fork bomb or setsid() has put out of reach."""
        if self._cgroup is not None:
            for pid in self._cgroup.processes():
                _kill(pid)
        if self._owns_all:
            _kill(-1)
            self._are_dying = True
        elif not self._is_alone:
            for stray in memory.strays(self._settings.variables["AWS_LAMBDA_RUNTIME_API"]):
                for pid in self._gauge.descendants(stray):
                    _kill(pid)

    def _await_the_killed(self) -> None:
        """Nothing of an earlier runtime is there, nor its memory charged, when the next one starts."""
        self._are_dying = False
        deadline = time.monotonic() + LAST_BREATH_S
        while time.monotonic() < deadline:
            try:
                pid, _, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            self._peak_kb = max(self._peak_kb, usage.ru_maxrss)
            if not pid:
                time.sleep(0.001)

    def exited(self, pid: int, status: int, usage: "struct_rusage") -> "Record | None":
        """A process of the container has ended: the event that follows if it was a party of ours."""
        if self._is_alone or pid in self._parties:
            self._peak_kb = max(self._peak_kb, usage.ru_maxrss)
        return self._exited(pid, status) if pid in self._parties else None

    def _exited(self, pid: int, status: int) -> "Record":
        name = self._parties.pop(pid)
        try:
            os.killpg(pid, signal.SIGKILL)  # its children must not outlive it
        except OSError:
            pass
        if not self._parties:
            self._sweep()
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        exit_status = os.WEXITSTATUS(status) if number is None else None
        if name != RUNTIME:
            return ExtensionExited(name, exit_status, number)
        return RuntimeExited(exit_status, number, number == signal.SIGKILL and self._was_oom())

    @property
    def watched_mb(self) -> int:
        """The limit that is ours to keep, because the container has none as small; 0 if the kernel keeps it."""
        if self._cgroup is not None:
            return 0
        limit_mb = self._settings.memory_limit_mb
        return limit_mb if limit_mb * 1024 < self._limit_kb or not self._is_alone else 0

    def kill_if_too_large(self) -> bool:
        """Kill the runtime if it and what it started hold more than `watched_mb`; whether that was so.

        In a manager's sandbox, whose every other process is the function's, all count, however many; and so does what
        is in /tmp, which is held in memory wherever the kernel does not count itself.
        """
        held_kb = memory.files_kb("/tmp") if self._settings.is_managed else 0
        pids = memory.others() if self._settings.is_managed else self._processes()
        allowed_kb = self.watched_mb * 1024 - held_kb
        if self._gauge.resident_kb(pids) <= allowed_kb:
            return False
        # What processes share counts once for each so far; asking for more than that takes the kernel milliseconds.
        if self._settings.is_managed and memory.proportional_kb(pids) <= allowed_kb:
            return False
        self._was_killed_for_memory = True
        self.kill()
        return True

    def _was_oom(self) -> bool:
        if self._was_killed_for_memory:
            self._was_killed_for_memory = False
            return True
        was_oom = self._kills.have_risen()
        if was_oom and self._limit_kb < memory.NO_LIMIT_KB:
            self._peak_kb = self._limit_kb  # all processes together; one alone may have held less
        return was_oom

    def peak_mb(self) -> int:
        """The most memory the function's processes have held, in MB, since the environment began (peak RSS)."""
        self._peak_kb = max(self._peak_kb, self._gauge.peak_kb(self._processes()))
        # Resident pages of files that others share count here but not against the limit, which the kernel lets nobody
        # pass; where we watch it, what was held between two looks is no more than the function had a right to.
        limit_kb = min(self._limit_kb, self.watched_mb * 1024 or self._limit_kb)
        return -(-min(self._peak_kb, limit_kb) // 1024)

    def _processes(self) -> "list[int]":
        """Those of all parties; as PID 1 we are the parent of those whose own has ended, too."""
        if self._cgroup is not None:
            return self._cgroup.processes()[:MAX_MEASURED]
        if self._owns_all:
            return self._gauge.descendants(os.getpid())[1 : MAX_MEASURED + 1]
        return [pid for party in self._parties for pid in self._gauge.descendants(party)][:MAX_MEASURED]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
