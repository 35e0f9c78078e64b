"""Tar archives as a stream of entries: ustar, GNU and PAX headers from whoever wrote them; no I/O of its own.

The standard library's tarfile takes four times as long for a header; layers are read as they are decompressed.
Where formats leave room, this reads as Docker does, so that an image has the same files under both.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import NoReturn, Protocol

BLOCK = 512
END = bytes(BLOCK)
MAX_SPECIAL = 1 << 20  # bytes of a long name, PAX records or a sparse map; what Docker's reader takes
MAX_SEGMENTS = 1 << 16  # of a sparse file
MAX_ID = (1 << 32) - 2  # the last user or group; above it is "none"

FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
OLD_FILE, CONTIGUOUS, SPARSE = b"\0", b"7", b"S"
LONG_NAME, LONG_LINK, RECORDS, GLOBAL_RECORDS = b"L", b"K", b"x", b"g"
FILES = frozenset({FILE, OLD_FILE, CONTIGUOUS, SPARSE})
HEADER_ONLY = frozenset({HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO})

Segments = tuple[tuple[int, int], ...]
"""Where the data of a sparse file lies: (offset, bytes), in order."""


class TarError(ValueError):
    """This is no tar archive, or it contradicts itself."""


class Source(Protocol):
    """Where an archive's bytes come from."""

    def take(self, size: int) -> bytes:
        """The next bytes; fewer only at the end."""

    def skip(self, size: int) -> None:
        """Leave out the next bytes. Raises TarError if there are fewer."""


# No dataclasses here: their module takes longer to import than the unpacking process takes to start without.
class Entry:
    """One entry; its `size` bytes of data are next in the source, to be read before the next entry is asked for.

    `kind` is one of FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO; `device` major and minor. A
    sparse file has `segments` and is `length` bytes long with its holes; others are as long as their data.
    """

    __slots__ = (
        *("name", "kind", "mode", "uid", "gid", "size", "mtime_ns"),
        *("link", "device", "length", "segments", "xattrs"),
    )
    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: bytes
    device: tuple[int, int]
    length: int
    segments: Segments | None
    xattrs: dict[str, bytes]


class _Extras:
    """What the headers before a header say about it."""

    __slots__ = ("link", "name", "records", "sparse")

    def __init__(self) -> None:
        self.name: bytes | None = None
        self.link: bytes | None = None
        self.records: dict[bytes, bytes] = {}
        self.sparse: list[bytes] = []  # GNU's first form repeats its records


def entries(source: Source) -> Iterator[Entry]:
    """The entries of an archive, in order. Raises TarError. Between two, their data must have been taken."""
    extras = _Extras()
    while True:
        block = source.take(BLOCK)
        if not block or block == END:
            return  # its end, or that of a file cut at a boundary, which Docker takes too
        _check(block)
        kind = block[156:157]
        if kind in (LONG_NAME, LONG_LINK, RECORDS, GLOBAL_RECORDS):
            _read_special(source, kind, _number(block[124:136], "size"), extras)
            continue
        entry = _entry(source, block, kind, extras)
        padding = -entry.size % BLOCK
        yield entry
        source.skip(padding)
        if extras.name or extras.link or extras.records:
            extras = _Extras()


def _check(block: bytes) -> None:
    if len(block) < BLOCK:
        _fail("it ends within a header")
    stated = _number(block[148:156], "checksum")
    if stated != sum(block) - sum(block[148:156]) + 8 * 32:
        signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:])
        if stated != signed:
            _fail("a header's checksum is wrong")


def _read_special(source: Source, kind: bytes, size: int, extras: _Extras) -> None:
    if size > MAX_SPECIAL:
        _fail(f"a header brings {size} bytes of names or records, more than {MAX_SPECIAL}")
    content = source.take(size)
    if len(content) < size:
        _fail("it ends within a header")
    source.skip(-size % BLOCK)
    if kind == LONG_NAME:
        extras.name = content.partition(b"\0")[0]
    elif kind == LONG_LINK:
        extras.link = content.partition(b"\0")[0]
    elif kind == RECORDS:
        _read_records(content, extras)


def _read_records(content: bytes, extras: _Extras) -> None:
    """PAX records: "length key=value\\n", where length counts itself."""
    while content:
        digits, space, _ = content.partition(b" ")
        if not space or not digits.isdigit() or len(digits) > 7:
            _fail("a PAX record has no length")
        length = int(digits)
        record = content[len(digits) + 1 : length]
        key, equals, value = record[:-1].partition(b"=")
        if length > len(content) or not record.endswith(b"\n") or not equals or not key:
            _fail("a PAX record is malformed")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            extras.sparse.append(value)
        extras.records[key] = value
        content = content[length:]


def _entry(source: Source, block: bytes, kind: bytes, extras: _Extras) -> Entry:
    records = extras.records
    name = extras.name or block[:100].partition(b"\0")[0]
    if extras.name is None and block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    entry = Entry()
    entry.name, entry.kind = name, kind
    entry.mode = _number(block[100:108], "mode") & 0o7777
    entry.uid = _number(block[108:116], "uid")
    entry.gid = _number(block[116:124], "gid")
    entry.size = _number(block[124:136], "size")
    entry.mtime_ns = _number(block[136:148], "mtime", signed=True) * 1_000_000_000
    entry.link = extras.link or block[157:257].partition(b"\0")[0]
    entry.device, entry.length, entry.segments, entry.xattrs = (0, 0), 0, None, {}
    if records:
        _apply(entry, records)
    if entry.uid > MAX_ID or entry.gid > MAX_ID:
        _fail(f"{_shown(entry.name)} belongs to user {entry.uid} and group {entry.gid}")
    if kind in FILES:
        entry.kind = DIRECTORY if kind == OLD_FILE and entry.name.endswith(b"/") else FILE
        entry.length = entry.size
        _read_segments(source, block, entry, extras)
    elif kind not in HEADER_ONLY:
        _fail(f"{_shown(entry.name)} is of type {kind!r}, which has no meaning in a layer")
    if entry.kind != FILE:
        entry.size = entry.length = 0
    if kind in (CHARACTER, BLOCK_DEVICE):
        entry.device = _number(block[329:337], "device"), _number(block[337:345], "device")
    return entry


def _apply(entry: Entry, records: dict[bytes, bytes]) -> None:
    """PAX records outdo the header."""
    entry.name = records.get(b"GNU.sparse.name") or records.get(b"path") or entry.name
    entry.link = records.get(b"linkpath") or entry.link
    if b"\0" in entry.name or b"\0" in entry.link:
        _fail("a PAX record has a name with a null character")
    for key, value in records.items():
        if key == b"size":
            entry.size = _decimal(value, "size")
        elif key == b"uid":
            entry.uid = _decimal(value, "uid")
        elif key == b"gid":
            entry.gid = _decimal(value, "gid")
        elif key == b"mtime":
            entry.mtime_ns = _nanoseconds(value)
        elif key.startswith(b"SCHILY.xattr."):
            entry.xattrs[key[13:].decode(errors="surrogateescape")] = value
        elif key.startswith(b"LIBARCHIVE.xattr."):
            entry.xattrs.setdefault(key[17:].decode(errors="surrogateescape"), _unpacked(value))


def _read_segments(source: Source, block: bytes, entry: Entry, extras: _Extras) -> None:
    """The map of a sparse file, in each of the four forms that GNU tar has had."""
    records = extras.records
    if block[156:157] == SPARSE:
        entry.length, numbers = _old_map(source, block)
    elif b"GNU.sparse.map" in records:
        numbers = [_decimal(value, "sparse map") for value in records[b"GNU.sparse.map"].split(b",") if value]
    elif extras.sparse:
        numbers = [_decimal(value, "sparse map") for value in extras.sparse]
    elif records.get(b"GNU.sparse.major") == b"1":
        numbers, used = _leading_map(source)
        entry.size -= used
    else:
        return
    for key in (b"GNU.sparse.realsize", b"GNU.sparse.size"):
        if key in records:
            entry.length = _decimal(records[key], "sparse size")
            break
    if len(numbers) % 2 or len(numbers) > 2 * MAX_SEGMENTS:
        _fail("a sparse map is malformed")
    entry.segments = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    end = 0
    for offset, size in entry.segments:
        if offset < end:
            _fail("a sparse map is out of order")
        end = offset + size
    if end > entry.length or sum(size for _, size in entry.segments) != entry.size:
        _fail("a sparse map does not fit its file")


def _old_map(source: Source, block: bytes) -> tuple[int, list[int]]:
    """The map in GNU's own header: the file's length, and the numbers."""
    length = _number(block[483:495], "sparse size")
    numbers = _pairs(block[386:482])
    extended = block[482]
    while extended:
        block = source.take(BLOCK)
        if len(block) < BLOCK or len(numbers) > 2 * MAX_SEGMENTS:
            _fail("a sparse map is malformed")
        numbers += _pairs(block[:504])
        extended = block[504]
    return length, numbers


def _pairs(area: bytes) -> list[int]:
    numbers: list[int] = []
    for at in range(0, len(area), 24):
        if not area[at]:
            break
        numbers += [_number(area[at : at + 12], "sparse map"), _number(area[at + 12 : at + 24], "sparse map")]
    return numbers


def _leading_map(source: Source) -> tuple[list[int], int]:
    """The map at the beginning of the data: a count and that many pairs, one number a line; and the bytes it took."""
    content, lines, wanted = b"", [b""], 1
    while len(lines) <= wanted:
        block = source.take(BLOCK)
        content += block
        if len(block) < BLOCK or len(content) > MAX_SPECIAL:
            _fail("a sparse map is malformed")
        lines = content.split(b"\n")
        if len(lines) > 1:
            wanted = 1 + 2 * _decimal(lines[0], "sparse map")
    return [_decimal(line, "sparse map") for line in lines[1:wanted]], len(content)


def _number(area: bytes, what: str, *, signed: bool = False) -> int:
    """A header's number: octal digits, or GNU's binary form for what they can't hold."""
    if area[0] & 0x80:
        value = int.from_bytes(area, "big", signed=False) & ((1 << (8 * len(area) - 1)) - 1)
        if area[0] & 0x40:
            value -= 1 << (8 * len(area) - 1)
        if value < 0 and not signed:
            _fail(f"a header has a negative {what}")
        return value
    digits = area.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    try:
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass
    return _fail(f"a header has {digits!r} as {what}")


def _decimal(value: bytes, what: str) -> int:
    if not value.isdigit() or len(value) > 19:
        _fail(f"a PAX record has {value[:40]!r} as {what}")
    return int(value)


def _nanoseconds(value: bytes) -> int:
    """PAX's "1700000000.25", maybe negative."""
    whole, _, fraction = value.partition(b".")
    digits = whole.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 19 or not (fraction.isdigit() or not fraction):
        _fail(f"a PAX record has {value[:40]!r} as mtime")
    nanoseconds = int(digits) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    return -nanoseconds if whole.startswith(b"-") else nanoseconds


def _unpacked(value: bytes) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return _fail("a PAX record has an attribute that is not base64")


def _shown(name: bytes) -> str:
    return repr(name.decode(errors="backslashreplace"))


def _fail(why: str) -> NoReturn:
    raise TarError(why)
