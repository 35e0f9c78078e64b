"""Sends deliveries until they have arrived: at once, then ever more rarely, for a day."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from rie.clock import Clock
from rie.errors import StoreFailed
from rie.events.destinations import Undeliverable
from rie.events.journal import Journal
from rie.events.policy import BACKOFF_FIRST_S, BACKOFF_LONGEST_S
from rie.model.event import Delivery
from rie.store.events import RemoveDelivery, UpdateDelivery

log = logging.getLogger(__name__)

SENDERS = 16  # deliveries on their way at a time
GIVES_UP_AFTER_S = 86_400.0
STORE_AGAIN_S = 1.0

Send = Callable[[Delivery], None]
"""Sends one delivery once; blocks. Raises Undeliverable."""
SendWithin = Callable[[Delivery], Awaitable[bool]]
"""Takes a delivery to a function of this manager; False for every other target."""


class Deliverer:
    """Lives on the event loop. What it was given is in the store already, and leaves it when it has arrived."""

    def __init__(self, send: Send, send_within: SendWithin, journal: Journal, clock: Clock) -> None:
        self._send = send
        self._send_within = send_within
        self._journal = journal
        self._clock = clock
        self._threads = ThreadPoolExecutor(SENDERS, "deliver")
        self._due: list[tuple[float, int, Delivery]] = []
        self._order = itertools.count()
        self._wake = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Task[None] | None = None
        self.failures: Counter[tuple[str, bool]] = Counter()  # by function ARN, and whether to a dead-letter queue

    def __len__(self) -> int:
        return len(self._due) + len(self._sending)

    def open(self) -> None:
        """Begin to send."""
        self._timer = asyncio.get_running_loop().create_task(self._run())

    def take(self, deliveries: Iterable[Delivery]) -> None:
        """Send these as soon as they are due."""
        for delivery in deliveries:
            heapq.heappush(self._due, (delivery.due_at, next(self._order), delivery))
        self._wake.set()

    def poke(self) -> None:
        """The clock was moved."""
        self._wake.set()

    async def close(self) -> None:
        """Let what is on its way arrive; the rest is in the store for the next start."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sending:
            await asyncio.wait(self._sending, timeout=10.0)
        for task in self._sending:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            now = self._clock.now().timestamp()
            while self._due and self._due[0][0] <= now and len(self._sending) < SENDERS:
                _, _, delivery = heapq.heappop(self._due)
                task = asyncio.get_running_loop().create_task(self._deliver(delivery))
                self._sending.add(task)
                task.add_done_callback(self._sent)
            until_s = self._due[0][0] - now if self._due and len(self._sending) < SENDERS else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), until_s)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._wake.set()

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            if not await self._send_within(delivery):
                await asyncio.get_running_loop().run_in_executor(self._threads, self._send, delivery)
        except Undeliverable as error:
            await self._again(delivery, error)
            return
        except Exception as error:
            log.exception("cannot deliver to %s", delivery.target)
            await self._again(delivery, Undeliverable(repr(error), is_permanent=False))
            return
        await self._write_remove(delivery)

    async def _again(self, delivery: Delivery, why: Undeliverable) -> None:
        self.failures[delivery.function_arn, delivery.is_dead_letter] += 1
        now = self._clock.now().timestamp()
        if why.is_permanent or now - delivery.created_at > GIVES_UP_AFTER_S:
            log.error(
                "gave up on telling %s of event %s of %s: %s",
                delivery.target,
                delivery.request_id,
                delivery.function_arn,
                why,
            )
            await self._write_remove(delivery)
            return
        wait_s = min(BACKOFF_FIRST_S * 2.0 ** min(delivery.attempts, 30), BACKOFF_LONGEST_S)
        later = replace(delivery, attempts=delivery.attempts + 1, due_at=now + wait_s)
        log.warning("cannot deliver to %s: %s; again in %.0f s", delivery.target, why, wait_s)
        with contextlib.suppress(StoreFailed):  # then it is sent sooner after a restart
            await self._journal.write(UpdateDelivery(later))
        self.take([later])

    async def _write_remove(self, delivery: Delivery) -> None:
        while True:
            try:
                return await self._journal.write(RemoveDelivery(delivery.delivery_id))
            except StoreFailed as error:
                log.error("cannot note a delivery: %s", error)
                await asyncio.sleep(STORE_AGAIN_S)
