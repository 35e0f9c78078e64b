"""Tries, in a process of its own, whether this kernel lets this user do what sandboxes need; prints "ok" or what fails.

Arguments: an empty directory, and the numbers of userns.Users.
"""

import os
import stat
import sys

from . import kernel
from .operations import ROOTLESS_OVERLAY, Memory, Overlay, Processes
from .userns import Users, enter, make


def try_all(place: str, users: Users) -> None:
    """Everything that can be refused, once. Raises OSError."""
    enter(users)
    kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_SLAVE)
    Memory(place, "size=1m,mode=0755").execute()
    for name in ("low", "high", "root", "processes"):
        os.mkdir(f"{place}/{name}")
    os.mknod(f"{place}/high/gone", stat.S_IFCHR)  # a whiteout: device 0:0
    os.close(os.open(f"{place}/nothing", os.O_CREAT | os.O_WRONLY, 0o644))
    Overlay((f"{place}/high", f"{place}/low"), f"{place}/root", "probe", ROOTLESS_OVERLAY).execute()
    kernel.unshare(kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS)
    Processes(f"{place}/processes", f"{place}/nothing").execute()
    os.close(make(users, 1, f"{place}/processes"))


def main() -> None:
    """Whoever gets that far prints one line."""
    try:
        try_all(sys.argv[1], Users(*(int(number) for number in sys.argv[2:])))
        print("ok", flush=True)
    except OSError as error:
        print(error, flush=True)
