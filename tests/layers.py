"""Layers' archives made entry by entry, honest and hostile, and what a directory tree looks like.

archive(file("app", b"#!..."), directory("tmp", mode=0o1777), symlink("bin", "usr/bin"), whiteout("old"))
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Item = tuple[tarfile.TarInfo, bytes]


def archive(*items: Item, format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar archive of these entries, in this order."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as made:
        for entry, content in items:
            made.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def item(name: str, kind: bytes, content: bytes = b"", **fields: Any) -> Item:
    """Any entry; `fields` are those of TarInfo, and `xattrs` {name: text}."""
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.size = len(content)
    entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    entry.mtime = 1_700_000_000
    for key, value in fields.pop("xattrs", {}).items():
        entry.pax_headers[f"SCHILY.xattr.{key}"] = value
    for key, value in fields.items():
        setattr(entry, key, value)
    return entry, content


def file(name: str, content: bytes = b"", **fields: Any) -> Item:
    """A regular file."""
    return item(name, tarfile.REGTYPE, content, **fields)


def directory(name: str, **fields: Any) -> Item:
    """A directory."""
    return item(name, tarfile.DIRTYPE, **fields)


def symlink(name: str, target: str, **fields: Any) -> Item:
    """A symbolic link."""
    return item(name, tarfile.SYMTYPE, linkname=target, **fields)


def hard_link(name: str, target: str) -> Item:
    """A hard link to an entry before it."""
    return item(name, tarfile.LNKTYPE, linkname=target)


def device(name: str, kind: bytes, major: int, minor: int) -> Item:
    """A device node."""
    return item(name, kind, devmajor=major, devminor=minor)


def whiteout(name: str) -> Item:
    """What hides `name` of the layers below."""
    parent, slash, base = name.rpartition("/")
    return file(f"{parent}{slash}.wh.{base}")


def opaque(name: str) -> Item:
    """What hides all that the layers below have in a directory."""
    return file(f"{name}/.wh..wh..opq" if name else ".wh..wh..opq")


def listing(root: Path) -> dict[str, tuple[object, ...]]:
    """Every path below a root with all that people can see of it; hard links of one file know each other."""
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, list[str]] = {}
    for path in _walk(root):
        name = str(path.relative_to(root))
        known = path.lstat()
        kind = stat.S_IFMT(known.st_mode)
        content: object = None
        if kind == stat.S_IFREG:
            content = known.st_size, hashlib.sha256(path.read_bytes()).hexdigest()
            inodes.setdefault(known.st_ino, []).append(name)
        elif kind == stat.S_IFLNK:
            content = os.readlink(path)
        found[name] = stat.filemode(known.st_mode), known.st_uid, known.st_gid, int(known.st_mtime), content
    for names in inodes.values():
        for name in names:
            found[name] += (tuple(sorted(names)),)
    return found


def _walk(root: Path) -> Iterator[Path]:
    for directory_name, directories, files in os.walk(root):
        for name in (*directories, *files):
            yield Path(directory_name) / name
