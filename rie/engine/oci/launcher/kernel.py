"""System calls that the standard library has no function for; each raises OSError with what it was about."""

import ctypes
import os

# Numbers: linux/sched.h, linux/mount.h, linux/prctl.h, linux/capability.h, linux/openat2.h.
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_NOATIME = 1, 2, 4, 8, 32, 1024
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE, MS_SLAVE = 4096, 8192, 16384, 1 << 18, 1 << 19
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 15, 24, 38
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
CAPABILITY_VERSION_3 = 0x20080522
RESOLVE_IN_ROOT = 0x10
O_PATH = 0o10000000  # os.O_PATH exists, but not for type checkers on other systems
# The same on every architecture that came after 2011, x86_64 included.
SYS_OPENAT2 = 437
SYS_OPEN_TREE, OPEN_TREE_CLONE = 428, 1
SYS_BY_MACHINE = {"x86_64": {"pivot_root": 155, "capset": 126}, "aarch64": {"pivot_root": 41, "capset": 91}}

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = SYS_BY_MACHINE.get(os.uname().machine, SYS_BY_MACHINE["aarch64"])


class Filter(ctypes.Structure):
    """struct sock_fprog; `keep` holds the program's memory."""

    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_void_p))


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(flags), f"unshare {flags:#x}")


def setns(fd: int, kind: int) -> None:
    """setns(2)."""
    _check(_libc.setns(fd, kind), f"setns {kind:#x}")


def mount(source: str, target: str, filesystem: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2); an empty text is passed as no text."""
    texts = [os.fsencode(text) if text else None for text in (source, target, filesystem, options)]
    result = _libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])
    _check(result, f"mount {source or filesystem} on {target}")


def unmount(target: str) -> None:
    """umount2(2), lazily."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"unmount {target}")


def pivot_root(root: str) -> None:
    """Make `root`, a mount point, the root of this mount namespace, and let the old one go."""
    os.chdir(root)
    # Old and new root at the same place: the old one is on top, and goes when it is unmounted (pivot_root(2), NOTES).
    _check(_libc.syscall(_numbers["pivot_root"], b".", b"."), f"pivot_root to {root}")
    unmount(".")
    os.chdir("/")


def open_in_root(root: int, path: str) -> int:
    """A descriptor (O_PATH) of `path` as a process with that root directory would find it: no link leads out."""
    how = (ctypes.c_uint64 * 3)(O_PATH | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT)
    arguments = (ctypes.c_long(SYS_OPENAT2), root, os.fsencode(path), ctypes.byref(how), ctypes.c_size_t(24))
    return _check(_libc.syscall(*arguments), f"open {path}")


def clone_tree(path: str) -> int:
    """A descriptor of a directory as a mount of its own, which stands nowhere: no way leads up from it (open_tree)."""
    arguments = (ctypes.c_long(SYS_OPEN_TREE), -100, os.fsencode(path), ctypes.c_uint(OPEN_TREE_CLONE | os.O_CLOEXEC))
    return _check(_libc.syscall(*arguments), f"open {path}")


def prctl(option: int, *values: int) -> None:
    """prctl(2)."""
    padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    _check(_libc.prctl(option, *padded), f"prctl {option}")


def die_with_parent(number: int) -> None:
    """Have this process get a signal when the one that started it ends."""
    prctl(PR_SET_PDEATHSIG, number)


def keep_capabilities(kept: "tuple[int, ...]") -> None:
    """Give up every capability but these, for good: this process's and those that any program could bring."""
    last = int(_read("/proc/sys/kernel/cap_last_cap"))
    for number in range(last + 1):
        if number not in kept:
            _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0)  # fails only for what is not there
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    mask = sum(1 << number for number in kept)
    head = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    # Effective, permitted and inheritable; the lower 32 first, then the upper ones.
    sets = (ctypes.c_uint32 * 6)(mask, mask, 0, 0, 0, 0)
    _check(_libc.syscall(_numbers["capset"], ctypes.byref(head), ctypes.byref(sets)), "capset")


def filter_of(program: bytes) -> Filter:
    """A seccomp program ready to be installed."""
    memory = ctypes.create_string_buffer(program, len(program))
    found = Filter(len(program) // 8, ctypes.cast(memory, ctypes.c_void_p))
    found.keep = memory
    return found


def install_filter(program: Filter) -> None:
    """Have the kernel ask this program before every system call from now on; needs no_new_privs."""
    arguments = (ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(program), ctypes.c_ulong(0), ctypes.c_ulong(0))
    _check(_libc.prctl(PR_SET_SECCOMP, *arguments), "install the seccomp filter")


def set_title(title: bytes) -> None:
    """Have `ps` show this text instead of the command line with its paths of the host."""
    try:
        fields = _read("/proc/self/stat").rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, the 48th and 49th field
    except (OSError, ValueError, IndexError):
        return
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, title[: end - start - 1], min(len(title), end - start - 1))


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).decode()
    finally:
        os.close(fd)
