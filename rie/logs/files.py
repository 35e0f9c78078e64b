"""Log streams as files: one line of text for one line of log, "<epoch ms> <text>"."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from rie.logs.bounds import Bounds, sweep
from rie.logs.follow import Follower, LogLine, as_line
from rie.logs.groups import Group, directory_of, new_group, read_group, write_group
from rie.logs.put import Event, begin, last_ms, put
from rie.logs.rate import Rate
from rie.logs.stream_files import (
    ANY,
    files_of,
    is_put,
    lines_of,
    put_file,
    read_header,
    stream_of,
    written_file,
)
from rie.logs.writer import OnLines, StreamWriter

log = logging.getLogger(__name__)

KB_PER_S = 2_048  # of one function, before it is read more slowly than it logs; and of all that clients put
BURST_S = 8  # so many seconds' worth at once
SWEEP_EVERY_S = 20.0

IsWanted = Callable[[str], bool]
OnChange = Callable[[str, Group | None], object]
"""Told of a group that was made or changed, by its name, or removed (None); on any thread."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of a group: instants in epoch ms, of its lines' None while it has none, and its bytes on disk."""

    name: str
    created_at_ms: int
    first_at_ms: int | None
    last_at_ms: int | None
    written_at_ms: int
    size: int


class LogFiles:
    """All groups below one directory, within bounds."""

    def __init__(self, root: Path, bounds: Bounds | None = None, kb_per_s: int = KB_PER_S) -> None:
        self._root = root
        self._bounds = bounds or Bounds()
        self._bytes_per_s = kb_per_s * 1024
        self._followers: dict[str, set[Follower]] = {}
        self._rates: WeakValueDictionary[str, Rate] = WeakValueDictionary()
        self._put_rate = Rate(self._bytes_per_s, self._bytes_per_s * BURST_S)
        self._putting = threading.Lock()
        self.on_change: OnChange | None = None
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

        return StreamWriter(written_file(directory, stream), prepare, on_lines, rate)

    def create_stream(self, group: str, stream: str) -> bool:
        """Make an empty one in a group that is there; False if there is such a stream. Blocks. Raises OSError."""
        directory = directory_of(self._root, group)
        with self._putting:
            if files_of(directory, stream):
                return False
            begin(put_file(directory, stream), stream)
            return True

    def put(self, group: str, stream: str, events: Sequence[Event]) -> float:
        """Add events, in the order of their instants, to a stream that is there; how many seconds nothing more should
        come, 0 as a rule, and what has come is not kept otherwise. Blocks. Raises OSError."""
        pause_s = self._put_rate.spend(sum(len(message) for _, message in events))
        if pause_s:
            return pause_s
        with self._putting:
            put(put_file(directory_of(self._root, group), stream), stream, events)
        for follower in tuple(self._followers.get(group, ())):
            for at_ms, message in events:
                follower.put_from_thread(at_ms, stream, as_line(message))
        return 0.0

    def remove_stream(self, group: str, stream: str) -> bool:
        """Whether there was one; who still writes begins it anew. Blocks."""
        with self._putting:
            found = files_of(directory_of(self._root, group), stream)
            for path in found:
                path.unlink(missing_ok=True)
        return bool(found)

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
        if self.on_change is not None:
            self.on_change(group.name, group)

    def remove_group(self, name: str) -> None:
        """Remove it with its streams; who still writes begins it anew. Blocks."""
        shutil.rmtree(directory_of(self._root, name), ignore_errors=True)
        if self.on_change is not None:
            self.on_change(name, None)

    # -- reading ----------------------------------------------------------------------------------------------------

    def streams(self, group: str) -> list[Stream]:
        """The streams of a group, by name. Blocks."""
        found: dict[str, Stream] = {}
        # Of one stream the older file, .log.1, first.
        for path in sorted(directory_of(self._root, group).glob(ANY), reverse=True):
            with contextlib.suppress(OSError):  # rotated or removed in between
                stream = _described(path)
                before = found.get(stream.name)
                found[stream.name] = stream if before is None else _together(before, stream)
        return sorted(found.values(), key=lambda stream: stream.name)

    def has_stream(self, group: str, stream: str) -> bool:
        """Whether a group has such a stream. Blocks."""
        return bool(files_of(directory_of(self._root, group), stream))

    def read(self, group: str, since_ms: int = 0, is_wanted: IsWanted = bool) -> Iterator[LogLine]:
        """The lines that a group's streams hold at this moment, since an instant, by time; read as they are asked for.

        `is_wanted` tells by their names which streams are read. What is written after the call is left out, so that a
        follower who begins at the same moment misses nothing and sees nothing twice.
        """
        streams = []
        # Of one stream the older file, .log.1, first: lines of one instant keep their order.
        for path in sorted(directory_of(self._root, group).glob(ANY), reverse=True):
            name = stream_of(path)
            if not is_wanted(name):
                continue
            with contextlib.suppress(OSError):  # rotated or removed in between
                if path.stat().st_mtime * 1e3 < since_ms - 1:
                    continue
                streams.append(lines_of(path, name, since_ms))
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


def _described(path: Path) -> Stream:
    """What one file tells of its stream. Raises OSError."""
    status, name = path.stat(), stream_of(path)
    written_ms = int(status.st_mtime * 1e3)
    line = next(lines_of(path, name), None)
    first_ms = None if line is None else line.at_ms
    if not is_put(path):
        first_ms = written_ms if first_ms is None else first_ms
        return Stream(name, first_ms, first_ms, max(first_ms, written_ms), written_ms, status.st_size)
    made = read_header(path)
    created_ms = made[0] if made is not None else written_ms
    return Stream(name, created_ms, first_ms, last_ms(path), written_ms, status.st_size)


def _together(one: Stream, other: Stream) -> Stream:
    """Two files of one stream."""
    firsts = [each for each in (one.first_at_ms, other.first_at_ms) if each is not None]
    lasts = [each for each in (one.last_at_ms, other.last_at_ms) if each is not None]
    return Stream(
        one.name,
        min(one.created_at_ms, other.created_at_ms),
        min(firsts, default=None),
        max(lasts, default=None),
        max(one.written_at_ms, other.written_at_ms),
        one.size + other.size,
    )
