"""Tells criu the limits of other users' processes, where root lacks CAP_SYS_RESOURCE and the kernel doesn't.

prlimit(2) refuses to read what everybody can read in /proc; so criu is traced, and where it was refused, it gets the
answer from there. That costs a stop at each of its system calls, a fraction of a second for a snapshot.
"""

import ctypes
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CAP_SYS_RESOURCE = 24
# linux/ptrace.h
PTRACE_TRACEME, PTRACE_POKEDATA, PTRACE_SYSCALL, PTRACE_SETOPTIONS = 0, 5, 24, 0x4200
PTRACE_GETREGSET, PTRACE_SETREGSET, PTRACE_GET_SYSCALL_INFO = 0x4204, 0x4205, 0x420E
OPTIONS = 0x00100000 | 1  # PTRACE_O_EXITKILL, PTRACE_O_TRACESYSGOOD
NT_PRSTATUS = 1
SYSCALL_STOP = 5 | 0x80  # SIGTRAP, as TRACESYSGOOD marks it
SIGTRAP = 5
ENTRY, EXIT = 1, 2
WALL = 0x40000000
PRLIMIT = {"x86_64": 302, "aarch64": 261}
RESULT = {"x86_64": 10, "aarch64": 0}  # the place of a call's result among the registers
REGISTERS = 40  # more than either has
EPERM = 1
UNLIMITED = (1 << 64) - 1
SOFT, HARD = slice(26, 46), slice(47, 67)  # columns of /proc/PID/limits

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long


def is_needed() -> bool:
    """Whether this process is refused what criu asks for."""
    with open("/proc/self/status") as file:
        found = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    return not found >> CAP_SYS_RESOURCE & 1


def begin() -> None:
    """In the child, before its program is executed: have the parent `follow` it."""
    _ptrace(PTRACE_TRACEME, 0, 0, 0)


def follow(pid: int) -> int:
    """Until the traced child has ended; its wait status. Raises OSError."""
    os.waitpid(pid, WALL)  # it stops as its program begins
    _ptrace(PTRACE_SETOPTIONS, pid, 0, OPTIONS)
    machine = os.uname().machine
    number = number_of_limits = PRLIMIT.get(machine, 0)
    arguments: list[int] = []
    deliver = 0
    info = ctypes.create_string_buffer(88)
    while True:
        _ptrace(PTRACE_SYSCALL, pid, 0, deliver)
        _, status = os.waitpid(pid, WALL)
        if not os.WIFSTOPPED(status):
            return status
        stop = os.WSTOPSIG(status)
        deliver = 0 if stop in (SYSCALL_STOP, SIGTRAP) else stop
        if stop != SYSCALL_STOP:
            continue
        _ptrace(PTRACE_GET_SYSCALL_INFO, pid, len(info), ctypes.addressof(info))
        kind = info.raw[0]
        if kind == ENTRY:
            number, *arguments = struct.unpack_from("=7Q", info.raw, 24)
        elif kind == EXIT and number == number_of_limits and struct.unpack_from("=q", info.raw, 24)[0] == -EPERM:
            other, resource, new, old = arguments[:4]
            if new == 0 and old:
                _answer(pid, old, _limits(other, resource), RESULT[machine])


def _limits(pid: int, resource: int) -> "tuple[int, int]":
    """The kernel lists them in the order of their numbers, after a line of titles."""
    with open(f"/proc/{pid}/limits") as file:
        line = file.read().splitlines()[resource + 1]
    soft, hard = (UNLIMITED if text == "unlimited" else int(text) for text in (line[SOFT].strip(), line[HARD].strip()))
    return soft, hard


def _answer(pid: int, place: int, limits: "tuple[int, int]", result: int) -> None:
    for offset, value in enumerate(limits):
        _ptrace(PTRACE_POKEDATA, pid, place + 8 * offset, value)
    registers = (ctypes.c_uint64 * REGISTERS)()
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(registers), ctypes.sizeof(registers))
    _ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, ctypes.addressof(vector))
    registers[result] = 0
    _ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, ctypes.addressof(vector))


def _ptrace(request: int, pid: int, address: int, data: int) -> None:
    arguments: Any = (ctypes.c_long(request), ctypes.c_long(pid), ctypes.c_void_p(address), ctypes.c_void_p(data))
    if _libc.ptrace(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace {request:#x}: {os.strerror(number)}")
