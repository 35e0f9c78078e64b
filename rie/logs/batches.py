"""Lines cut into PutLogEvents calls that keep within its limits. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypedDict

from rie.logs.follow import as_text

# AWS limits of one call.
MAX_BYTES = 1_048_576
MAX_EVENTS = 10_000
MAX_SPAN_MS = 86_400_000
EVENT_OVERHEAD = 26  # bytes that each event counts beside its message
MAX_MESSAGE = 262_144 - EVENT_OVERHEAD


class LogEvent(TypedDict):
    """One event, as boto3 takes it."""

    timestamp: int
    message: str


def batches(blocks: Iterable[tuple[int, bytes]]) -> list[list[LogEvent]]:
    """The calls for blocks of lines (epoch ms, lines without the last newline), in the order of time.

    A message keeps its newline; one that is too long becomes several.
    """
    made: list[list[LogEvent]] = []
    batch: list[LogEvent] = []
    size = 0
    for at_ms, message in _messages(sorted(blocks, key=lambda block: block[0])):
        counted = len(message.encode()) + EVENT_OVERHEAD
        is_full = size + counted > MAX_BYTES or len(batch) == MAX_EVENTS
        if batch and (is_full or at_ms - batch[0]["timestamp"] >= MAX_SPAN_MS):
            made.append(batch)
            batch, size = [], 0
        batch.append({"timestamp": at_ms, "message": message})
        size += counted
    if batch:
        made.append(batch)
    return made


def _messages(blocks: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, str]]:
    for at_ms, block in blocks:
        for line in block.split(b"\n"):
            # What is no UTF-8 grows by being replaced, so lengths are of what is sent.
            data = as_text(line).encode() + b"\n"
            while len(data) > MAX_MESSAGE:
                cut = MAX_MESSAGE
                while data[cut] & 0xC0 == 0x80:  # not within a character
                    cut -= 1
                yield at_ms, data[:cut].decode()
                data = data[cut:]
            yield at_ms, data.decode()
