"""Sandboxes whose bootstrap is no first process: so that it can be written to disk with its children, and made again.

A snapshot is criu's: of the bootstrap and all below it, in the namespaces that they live in. Process numbers must be
the same afterwards, so the sandbox's first process is a keeper that is no part of it: it ends with the bootstrap, and
has the numbers begin above those that criu itself takes. criu runs in the sandbox's namespaces: as a child of the
launcher to take a snapshot, as a child of the keeper to make its processes again. It ends before the function goes on,
and nothing of it can be seen from inside but its process.
"""

import os

from bootstrap.quick import signal
from bootstrap.records import Record
from bootstrap.wire import DIR_IN_SANDBOX, ENTRYPOINT, LOG_NAME

from . import connections, criu, kernel, plan, trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

FIRST_NUMBER = 64  # of processes in a snapshot; criu takes less than ten
SIGKILL = 9
FAILED = criu.FAILED
KINDS = {
    "pid": kernel.CLONE_NEWPID,
    "net": kernel.CLONE_NEWNET,
    "ipc": kernel.CLONE_NEWIPC,
    "uts": kernel.CLONE_NEWUTS,
    "cgroup": kernel.CLONE_NEWCGROUP,
    "mnt": kernel.CLONE_NEWNS,  # the last: paths are the sandbox's from then on
}


class Task(Record):
    """A snapshot to be taken, by `command`, of what runs in the namespaces of process `pid` (the host's number).

    criu is to be in control groups `groups` (files). Behind the loopback address `apart` the host answers.
    """

    pid: int
    groups: "list[str]"
    command: criu.Command
    apart: str


def read(message: "dict[str, Any]") -> Task:
    """A task from the manager's message."""
    return Task(message["pid"], message["groups"], criu.Command(**message["command"]), message["apart"])


def keep(sandbox: plan.Sandbox, restore: "criu.Restore | None", started: "tuple[int, bytes]") -> int:
    """Live as a sandbox's first process, in which everything else is closed already; the bootstrap's exit status.

    The bootstrap is started, or is what `restore` makes; `started` is a channel and what to say on it once it is there.
    Raises OSError when it can't be made.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
    if restore is None:
        number = _begin(sandbox)
    else:
        number = sandbox.keeps
        restore.wait()
    channel, word = started
    os.write(channel, word)
    os.close(channel)
    while True:
        signal.sigwait((signal.SIGCHLD,))
        status = _reaped(number)
        if status is not None:
            return os.waitstatus_to_exitcode(status) & 0xFF


def _reaped(number: int) -> "int | None":
    """Take every process that has ended; the status of that one, if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == number:
            found = status
        if pid == 0:
            return found


def _begin(sandbox: plan.Sandbox) -> int:
    """Start the bootstrap, which is to be a snapshot; its number."""
    while True:
        number = os.fork()
        if number == 0:
            if os.getpid() < FIRST_NUMBER:
                os._exit(0)
            _become_bootstrap(sandbox)
        if number >= FIRST_NUMBER:
            return number
        os.waitpid(number, 0)


def _become_bootstrap(sandbox: plan.Sandbox) -> "NoReturn":
    """From the bundle: what our own process has mapped is the host's, and would not be found again."""
    try:
        os.setsid()  # a session that began outside can't be made again
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        log = os.open(f"{DIR_IN_SANDBOX}/{LOG_NAME}", os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 1024)
        os.execve(ENTRYPOINT, [ENTRYPOINT, *sandbox.argv], sandbox.environment)
    finally:
        os._exit(FAILED)


def run(task: Task) -> "NoReturn":
    """In a child of the launcher: run criu, and end as it ends."""
    status = FAILED
    try:
        kernel.die_with_parent(SIGKILL)
        log = os.open(task.command.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 2)
        status = _run_inside(task)
    except OSError as error:
        os.write(2, f"rie: {error}\n".encode())
    finally:
        os._exit(status)


def _run_inside(task: Task) -> int:
    is_traced = trace.is_needed()
    opened = criu.open_up(task.command)
    for path in task.groups:
        _write(path, b"0")
    namespaces = [(os.open(f"/proc/{task.pid}/ns/{name}", os.O_RDONLY), kind) for name, kind in KINDS.items()]
    for descriptor, kind in namespaces:
        if kind == kernel.CLONE_NEWNS:  # the last: with it the host's /proc is gone
            connections.end_those_out(task.apart)
        kernel.setns(descriptor, kind)
        os.close(descriptor)
    criu.leave_features(opened)
    pid = os.fork()  # only a child is in the other PID namespace
    if pid == 0:
        try:
            kernel.die_with_parent(SIGKILL)
            if is_traced:
                trace.begin()
            criu.become(opened)
        finally:
            os._exit(FAILED)
    status = trace.follow(pid) if is_traced else os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status) & 0xFF


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
