"""Lines on their way to CloudWatch Logs: gathered, sent in the background, bounded in memory, never waited for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from rie.logs.batches import LogEvent, batches
from rie.logs.cloudwatch import Refused, Unreachable

log = logging.getLogger(__name__)

SENDERS = 4  # calls on their way at a time
GATHER_S = 0.5  # lines wait so long for company
BACKOFF_FIRST_S, BACKOFF_LONGEST_S = 0.5, 30.0
OWNER_BYTES = 8_388_608  # what lines of one function may take of memory
TOTAL_BYTES = 67_108_864
BLOCK_OVERHEAD = 200  # bytes that a block takes beside its lines; measured
TAKEN_BYTES = 524_288  # of lines made into batches at a time
WARN_EVERY_S = 60.0

Put = Callable[[str, str, str, str, list[LogEvent]], None]
"""Sends one batch: (region, role ARN, group, stream, events); blocks. Raises Unreachable, Refused."""


@dataclass(slots=True)
class Share:
    """What lines of one function take of memory."""

    octets: int = 0


@dataclass(eq=False, slots=True)
class Channel:
    """One stream on its way, owned by the event loop.

    `taken` are blocks that are being sent, `sent` how many of the batches that they make have arrived.
    """

    region: str
    role: str
    group: str
    stream: str
    share: Share
    blocks: deque[tuple[int, bytes]] = field(default_factory=deque)
    taken: list[tuple[int, bytes]] = field(default_factory=list)
    sent: int = 0
    lost_lines: int = 0
    lost_bytes: int = 0
    is_sending: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self.blocks and not self.taken and not self.lost_lines


class Delivery:
    """Lives on the event loop; the calls are made in threads."""

    def __init__(self, put: Put, gather_s: float = GATHER_S) -> None:
        self._put = put
        self._gather_s = gather_s
        self._threads = ThreadPoolExecutor(SENDERS, "logs")
        self._senders = asyncio.Semaphore(SENDERS)
        self._shares: dict[str, Share] = {}
        self._octets = 0
        self._failures = 0
        self._again_at = 0.0
        self._warns_again_at = 0.0
        self._pumps: set[asyncio.Task[None]] = set()
        self._is_closing = False

    def __len__(self) -> int:
        """Bytes that wait."""
        return self._octets

    def channel(self, region: str, role: str, group: str, stream: str, owner: str) -> Callable[[int, bytes], None]:
        """What takes one stream's lines (epoch ms, lines without the last newline) and returns at once."""
        share = self._shares.setdefault(owner, Share())
        channel = Channel(region, role, group, stream, share)
        return lambda at_ms, block: self._take(channel, at_ms, block)

    async def close(self, within_s: float) -> None:
        """Send what waits, for so long at most."""
        self._is_closing = True
        if self._pumps:
            await asyncio.wait(self._pumps, timeout=within_s)
        for task in list(self._pumps):
            task.cancel()
        if self._octets:
            log.warning("%d bytes of logs have not been delivered to CloudWatch Logs; they are on disk", self._octets)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _take(self, channel: Channel, at_ms: int, block: bytes) -> None:
        counted = len(block) + BLOCK_OVERHEAD
        if channel.share.octets + counted > OWNER_BYTES or self._octets + counted > TOTAL_BYTES:
            channel.lost_lines += block.count(b"\n") + 1
            channel.lost_bytes += len(block)
        else:
            if channel.lost_lines:
                self._tell_lost(channel, at_ms)
            self._count(channel, counted)
            channel.blocks.append((at_ms, block))
        if not channel.is_sending:
            channel.is_sending = True
            task = asyncio.get_running_loop().create_task(self._pump(channel))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    def _tell_lost(self, channel: Channel, at_ms: int) -> None:
        notice = b"rie: %d lines (%d bytes) dropped: CloudWatch Logs takes them too slowly" % (
            channel.lost_lines,
            channel.lost_bytes,
        )
        channel.lost_lines = channel.lost_bytes = 0
        self._count(channel, len(notice) + BLOCK_OVERHEAD)
        channel.blocks.append((at_ms, notice))

    def _count(self, channel: Channel, octets: int) -> None:
        channel.share.octets += octets
        self._octets += octets

    # -- sending ----------------------------------------------------------------------------------------------------

    async def _pump(self, channel: Channel) -> None:
        """Send what a stream has, in turn with others, until it has nothing more."""
        try:
            while not channel.is_empty:
                if not self._is_closing and not channel.taken:
                    await asyncio.sleep(self._gather_s)
                await asyncio.sleep(max(0.0, self._again_at - time.monotonic()))
                async with self._senders:
                    if time.monotonic() >= self._again_at:  # nobody has failed meanwhile
                        await self._send_some(channel)
        finally:
            channel.is_sending = False

    async def _send_some(self, channel: Channel) -> None:
        if not channel.taken:
            self._fill(channel)
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._send, channel)
        except Unreachable as error:
            self._back_off(error)
            return
        self._failures = 0
        self._count(channel, -sum(len(block) + BLOCK_OVERHEAD for _, block in channel.taken))
        channel.taken, channel.sent = [], 0

    def _fill(self, channel: Channel) -> None:
        if not channel.blocks and channel.lost_lines:
            self._tell_lost(channel, int(time.time() * 1e3))
        octets = 0
        while channel.blocks and octets < TAKEN_BYTES:
            channel.taken.append(channel.blocks.popleft())
            octets += len(channel.taken[-1][1]) + BLOCK_OVERHEAD

    def _send(self, channel: Channel) -> None:
        """In a thread, which alone has what was taken meanwhile. Raises Unreachable.

        What could not be sent is kept as it came, and cut into the same batches again: events take far more memory.
        """
        for events in batches(channel.taken)[channel.sent :]:
            try:
                self._put(channel.region, channel.role, channel.group, channel.stream, events)
            except Refused as error:
                self._warn("cannot deliver logs of %s: %s; its lines are on disk alone", channel.group, error)
            channel.sent += 1

    def _back_off(self, error: Unreachable) -> None:
        wait_s = min(BACKOFF_FIRST_S * 2.0 ** min(self._failures, 10), BACKOFF_LONGEST_S)
        self._failures += 1
        self._again_at = time.monotonic() + wait_s
        self._warn("cannot deliver logs to CloudWatch Logs: %s; again in %.1f s", error, wait_s)

    def _warn(self, message: str, *values: object) -> None:
        now = time.monotonic()
        if now >= self._warns_again_at:
            self._warns_again_at = now + WARN_EVERY_S
            log.warning(message, *values)
