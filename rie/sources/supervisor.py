"""Keeps one poller for each enabled mapping, and moves mappings to the states that were asked for (§6.2)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from rie.errors import StoreFailed
from rie.model.mapping import SETTLED, Mapping
from rie.sources.around import Around, pause_s
from rie.sources.queue_poller import QueuePoller
from rie.sources.stream_poller import StreamPoller

log = logging.getLogger(__name__)

DRAIN_S = 30.0  # what batches under way may take when a mapping changes


class Poller(Protocol):
    """One mapping at work."""

    async def run(self) -> None:
        """Until told to stop."""

    def stop(self) -> None:
        """Begin nothing more."""


POLLED: dict[str, Callable[[Mapping, Around], Poller]] = {
    "sqs": QueuePoller,
    "kinesis": StreamPoller,
    "dynamodb": StreamPoller,
}

Settle = Callable[[Mapping, "Mapping | None"], Awaitable[None]]
"""Stores what a mapping is now, None for gone, unless the API has changed it meanwhile. Raises StoreFailed."""


class Supervisor:
    """Lives on the event loop. Each mapping's changes are carried out one after the other."""

    def __init__(self, around: Around, settle: Settle, *, drain_s: float = DRAIN_S) -> None:
        self._around = around
        self._settle = settle
        self._drain_s = drain_s
        self._wanted: dict[str, Mapping | None] = {}
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self._pollers: dict[str, tuple[Mapping, Poller, asyncio.Task[None]]] = {}
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._pollers)

    def change(self, uuid: str, mapping: Mapping | None) -> None:
        """A mapping was made or changed; None when it is gone."""
        if self._is_closed:
            return
        self._wanted[uuid] = mapping
        if uuid not in self._at_work:
            task = asyncio.get_running_loop().create_task(self._carry_out(uuid))
            self._at_work[uuid] = task
            task.add_done_callback(lambda _: self._at_work.pop(uuid, None))

    async def close(self) -> None:
        """Let batches under way end, for a while."""
        self._is_closed = True
        for task in list(self._at_work.values()):
            task.cancel()
        await asyncio.gather(*(self._stop(uuid) for uuid in list(self._pollers)))

    async def _carry_out(self, uuid: str) -> None:
        while uuid in self._wanted:
            mapping = self._wanted.pop(uuid)
            running = self._pollers.get(uuid)
            if mapping is not None and running is not None and _works_alike(mapping, running[0]):
                continue
            await self._stop(uuid)
            if mapping is None:
                continue
            if mapping.state == "Deleting":
                await self._surely(mapping, None)
                continue
            polls = mapping.is_enabled and mapping.service in POLLED
            if polls:
                self._start(mapping)
            if mapping.state not in SETTLED:
                await self._surely(mapping, replace(mapping, state="Enabled" if polls else "Disabled"))

    def _start(self, mapping: Mapping) -> None:
        poller = POLLED[mapping.service](mapping, self._around)
        task = asyncio.get_running_loop().create_task(poller.run())
        self._pollers[mapping.uuid] = (mapping, poller, task)
        task.add_done_callback(lambda task: _report(mapping, task))

    async def _stop(self, uuid: str) -> None:
        running = self._pollers.pop(uuid, None)
        if running is None:
            return
        _, poller, task = running
        poller.stop()
        await asyncio.wait({task}, timeout=self._drain_s)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task

    async def _surely(self, before: Mapping, after: Mapping | None) -> None:
        failures = 0
        while True:
            try:
                return await self._settle(before, after)
            except StoreFailed as error:
                failures += 1
                log.error("cannot settle mapping %s: %s", before.uuid, error)
                await asyncio.sleep(pause_s(failures))


def _works_alike(new: Mapping, old: Mapping) -> bool:
    """Whether two differ only in what a poller doesn't know of."""
    if new.state not in SETTLED or not new.is_enabled:
        return False
    told = replace(old, state=new.state, state_reason=new.state_reason, modified_at=new.modified_at, tags=new.tags)
    return told == new


def _report(mapping: Mapping, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("the poller of %s ended", mapping.source_arn, exc_info=task.exception())
