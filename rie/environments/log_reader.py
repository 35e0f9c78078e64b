"""Reads the log of one sandbox into its sink: in blocks, with pauses, and no faster than the sink wants."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Protocol

from bootstrap.output import MAX_BACKLOG

READ = 65_536
# How long lines may lie before they are read: each wake-up for one costs as much as a tenth of a warm invocation. Who
# writes more than a few lines meanwhile is read without a pause.
PAUSE_S = 0.02
FLOOD = 8_192
LAST_READS = 64  # of the log of a sandbox that ends: more than a pipe and the bootstrap's pause hold
# After a read of many lines the bootstrap, which may have a small share of CPU, has this long to write what it holds.
QUIET_S = 0.1
MOST_HELD = MAX_BACKLOG + READ  # what the bootstrap and the pipe can hold


class LogSink(Protocol):
    """Where the lines of one environment go."""

    def write(self, data: bytes) -> float:
        """Take bytes as they come, lines cut anywhere; the seconds for which nothing more is wanted, 0 as a rule."""

    def close(self) -> None:
        """No more will come."""


class LogReader:
    """`open`, and `close` before the descriptor is closed. Of the event loop; times are the loop's."""

    def __init__(self, fd: int, sink: LogSink) -> None:
        self._fd = fd
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._rest_s = 0.0  # for how long the sink wants no more
        self._busy_until = 0.0  # until then there may be more where the last lines came from
        self._taken = 0  # bytes
        self._has_ended = False

    def open(self) -> None:
        """Begin to read."""
        self._loop.add_reader(self._fd, self._came)

    async def delivered(self) -> None:
        """Wait until the sandbox has nothing left of what it has logged, as far as that can be told.

        Whoever goes on writing is not waited for longer than it takes to read all that can have been held by now.
        """
        enough = self._taken + MOST_HELD
        while not self._has_ended and self._taken < enough:
            left_s = self._busy_until - self._loop.time()
            if left_s <= 0:
                return
            await asyncio.sleep(left_s)

    def drain(self) -> None:
        """Read what there is, whatever the sink wants; a bounded part of what comes meanwhile."""
        with contextlib.suppress(OSError):
            for _ in range(LAST_READS):
                if not self._read():
                    break

    def close(self) -> None:
        """Read what there still is, a bounded part of what comes meanwhile, and close the sink."""
        self._stop()
        with contextlib.suppress(OSError):
            for _ in range(LAST_READS):  # whoever goes on writing is not waited for
                if not self._read():
                    break
        self._has_ended = True
        self._sink.close()

    def _came(self) -> None:
        """The log can be read: now, and not again before the pause is over.

        A function that logs more than its sink wants is not read for longer: then the bootstrap drops lines, and says
        so in the log.
        """
        is_flood = self._read() >= FLOOD
        if (not is_flood or self._rest_s) and not self._has_ended:
            self._stop()
            self._pause = self._loop.call_later(max(PAUSE_S, self._rest_s), self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._rest_s = 0.0
        self._loop.add_reader(self._fd, self._came)

    def _stop(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._loop.remove_reader(self._fd)

    def _read(self) -> int:
        """Take one block of the log, so that others have their turn; how many bytes there were."""
        try:
            data = os.read(self._fd, READ)
        except BlockingIOError:
            return 0
        if data:
            self._rest_s = self._sink.write(data)
            self._taken += len(data)
            if self._rest_s or len(data) >= FLOOD:
                self._busy_until = self._loop.time() + self._rest_s + QUIET_S
        else:  # the last writer is gone
            self._has_ended = True
            self._stop()
        return len(data)
