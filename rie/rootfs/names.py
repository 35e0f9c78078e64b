"""What the names in a layer's archive mean: paths below its root, whiteouts, devices that may be left out (pure)."""

from __future__ import annotations

from rie.rootfs.tar import BLOCK_DEVICE, CHARACTER, Entry, TarError

MARK = b".wh."
OPAQUE = b".wh..wh..opq"
RESERVED = b".wh..wh."  # AUFS kept records of its own under such names; they are no files of the image
MAX_PATH = 4_096  # PATH_MAX
OWN_DEVICES = {
    b"dev/null": (1, 3),
    b"dev/zero": (1, 5),
    b"dev/full": (1, 7),
    b"dev/random": (1, 8),
    b"dev/urandom": (1, 9),
    b"dev/tty": (5, 0),
    b"dev/console": (5, 1),
    b"dev/ptmx": (5, 2),
}
"""What every sandbox has in a /dev of its own; archives made by debootstrap bring them."""

SAFE_XATTRS = ("user.", "security.capability")
OVERLAY_XATTRS = "user.overlay."  # means of overlayfs: with them a layer could reach into others


def path_of(name: bytes, what: str = "an entry") -> bytes:
    """A name as a path below the layer's root, without "." and ".."; b"" is the root itself.

    Absolute names begin at the layer's root. Raises TarError for a name that leads out of it.
    """
    if not name.startswith((b"/", b".")) and b"/." not in name and b"//" not in name:  # most are this plain
        path = name.rstrip(b"/")
    else:
        parts: list[bytes] = []
        for part in name.split(b"/"):
            if part == b"..":
                if not parts:
                    raise TarError(f"{what} is named {shown(name)}, which lies outside the image")
                parts.pop()
            elif part not in (b"", b"."):
                parts.append(part)
        path = b"/".join(parts)
    if len(path) >= MAX_PATH:
        raise TarError(f"{what} has a name of {len(path)} bytes, more than a path can have")
    return path


def hidden_by(path: bytes) -> bytes | None:
    """The path that a whiteout ("a/.wh.b" → "a/b") hides; None for any other name, raises TarError for half a one."""
    parent, slash, base = path.rpartition(b"/")
    if not base.startswith(MARK) or base.startswith(RESERVED):
        return None
    name = base[len(MARK) :]
    if name in (b"", b".", b".."):
        raise TarError(f"the whiteout {shown(path)} hides nothing that could exist")
    return parent + slash + name


def opaque_directory(path: bytes) -> bytes | None:
    """The directory whose lower content an opaque whiteout hides; None for any other name."""
    parent, _, base = path.rpartition(b"/")
    return parent if base == OPAQUE else None


def is_reserved(path: bytes) -> bool:
    """Whether this name is a record of AUFS and no file."""
    return path.rpartition(b"/")[2].startswith(RESERVED)


def is_own_device(entry: Entry, path: bytes) -> bool:
    """Whether a device node is one that a sandbox has anyway, so that it may be left out.

    Raises TarError for any other device node: an image has no use for one, and what it opens is the host's.
    """
    if entry.kind not in (CHARACTER, BLOCK_DEVICE):
        return False
    if entry.kind == CHARACTER and OWN_DEVICES.get(path) == entry.device:
        return True
    major, minor = entry.device
    raise TarError(f"{shown(path)} is a device node ({major}:{minor})")


def is_safe_xattr(name: str) -> bool:
    """Whether an extended attribute may be set: capabilities of programs, and what users may set themselves."""
    return name.startswith(SAFE_XATTRS) and not name.startswith(OVERLAY_XATTRS)


def shown(name: bytes) -> str:
    """A name in a message, whatever is in it."""
    return repr(name.decode(errors="backslashreplace"))
