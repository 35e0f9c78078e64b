"""Snapshots of initialised functions: taken when a version is published, kept in the data directory, swept with it."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from rie.engine.base import Engine
from rie.environments.plan import Throttled
from rie.errors import HostFault
from rie.model.function import LATEST, Configuration, Function, FunctionKey

log = logging.getLogger(__name__)

Take = Callable[[Function, Configuration, Path], Awaitable[None]]
"""`Pool.take_snapshot`."""


class Snapshots:
    """Owned by the event loop; a directory per configuration of a version.

    Where none can be taken, environments initialise one by one, and the log says why.
    """

    def __init__(self, engine: Engine, directory: Path, take: Take) -> None:
        self._engine = engine
        self._directory = directory
        self._take = take
        self._ready: dict[str, tuple[FunctionKey, str]] = {}  # by name: the version it is of

    def find(self, function: Function, configuration: Configuration) -> Path | None:
        """The one that environments of a version are made from; None for $LATEST, and where there is none."""
        name = _name(function, configuration)
        return self._directory / name if name in self._ready else None

    async def open(self, functions: Iterable[Function]) -> list[Function]:
        """Take over what an earlier process has left for these versions, remove the rest; the versions without one."""
        wanted = {_name(each, each.serving): each for each in functions if each.takes_snapshot and each.serving}
        kept = await asyncio.to_thread(self._sweep, set(wanted))
        self._ready = {name: (wanted[name].key, wanted[name].version) for name in kept}
        return [function for name, function in wanted.items() if name not in self._ready]

    async def take(self, function: Function) -> bool:
        """Take one of a version; False, with a line in the log, where that can't be. Raises InitFailed, ImageFault."""
        configuration = function.configuration
        name = _name(function, configuration)
        why = await asyncio.to_thread(self._engine.why_no_snapshots)
        if why is None:
            try:
                await asyncio.to_thread(_remove, self._directory / name)
                await self._take(function, configuration, self._directory / name)
            except Throttled:
                why = "it does not fit into this machine's memory"
            except HostFault as error:
                why = str(error)
        if why is not None:
            log.warning(
                "%s:%s has no snapshot, its environments initialise: %s", function.key.arn, function.version, why
            )
            return False
        self._ready[name] = (function.key, function.version)
        return True

    def forget(self, key: FunctionKey, version: str) -> None:
        """A version is gone; with $LATEST all of them are."""
        of_all = version == LATEST
        for name, place in list(self._ready.items()):
            if place[0] == key and (of_all or place[1] == version):
                del self._ready[name]
                asyncio.get_running_loop().run_in_executor(None, _remove, self._directory / name)

    def _sweep(self, wanted: set[str]) -> set[str]:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        kept = set()
        for path in self._directory.iterdir():
            if path.name in wanted and self._engine.can_start_from(path):
                kept.add(path.name)
            else:
                _remove(path)
        return kept


def _name(function: Function, configuration: Configuration) -> str:
    return f"{configuration.configuration_id}-{function.version}"


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
