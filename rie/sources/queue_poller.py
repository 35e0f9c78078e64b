"""Reads an SQS queue: receive, filter, invoke, delete; as many at a time as there is work for (lambda.md §6.5)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import orjson

from rie.functions.filters import Filter
from rie.model.mapping import Mapping
from rie.sources.around import CALL_FAILED, OK, Around, NotRun, in_thread, pause_s, problem
from rie.sources.messages import batch, record, size_of
from rie.sources.replies import failed_items

log = logging.getLogger(__name__)

LONG_POLL_S = 20
PER_RECEIVE = 10  # messages, SQS limit
PER_DELETE = 10
MAX_PAYLOAD = 6_291_456 - 1_024  # bytes of a synchronous event, less what surrounds the records
MOST_WORKERS = 64  # receive, invoke and delete, each in turn; AWS goes up to 1,250
VISIBILITY_MARGIN_S = 30
DELETES = 3  # attempts
GONE = frozenset(("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"))


class QueuePoller:
    """`run` until cancelled or told to `stop`; then messages that are being worked on are worked off."""

    def __init__(self, mapping: Mapping, around: Around) -> None:
        self._mapping = mapping
        self._around = around
        self._filter = Filter(mapping.filters, "body")
        self._most = max(1, min(mapping.max_concurrency or MOST_WORKERS, MOST_WORKERS))
        self._threads = ThreadPoolExecutor(self._most + 2, f"sqs-{mapping.uuid[:8]}")
        self._workers: set[asyncio.Task[None]] = set()
        self._waiting = 0  # workers in a long poll
        self._stopping = asyncio.Event()
        self._url = ""
        self._visibility_s = LONG_POLL_S

    async def run(self) -> None:
        """Poll until `stop`. Never raises: what goes wrong shows in LastProcessingResult, and is tried again."""
        try:
            await self._connect()
            self._grow()
            while self._workers:
                await asyncio.wait(self._workers, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for worker in self._workers:
                worker.cancel()
            self._threads.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Receive nothing more; `run` returns once what was received has been worked off."""
        self._stopping.set()

    # -- workers --------------------------------------------------------------------------------------------------

    def _grow(self) -> None:
        """One worker more: somebody always waits for messages, as long as there may be more of them."""
        if len(self._workers) < self._most and not self._stopping.is_set():
            worker = asyncio.get_running_loop().create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                messages = await self._collect()
                failures = 0
            except Exception as error:  # botocore's errors have no common root but Exception
                failures += 1
                self._around.note(self._mapping, problem(error))
                await self._pause(pause_s(failures))
                continue
            if messages:
                if not self._waiting:
                    self._grow()
                await self._process(messages)
            elif self._waiting:
                return  # another one waits already

    async def _collect(self) -> list[dict[str, Any]]:
        """Up to a batch of messages: of one receive, or of a window's."""
        mapping = self._mapping
        loop = asyncio.get_running_loop()
        messages = await self._receive(mapping.batch_size, LONG_POLL_S)
        closes_at = loop.time() + mapping.window_s
        size = sum(map(size_of, messages))
        while messages and mapping.window_s and len(messages) < mapping.batch_size and size < MAX_PAYLOAD:
            left_s = closes_at - loop.time()
            if left_s <= 0 or self._stopping.is_set():
                break
            more = await self._receive(mapping.batch_size - len(messages), math.ceil(min(left_s, LONG_POLL_S)))
            size += sum(map(size_of, more))
            messages += more
        return messages

    async def _receive(self, most: int, wait_s: int) -> list[dict[str, Any]]:
        call: dict[str, Any] = {
            "QueueUrl": self._url,
            "MaxNumberOfMessages": min(most, PER_RECEIVE),
            "WaitTimeSeconds": wait_s,
            "AttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        }
        needed_s = self._mapping.window_s + self._around.timeout_s(self._mapping)
        if self._mapping.window_s and needed_s > self._visibility_s:
            call["VisibilityTimeout"] = needed_s + VISIBILITY_MARGIN_S
        self._waiting += 1
        receiving = asyncio.ensure_future(in_thread(self._threads, partial(self._receive_once, call)))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({receiving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                receiving.add_done_callback(lambda done: done.cancelled() or done.exception())
                return []
            return receiving.result()
        finally:
            stopping.cancel()
            self._waiting -= 1

    def _receive_once(self, call: dict[str, Any]) -> list[dict[str, Any]]:
        """A long poll can't be taken back: what it brings to a poller that has stopped is given back at once."""
        messages: list[dict[str, Any]] = self._client.receive_message(**call).get("Messages", [])
        if not messages or not self._stopping.is_set():
            return messages
        entries = [
            {"Id": str(number), "ReceiptHandle": each["ReceiptHandle"], "VisibilityTimeout": 0}
            for number, each in enumerate(messages)
        ]
        self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
        return []

    # -- one batch ------------------------------------------------------------------------------------------------

    async def _process(self, messages: list[dict[str, Any]]) -> None:
        records = [record(message, self._mapping) for message in messages]
        wanted = [each for each in records if self._filter.lets_through(each)]
        dropped = [each for each in records if not self._filter.lets_through(each)] if self._filter else []
        if dropped:
            await self._delete(dropped)
        for part in batch(wanted, self._mapping.batch_size, MAX_PAYLOAD):
            await self._deliver(part)

    async def _deliver(self, records: list[dict[str, Any]]) -> None:
        outcome = await self._invoke(records)
        if outcome is None:
            return
        failed = failed_items(outcome, [each["messageId"] for each in records], reports=self._mapping.reports_failures)
        self._around.note(self._mapping, OK if outcome.function_error is None else CALL_FAILED)
        await self._delete([each for each in records if each["messageId"] not in failed])

    async def _invoke(self, records: list[dict[str, Any]]) -> Any:
        """The outcome; None once the messages are about to be visible again, and somebody else's."""
        loop = asyncio.get_running_loop()
        visible_at = loop.time() + max(self._visibility_s, 1)
        failures = 0
        while True:
            try:
                return await self._around.invoke(self._mapping, payload(records))
            except NotRun as error:
                failures += 1
                self._around.note(self._mapping, error.result)
                wait_s = pause_s(failures)
                if loop.time() + wait_s >= visible_at or self._stopping.is_set():
                    return None
                await self._pause(wait_s)

    async def _delete(self, records: list[dict[str, Any]]) -> None:
        for begun in range(0, len(records), PER_DELETE):
            left = records[begun : begun + PER_DELETE]
            for attempt in range(1, DELETES + 1):
                try:
                    left = await in_thread(self._threads, partial(self._delete_once, left))
                except Exception as error:
                    log.warning("cannot delete %d messages of %s: %s", len(left), self._mapping.source_arn, error)
                if not left or attempt == DELETES:
                    break
                await asyncio.sleep(pause_s(attempt))

    def _delete_once(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those that could not be deleted."""
        entries = [{"Id": str(number), "ReceiptHandle": each["receiptHandle"]} for number, each in enumerate(records)]
        answer = self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)
        return [records[int(failed["Id"])] for failed in answer.get("Failed", []) if not failed.get("SenderFault")]

    async def _connect(self) -> None:
        """Find the queue, however long that takes."""
        failures = 0
        while not self._stopping.is_set():
            try:
                self._url, self._visibility_s = await in_thread(self._threads, self._find)
                return
            except Exception as error:
                failures += 1
                self._around.note(self._mapping, problem(error))
                await self._pause(pause_s(failures))

    @property
    def _client(self) -> Any:
        """For the threads; made anew when the function has another role."""
        return self._around.client(self._mapping)

    def _find(self) -> tuple[str, int]:
        client = self._client
        account, name = self._mapping.source_arn.split(":")[4:6]
        url = client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        told = client.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])
        return url, int(told["Attributes"]["VisibilityTimeout"])

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


def payload(records: list[dict[str, Any]]) -> bytes:
    """The event."""
    return orjson.dumps({"Records": records})
