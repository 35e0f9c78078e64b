"""Log streams as files: one line of text for one line of log, "<epoch ms> <text>"."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import heapq
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

log = logging.getLogger(__name__)

MAX_STREAM_BYTES = 8_388_608  # for each of a stream's two files: the current and the one before
MAX_STREAMS = 200  # files of a group; the oldest are removed
MAX_LINE = 262_144
FOLLOWER_BYTES = 8_388_608  # what a slow follower may lag behind before it misses lines


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line, without its newline; `at_ms` is the epoch time at which it was received."""

    at_ms: int
    stream: str
    text: str


class Follower:
    """Gets every line of a group from now on; bounded, so that a slow one costs lines, not memory."""

    def __init__(self) -> None:
        self._blocks: asyncio.Queue[tuple[int, str, bytes]] = asyncio.Queue()
        self._octets = 0

    def put(self, at_ms: int, stream: str, block: bytes) -> None:
        """Take whole lines."""
        if self._octets + len(block) <= FOLLOWER_BYTES:
            self._octets += len(block)
            self._blocks.put_nowait((at_ms, stream, block))

    async def get(self) -> list[LogLine]:
        """The next lines, as they come."""
        at_ms, stream, block = await self._blocks.get()
        self._octets -= len(block)
        return [LogLine(at_ms, stream, line.decode("utf-8", "replace")) for line in block.split(b"\n")]


class LogFiles:
    """All groups below one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._followers: dict[str, set[Follower]] = {}

    def open(self, group: str, stream: str) -> StreamWriter:
        """A sink for one environment's lines."""
        directory = self._directory(group)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _remove_oldest(directory)
        except OSError as error:
            log.error("cannot keep the log %s: %s", group, error)
        return StreamWriter(directory / f"{quote(stream, safe='')}.log", stream, lambda: self._followers.get(group, ()))

    def read(self, group: str, since_ms: int = 0) -> Iterator[LogLine]:
        """The lines that a group's streams hold at this moment, since an instant, by time; read as they are asked for.

        What is written after the call is left out, so that a follower who begins at the same moment misses nothing and
        sees nothing twice.
        """
        streams = []
        # Of one stream the older file, .log.1, first: lines of one instant keep their order.
        for path in sorted(self._directory(group).glob("*.log*"), reverse=True):
            with contextlib.suppress(OSError):  # rotated or removed in between
                file = path.open("rb")
                size = os.fstat(file.fileno()).st_size
                streams.append(_lines(file, size, unquote(path.name.partition(".log")[0]), since_ms))
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

    def _directory(self, group: str) -> Path:
        """Groups are named by users: the name that a person can read is shortened, the hash tells groups apart."""
        readable = re.sub(r"[^a-zA-Z0-9_-]+", "-", group).strip("-")[:80]
        return self._root / f"{readable}-{hashlib.sha256(group.encode()).hexdigest()[:16]}"


class StreamWriter:
    """Takes bytes cut anywhere, keeps whole lines. A full disk loses lines, never an invocation."""

    def __init__(self, path: Path, stream: str, followers: Callable[[], Collection[Follower]]) -> None:
        self._path = path
        self._stream = stream
        self._followers = followers
        self._fd = -1
        self._size = 0
        self._partial = b""

    def write(self, data: bytes) -> None:
        """Take what was read from the sandbox."""
        data = self._partial + data
        end = data.rfind(b"\n") + 1
        if not end and len(data) > MAX_LINE:
            data, end = data + b"\n", len(data) + 1
        self._partial = data[end:]
        if end:
            self._keep(data[: end - 1])

    def close(self) -> None:
        """Keep the last line even if it has no end."""
        if self._partial:
            self._keep(self._partial)
            self._partial = b""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _keep(self, lines: bytes) -> None:
        """`lines` without the last newline."""
        at_ms = int(time.time() * 1e3)
        prefix = b"%d " % at_ms
        block = b"%s%s\n" % (prefix, lines.replace(b"\n", b"\n" + prefix))
        try:
            self._rotate_for(len(block))
            os.write(self._fd, block)
            self._size += len(block)
        except OSError as error:
            log.error("cannot write the log %s: %s", self._stream, error)
        for follower in self._followers():
            follower.put(at_ms, self._stream, lines)

    def _rotate_for(self, octets: int) -> None:
        if self._fd >= 0 and self._size + octets > MAX_STREAM_BYTES:
            os.close(self._fd)
            self._fd = -1
            self._path.rename(self._path.with_suffix(".log.1"))
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._fd).st_size


def _lines(file: BinaryIO, size: int, stream: str, since_ms: int) -> Iterator[LogLine]:
    with file:
        while (left := size - file.tell()) > 0:
            at, _, text = file.readline(left).rstrip(b"\n").partition(b" ")
            if at.isdigit() and int(at) >= since_ms:
                yield LogLine(int(at), stream, text.decode("utf-8", "replace"))


def _remove_oldest(directory: Path) -> None:
    paths = sorted(directory.glob("*.log*"), key=lambda path: path.stat().st_mtime)
    for path in paths[: max(0, len(paths) - MAX_STREAMS)]:
        path.unlink(missing_ok=True)
