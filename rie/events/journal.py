"""Group commit: what many callers want written becomes durable in one transaction, and each hears of it then."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from rie.errors import StoreFailed
from rie.store.events import AddEvent, Entry

log = logging.getLogger(__name__)

Written = Callable[[StoreFailed | None], None]
"""Told that entries are durable, or why none of them is."""
Asked = tuple[tuple[Entry, ...], Written]

MAX_ENTRIES = 1_024  # of one transaction
MAX_BYTES = 16_777_216  # of payloads in one transaction


class Journal:
    """Lives on the event loop; `apply` writes entries in one transaction and runs on a thread of its own."""

    def __init__(self, apply: Callable[[Sequence[Entry]], None]) -> None:
        self._apply = apply
        self._thread = ThreadPoolExecutor(1, "journal")
        self._pending: list[Asked] = []
        self._committing: asyncio.Task[None] | None = None

    def submit(self, entries: tuple[Entry, ...], written: Written) -> None:
        """Write entries in the next transaction; `written` is called on the event loop, with the error if they aren't.

        A task and a future for each caller cost as much as all else that is done about an event.
        """
        self._pending.append((entries, written))
        if self._committing is None:
            self._committing = asyncio.get_running_loop().create_task(self._commit())

    async def write(self, *entries: Entry) -> None:
        """Return once the entries are durable. Raises StoreFailed: then none of them is.

        Whoever stops waiting doesn't stop the commit: the entries may be in a transaction already.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.submit(entries, functools.partial(settle, written))
        await written

    async def close(self) -> None:
        """Wait for what is to be written."""
        while self._committing is not None:
            await asyncio.wait([self._committing])
        self._thread.shutdown(wait=False)

    async def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._pending:
                batch = self._take()
                entries = [entry for group, _ in batch for entry in group]
                try:
                    await loop.run_in_executor(self._thread, self._apply, entries)
                except Exception as error:
                    await self._one_by_one(batch, error)
                else:
                    for _, written in batch:
                        _tell(written, None)
        finally:
            self._committing = None

    async def _one_by_one(self, batch: list[Asked], why: Exception) -> None:
        """One caller's entries may be what the database refuses; the others' must not fail with them."""
        if len(batch) == 1:
            return _tell(batch[0][1], why)
        loop = asyncio.get_running_loop()
        for entries, written in batch:
            try:
                await loop.run_in_executor(self._thread, self._apply, entries)
            except Exception as error:
                _tell(written, error)
            else:
                _tell(written, None)
        return None

    def _take(self) -> list[Asked]:
        taken = entries = octets = 0
        for group, _ in self._pending:
            entries += len(group)
            octets += sum(len(entry.event.payload) for entry in group if isinstance(entry, AddEvent))
            if taken and (entries > MAX_ENTRIES or octets > MAX_BYTES):
                break
            taken += 1
        batch, self._pending = self._pending[:taken], self._pending[taken:]
        return batch


def _tell(written: Written, error: Exception | None) -> None:
    why = error if error is None or isinstance(error, StoreFailed) else StoreFailed(f"cannot store events: {error!r}")
    try:
        written(why)
    except Exception:
        log.exception("whoever wrote to the journal could not go on")


def settle(written: asyncio.Future[None], error: StoreFailed | None) -> None:
    """Have a future say what happened."""
    if written.done():
        return
    if error is None:
        written.set_result(None)
    else:
        written.set_exception(error)
        written.exception()  # a caller that has gone doesn't collect it
