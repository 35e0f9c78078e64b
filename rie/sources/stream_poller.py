"""Reads a stream: finds its shards, works parents off before children, each by a reader of its own (§6.6)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from rie.model.mapping import Mapping
from rie.sources.around import Around, in_thread, pause_s
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
        self._is_first_look = True

    async def run(self) -> None:
        """Poll until `stop`. Never raises: what goes wrong shows in LastProcessingResult, and is tried again."""
        failures = 0
        try:
            while not self._stopping.is_set():
                try:
                    source = await in_thread(self._threads, self._source)
                    shards = await in_thread(self._threads, source.shards)
                    failures = 0
                except Exception as error:  # botocore's errors have no common root but Exception
                    failures += 1
                    self._around.note(self._mapping, f"PROBLEM: {error}")
                    await self._pause(pause_s(failures))
                    continue
                self._begin(shards, source)
                self._is_first_look = False
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
            task = asyncio.get_running_loop().create_task(reader.run(self._position(shard, known)))
            self._readers[shard.shard_id] = task
            task.add_done_callback(partial(self._ended, shard.shard_id))

    def _position(self, shard: Shard, known: set[str]) -> str:
        """Where an untouched shard begins: what came of a shard that was worked off must not be skipped."""
        is_new = not self._is_first_look or any(parent in known for parent in shard.parents)
        return "TRIM_HORIZON" if is_new else self._mapping.starting_position or "LATEST"

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
