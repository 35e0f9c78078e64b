"""Without root: a user namespace for the launcher, in which it may do what root may, and one more for each sandbox.

The launcher's maps its root to the user who started us, and ids from 1 on to ids that /etc/subuid and /etc/subgid give
to that user, if they do. A sandbox's is made ahead and entered last: it has nothing but the ids that are seen inside,
and it is where the kernel counts the sandbox's processes. All that is mounted belongs to the launcher's, in which a
function can gain nothing, whatever it does in its own.
"""

import os

from bootstrap.quick import signal
from bootstrap.records import Record

from . import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

NEWUIDMAP, NEWGIDMAP = "/usr/bin/newuidmap", "/usr/bin/newgidmap"  # Debian's package uidmap
FUNCTION = {"uid": 993, "gid": 990}  # inside, as on the service
NAMESPACES = kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID


class Users(Record):
    """Who we are on the host, and the first of `count` ids each that are ours too; 0 if there are none."""

    uid: int
    gid: int
    first_uid: int = 0
    first_gid: int = 0
    count: int = 0

    @property
    def have_more(self) -> bool:
        """Whether the function can be another user than the bootstrap."""
        return self.count > 0


def enter(users: Users) -> None:
    """Become root of the launcher's namespace, as the first process of a PID namespace; returns there only.

    The process that called stays outside and ends with us, and we with it. Raises OSError.
    """
    if users.have_more:
        _enter_with_more(users)
    else:
        kernel.unshare(NAMESPACES)
        _write("/proc/self/setgroups", "deny")  # or the kernel lets nobody map a group without privilege
        _write("/proc/self/uid_map", f"0 {users.uid} 1")
        _write("/proc/self/gid_map", f"0 {users.gid} 1")
    child = os.fork()
    if child:
        os.closerange(3, 1024)  # the manager must see its socket close when the one who uses it ends
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
    kernel.die_with_parent(signal.SIGKILL)


def make(users: Users, number: int, processes: str) -> int:
    """A sandbox's namespace: a descriptor to enter it by. `processes` is a /proc of this process's PID namespace.

    The function has the user's own id there, or one of the further ones, in turn by `number`. Raises OSError.
    """
    ready, told = os.pipe()
    waits, lets = os.pipe()
    child = os.fork()
    if child == 0:
        _hold_namespace(told, waits, lets)
    os.close(told)
    try:
        if not os.read(ready, 1):
            raise OSError("cannot make a user namespace for a sandbox")
        for kind, inside in FUNCTION.items():
            text = f"0 0 1\n{inside} {1 + number % users.count} 1" if users.have_more else f"{inside} 0 1"
            _write(f"{processes}/{child}/{kind}_map", text)
        return os.open(f"{processes}/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for descriptor in (ready, waits, lets):
            os.close(descriptor)
        os.waitpid(child, 0)


def _hold_namespace(told: int, waits: int, lets: int) -> "NoReturn":
    """In a child: be in a new user namespace until somebody else holds it."""
    try:
        os.close(lets)
        kernel.unshare(kernel.CLONE_NEWUSER)
        os.write(told, b"1")
        os.read(waits, 1)
    finally:
        os._exit(0)


def _enter_with_more(users: Users) -> None:
    """Two programs that belong to root map the further ids, for a process that is in the namespace already."""
    waits, lets = os.pipe()
    parent = os.getpid()
    helper = os.fork()
    if helper == 0:
        _map_from_outside(users, parent, waits, lets)
    os.close(waits)
    try:
        kernel.unshare(NAMESPACES)
        os.write(lets, b"1")
    finally:
        os.close(lets)
        status = os.waitpid(helper, 0)[1]
    if status != 0:
        raise OSError(f"cannot map further ids: {NEWUIDMAP} or {NEWGIDMAP} refuses")


def _map_from_outside(users: Users, pid: int, waits: int, lets: int) -> "NoReturn":
    status = 1
    try:
        os.close(lets)
        if os.read(waits, 1):
            uids = (NEWUIDMAP, str(pid), "0", str(users.uid), "1", "1", str(users.first_uid), str(users.count))
            gids = (NEWGIDMAP, str(pid), "0", str(users.gid), "1", "1", str(users.first_gid), str(users.count))
            status = max(os.spawnv(os.P_WAIT, argv[0], argv) for argv in (uids, gids))
    finally:
        os._exit(1 if status else 0)


def _write(path: str, text: str) -> None:
    """The kernel takes a map in one piece, and once."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
