"""Lines as they come, to whoever follows a group."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from bootstrap.wire import LINE_JOINT

FOLLOWER_BYTES = 8_388_608  # what a slow follower may lag behind before it misses lines


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line, without its newline; `at_ms` is the epoch time at which it was received.

    `offset` is its place in the file that it was read from, -1 for a line that comes from no file; `ending` what ended
    it: nothing where it was an event that a client put.
    """

    at_ms: int
    stream: str
    text: str
    offset: int = -1
    ending: str = "\n"


class Follower:
    """Gets every line of a group from now on; bounded, so that a slow one costs lines, not memory."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._blocks: asyncio.Queue[tuple[int, str, bytes, str]] = asyncio.Queue()
        self._octets = 0
        self._missed = 0

    @property
    def has_more(self) -> bool:
        """Whether `get` would not wait."""
        return not self._blocks.empty()

    def put(self, at_ms: int, stream: str, block: bytes, ending: str = "\n") -> None:
        """Take whole lines."""
        if self._octets + len(block) > FOLLOWER_BYTES:
            self._missed += block.count(b"\n") + 1
            return
        if self._missed:
            block = b"rie: %d lines left out here: they came too fast\n%s" % (self._missed, block)
            self._missed = 0
        self._octets += len(block)
        self._blocks.put_nowait((at_ms, stream, block, ending))

    def put_from_thread(self, at_ms: int, stream: str, block: bytes) -> None:
        """Take an event that a client put, from any thread; soon."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.put, at_ms, stream, block, "")

    async def get(self) -> list[LogLine]:
        """The next lines, as they come."""
        at_ms, stream, block, ending = await self._blocks.get()
        self._octets -= len(block)
        return [LogLine(at_ms, stream, as_text(line), -1, ending) for line in block.split(b"\n")]


def as_text(line: bytes) -> str:
    """A line as it was meant: one record of a runtime may be of several."""
    return line.decode("utf-8", "replace").replace(LINE_JOINT, "\n")


def as_line(text: str) -> bytes:
    """A text as one line, which `as_text` reads."""
    return text.replace("\n", LINE_JOINT).encode("utf-8", "replace")
