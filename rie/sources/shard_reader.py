"""Works one shard off, in order: reads, batches, invokes, checkpoints (lambda.md §6.6)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import uuid
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace

import orjson

from rie.clock import iso_milliseconds
from rie.functions.filters import Filter
from rie.model.event import Delivery
from rie.model.mapping import Checkpoint, Mapping
from rie.sources import windows
from rie.sources.around import CALL_FAILED, OK, Around, NotRun, in_thread, pause_s, problem
from rie.sources.replies import failed_items
from rie.sources.segments import GiveUp, Segment, after_failure, expired, failure_record, fitting, lanes
from rie.sources.shard_source import ShardSource, StreamRecord
from rie.sources.windows import Window

log = logging.getLogger(__name__)

MAX_PAYLOAD = 6_000_000  # bytes of records in one event
MOST_READ = 10_000  # records of one read
CLOCKS_DIFFER_S = 2.0  # and DynamoDB's arrival times have whole seconds


class ShardReader:
    """`run` to the shard's end, or until stopped; one batch in flight, or one per lane."""

    def __init__(
        self,
        mapping: Mapping,
        shard: str,
        source: ShardSource,
        around: Around,
        threads: Executor,
        stopping: asyncio.Event,
    ) -> None:
        self._mapping = mapping
        self._shard = shard
        self._source = source
        self._around = around
        self._threads = threads
        self._stopping = stopping
        self._filter = Filter(mapping.filters, source.payload)
        self._checkpoint = Checkpoint()
        self._window: Window | None = None
        self._pending: list[StreamRecord] = []

    async def run(self, position: str) -> bool:
        """Whether the shard came to its end; False when stopped. `position` is where an untouched one begins."""
        self._checkpoint = await self._around.load(self._mapping, self._shard) or Checkpoint()
        if self._checkpoint.is_done:
            return True
        self._window = windows.opened(self._checkpoint, self._mapping.tumbling_window_s)
        failures = 0
        iterator: str | None = None
        while not self._stopping.is_set():
            try:
                if iterator is None:
                    iterator = await self._begin(position)
                records, following = await self._read(iterator)
                failures = 0
            except Exception as error:  # botocore's errors have no common root but Exception
                # An iterator may have expired; the next one goes on where the checkpoint is.
                failures += 1
                iterator = None
                self._pending.clear()
                self._around.note(self._mapping, problem(error))
                await self._pause(pause_s(failures))
                continue
            self._pending += records
            at_end = following is None
            await self._work_off(at_end=at_end)
            if at_end:
                if self._stopping.is_set():
                    return False
                await self._save(replace(self._checkpoint, is_done=True))
                return True
            iterator = following
            if not records:
                await self._pause(self._source.idle_s)
        return False

    # -- reading --------------------------------------------------------------------------------------------------

    async def _begin(self, position: str) -> str:
        after = self._checkpoint.sequence or None
        at = self._mapping.starting_at
        is_first = not after and position == "LATEST" and self._checkpoint.begun_at is None
        if not after and self._checkpoint.begun_at is not None:
            position, at = "AT_TIMESTAMP", self._checkpoint.begun_at
        begun_at = self._around.clock.now().timestamp()
        iterator = await in_thread(
            self._threads, lambda: self._source.iterator(self._shard, after=after, position=position, at=at)
        )
        if is_first:  # a restart before the first record must not lose what comes meanwhile
            await self._save(replace(self._checkpoint, begun_at=begun_at))
        return iterator

    async def _read(self, iterator: str) -> tuple[Sequence[StreamRecord], str | None]:
        most = min(self._mapping.batch_size * self._mapping.parallelization, MOST_READ)
        records, following = await in_thread(self._threads, lambda: self._source.read(self._shard, iterator, most))
        since = self._checkpoint.begun_at
        if since is not None and not self._checkpoint.sequence:
            records = [each for each in records if each.arrived_at >= since - CLOCKS_DIFFER_S]
        return records, following

    async def _work_off(self, *, at_end: bool) -> None:
        """Invoke with what is pending; with a batching window, only once it is full or the window is over."""
        mapping = self._mapping
        if self._pending and mapping.window_s and not at_end:
            waited_s = self._around.clock.now().timestamp() - self._pending[0].arrived_at
            is_full = fitting(self._pending, mapping.batch_size, MAX_PAYLOAD) < len(self._pending)
            if waited_s < mapping.window_s and not is_full and len(self._pending) < mapping.batch_size:
                return
        while self._pending and not self._stopping.is_set():
            count = fitting(self._pending, mapping.batch_size * mapping.parallelization, MAX_PAYLOAD)
            await self._batch(self._pending[:count])
            del self._pending[:count]
        if mapping.tumbling_window_s:
            await self._close_window_in_time(at_end=at_end)

    # -- batches --------------------------------------------------------------------------------------------------

    async def _batch(self, records: list[StreamRecord]) -> None:
        """All of these, to their end: done, or written off."""
        if self._mapping.tumbling_window_s:
            await self._through_windows(records)
            return
        wanted = [each for each in records if self._filter.lets_through(each.seen)]
        parts = lanes(wanted, self._mapping.parallelization) if wanted else []
        advances = len(parts) == 1 and len(wanted) == len(records)
        ends = await asyncio.gather(*(self._to_the_end(part, advances=advances) for part in parts))
        if all(ends):
            await self._save(replace(self._checkpoint, sequence=records[-1].sequence))

    async def _to_the_end(self, records: tuple[StreamRecord, ...], *, advances: bool) -> bool:
        """Try, halve and write off until nothing is left; whether that is so, for it may be stopped before.

        `advances`: the checkpoint may follow, because nothing beside these records is under way.
        """
        size = self._mapping.batch_size
        todo = [Segment(records[begun : begun + size]) for begun in range(0, len(records), size)]
        failures = 0
        while todo and not self._stopping.is_set():
            segment = todo.pop(0)
            old, rest = expired(segment, self._mapping, self._around.clock.now().timestamp())
            if old is not None:
                await self._write_off(GiveUp(old, "RecordAgeExceeded"))
            if rest is None:
                continue
            done, again, given_up, was_run = await self._try(rest)
            if given_up is not None:
                await self._write_off(given_up)
            if advances and done and (again or todo):  # else the whole batch is, and its checkpoint follows at once
                await self._save(replace(self._checkpoint, sequence=done[-1].sequence))
            if again:
                todo = again + todo
                failures = failures + 1 if len(again) == 1 or not was_run else 0
                if failures:
                    await self._pause(pause_s(failures) / 2)
            else:
                failures = 0
        return not todo

    async def _try(self, segment: Segment) -> tuple[tuple[StreamRecord, ...], list[Segment], GiveUp | None, bool]:
        """(records done, what to try next, what to write off, whether the function was run)."""
        sequences = [each.sequence for each in segment.records]
        window = self._window
        # Each attempt has the state that the one before left: of a halved batch, the second half that of the first.
        extra = windows.members(window, self._mapping, self._shard, is_final=False) if window is not None else {}
        event = {"Records": [each.event for each in segment.records], **extra}
        try:
            outcome = await self._around.invoke(self._mapping, orjson.dumps(event))
        except NotRun as error:
            self._around.note(self._mapping, error.result)
            return (), [segment], None, False
        failed = failed_items(outcome, sequences, reports=self._mapping.reports_failures)
        state = windows.state_of(outcome) if window is not None and outcome.function_error is None else None
        if not failed and window is not None and state is None:
            failed = set(sequences)
        self._around.note(self._mapping, OK if outcome.function_error is None else CALL_FAILED)
        if state is not None and window is not None and sequences[0] not in failed:
            self._window = replace(window, state=state)
        if not failed:
            return segment.records, [], None, True
        tried = replace(
            segment,
            attempts=segment.attempts + 1,
            error=outcome.function_error,
            version=outcome.executed_version,
        )
        done, again, given_up = after_failure(tried, failed, self._mapping)
        return done, again, given_up, True

    async def _write_off(self, given_up: GiveUp) -> None:
        """Tell the on-failure destination, durably, before the checkpoint passes these records."""
        target = self._mapping.on_failure
        if not target:
            return
        records = given_up.segment.records
        now = self._around.clock.now().timestamp()
        batch = {
            "shardId": self._shard,
            "startSequenceNumber": records[0].sequence,
            "endSequenceNumber": records[-1].sequence,
            "approximateArrivalOfFirstRecord": self._source.instant(records[0].arrived_at),
            "approximateArrivalOfLastRecord": self._source.instant(records[-1].arrived_at),
            "batchSize": len(records),
            "streamArn": self._mapping.source_arn,
        }
        request_id = str(uuid.uuid4())
        told = failure_record(
            given_up,
            function_arn=self._mapping.function_arn,
            request_id=request_id,
            now=iso_milliseconds(now),
            batch_info=self._source.batch_info,
            batch=batch,
        )
        if target.split(":")[2] == "s3":
            told["payload"] = {"Records": [each.event for each in records]}
        delivery = Delivery(
            delivery_id=request_id,
            target=target,
            body=json.dumps(told, separators=(",", ":")),
            region=self._mapping.key.region,
            role=self._around.role(self._mapping),
            due_at=now,
            folder=f"{self._mapping.uuid}/{self._shard}",
            function_arn=self._mapping.function_arn,
            request_id=request_id,
            created_at=now,
        )
        await self._around.deliver((delivery,))

    # -- windows --------------------------------------------------------------------------------------------------

    async def _through_windows(self, records: list[StreamRecord]) -> None:
        """Cut a batch where windows end, and hand each part's state on."""
        width_s = self._mapping.tumbling_window_s
        while records and not self._stopping.is_set():
            if self._window is None:
                self._window = windows.window_of(records[0].arrived_at, width_s)
            count = windows.leading(records, self._window)
            if not count:
                await self._close_window()
                continue
            part, records = records[:count], records[count:]
            wanted = tuple(each for each in part if self._filter.lets_through(each.seen))
            if wanted and not await self._to_the_end(wanted, advances=False):
                return
            if windows.is_too_large(self._window.state):
                await self._close_window(is_early=True)
            await self._save(self._with_window(replace(self._checkpoint, sequence=part[-1].sequence)))

    async def _close_window_in_time(self, *, at_end: bool) -> None:
        """A window is over once its end has passed, whether more records come or not."""
        now = self._around.clock.now().timestamp()
        if self._window is not None and (at_end or now >= self._window.end):
            await self._close_window()

    async def _close_window(self, *, is_early: bool = False) -> None:
        """The last invocation of a window, without records; then its state is forgotten."""
        assert self._window is not None
        extra = windows.members(self._window, self._mapping, self._shard, is_final=True, is_early=is_early)
        failures = 0
        while not self._stopping.is_set():
            try:
                outcome = await self._around.invoke(self._mapping, orjson.dumps({"Records": [], **extra}))
            except NotRun as error:
                self._around.note(self._mapping, error.result)
            else:
                self._around.note(self._mapping, OK if outcome.function_error is None else CALL_FAILED)
                if outcome.function_error is None:
                    break
                if self._mapping.max_retries != -1 and failures >= self._mapping.max_retries:
                    break
            failures += 1
            await self._pause(pause_s(failures) / 2)
        if not self._stopping.is_set():
            self._window = None
            await self._save(self._with_window(self._checkpoint))

    def _with_window(self, checkpoint: Checkpoint) -> Checkpoint:
        if self._window is None:
            return replace(checkpoint, state=None, window_end=None)
        return replace(checkpoint, state=json.dumps(self._window.state), window_end=self._window.end)

    # -- small things ---------------------------------------------------------------------------------------------

    async def _save(self, checkpoint: Checkpoint) -> None:
        """However long the store refuses: a checkpoint that is not written must not be gone past."""
        failures = 0
        while True:
            try:
                await self._around.save(self._mapping, self._shard, checkpoint)
                break
            except Exception as error:
                failures += 1
                log.error("cannot keep a checkpoint of %s: %s", self._mapping.source_arn, error)
                await asyncio.sleep(pause_s(failures))
        self._checkpoint = checkpoint

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
