"""Has runs of schedules taken: again and again as their retry policies say, then told to their dead-letter queues."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from rie.clock import Clock
from rie.errors import RieError
from rie.model.event import Delivery
from rie.triggers.documents import Push
from rie.triggers.intake import FIRST_PAUSE_S, LONGEST_PAUSE_S, Never, NotNow
from rie.triggers.schedule_service import Run, Schedule

log = logging.getLogger(__name__)

Hand = Callable[[Push], Awaitable[None]]
"""Returns once an event is in the queue. Raises NotNow, Never."""
Tell = Callable[[tuple[Delivery, ...]], Awaitable[None]]
"""Returns once deliveries are durable. Raises StoreFailed."""


class Attempts:
    """Lives on the event loop. What waits for its next attempt is given up when the manager ends."""

    def __init__(self, hand: Hand, tell: Tell, clock: Clock) -> None:
        self._hand = hand
        self._tell = tell
        self._clock = clock
        self._again: set[asyncio.Task[None]] = set()

    async def run(self, schedule: Schedule, due_at: datetime) -> None:
        """Begin a run; returns after its first attempt, however that ends."""
        run = schedule.run_at(due_at)
        if await self._is_over(run, 1):
            return
        task = asyncio.get_running_loop().create_task(self._insist(run))
        self._again.add(task)
        task.add_done_callback(self._again.discard)

    async def close(self) -> None:
        """Try no more."""
        for task in list(self._again):
            task.cancel()
        if self._again:
            await asyncio.wait(self._again)

    async def _insist(self, run: Run) -> None:
        attempt, pause_s = 1, FIRST_PAUSE_S
        while True:
            await asyncio.sleep(pause_s)
            attempt, pause_s = attempt + 1, min(pause_s * 2, LONGEST_PAUSE_S)
            if await self._is_over(run, attempt):
                return

    async def _is_over(self, run: Run, attempt: int) -> bool:
        try:
            await self._hand(run.push(attempt))
        except Never as error:
            await self._give_up(run, attempt, error.code, str(error), "")
        except NotNow as error:
            age_s = self._clock.now().timestamp() - run.due_at.timestamp()
            if attempt > run.retries:
                exhausted = "MaximumRetryAttempts"
            elif age_s >= run.oldest_s:
                exhausted = "MaximumEventAgeInSeconds"
            else:
                log.info("a run of %s waits: %s", run.schedule.arn, error)
                return False
            await self._give_up(run, attempt, error.code, str(error), exhausted)
        return True

    async def _give_up(self, run: Run, attempts: int, code: str, message: str, exhausted: str) -> None:
        log.warning("%s could not run at %s: %s", run.schedule.arn, run.due_at, message)
        letter = run.letter(attempts, code, message, exhausted, self._clock.now().timestamp())
        if not letter:
            return
        try:
            await self._tell(letter)
        except RieError as error:
            log.error("cannot tell the dead-letter queue of %s: %s", run.schedule.arn, error)
