"""Starting one program: a process group of its own, output in pipes, the function's user; or why it did not start."""

import os

from .quick import signal
from .records import Record
from .wire import LOG_FD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from resource import struct_rusage
    from typing import NoReturn

MAX_OPEN_FILES = 1_024  # AWS limit
INVALID_ENTRYPOINT, INVALID_WORKING_DIRECTORY = "Runtime.InvalidEntrypoint", "Runtime.InvalidWorkingDir"


class Program(Record):
    """What to start: `user` None leaves the process as we are; `has_log_fd` gives it LOG_FD beside standard output."""

    argv: "list[str]"
    variables: "dict[str, str]"
    working_directory: str
    user: "tuple[int, int] | None"
    must_change_user: bool = False
    cgroup: str = ""  # the file by which it joins one
    has_log_fd: bool = False


class Started(Record):
    """It runs; the read ends of its standard output and error, non-blocking."""

    pid: int
    pipes: "tuple[int, int]"


class NotStarted(Record):
    """It does not, and nothing is left of it."""

    error_type: str
    message: str


def ended() -> "Iterator[tuple[int, int, struct_rusage]]":
    """Collect our children that have ended: pid, wait status, and what they used."""
    while True:
        try:
            # Asked first, since wait4() imports a module even where nobody has ended.
            if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return
            yield os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return


def start(program: Program) -> "Started | NotStarted":
    """Start a program; returns once it has been executed, or could not be."""
    fds: list[int] = []
    try:
        for _ in range(3):
            fds += os.pipe()
        pid = os.fork()
    except OSError as error:  # out of processes or descriptors, as while a fork bomb is still dying
        for fd in fds:
            os.close(fd)
        return NotStarted("Sandbox.Failure", f"fork: {(error.strerror or str(error)).lower()}")
    out_read, out_write, err_read, err_write, fault_read, fault_write = fds
    if pid == 0:
        _become(program, out_write, err_write, fault_write)
    for fd in (out_write, err_write, fault_write):
        os.close(fd)
    fault = os.read(fault_read, 512).decode("utf-8", "replace")  # end of file once exec has closed it
    os.close(fault_read)
    if fault:
        os.close(out_read)
        os.close(err_read)
        os.waitpid(pid, 0)
        error_type, _, message = fault.partition(" ")
        return NotStarted(error_type, message)
    os.set_blocking(out_read, False)
    os.set_blocking(err_read, False)
    return Started(pid, (out_read, err_read))


def _become(program: Program, out: int, err: int, fault: int) -> "NoReturn":
    """In the child. What fails is told to the parent as "<error type> <message>"."""
    error_type, where = INVALID_ENTRYPOINT, program.argv[0]
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open("/dev/null", os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        _join(program.cgroup)
        if program.has_log_fd:
            os.dup2(out, LOG_FD)
        _limit_files()
        _prefer_for_oom()
        if program.user is not None:
            uid, gid = program.user
            try:
                os.setgroups([])
                os.setgid(gid)
                os.setuid(uid)
            except PermissionError:
                if program.must_change_user:
                    raise
                # A container without CAP_SETUID: it runs as the container's user.
        error_type, where = INVALID_WORKING_DIRECTORY, program.working_directory
        os.chdir(program.working_directory)
        error_type, where = INVALID_ENTRYPOINT, program.argv[0]
        os.execvpe(program.argv[0], program.argv, {**program.variables, "PWD": program.working_directory})
    except OSError as error:
        action = "chdir" if error_type == INVALID_WORKING_DIRECTORY else "fork/exec"
        text = f"{error_type} {action} {where}: {(error.strerror or str(error)).lower()}"
        os.write(fault, text.encode("utf-8", "replace")[:512])
    except BaseException as error:
        os.write(fault, f"Sandbox.Failure {error!r}".encode()[:512])
    finally:
        os._exit(127)


def _join(path: str) -> None:
    if path:
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, b"0")
        os.close(fd)


def _limit_files() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > MAX_OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))


def _prefer_for_oom() -> None:
    """The kernel must pick the function when memory is short, never the bootstrap."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(fd, b"1000")
        os.close(fd)
    except OSError:
        pass
