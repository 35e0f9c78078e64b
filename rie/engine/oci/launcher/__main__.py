"""The launcher: a small process that forks sandboxes for the manager, and ends with it.

The manager is large and has threads, and forking it would cost ten times as much. What a function is told never passes
through here: it goes from the manager to the sandbox itself, so one sandbox's fork has nothing of another's.

Arguments: the control socket's descriptor, the directory for the stage, "1" if the bootstrap can be run in our own
interpreter; without root, "1" if no control group limits memory, and the numbers of userns.Users. Messages are JSON: an
order from the manager; "made" with a pidfd and a channel, or "failed", and "ended" to it.
"""

import _socket
import array
import gc
import importlib
import json
import os
import select
import sys

from bootstrap.quick import signal
from bootstrap.records import make_constructors
from bootstrap.wire import ENTRYPOINT

from . import blank, checkpoint, kernel, plan, seccomp, userns
from .operations import Bind, Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_MESSAGE = 65_536
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
# What libraries read there to count processors; all else of /sys is the host's business.
PROCESSORS = "sys/devices/system/cpu"
# Mounts of others that we must not keep from being given back: containers', and file systems on loop devices.
NOT_OURS = ("overlay", "nsfs", "fuse.snapfuse", "squashfs")


class Launcher:
    """Owns the control socket and the children."""

    def __init__(self, control: "_socket.socket", kit: blank.Kit) -> None:
        self._control = control
        self._kit = kit
        self._namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def run(self) -> None:
        """Until the manager hangs up; then every sandbox dies with us."""
        woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        self._send({"kind": "begun"})
        while True:
            for fd, _ in poll.poll():
                if fd == woken:
                    os.read(woken, 4096)
                elif not self._obey():
                    return
            self._reap()

    def _obey(self) -> bool:
        message = self._control.recv(MAX_MESSAGE)
        if not message:
            return False
        order = json.loads(message)
        if "task" in order:
            self._run(order["number"], checkpoint.read(order["task"]))
            return True
        port = blank.Port(**order["port"]) if order["port"] else None
        listen = [(address, number) for address, number in order["listen"]]
        try:
            self._make(
                blank.Order(order["groups"], port, order["device"], order["device_options"], listen, order["number"])
            )
        except OSError as error:
            self._send({"kind": "failed", "number": order["number"], "why": str(error)})
        return True

    def _make(self, order: blank.Order) -> None:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        kernel.unshare(kernel.CLONE_NEWPID)  # of the next child, which is its first process
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid != 0:  # the child has no way back
                kernel.setns(self._namespace, kernel.CLONE_NEWPID)
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            ours.close()
            blank.live(theirs.detach(), order, self._kit)
        pidfd = os.pidfd_open(pid)
        self._send({"kind": "made", "number": order.number, "pid": pid}, (pidfd, ours.fileno()))
        os.close(pidfd)
        ours.close()
        theirs.close()

    def _run(self, number: int, task: checkpoint.Task) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._send({"kind": "failed", "number": number, "why": str(error)})
            return
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            checkpoint.run(task)
        self._send({"kind": "runs", "number": number, "pid": pid})

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._send({"kind": "ended", "pid": pid, "status": status})

    def _send(self, message: "dict[str, Any]", fds: "tuple[int, ...]" = ()) -> None:
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []
        try:
            self._control.sendmsg([json.dumps(message).encode()], ancillary)
        except (BrokenPipeError, ConnectionResetError):
            os._exit(0)  # the manager is gone, and all that we made goes with us


def build_stage(directory: str, is_rootless: bool) -> plan.Stage:
    """Mount a tmpfs that only we and our children see, with what all sandboxes share."""
    if is_rootless:
        # We have a mount namespace already, out of which we may take nothing; what the host unmounts goes by itself.
        kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_SLAVE)
    else:
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
        _let_go_of_others()
    os.makedirs(directory, 0o700, exist_ok=True)
    Memory(directory, "mode=0700,size=1m", kernel.MS_NOSUID).execute()
    stage = plan.Stage(*(f"{directory}/{name}" for name in ("root", "processes", "devices", "skeleton", "top", "disk")))
    os.umask(0)
    for path in (stage.root, stage.processes, stage.devices, stage.skeleton, stage.top, stage.disk):
        os.mkdir(path, 0o755)
    for name, (major, minor) in DEVICES.items():
        if is_rootless:  # no device can be made, but the host's can be seen
            os.close(os.open(f"{stage.devices}/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
            Bind(f"/dev/{name}", f"{stage.devices}/{name}", kernel.MS_NOSUID | kernel.MS_NOEXEC).execute()
        else:
            os.mknod(f"{stage.devices}/{name}", 0o666 | 0o020000, os.makedev(major, minor))
    for name, target in LINKS.items():
        os.symlink(target, f"{stage.devices}/{name}")
    for place in plan.PLACES:
        os.makedirs(f"{stage.skeleton}/{place}", 0o755)
    _describe_processors(stage.skeleton)
    os.umask(0o077)
    return stage


def _describe_processors(skeleton: str) -> None:
    os.makedirs(f"{skeleton}/{PROCESSORS}", 0o755)
    for name in ("online", "possible", "present"):
        try:
            with open(f"/{PROCESSORS}/{name}") as source, open(f"{skeleton}/{PROCESSORS}/{name}", "w") as target:
                target.write(source.read())
        except OSError:
            continue


def _let_go_of_others() -> None:
    """Our copy of the host's mounts would keep those in being that the host gives up later."""
    with open("/proc/self/mountinfo") as file:
        lines = [line.split(" - ") for line in file]
    for head, tail in reversed(lines):
        kind, source, *_ = tail.split(" ")
        point = head.split(" ")[4].encode().decode("unicode_escape")
        if point != "/" and (kind in NOT_OURS or source.startswith("/dev/loop")):
            try:
                kernel.unmount(point)
            except OSError:
                continue


def main() -> None:
    """Run until the control socket closes."""
    control, directory, has_bootstrap = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the manager, which has work to end
    users = userns.Users(*(int(number) for number in sys.argv[5:])) if sys.argv[5:] else None
    kernel.set_title(ENTRYPOINT.encode())
    if users is not None:
        if not (has_bootstrap or users.have_more):
            raise SystemExit("rie: the bundle's interpreter is not this host's, and the function can't be another user")
        userns.enter(users)
    stage = build_stage(directory, users is not None)
    if has_bootstrap:
        # By name: this package may not depend on the bootstrap's parts, only this process runs them.
        for name in ("bootstrap.__main__", "bootstrap.hints", "resource", "traceback"):
            importlib.import_module(name)
    make_constructors()
    gc.collect()
    gc.freeze()  # so that collections in the forks don't touch, and copy, what they share
    is_shared = users is not None and not users.have_more
    program = seccomp.program(os.uname().machine, guards_first=is_shared, shows_memory=sys.argv[4:5] == ["1"])
    kit = blank.Kit(stage, kernel.filter_of(program), has_bootstrap, users)
    Launcher(_socket.socket(fileno=control), kit).run()


if __name__ == "__main__":
    main()
