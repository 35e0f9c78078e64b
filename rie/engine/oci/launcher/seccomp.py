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
    "x86_64": {"clone": 56, "clone3": 435, "personality": 135, "socket": 41},
    "aarch64": {"clone": 220, "clone3": 435, "personality": 92, "socket": 198},
}
# What could hold up a first process that is the same user: its limits, its share of the processor, signals.
OF_A_PROCESS = {
    "x86_64": (62, 200, 234, 129, 297, 434, 302, 203, 144, 142, 314),
    "aarch64": (129, 130, 131, 138, 240, 434, 261, 122, 119, 118, 274),
}
"""kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_open, prlimit64, sched_setaffinity,
sched_setscheduler, sched_setparam, sched_setattr: each begins with a process's number."""
# setpriority and ioprio_set, each with the kind of number that is one process's: others stand for groups and users.
PRIORITY = {"x86_64": {141: 0, 251: 1}, "aarch64": {140: 0, 30: 1}}
PIDFD_SEND_SIGNAL = 424  # a directory of /proc would do for its first argument
FIRST = 1
OF_NO_PROCESS = ("memfd_create", "shmget")  # what these hold need not be mapped anywhere
# CLONE_NEW* of mount, cgroup, UTS, IPC, user, PID and network namespaces: none may be made.
NAMESPACES = 0x7E020000
PERSONALITIES = (0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # Docker's: Linux, its 32-bit and UNAME26 forms, and "tell me"
FAMILIES = (1, 2, 10, 16)  # UNIX, INET, INET6, NETLINK; the others are drivers' and file systems' business

LOAD, JUMP_EQUAL, JUMP_GREATER, JUMP_SET, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS, SECOND_ARGUMENT = 0, 4, 16, 24  # offsets in struct seccomp_data
ALLOW, KILL, FAIL = 0x7FFF0000, 0x80000000, 0x00050000


def program(machine: str, guards_first: bool = False, shows_memory: bool = False) -> bytes:
    """The filter for "x86_64" or "aarch64". Raises KeyError for another machine.

    `guards_first` keeps off the sandbox's first process, where it is the same user as the others; `shows_memory` allows
    no memory but that which the kernel adds to a process, where nobody else counts it.
    """
    ruled = RULED[machine]
    listed = syscalls.numbers(machine)
    numbers = sorted(listed[name] for name in listed if not (shows_memory and name in OF_NO_PROCESS))
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
    if guards_first:
        code += _guard(machine)
    code += _search(_ranges(numbers))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _guard(machine: str) -> "list[tuple[int, int, int, int]]":
    code = _when(PIDFD_SEND_SIGNAL, [(RETURN, 0, 0, FAIL | errno.EPERM)])
    for number in OF_A_PROCESS[machine]:
        code += _when(number, [(LOAD, 0, 0, ARGUMENTS), (JUMP_EQUAL, 0, 1, FIRST), *_refuse(errno.EPERM)])
    for number, kind in PRIORITY[machine].items():
        code += _when(
            number,
            [
                (LOAD, 0, 0, ARGUMENTS),
                (JUMP_EQUAL, 0, 2, kind),
                (LOAD, 0, 0, SECOND_ARGUMENT),
                (JUMP_EQUAL, 0, 1, FIRST),
                *_refuse(errno.EPERM),
            ],
        )
    return code


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
