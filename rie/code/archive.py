"""Zip archives that strangers made: checked as a whole before the first byte is written, and unpacked within bounds.

What an archive may hold are files, directories and symbolic links. Refused are names that lead out, devices, encrypted
entries, two entries of one name, an entry below another that is no directory, and more bytes than the service allows,
whatever sizes the archive claims. A link may point anywhere: only the function follows it, inside its sandbox.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rie.errors import ArchiveInvalid

MAX_UNPACKED = 262_144_000  # bytes, AWS limit
MAX_ENTRIES = 250_000  # each costs an inode of the host
MAX_LINK = 4_096  # bytes of a path
MAX_NAME = 255  # bytes of one part of a path
BLOCK = 1 << 20
DIRECTORY_MODE = 0o755
READABLE = 0o444
ENCRYPTED = 0x1
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)

TOO_LARGE = f"Unzipped size must be smaller than {MAX_UNPACKED} bytes"
NO_ZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."
EMPTY = "Uploaded file must be a non-empty zip"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: `path` relative and normal ("lib/a.py"), `mode` with the kind of file in it."""

    path: str
    mode: int
    info: zipfile.ZipInfo

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)


def unpack(source: IO[bytes], target: Path) -> int:
    """Unpack a zip into `target`, an empty directory; the bytes that its files hold.

    Modes are kept (without set-user-id and its like), owners and times are not. Raises ArchiveInvalid, OSError.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            entries = list(_entries(archive))
            if not entries:
                raise ArchiveInvalid(EMPTY)
            _check_tree(entries)
            return _write(archive, entries, target)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ArchiveInvalid(NO_ZIP, str(error)) from error
    except (UnicodeError, ValueError, RuntimeError, IndexError, OverflowError) as error:
        raise ArchiveInvalid(NO_ZIP, str(error)) from error  # zipfile's own, for what makes no sense


def _entries(archive: zipfile.ZipFile) -> Iterator[Entry]:
    listed = archive.infolist()
    if len(listed) > MAX_ENTRIES:
        raise ArchiveInvalid(NO_ZIP, f"it has {len(listed)} entries, more than {MAX_ENTRIES}")
    if sum(info.file_size for info in listed) >= MAX_UNPACKED:
        raise ArchiveInvalid(TOO_LARGE)
    for info in listed:
        if info.flag_bits & ENCRYPTED:
            raise ArchiveInvalid(NO_ZIP, f"{info.filename!r} is encrypted")
        if info.compress_type not in METHODS:
            raise ArchiveInvalid(NO_ZIP, f"{info.filename!r} is compressed in an unknown way")
        path = _path(info)
        if path:  # "./" is the archive itself
            yield Entry(path, _mode(info), info)


def _path(info: zipfile.ZipInfo) -> str:
    # orig_filename: zipfile cuts the other one at a NUL, behind which something else may stand.
    name = info.orig_filename
    if "\0" in name or name.startswith("/") or ".." in name.split("/"):
        raise ArchiveInvalid(NO_ZIP, f"{name!r} leads out of the archive")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    path = "/".join(parts)
    if len(os.fsencode(path)) >= MAX_LINK or any(len(os.fsencode(part)) > MAX_NAME for part in parts):
        raise ArchiveInvalid(NO_ZIP, "a name in it is too long")
    return path


def _mode(info: zipfile.ZipInfo) -> int:
    """The kind of file with its permissions. Raises ArchiveInvalid for devices, sockets and pipes."""
    mode = info.external_attr >> 16
    if info.is_dir():
        return stat.S_IFDIR | DIRECTORY_MODE
    kind = stat.S_IFMT(mode)
    if kind == 0:
        # No mode of a real file: tools that don't know one write none, or as Python's writestr does, 0600.
        return stat.S_IFREG | (stat.S_IMODE(mode) & 0o777) | READABLE
    if kind not in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR):
        raise ArchiveInvalid(NO_ZIP, f"{info.filename!r} is no file, directory or symbolic link")
    if kind == stat.S_IFDIR:
        return stat.S_IFDIR | DIRECTORY_MODE
    return kind | (stat.S_IMODE(mode) & 0o777)


def _check_tree(entries: list[Entry]) -> None:
    """One entry a name, directories aside, and nothing below what is no directory: links are never walked through."""
    others: set[str] = set()
    parents: set[str] = set()
    for entry in entries:
        parents.update(_parents(entry.path))
        if entry.is_directory:
            parents.add(entry.path)
        elif entry.path in others:
            raise ArchiveInvalid(NO_ZIP, f"{entry.path!r} is in it twice")
        else:
            others.add(entry.path)
    if hidden := others & parents:
        raise ArchiveInvalid(NO_ZIP, f"{min(hidden)!r} is a directory and something else too")


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _write(archive: zipfile.ZipFile, entries: list[Entry], target: Path) -> int:
    left = MAX_UNPACKED
    links: list[tuple[Path, str]] = []
    for entry in entries:
        path = target / entry.path
        (path if entry.is_directory else path.parent).mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        if entry.is_link:
            links.append((path, _link_target(archive, entry)))
        elif not entry.is_directory:
            left -= _write_file(archive, entry, path, left)
    for path, to in links:  # last: nothing is written through them
        path.symlink_to(to)
    return MAX_UNPACKED - left


def _write_file(archive: zipfile.ZipFile, entry: Entry, path: Path, left: int) -> int:
    """The bytes written. Counts what comes, not what the archive says. Raises ArchiveInvalid past `left`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    size = 0
    with archive.open(entry.info) as source, os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        while block := source.read(BLOCK):
            size += len(block)
            if size >= left:
                raise ArchiveInvalid(TOO_LARGE)
            file.write(block)
        os.fchmod(file.fileno(), stat.S_IMODE(entry.mode))
    return size


def _link_target(archive: zipfile.ZipFile, entry: Entry) -> str:
    """What a link points to. Raises ArchiveInvalid for what is no path."""
    with archive.open(entry.info) as source:
        raw = source.read(MAX_LINK)
    if not raw or len(raw) == MAX_LINK or b"\0" in raw:
        raise ArchiveInvalid(NO_ZIP, f"{entry.path!r} is a link that leads nowhere")
    return os.fsdecode(raw)
