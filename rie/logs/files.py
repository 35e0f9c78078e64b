"""Log streams as files: one line of text for one line of log, "<epoch ms> <text>"."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

log = logging.getLogger(__name__)

MAX_STREAM_BYTES = 8_388_608  # for each of a stream's two files: the current and the one before
MAX_STREAMS = 200  # of a group; the oldest are removed
MAX_LINE = 262_144
FOLLOWER_LINES = 10_000  # what a slow follower may lag behind before it misses lines


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line, without its newline; `at_ms` is the epoch time at which it was received."""

    at_ms: int
    stream: str
    text: str


class LogFiles:
    """All groups below one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._followers: dict[str, set[asyncio.Queue[LogLine]]] = {}

    def open(self, group: str, stream: str) -> StreamWriter:
        """A sink for one environment's lines."""
        directory = self._root / quote(group, safe="")
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _remove_oldest(directory)
        except OSError as error:
            log.error("cannot keep the log %s: %s", group, error)
        return StreamWriter(
            directory / f"{quote(stream, safe='')}.log", stream, self._followers.setdefault(group, set())
        )

    def read(self, group: str, since_ms: int = 0) -> list[LogLine]:
        """The lines of a group's streams since an instant, by time."""
        directory = self._root / quote(group, safe="")
        lines: list[LogLine] = []
        for path in sorted(directory.glob("*.log*"), reverse=True):  # of one stream the older file, .log.1, first
            if path.stat().st_mtime * 1e3 >= since_ms:
                lines += _read(path, since_ms)
        lines.sort(key=lambda line: line.at_ms)  # stable: lines of one instant keep their stream's order
        return lines

    @contextlib.contextmanager
    def follow(self, group: str) -> Iterator[asyncio.Queue[LogLine]]:
        """A queue that gets every line of a group from now on."""
        followers = self._followers.setdefault(group, set())
        queue: asyncio.Queue[LogLine] = asyncio.Queue(FOLLOWER_LINES)
        followers.add(queue)
        try:
            yield queue
        finally:
            followers.discard(queue)


class StreamWriter:
    """Takes bytes cut anywhere, keeps whole lines. A full disk loses lines, never an invocation."""

    def __init__(self, path: Path, stream: str, followers: set[asyncio.Queue[LogLine]]) -> None:
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
            self._keep(data[: end - 1].split(b"\n"))

    def close(self) -> None:
        """Keep the last line even if it has no end."""
        if self._partial:
            self._keep([self._partial])
            self._partial = b""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _keep(self, lines: list[bytes]) -> None:
        at_ms = int(time.time() * 1e3)
        prefix = b"%d " % at_ms
        block = b"".join([prefix + line + b"\n" for line in lines])
        try:
            self._rotate_for(len(block))
            os.write(self._fd, block)
            self._size += len(block)
        except OSError as error:
            log.error("cannot write the log %s: %s", self._stream, error)
        for queue in self._followers:
            for line in lines:
                if not queue.full():
                    queue.put_nowait(LogLine(at_ms, self._stream, line.decode("utf-8", "replace")))

    def _rotate_for(self, octets: int) -> None:
        if self._fd >= 0 and self._size + octets > MAX_STREAM_BYTES:
            os.close(self._fd)
            self._fd = -1
            self._path.rename(self._path.with_suffix(".log.1"))
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._fd).st_size


def _read(path: Path, since_ms: int) -> Iterator[LogLine]:
    stream = unquote(path.name.partition(".log")[0])
    with path.open("rb") as file:
        for raw in file:
            at, _, text = raw.rstrip(b"\n").partition(b" ")
            if at.isdigit() and int(at) >= since_ms:
                yield LogLine(int(at), stream, text.decode("utf-8", "replace"))


def _remove_oldest(directory: Path) -> None:
    paths = sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime)
    for path in paths[: max(0, len(paths) - MAX_STREAMS)]:
        path.unlink(missing_ok=True)
