"""/tmp of a bounded size: a file system of its own, where the container may mount one; else why there is none."""

import os

MEBIBYTE = 1 << 20
NOSUID_NODEV = 2 | 4  # of mount(2)


def bind_tmp(size_mb: int, place: str = "/tmp") -> str:
    """Bound a directory to `size_mb`; empty if it is, else a line for people that says why not.

    What is on it counts as the function's memory, since it is kept there.
    """
    if _is_bound(size_mb, place):
        return ""
    error = "the bootstrap is not the container's first process" if os.getpid() != 1 else _mount(size_mb, place)
    if not error:
        return ""
    return (
        f"rie: {place} is not bound to {size_mb} MB: {error}; `docker run --tmpfs {place}:exec,size={size_mb}m` does it"
    )


def _is_bound(size_mb: int, place: str) -> bool:
    """Whether somebody has mounted a file system of that size, or of a smaller one, already."""
    try:
        found = os.statvfs(place)
        is_mount = os.stat(place).st_dev != os.stat("/").st_dev
    except OSError:
        return False
    return is_mount and found.f_blocks * found.f_frsize <= size_mb * MEBIBYTE


def _mount(size_mb: int, place: str) -> str:
    """Empty, or the kernel's words."""
    import ctypes

    mount = ctypes.CDLL(None, use_errno=True).mount
    options = f"size={size_mb}m,mode=1777".encode()
    if mount(b"tmpfs", place.encode(), b"tmpfs", ctypes.c_ulong(NOSUID_NODEV), options) == 0:
        return ""
    return os.strerror(ctypes.get_errno()).lower()
