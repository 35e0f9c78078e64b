"""The process that unpacks layers: told over a socket which blob goes into which directory, and confined to that.

It opens nothing by name. Each job comes with its blob, its directories and its lock as descriptors; it forks for each,
and the fork makes the layer's directory its root before it reads a byte of what a stranger has written.
    parent → {"offset", "size", "max_bytes", "max_entries"} with four descriptors
    child  → {"read": n} now and then, and at last one of
             {"diff_id", "bytes", "entries", "is_opaque"}, {"invalid": why}, {"full": why}, {"failed": why}
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import sys
import time
from typing import Any

from rie.rootfs.chunks import Chunks, Slice, load
from rie.rootfs.extract import Extraction
from rie.rootfs.tar import TarError

MESSAGE = 1 << 16  # bytes that a message may have
DESCRIPTORS = 4  # blob, directory, trash, lock
MAX_WHY = 1_000  # characters of a reason: names in it can be long
PROGRESS_S = 0.1
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
CLONE_NEWUSER = 0x10000000


def main() -> None:
    """Serve jobs from the socket at standard input until its other end is closed."""
    parent = int(sys.argv[1])
    door = socket.socket(fileno=os.dup(0))
    libc = ctypes.CDLL(None, use_errno=True)
    _die_with(libc, parent)
    os.umask(0)
    while True:
        message, descriptors, _, _ = socket.recv_fds(door, MESSAGE, DESCRIPTORS)
        if not message:
            return
        me = os.getpid()
        child = os.fork()
        if child == 0:
            _die_with(libc, me)
            _work(libc, door, json.loads(message), descriptors)
        _, status = os.waitpid(child, 0)
        for descriptor in descriptors:
            os.close(descriptor)
        if status:
            _tell(door, failed=f"its process ended with status {os.waitstatus_to_exitcode(status)}")


def _work(libc: ctypes.CDLL, door: socket.socket, job: dict[str, Any], descriptors: list[int]) -> None:
    """Do one job and end."""
    try:
        blob, directory, trash, _ = descriptors
        part = Slice(blob, job["offset"], job["size"])
        load(part)
        is_root = _confine(libc, directory)
        chunks = Chunks(part, job["max_bytes"], _progress(door))
        done = Extraction(chunks, trash, job["max_entries"], is_root).run()
        _tell(door, diff_id=chunks.digest(), bytes=done.data_bytes, entries=done.entries, is_opaque=done.is_opaque)
    except TarError as error:
        _tell(door, invalid=str(error)[:MAX_WHY])
    except OSError as error:
        _tell(door, **{"full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "failed": str(error)[:MAX_WHY]})
    except BaseException as error:
        _tell(door, failed=f"{type(error).__name__}: {error}"[:MAX_WHY])
    os._exit(0)


def _confine(libc: ctypes.CDLL, directory: int) -> bool:
    """Make the directory the root of this process; whether it may set owners and trusted attributes there."""
    is_root = os.geteuid() == 0
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if not is_root:
        _become_root_of_nothing(libc)
    os.fchdir(directory)
    os.chroot(".")
    os.chdir("/")
    return is_root


def _become_root_of_nothing(libc: ctypes.CDLL) -> None:
    """Without root, a user namespace gives the right to change one's own root directory."""
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWUSER) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"no user namespace: {os.strerror(number)}")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _die_with(libc: ctypes.CDLL, parent: int) -> None:
    """End when the parent does: a layer that nobody waits for must not be worked on when somebody else begins."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _progress(door: socket.socket) -> Any:
    told_at = time.monotonic()

    def on_read(position: int) -> None:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at >= PROGRESS_S:
            told_at = now
            _tell(door, read=position)

    return on_read


def _tell(door: socket.socket, **message: object) -> None:
    door.send(json.dumps(message).encode())


if __name__ == "__main__":
    main()
