"""Sandboxes whose bootstrap is no first process: so that it can be written to disk with its children, and made again.

A snapshot is criu's: of the bootstrap and all below it, in the namespaces that they live in. Process numbers must be
the same afterwards, so the sandbox's first process is a keeper that is no part of it: it ends with the bootstrap, and
has the numbers begin above those that criu itself takes. criu runs in the sandbox's namespaces as a child of the
launcher; it ends before the function goes on, and nothing of it can be seen from inside but its process.
"""

import os

from bootstrap.quick import signal
from bootstrap.records import Record
from bootstrap.wire import DIR_IN_SANDBOX, ENTRYPOINT, LOG_NAME

from . import connections, kernel, plan, trace
from .netlink import Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

FIRST_NUMBER = 64  # of processes in a snapshot; criu takes less than ten
KERNEL_FEATURES = "/run/criu.kdat"  # where criu keeps what it has found out of the kernel
SIGKILL = 9
LOOPBACK, HOST = 1, 32  # the index of lo in every network namespace; a prefix of one address
FAILED = 127
# There are the image's files where criu runs: no program, no configuration of a library may come from there.
ENVIRONMENT = {"PATH": "/nowhere", "GNUTLS_SYSTEM_PRIORITY_FILE": "/dev/null", "GNUTLS_NO_IMPLICIT_INIT": "1"}
DUMP = "dump"
KINDS = {
    "pid": kernel.CLONE_NEWPID,
    "net": kernel.CLONE_NEWNET,
    "ipc": kernel.CLONE_NEWIPC,
    "uts": kernel.CLONE_NEWUTS,
    "cgroup": kernel.CLONE_NEWCGROUP,
    "mnt": kernel.CLONE_NEWNS,  # the last: paths are the sandbox's from then on
}


class Task(Record):
    """What criu is to do: in the namespaces of process `pid` (the host's number), in control groups `groups` (files).

    `loader`, `libraries` and `program` are criu's, wherever on the host they are; `images` is the snapshot's directory,
    `work` where "criu.log" goes; `features` a file with what criu knows of this kernel, "" for none. Behind the
    loopback address `apart` the host answers; `address` is what the sandbox's was at the time of the snapshot, "" for
    none and where it is so again.
    """

    pid: int
    groups: "list[str]"
    loader: str
    libraries: "list[str]"
    program: str
    arguments: "list[str]"
    images: str
    work: str
    features: str
    apart: str
    address: str


def keep(sandbox: plan.Sandbox, started: "tuple[int, bytes]") -> int:
    """Live as a sandbox's first process, in which everything else is closed already; the bootstrap's exit status.

    `started` is a channel and what to say on it once we are ready.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
    number = sandbox.keeps or _begin(sandbox)
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
        log = os.open(f"{task.work}/criu.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open("/dev/null", os.O_RDONLY)
        for target, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source, target)
        status = _run_inside(task)
    except OSError as error:
        os.write(2, f"rie: {error}\n".encode())
    finally:
        os._exit(status)


def _run_inside(task: Task) -> int:
    features = _read(task.features) if task.features else b""
    is_traced = task.arguments[0] == DUMP and trace.is_needed()
    loader, program, images, *libraries = [
        os.open(path, kernel.O_PATH) for path in (task.loader, task.program, task.images, *task.libraries)
    ]
    for descriptor in (loader, program, images, *libraries):
        os.set_inheritable(descriptor, True)
    link: Link | None = None
    for path in task.groups:
        _write(path, b"0")
    namespaces = [(os.open(f"/proc/{task.pid}/ns/{name}", os.O_RDONLY), kind) for name, kind in KINDS.items()]
    for descriptor, kind in namespaces:
        if kind == kernel.CLONE_NEWNS:  # the last: with it the host's /proc is gone
            if task.arguments[0] == DUMP:
                connections.end_those_out(task.apart)
            elif task.address:
                # What has ended keeps its address of the time before, which has to be there for that long.
                link = Link()
                link.add_address(LOOPBACK, task.address, HOST)
        kernel.setns(descriptor, kind)
        os.close(descriptor)
    if features:
        _write(KERNEL_FEATURES, features, os.O_CREAT | os.O_EXCL)
    search = ":".join(f"/proc/self/fd/{descriptor}" for descriptor in libraries)
    command = ["criu", "--inhibit-cache", "--library-path", search, f"/proc/self/fd/{program}", *task.arguments]
    # Plugins, too, are looked for where there are none, instead of where the image could have some.
    command += ["--images-dir", f"/proc/self/fd/{images}", "--libdir", f"/proc/self/fd/{images}"]
    pid = os.fork()  # only a child is in the other PID namespace
    if pid == 0:
        try:
            kernel.die_with_parent(SIGKILL)
            if is_traced:
                trace.begin()
            os.execve(f"/proc/self/fd/{loader}", command, ENVIRONMENT)
        finally:
            os._exit(FAILED)
    status = trace.follow(pid) if is_traced else os.waitpid(pid, 0)[1]
    if link is not None:
        link.remove_address(LOOPBACK, task.address, HOST)
    return os.waitstatus_to_exitcode(status) & 0xFF


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, data: bytes, flags: int = 0) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o600)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
