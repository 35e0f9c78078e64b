"""Images that no function has are removed: beyond a bound, the ones used longest ago first; all if the disk is full."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rie.engine.base import Engine
from rie.errors import DiskFull, HostFault
from rie.model.function import Configuration
from rie.model.image import Image

LOOK_S = 60.0  # between two looks at the disk …
LOOKS = 10  # … of which so many are one at the images
# What has just been prepared may not be recorded yet as some function's, and what was just run may be again.
RECENT_S = 600.0
MB = 1_000_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """`unused_mb`: what images that no function has may take; `free_mb`: what shall be free on the disk at `path`."""

    path: Path
    unused_mb: int
    free_mb: int


Configurations = Callable[[], Iterable[Configuration]]


class ImageSweeper:
    """Of the event loop. Until it is opened it knows of no image that nobody has, and removes none."""

    def __init__(self, engine: Engine, bounds: Bounds, look_s: float = LOOK_S) -> None:
        self._engine = engine
        self._bounds = bounds
        self._look_s = look_s
        self._turn = asyncio.Lock()
        self._has: tuple[Configurations, Configurations] | None = None
        self._task: asyncio.Task[None] | None = None

    def open(self, recorded: Configurations, running: Configurations) -> None:
        """Look from time to time. `recorded` blocks, and tells what functions have; `running`, called on the event
        loop, what environments run.
        """
        self._has = recorded, running
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def prepare(self, image: Image) -> None:
        """As `Engine.prepare`; if the disk is full, once more without the images that no function has."""
        try:
            await self._engine.prepare(image)
        except DiskFull as full:
            try:
                freed = await self.sweep(0)
            except HostFault:
                raise full from None
            if not freed:
                raise
            await self._engine.prepare(image)

    async def sweep(self, spare_mb: int) -> int:
        """Remove what no function has, but so much of it and what was just used; the bytes freed. Raises HostFault."""
        if self._has is None:
            return 0
        recorded, running = self._has
        async with self._turn:
            known = await asyncio.to_thread(lambda: list(recorded()))
            keep = [each.image for each in (*known, *running()) if each.image is not None]
            freed = await self._engine.collect(keep, spare_mb * MB, RECENT_S)
        if freed:
            _log.info("removed images that no function has: %.1f MB", freed / MB)
        return freed

    async def _go_on(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(self._look_s)
            looks += 1
            try:
                if await asyncio.to_thread(self._is_full):
                    await self.sweep(0)
                elif looks % LOOKS == 0:
                    await self.sweep(self._bounds.unused_mb)
            except HostFault as error:
                _log.warning("cannot remove images: %s", error)
            except Exception:
                _log.exception("cannot remove images")

    def _is_full(self) -> bool:
        return shutil.disk_usage(self._bounds.path).free < self._bounds.free_mb * MB
