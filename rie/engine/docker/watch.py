"""Notices the end of containers whose processes cannot be seen from here, as when the manager is in a container."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from rie.errors import EngineUnavailable

PERIOD_S = 0.3  # an end is to be noticed within half a second


class Watch:
    """One list of running containers a round for however many are watched; no round while none is."""

    def __init__(self, running: Callable[[], Awaitable[Collection[str]]]) -> None:
        """`running` answers the ids of our running containers, or raises EngineUnavailable."""
        self._running = running
        self._callbacks: dict[str, Callable[[], None]] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, container_id: str, callback: Callable[[], None]) -> None:
        """Have `callback` called once, on the loop, when that container runs no more."""
        self._callbacks[container_id] = callback
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._watch())

    def discard(self, container_id: str) -> None:
        """Forget a container."""
        self._callbacks.pop(container_id, None)

    def close(self) -> None:
        """Forget them all."""
        self._callbacks.clear()
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        while self._callbacks:
            await asyncio.sleep(PERIOD_S)
            asked = tuple(self._callbacks)  # one added while we ask may not be in the answer
            try:
                running = await self._running()
            except EngineUnavailable:
                continue  # no news of any container; whoever calls the daemon next says that it is down
            for container_id in asked:
                callback = self._callbacks.pop(container_id, None) if container_id not in running else None
                if callback is not None:
                    callback()
