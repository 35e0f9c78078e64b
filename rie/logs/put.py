"""Events that clients put into a stream, kept in the order of their instants."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from rie.logs.follow import as_line
from rie.logs.stream_files import header
from rie.logs.writer import MAX_STREAM_BYTES

TAIL = 1_100_000  # bytes that the last line is in: an event has 1 MB at most, AWS limit

Event = tuple[int, str]
"""(epoch ms, message)."""


def begin(path: Path, stream: str) -> None:
    """An empty stream. Raises OSError, FileExistsError among them."""
    with path.open("xb") as file:
        file.write(header(stream, int(time.time() * 1e3)))


def put(path: Path, stream: str, events: Sequence[Event]) -> None:
    """Add events, which are in the order of their instants, to a stream's file; begin it if need be. Raises OSError."""
    block = b"".join(_line(at_ms, message) for at_ms, message in events)
    if path.exists() and path.stat().st_size + len(block) > MAX_STREAM_BYTES:
        path.rename(path.with_suffix(".log.1"))
    if not path.exists():
        begin(path, stream)
    before_ms = _last_ms(path)
    newest_ms = max(events[-1][0], before_ms)
    if events[0][0] < before_ms:
        _insert(path, block)
    else:
        with path.open("ab") as file:
            file.write(block)
    # Readers pass over files that were last written before the instant that they look for.
    if newest_ms / 1e3 > time.time():
        os.utime(path, (newest_ms / 1e3, newest_ms / 1e3))


def last_ms(path: Path) -> int | None:
    """The instant of the newest event of a file; None while it has none. Raises OSError."""
    return _last_ms(path) or None


def _line(at_ms: int, message: str) -> bytes:
    return b"%d %s\n" % (at_ms, as_line(message))


def _last_ms(path: Path) -> int:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        last = file.read().rstrip(b"\n").rpartition(b"\n")[2]
    at = last.partition(b" ")[0]
    return int(at) if at.isdigit() else 0


def _insert(path: Path, block: bytes) -> None:
    """What is older than what is there: the file is written anew, and is whole at every moment."""
    first, *lines = (path.read_bytes() + block).removesuffix(b"\n").split(b"\n")
    lines.sort(key=lambda line: int(line.partition(b" ")[0]))
    temporary = path.with_suffix(".new")
    temporary.write_bytes(b"\n".join((first, *lines, b"")))
    temporary.replace(path)
