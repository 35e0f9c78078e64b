"""Loop devices and mounts by system call: starting mount(8) from a large process costs ten times as much."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import struct
from pathlib import Path

# Numbers: linux/loop.h, sys/mount.h.
LOOP_CTL_GET_FREE = 0x4C82
LOOP_SET_FD = 0x4C00
LOOP_CLR_FD = 0x4C01
LOOP_SET_STATUS64 = 0x4C04
LOOP_CONFIGURE = 0x4C0A
LO_FLAGS_AUTOCLEAR = 4  # the device lets go of its file when the last user is gone
MS_NOSUID, MS_NODEV, MS_NOATIME = 2, 4, 1024
MNT_DETACH = 2
CONTROL = Path("/dev/loop-control")
ATTEMPTS = 64  # others look for free devices too

_INFO = struct.Struct("=5Q4I64s64s32s2Q")  # struct loop_info64
_CONFIG = struct.Struct(f"=2I{_INFO.size}s64x")  # struct loop_config
_ESCAPE = re.compile(r"\\([0-7]{3})")
_libc = ctypes.CDLL(None, use_errno=True)


def attach(image: Path) -> tuple[Path, int]:
    """Put a file behind a free loop device; answers the device and a descriptor that keeps it until mounted.

    Raises OSError.
    """
    file = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(ATTEMPTS):
            path = Path(f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}")
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                _configure(device, file, image)
                return path, device
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise
        raise OSError(errno.EBUSY, f"no free loop device in {ATTEMPTS} attempts")
    finally:
        os.close(control)
        os.close(file)


def mount(device: Path, point: Path, filesystem: str, flags: int, options: str) -> None:
    """mount(2). Raises OSError."""
    arguments = (os.fsencode(device), os.fsencode(point), filesystem.encode(), ctypes.c_ulong(flags), options.encode())
    if _libc.mount(*arguments) != 0:
        _fail(f"mount {device} on {point}")


def unmount(point: Path) -> None:
    """umount2(2), lazily if something still uses the mount; nothing if there is no mount. Raises OSError."""
    path = os.fsencode(point)
    if _libc.umount2(path, 0) == 0:
        return
    # EINVAL: no mount here; ENOENT: no directory here.
    if ctypes.get_errno() == errno.EBUSY and _libc.umount2(path, MNT_DETACH) == 0:
        return
    if ctypes.get_errno() not in (errno.EINVAL, errno.ENOENT):
        _fail(f"unmount {point}")


def mounts_under(directory: Path) -> list[Path]:
    """Every mount at or below a directory, the deepest first."""
    root = str(directory.resolve())
    points = (
        _ESCAPE.sub(lambda found: chr(int(found[1], 8)), line.split(" ", 5)[4])
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    )
    return [Path(point) for point in sorted(points, reverse=True) if point == root or point.startswith(f"{root}/")]


def devices_under(directory: Path) -> list[Path]:
    """Every loop device whose file is (or was, if deleted) below a directory."""
    root = f"{directory.resolve()}/"
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            text = backing.read_text()
        except OSError:  # let go of since
            continue
        if text.startswith(root):
            found.append(Path("/dev") / backing.parts[3])
    return found


def detach(device: Path) -> None:
    """Have a loop device let go of its file; nothing if it has. Raises OSError."""
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.ioctl(descriptor, LOOP_CLR_FD)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
    finally:
        os.close(descriptor)


def _configure(device: int, file: int, image: Path) -> None:
    name = os.fsencode(image)[-63:]
    info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, LO_FLAGS_AUTOCLEAR, name, b"", b"", 0, 0)
    try:
        fcntl.ioctl(device, LOOP_CONFIGURE, _CONFIG.pack(file, 0, info))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTTY):
            raise
        # Kernels before 5.8 do it in two steps.
        fcntl.ioctl(device, LOOP_SET_FD, file)
        fcntl.ioctl(device, LOOP_SET_STATUS64, info)


def _fail(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{what}: {os.strerror(number)}")
