"""The seccomp filter as a BPF program: which system calls a sandbox may make (pure).

What is not on the list answers EPERM; calls newer than the list ENOSYS, so that C libraries fall back to older ones.
Another architecture's calls (32-bit, x32) end the process: their numbers would mean something else.
"""

import errno
import struct

from . import syscalls

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_BIT = 0x40000000
NEWEST = 466  # the highest number that the list knows; what is above did not exist when it was made
RULED = {
    "x86_64": {"clone": 56, "clone3": 435, "personality": 135, "socket": 41, "madvise": 28},
    "aarch64": {"clone": 220, "clone3": 435, "personality": 92, "socket": 198, "madvise": 233},
}
# CLONE_NEW* of mount, cgroup, UTS, IPC, user, PID and network namespaces: none may be made.
NAMESPACES = 0x7E020000
PERSONALITIES = (0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # Docker's: Linux, its 32-bit and UNAME26 forms, and "tell me"
FAMILIES = (1, 2, 10, 16)  # UNIX, INET, INET6, NETLINK; the others are drivers' and file systems' business

DONT_NEED = (4, 24)  # MADV_DONTNEED and its like for locked pages

LOAD, JUMP_EQUAL, JUMP_GREATER, JUMP_SET, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS, THIRD = 0, 4, 16, 32  # offsets in struct seccomp_data
ALLOW, KILL, FAIL = 0x7FFF0000, 0x80000000, 0x00050000


def program(machine: str, *, keeps_pages: bool = False) -> bytes:
    """The filter for "x86_64" or "aarch64". Raises KeyError for another machine.

    `keeps_pages`: nobody may give back pages and expect zeros in their place (rie.engine.oci.sharing).
    """
    ruled = RULED[machine]
    numbers = sorted(syscalls.numbers(machine).values())
    code = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
    ]
    if machine == "x86_64":
        code += [(JUMP_GREATER, 0, 1, X32_BIT - 1), (RETURN, 0, 0, KILL)]
    code += [(JUMP_GREATER, 0, 1, NEWEST), (RETURN, 0, 0, FAIL | errno.ENOSYS)]
    code += _when(ruled["clone3"], [(RETURN, 0, 0, FAIL | errno.ENOSYS)])  # its flags lie in memory: not to be checked
    code += _when(ruled["clone"], [(LOAD, 0, 0, ARGUMENTS), (JUMP_SET, 0, 1, NAMESPACES), *_refuse(errno.EPERM)])
    code += _when(ruled["personality"], _one_of(PERSONALITIES, errno.EPERM))
    code += _when(ruled["socket"], _one_of(FAMILIES, errno.EAFNOSUPPORT))
    if keeps_pages:
        checks = [(JUMP_EQUAL, len(DONT_NEED) - place - 1, 0, value) for place, value in enumerate(DONT_NEED[:-1])]
        checks.append((JUMP_EQUAL, 0, 1, DONT_NEED[-1]))
        code += _when(ruled["madvise"], [(LOAD, 0, 0, THIRD), *checks, *_refuse(errno.EINVAL)])
    code += _search(_ranges(numbers))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _refuse(number: int) -> "list[tuple[int, int, int, int]]":
    return [(RETURN, 0, 0, FAIL | number), (RETURN, 0, 0, ALLOW)]


def _when(number: int, then: "list[tuple[int, int, int, int]]") -> "list[tuple[int, int, int, int]]":
    """Run `then`, which ends in a return, for one system call."""
    return [(JUMP_EQUAL, 0, len(then), number), *then]


def _one_of(values: "tuple[int, ...]", otherwise: int) -> "list[tuple[int, int, int, int]]":
    """Allow the call if its first argument is one of a few."""
    checks = [(JUMP_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [(LOAD, 0, 0, ARGUMENTS), *checks, *_refuse(otherwise)]


def _ranges(numbers: "list[int]") -> "list[tuple[int, int]]":
    """Neighbours joined: [(first, last), …]."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _search(ranges: "list[tuple[int, int]]") -> "list[tuple[int, int, int, int]]":
    """Allow what lies in one of the ranges, refuse the rest: a binary search, so that no call waits for the others."""
    if len(ranges) == 1:
        first, last = ranges[0]
        return [
            (JUMP_GREATER, 2, 0, last),
            (JUMP_GREATER, 0, 1, first - 1) if first else (JUMP_EQUAL, 0, 0, 0),
            (RETURN, 0, 0, ALLOW),
            (RETURN, 0, 0, FAIL | errno.EPERM),
        ]
    middle = len(ranges) // 2
    lower, upper = _search(ranges[:middle]), _search(ranges[middle:])
    below = ranges[middle][0] - 1
    if len(lower) > 255:  # a conditional jump reaches no farther
        return [(JUMP_GREATER, 1, 0, below), (0x05, 0, 0, 1), (0x05, 0, 0, len(lower)), *lower, *upper]
    return [(JUMP_GREATER, len(lower), 0, below), *lower, *upper]
