"""Reads a stream: finds its shards, works parents off before children, each by a reader of its own (§6.6)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from rie.model.mapping import Checkpoint, Mapping
from rie.sources.around import Around, in_thread, pause_s, problem
from rie.sources.dynamodb import DynamoDbShards
from rie.sources.kinesis import KinesisShards
from rie.sources.shard_reader import ShardReader
from rie.sources.shard_source import Shard, ShardSource

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 10.0  # for new shards
MOST_SHARDS_AT_ONCE = 64  # threads that read


class StreamPoller:
    """`run` until cancelled or told to `stop`."""

    def __init__(self, mapping: Mapping, around: Around) -> None:
        self._mapping = mapping
        self._around = around
        self._threads = ThreadPoolExecutor(MOST_SHARDS_AT_ONCE, f"stream-{mapping.uuid[:8]}")
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._readers: dict[str, asyncio.Task[bool]] = {}
        self._done: set[str] = set()
        self._first_shards: set[str] | None = None  # those that LATEST is about; None before the first look

    async def run(self) -> None:
        """Poll until `stop`. Never raises: what goes wrong shows in LastProcessingResult, and is tried again."""
        failures = 0
        try:
            while not self._stopping.is_set():
                try:
                    source = await in_thread(self._threads, self._source)
                    shards = await in_thread(self._threads, source.shards)
                    if self._first_shards is None:
                        self._first_shards = await self._begun_with(shards)
                    failures = 0
                except Exception as error:  # botocore's errors have no common root but Exception
                    failures += 1
                    self._around.note(self._mapping, problem(error))
                    await self._pause(pause_s(failures))
                    continue
                self._begin(shards, source)
                await self._pause(LOOK_AGAIN_S)
            if self._readers:
                await asyncio.wait(self._readers.values())
        finally:
            for reader in self._readers.values():
                reader.cancel()
            self._threads.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Read nothing more; `run` returns once the batches under way have ended."""
        self._stopping.set()
        self._changed.set()

    def _begin(self, shards: Iterable[Shard], source: ShardSource) -> None:
        """Start the readers of shards whose parents are done, or have gone."""
        known = {shard.shard_id for shard in shards}
        for shard in shards:
            waits = any(parent in known and parent not in self._done for parent in shard.parents)
            if shard.shard_id in self._readers or shard.shard_id in self._done or waits:
                continue
            reader = ShardReader(self._mapping, shard.shard_id, source, self._around, self._threads, self._stopping)
            task = asyncio.get_running_loop().create_task(reader.run(self._position(shard)))
            self._readers[shard.shard_id] = task
            task.add_done_callback(partial(self._ended, shard.shard_id))

    async def _begun_with(self, shards: Iterable[Shard]) -> set[str]:
        """The shards of a mapping that has never been polled; of another none, whatever is new came since.

        With LATEST a child among them is read when its parents are done, from now on all the same: what it had before
        is as old as what they had.
        """
        load, save = self._around.load, self._around.save
        if [each for each in shards if await load(self._mapping, each.shard_id) is not None]:
            return set()
        known = {shard.shard_id for shard in shards}
        now = self._around.clock.now().timestamp()
        for shard in shards:
            if self._mapping.starting_position == "LATEST" and known.intersection(shard.parents):
                await save(self._mapping, shard.shard_id, Checkpoint(begun_at=now))
        return known

    def _position(self, shard: Shard) -> str:
        """Where an untouched shard begins."""
        position = self._mapping.starting_position or "LATEST"
        is_later = position == "LATEST" and shard.shard_id not in (self._first_shards or ())
        return "TRIM_HORIZON" if is_later else position

    def _ended(self, shard_id: str, task: asyncio.Task[bool]) -> None:
        self._readers.pop(shard_id, None)
        if task.cancelled():
            return
        if task.exception() is not None:
            log.error("the reader of shard %s ended", shard_id, exc_info=task.exception())
        elif task.result():
            self._done.add(shard_id)
        self._changed.set()

    def _source(self) -> ShardSource:
        client = self._around.client(self._mapping)
        if self._mapping.service == "kinesis":
            return KinesisShards(client, self._mapping, self._around.role(self._mapping))
        return DynamoDbShards(client, self._mapping)

    async def _pause(self, seconds: float) -> None:
        """Until then, or until something has ended."""
        self._changed.clear()
        if self._stopping.is_set():
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)
