"""A sandbox's /tmp: on disk, exactly as large as asked for, and gone with the sandbox."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rie.errors import DiskFull, HostFault, RieError
from rie.limits import loop

BLOCK = 4096
BLOCKS_PER_MB = 1024 * 1024 // BLOCK
OVERHEAD = 1.04  # inode tables (1.6 %) and what ext4 itself sets aside (2 %): measured
EXTRA_MB = 2
# Directories and extent maps come out of the same blocks as data: with this much more than asked for, one file of
# the whole size fits.
MARGIN_MB = 1
FORMAT = "v1"  # part of the template's name: change it with whatever shapes the file system
MKFS_TIMEOUT_S = 60.0
SBIN = "/usr/sbin:/sbin"  # where mkfs is, and not everyone's PATH
TMP_MODE = 0o1777
# Inode tables stay unwritten (else the kernel fills them in, 1.6 % of real disk), deleted blocks go back to the host,
# and nothing waits for the disk: the content never outlives its sandbox.
MOUNT_OPTIONS = "noinit_itable,discard,nobarrier"
MOUNT_FLAGS = loop.MS_NOSUID | loop.MS_NODEV | loop.MS_NOATIME
_template_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Volume:
    """A mounted file system: bind `mount_point` into the sandbox, `remove` it afterwards."""

    image: Path
    mount_point: Path


def unavailable() -> str | None:
    """Why bounded /tmp on disk can't be had here ("not root"), or None when it can: then a tmpfs has to do."""
    if not sys.platform.startswith("linux"):
        return "not Linux"
    if os.geteuid() != 0:
        return "not root"
    if not loop.CONTROL.exists():
        return "no loop devices"
    if _tool("mkfs.ext4") is None or _tool("tune2fs") is None:
        return "no mkfs.ext4 (e2fsprogs)"
    return None


def create(directory: Path, size_mb: int, templates: Path) -> Volume:
    """Make and mount a file system with room for `size_mb`, mode 1777, nosuid, nodev; milliseconds, and some 150 KB.

    `directory` will hold its file ("tmp.ext4") and its mount point ("tmp"); `templates` what is made once per size.
    Leaves nothing behind on failure. Raises HostFault, DiskFull.
    """
    volume = Volume(image(directory, size_mb, templates), directory / "tmp")
    with _named(f"make a /tmp of {size_mb} MB in {directory}"):
        try:
            volume.mount_point.mkdir(mode=0o700)
            _mount(volume)
        except BaseException:
            remove(volume)
            raise
    return volume


def image(directory: Path, size_mb: int, templates: Path, name: str = "tmp", source: Path | None = None) -> Path:
    """Make `directory`/NAME.ext4, the file of such a file system, and mount it nowhere; a copy of `source`, if given.

    Raises HostFault, DiskFull.
    """
    path = directory / f"{name}.ext4"
    with _named(f"make a /tmp of {size_mb} MB in {directory}"):
        try:
            _copy_sparse(source or _template(templates, size_mb), path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return path


def close(volume: Volume) -> None:
    """Unmount it; its file stays. Raises HostFault."""
    with _named(f"unmount {volume.mount_point}"):
        loop.unmount(volume.mount_point)
        volume.mount_point.rmdir()


def remove(volume: Volume) -> None:
    """Unmount and delete; nothing if it is gone already. Raises HostFault."""
    with _named(f"remove {volume.mount_point}"):
        loop.unmount(volume.mount_point)
        with contextlib.suppress(FileNotFoundError):
            volume.mount_point.rmdir()
        volume.image.unlink(missing_ok=True)


def leftovers(directory: Path) -> int:
    """Unmount and detach whatever is mounted or looped from below a directory; how many there were.

    Its files are the caller's to delete. Raises HostFault.
    """
    with _named(f"clean {directory}"):
        points = loop.mounts_under(directory)
        for point in points:
            loop.unmount(point)
        for device in loop.devices_under(directory):
            loop.detach(device)
    return len(points)


def _template(templates: Path, size_mb: int) -> Path:
    path = templates / f"tmp-{size_mb}-{FORMAT}.ext4"
    if path.exists():
        return path
    with _template_lock:
        if not path.exists():
            templates.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = Volume(templates / f".{path.name}.{os.getpid()}", templates / f".mount-{size_mb}.{os.getpid()}")
            try:
                _format(draft, size_mb)
                draft.image.rename(path)
            finally:
                remove(draft)
    return path


def _format(draft: Volume, size_mb: int) -> None:
    """Format a sparse file, then reserve what is more than asked for, so that the bound is exact."""
    with draft.image.open("wb") as file:
        file.truncate((int(size_mb * OVERHEAD) + EXTRA_MB + MARGIN_MB) * BLOCKS_PER_MB * BLOCK)
    features = "^has_journal,^resize_inode"  # no journal: the content never outlives a crash
    _run("mkfs.ext4", "-q", "-F", "-m", "0", "-b", str(BLOCK), "-O", features, "-E", "nodiscard", str(draft.image))
    draft.mount_point.mkdir(mode=0o700, exist_ok=True)
    _mount(draft)
    try:
        draft.mount_point.chmod(TMP_MODE)
        (draft.mount_point / "lost+found").rmdir()
        excess = os.statvfs(draft.mount_point).f_bavail - (size_mb + MARGIN_MB) * BLOCKS_PER_MB
    finally:
        loop.unmount(draft.mount_point)
    if excess < 0:
        raise HostFault(f"cannot make a /tmp of {size_mb} MB: ext4 leaves {-excess} blocks too few")
    _run("tune2fs", "-r", str(excess), str(draft.image))


def _mount(volume: Volume) -> None:
    device, descriptor = loop.attach(volume.image)
    try:
        loop.mount(device, volume.mount_point, "ext4", MOUNT_FLAGS, MOUNT_OPTIONS)
    finally:
        os.close(descriptor)  # the mount holds the device now; without one, autoclear lets go of the file


def _copy_sparse(source: Path, target: Path) -> None:
    """Copy only what was written: some 150 KB of a file of any size."""
    with source.open("rb", buffering=0) as reading, target.open("xb", buffering=0) as writing:
        size = os.fstat(reading.fileno()).st_size
        os.fchmod(writing.fileno(), 0o600)
        writing.truncate(size)
        end = 0
        while end < size:
            try:
                start = os.lseek(reading.fileno(), end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # holes only from here on
                    return
                raise
            end = os.lseek(reading.fileno(), start, os.SEEK_HOLE)
            os.pwrite(writing.fileno(), os.pread(reading.fileno(), end - start, start), start)


def _tool(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")


def _run(name: str, *arguments: str) -> None:
    tool = _tool(name)
    if tool is None:
        raise HostFault(f"cannot make a /tmp: {name} is not installed (e2fsprogs)")
    done = subprocess.run([tool, *arguments], capture_output=True, timeout=MKFS_TIMEOUT_S, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        if "No space left" in said:
            raise DiskFull(f"cannot make a /tmp: {name}: {said}")
        raise HostFault(f"cannot make a /tmp: {name} ended with status {done.returncode}: {said}")


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """Give the operating system's errors a name of ours."""
    try:
        yield
    except RieError:
        raise
    except (OSError, subprocess.SubprocessError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (DiskFull if full else HostFault)(f"cannot {what}: {error}") from error
