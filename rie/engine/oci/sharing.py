"""Has environments of one snapshot share its memory: what they only read is there once, and none of it is copied ahead.

criu reads every page of a process into memory of its own, which for 40 MB takes longer than all else together. So the
pages of anonymous private mappings move from criu's images into one file, and the mappings become private ones of that
file: the kernel copies a page when it is written to. Each has so much room in the file that it can grow like an
anonymous one: what follows is a hole, which reads as zeros. There is one difference left: MADV_DONTNEED would bring
back the snapshot's content where an anonymous mapping has zeros; launcher.seccomp refuses it, as kernels may.

Images: criu's images/*.proto: a magic number or two, then messages, each after its length in four bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = 4_096
ROOM = 1 << 34  # for each mapping: more than any function may use
MOST = 900  # so that the file stays below what ext4 holds, 16 TB
LEAST = 16 * PAGE  # smaller ones are not worth a mapping of the file
COMMON_MAGIC = 0x54564319
VARINT, BYTES = 0, 2
# Fields of criu's messages.
MM_VMAS = 14
START, END, PGOFF, SHMID, FLAGS, STATUS, MADVICE = 1, 2, 3, 4, 6, 7, 9
VADDR, COUNT, IN_PARENT, PAGE_FLAGS, LONG_COUNT = 1, 2, 3, 4, 5
PAGES_ID = 1
FILE_TYPE, FILE_ID, FILE_REG = 1, 2, 3
REG_ID, REG_FLAGS, REG_POSITION, REG_OWNER, REG_NAME = 1, 2, 3, 5, 6
REGULAR_FILE = 1
# Bits (criu/include/image.h, linux/mman.h).
REGULAR, HEAP, FILE_PRIVATE, ANON_PRIVATE = 1 << 0, 1 << 5, 1 << 6, 1 << 9
MAP_PRIVATE, MAP_ANONYMOUS, MAP_GROWSDOWN = 0x02, 0x20, 0x0100
PRESENT = 1 << 2

Fields = list[tuple[int, int | bytes]]
"""A message: numbers of fields with their values, in the order they came in."""


@dataclass(slots=True)
class _Room:
    """A mapping, and where in the file its first page is."""

    start: int
    end: int
    offset: int


def share(images: Path, memory: Path, name: str) -> int:
    """Move what can be shared into `memory`, a file that processes will find at `name`; how many mappings that is.

    Raises OSError; ValueError for images that are none of the criu's that this was written for.
    """
    files, table = _read(images / "files.img")
    own = max(int(_get(entry, FILE_ID)) for entry in table) + 1
    place = 0
    with memory.open("wb") as target:
        for path in sorted(images.glob("mm-*.img")):
            place += _share_one(path, images / path.name.replace("mm-", "pagemap-"), target.fileno(), own, place)
            # To criu each has a file of its own: a mapping at the same place of the same file it would take to be the
            # parent's, wherever in the file it is.
            table.append(_entry_of_file(table, own, name))
            own += 1
        target.truncate(max(place, 1) * ROOM)
    _write(images / "files.img", files, table)
    return place


def _share_one(mm: Path, pagemap: Path, memory: int, own: int, place: int) -> int:
    magic, (message,) = _read(mm)
    rooms: list[_Room] = []
    changed: Fields = []
    for number, value in message:
        if number == MM_VMAS and isinstance(value, bytes) and place + len(rooms) < MOST:
            mapping = _parse(value)
            if _can_be_shared(mapping):
                room = _Room(int(_get(mapping, START)), int(_get(mapping, END)), (place + len(rooms)) * ROOM)
                rooms.append(room)
                value = _encode(_of_file(mapping, own, room.offset))
        changed.append((number, value))
    if rooms:
        _move_pages(pagemap, rooms, memory)
        _write(mm, magic, [changed])
    return len(rooms)


def _can_be_shared(mapping: Fields) -> bool:
    status, flags = int(_get(mapping, STATUS)), int(_get(mapping, FLAGS))
    is_anonymous = status & ~HEAP == REGULAR | ANON_PRIVATE and flags & (MAP_PRIVATE | MAP_ANONYMOUS) == 0x22
    size = int(_get(mapping, END)) - int(_get(mapping, START))
    return is_anonymous and not flags & MAP_GROWSDOWN and not _get(mapping, MADVICE) and LEAST <= size < ROOM // 2


def _of_file(mapping: Fields, own: int, offset: int) -> Fields:
    status, flags = int(_get(mapping, STATUS)), int(_get(mapping, FLAGS))
    news = {
        PGOFF: offset,
        SHMID: own,
        FLAGS: flags & ~MAP_ANONYMOUS,
        STATUS: status & ~ANON_PRIVATE | FILE_PRIVATE,
    }
    return [(number, news.get(number, value)) for number, value in mapping]


def _move_pages(pagemap: Path, rooms: list[_Room], memory: int) -> None:
    """From the process's pages to the file, those that lie in a room; the others stay, closer together."""
    magic, (head, *entries) = _read(pagemap)
    path = pagemap.parent / f"pages-{int(_get(head, PAGES_ID))}.img"
    left: list[Fields] = []
    draft = path.with_suffix(".draft")
    with path.open("rb") as source, draft.open("wb") as rest:
        for entry in entries:
            flags = int(_get(entry, PAGE_FLAGS))
            if not flags & PRESENT or _get(entry, IN_PARENT):
                raise ValueError(f"cannot share {path}: pages with flags {flags}")
            for start, count, room in _parts(entry, rooms):
                data = source.read(count * PAGE)
                if len(data) != count * PAGE:
                    raise ValueError(f"cannot share {path}: it ends too early")
                if room is not None:
                    os.pwrite(memory, data, room.offset + start - room.start)
                    continue
                rest.write(data)
                news = {VADDR: start, COUNT: count, LONG_COUNT: count}
                left.append([(number, news.get(number, value)) for number, value in entry])
    draft.rename(path)
    _write(pagemap, magic, [head, *left])


def _parts(entry: Fields, rooms: list[_Room]) -> Iterator[tuple[int, int, _Room | None]]:
    """A run of pages, cut where mappings begin and end: address, number of pages, and where they go."""
    at = int(_get(entry, VADDR))
    end = at + PAGE * int(_get(entry, LONG_COUNT) or _get(entry, COUNT))
    while at < end:
        room = next((room for room in rooms if room.start <= at < room.end), None)
        if room is not None:
            until = min(end, room.end)
        else:
            until = min([end, *(room.start for room in rooms if at < room.start)])
        yield at, (until - at) // PAGE, room
        at = until


def _entry_of_file(table: list[Fields], own: int, name: str) -> Fields:
    """Opened to be read by nobody in particular, as another that is there."""
    other = next(_parse(value) for entry in table if isinstance(value := _get(entry, FILE_REG), bytes))
    owner = _get(other, REG_OWNER)
    regular: Fields = [(REG_ID, own), (REG_FLAGS, 0), (REG_POSITION, 0), (REG_OWNER, owner), (REG_NAME, name.encode())]
    return [(FILE_TYPE, REGULAR_FILE), (FILE_ID, own), (FILE_REG, _encode(regular))]


def _get(message: Fields, field: int) -> int | bytes:
    """0 for what is not there."""
    return next((value for number, value in message if number == field), 0)


def _read(path: Path) -> tuple[bytes, list[Fields]]:
    data = path.read_bytes()
    at = 8 if struct.unpack_from("<I", data)[0] == COMMON_MAGIC else 4
    magic, found = data[:at], []
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        found.append(_parse(data[at + 4 : at + 4 + size]))
        at += 4 + size
    return magic, found


def _write(path: Path, magic: bytes, messages: list[Fields]) -> None:
    bodies = [_encode(message) for message in messages]
    path.write_bytes(magic + b"".join(struct.pack("<I", len(body)) + body for body in bodies))


def _parse(data: bytes) -> Fields:
    found: Fields = []
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == VARINT:
            value, at = _varint(data, at)
            found.append((tag >> 3, value))
        elif tag & 7 == BYTES:
            size, at = _varint(data, at)
            found.append((tag >> 3, data[at : at + size]))
            at += size
        else:
            raise ValueError(f"cannot read a field of wire type {tag & 7}")
    return found


def _encode(message: Fields) -> bytes:
    out = bytearray()
    for number, value in message:
        if isinstance(value, bytes):
            out += _to_varint(number << 3 | BYTES) + _to_varint(len(value)) + value
        else:
            out += _to_varint(number << 3 | VARINT) + _to_varint(value)
    return bytes(out)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        octet = data[at]
        at += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
        shift += 7


def _to_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
