"""Root filesystems: overlay mounts over shared layers, read-only or with a directory for what is written."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rie.errors import SandboxFailed

MS_RDONLY, MS_NOSUID, MS_NODEV = 1, 2, 4
MNT_DETACH = 2
MAX_OPTIONS = 4_095  # mount(2) takes one page
MEANINGFUL = frozenset(",:\\")  # to overlayfs


@dataclass(frozen=True, slots=True)
class Upper:
    """Where what is written goes: two directories on one file system, `work` empty."""

    upper: Path
    work: Path


def mount(
    layers: Sequence[Path], target: Path, *, upper: Upper | None = None, label: str = "overlay", userxattr: bool = False
) -> None:
    """Stack layers (lowest first, two at least; see Images.layers) at `target`; read-only without an upper.

    `label` is what the list of mounts calls it; with the image's digest there, `Images.collect` sees that it is in
    use. `userxattr` is for user namespaces, where layers were unpacked without root. Set-user bits and device nodes
    have no effect below it. In the mount namespace of the calling thread. Raises SandboxFailed.
    """
    directories = [*reversed(layers)]
    extra = [upper.upper, upper.work] if upper else []
    options = _options([str(path) for path in directories], [str(path) for path in extra], userxattr)
    opened: list[int] = []
    try:
        if len(options) > MAX_OPTIONS or any(MEANINGFUL & set(str(path)) for path in (*directories, *extra)):
            # By descriptor names are short and plain: 127 layers fit.
            opened = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in (*directories, *extra)]
            names = [f"/proc/self/fd/{descriptor}" for descriptor in opened]
            options = _options(names[: len(directories)], names[len(directories) :], userxattr)
        flags = MS_NOSUID | MS_NODEV | (0 if upper else MS_RDONLY)
        _call("mount", label.encode(), os.fsencode(target), b"overlay", flags, options.encode())
    except OSError as error:
        raise SandboxFailed(f"cannot mount {len(layers)} layers at {target}: {error.strerror}") from error
    finally:
        for descriptor in opened:
            os.close(descriptor)


def unmount(target: Path) -> None:
    """Have nothing mounted at `target`; what still uses it keeps it until it ends. Raises SandboxFailed."""
    try:
        _call("umount2", os.fsencode(target), MNT_DETACH)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise SandboxFailed(f"cannot unmount {target}: {error.strerror}") from error


def _options(lower: Sequence[str], extra: Sequence[str], userxattr: bool) -> str:
    parts = [f"lowerdir={':'.join(lower)}"]
    if extra:
        parts += [f"upperdir={extra[0]}", f"workdir={extra[1]}"]
    return ",".join(parts + (["userxattr"] if userxattr else []))


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
