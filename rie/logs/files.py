"""Log streams as files: one line of text for one line of log, "<epoch ms> <text>"."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote
from weakref import WeakValueDictionary

from rie.logs.bounds import Bounds, sweep
from rie.logs.follow import Follower, LogLine, as_text
from rie.logs.groups import Group, directory_of, new_group, read_group, write_group
from rie.logs.rate import Rate
from rie.logs.writer import OnLines, StreamWriter

log = logging.getLogger(__name__)

KB_PER_S = 2_048  # of one function, before it is read more slowly than it logs
BURST_S = 8  # so many seconds' worth at once
SWEEP_EVERY_S = 20.0

IsWanted = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of a group: its first and last line's instants (epoch ms) and its bytes on disk."""

    name: str
    first_at_ms: int
    last_at_ms: int
    size: int


class LogFiles:
    """All groups below one directory, within bounds."""

    def __init__(self, root: Path, bounds: Bounds | None = None, kb_per_s: int = KB_PER_S) -> None:
        self._root = root
        self._bounds = bounds or Bounds()
        self._bytes_per_s = kb_per_s * 1024
        self._followers: dict[str, set[Follower]] = {}
        self._rates: WeakValueDictionary[str, Rate] = WeakValueDictionary()
        self._sweeper: asyncio.Task[None] | None = None

    # -- writing ----------------------------------------------------------------------------------------------------

    def open(self, group: str, stream: str, owner: str = "", also: OnLines | None = None) -> StreamWriter:
        """A sink for one environment's lines, which `also` hears of; those of one `owner` share a rate."""
        directory = directory_of(self._root, group)
        rate = self._rates.get(owner or group)
        if rate is None:
            rate = self._rates[owner or group] = Rate(self._bytes_per_s, self._bytes_per_s * BURST_S)

        def prepare() -> None:
            if read_group(directory) is None:
                write_group(directory, new_group(group))

        def on_lines(at_ms: int, lines: bytes) -> None:
            for follower in self._followers.get(group, ()):
                follower.put(at_ms, stream, lines)
            if also is not None:
                also(at_ms, lines)

        return StreamWriter(directory / f"{quote(stream, safe='')}.log", prepare, on_lines, rate)

    def start_sweeping(self) -> None:
        """Keep within the bounds from now on; on the running event loop."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def close(self) -> None:
        """Stop that."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper

    async def _sweep(self) -> None:
        while True:
            try:
                await asyncio.to_thread(sweep, self._root, self._bounds, time.time())
            except Exception:
                log.exception("cannot keep the logs within their bounds")
            await asyncio.sleep(SWEEP_EVERY_S)

    # -- groups -----------------------------------------------------------------------------------------------------

    def groups(self) -> list[Group]:
        """Every group, by name. Blocks."""
        found = (read_group(directory) for directory in self._root.glob("*/"))
        return sorted((group for group in found if group is not None), key=lambda group: group.name)

    def group(self, name: str) -> Group | None:
        """One group. Blocks."""
        return read_group(directory_of(self._root, name))

    def keep_group(self, group: Group) -> None:
        """Make it, or change what is known of it. Blocks. Raises OSError."""
        write_group(directory_of(self._root, group.name), group)

    def remove_group(self, name: str) -> None:
        """Remove it with its streams; who still writes begins it anew. Blocks."""
        shutil.rmtree(directory_of(self._root, name), ignore_errors=True)

    # -- reading ----------------------------------------------------------------------------------------------------

    def streams(self, group: str) -> list[Stream]:
        """The streams of a group, by name. Blocks."""
        found: dict[str, Stream] = {}
        # Of one stream the older file, .log.1, first.
        for path in sorted(directory_of(self._root, group).glob("*.log*"), reverse=True):
            name = _stream_of(path)
            with contextlib.suppress(OSError), path.open("rb") as file:
                status = os.fstat(file.fileno())
                line = next(_lines(file, status.st_size, name, 0), None)
                before = found.get(name)
                first = line.at_ms if line is not None else int(status.st_mtime * 1e3)
                found[name] = Stream(
                    name,
                    before.first_at_ms if before is not None else first,
                    max(first, int(status.st_mtime * 1e3)),
                    status.st_size + (before.size if before is not None else 0),
                )
        return sorted(found.values(), key=lambda stream: stream.name)

    def read(self, group: str, since_ms: int = 0, is_wanted: IsWanted = bool) -> Iterator[LogLine]:
        """The lines that a group's streams hold at this moment, since an instant, by time; read as they are asked for.

        `is_wanted` tells by their names which streams are read. What is written after the call is left out, so that a
        follower who begins at the same moment misses nothing and sees nothing twice.
        """
        streams = []
        # Of one stream the older file, .log.1, first: lines of one instant keep their order.
        for path in sorted(directory_of(self._root, group).glob("*.log*"), reverse=True):
            name = _stream_of(path)
            if not is_wanted(name):
                continue
            with contextlib.suppress(OSError):  # rotated or removed in between
                if path.stat().st_mtime * 1e3 < since_ms - 1:
                    continue
                file = path.open("rb")
                streams.append(_lines(file, os.fstat(file.fileno()).st_size, name, since_ms))
        return heapq.merge(*streams, key=lambda line: line.at_ms)

    @contextlib.contextmanager
    def follow(self, group: str) -> Iterator[Follower]:
        """A follower of a group, as long as the context lasts."""
        follower = Follower()
        followers = self._followers.setdefault(group, set())
        followers.add(follower)
        try:
            yield follower
        finally:
            followers.discard(follower)
            if not followers:
                self._followers.pop(group, None)


def _stream_of(path: Path) -> str:
    return unquote(path.name.partition(".log")[0])


def _lines(file: BinaryIO, size: int, stream: str, since_ms: int) -> Iterator[LogLine]:
    with file:
        while (left := size - (offset := file.tell())) > 0:
            at, _, text = file.readline(left).rstrip(b"\n").partition(b" ")
            if at.isdigit() and int(at) >= since_ms:
                yield LogLine(int(at), stream, as_text(text), offset)
