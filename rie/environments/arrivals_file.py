"""What is known of arrivals, in a file: so that a manager that starts again need not learn it again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from rie.environments.arrivals import Book, Caller
from rie.model.function import FunctionKey

EVERY_S = 600.0
AT_ONCE = 64  # callers that are dumped before others have the event loop

log = logging.getLogger(__name__)


class ArrivalsFile:
    """[[account, region, name, version, tenant, levels] …]. A file that can't be read or written is no error."""

    def __init__(self, path: Path, book: Book, every_s: float = EVERY_S) -> None:
        self._path = path
        self._book = book
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    async def open(self, is_known: Callable[[FunctionKey, str], bool]) -> None:
        """Let the book have what was written of versions that are still known; write it from time to time."""
        try:
            rows = orjson.loads(await asyncio.to_thread(self._path.read_bytes))
            found = {caller: row[5] for row in rows if is_known((caller := _caller(row)).key, caller.version)}
            self._book.load(found)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            log.warning("cannot read %s: %s; arrivals are learned anew", self._path, error)
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def close(self) -> None:
        """Write it for the last time."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            await self.write()

    async def write(self) -> None:
        """Replace the file: all of it or nothing."""
        rows = []
        for number, (caller, levels) in enumerate(self._book.dump()):
            rows.append([caller.key.account, caller.key.region, caller.key.name, *caller[1:], levels])
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        try:
            await asyncio.to_thread(self._replace, orjson.dumps(rows))
        except OSError as error:
            log.warning("cannot write %s: %s", self._path, error)

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.write()

    def _replace(self, content: bytes) -> None:
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_bytes(content)
        new.replace(self._path)


def _caller(row: Any) -> Caller:
    account, region, name, version, tenant_id = map(str, row[:5])
    return Caller(FunctionKey(account, region, name), version, tenant_id)
