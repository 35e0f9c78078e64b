"""Code that nobody uses any more is removed: once at the start, and then a little after its last use."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from rie.code.store import CodeStore
from rie.errors import HostFault
from rie.model.code import Archive
from rie.model.function import Configuration

SWEEP_S = 60.0

Use = tuple[tuple[Archive, ...], tuple[Archive, ...]]
"""All that something has unpacked, and in which order it is merged."""

_log = logging.getLogger(__name__)


class Sweeper:
    """`recorded` blocks, and tells what the records use; `running`, called on the event loop, what environments do."""

    def __init__(
        self,
        code: CodeStore,
        recorded: Callable[[], list[Use]],
        running: Callable[[], Iterable[Configuration]],
        every_s: float = SWEEP_S,
    ) -> None:
        self._code = code
        self._recorded = recorded
        self._running = running
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Remove what an earlier process left, while nothing runs, and go on from time to time."""
        await self._sweep(at_once=True)
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self._sweep()
            except HostFault as error:
                _log.warning("cannot sweep code: %s", error)
            except Exception:
                _log.exception("cannot sweep code")

    async def _sweep(self, *, at_once: bool = False) -> None:
        recorded = await asyncio.to_thread(self._recorded)
        running = [use_of(configuration) for configuration in self._running()]
        await asyncio.to_thread(self._code.sweep, [*recorded, *running], at_once=at_once)


def use_of(configuration: Configuration) -> Use:
    """What a configuration uses."""
    return configuration.archives, tuple(layer.archive for layer in configuration.layers)
