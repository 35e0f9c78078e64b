"""Lines of log groups for the functions that are subscribed to them, as CloudWatch Logs pushes them (§10.6)."""

from __future__ import annotations

import asyncio
import base64
import gzip
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import orjson

from rie.logs.files import LogFiles
from rie.logs.follow import Follower, LogLine
from rie.logs.groups import Group, Subscription
from rie.logs.names import default_group, function_in
from rie.logs.patterns import matcher
from rie.triggers.documents import Push

log = logging.getLogger(__name__)

PRINCIPAL = "logs.amazonaws.com"
GATHER_S = 0.5  # lines wait so long for company
BATCH_BYTES = 262_144  # of lines in one event: an event has 1 MB at most
OVERHEAD = 100  # bytes that a line takes besides
_ARN_PARTS = 7  # arn:aws:lambda:<region>:<account>:function:<name>[:<qualifier>]

Deliver = Callable[[Push], Awaitable[None]]


class LogSubscriptions:
    """Lives on the event loop. Lines that come while nobody runs are not made up for."""

    def __init__(self, files: LogFiles, deliver: Deliver, account: str) -> None:
        self._files = files
        self._deliver = deliver
        self._account = account
        self._filters: dict[str, tuple[Subscription, ...]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def open(self) -> None:
        """Follow every group that somebody is subscribed to, now and later."""
        loop = asyncio.get_running_loop()
        self._files.on_change = lambda name, group: loop.call_soon_threadsafe(self._know, name, group)
        for group in await asyncio.to_thread(self._files.groups):
            self._know(group.name, group)

    async def close(self) -> None:
        """Follow nothing any more."""
        self._files.on_change = None
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _know(self, name: str, group: Group | None) -> None:
        filters = group.subscriptions if group is not None else ()
        if filters:
            self._filters[name] = filters
            if name not in self._tasks:
                self._tasks[name] = asyncio.get_running_loop().create_task(self._forward(name))
        elif name in self._tasks:
            del self._filters[name]
            self._tasks.pop(name).cancel()

    async def _forward(self, name: str) -> None:
        with self._files.follow(name) as follower:
            while True:
                lines = await _gathered(follower)
                try:
                    for subscription in self._filters[name]:
                        for push in await asyncio.to_thread(pushes, self._account, name, subscription, lines):
                            await self._deliver(push)
                except Exception:
                    log.exception("cannot tell the lines of %s to who is subscribed to them", name)


def pushes(account: str, group: str, subscription: Subscription, lines: Sequence[LogLine]) -> list[Push]:
    """What a subscription's function is to hear of new lines: one event for each stream, more where they are large."""
    made = []
    region, own = subscription.destination.split(":")[3], _function_of(subscription.destination)
    matches = matcher(subscription.pattern)
    # Its own lines would have it log for ever.
    wanted = [line for line in lines if matches(line.text) and _writer_of(group, line.stream) != own]
    wanted.sort(key=lambda line: line.stream)
    for stream, of_stream in itertools.groupby(wanted, key=lambda line: line.stream):
        for batch in _batches(of_stream):
            document = {
                "messageType": "DATA_MESSAGE",
                "owner": account,
                "logGroup": group,
                "logStream": stream,
                "subscriptionFilters": [subscription.name],
                "logEvents": [_event(line, number) for number, line in enumerate(batch)],
            }
            data = base64.b64encode(gzip.compress(orjson.dumps(document), 6)).decode()
            source = f"arn:aws:logs:{region}:{account}:log-group:{group}:*"
            payload = orjson.dumps({"awslogs": {"data": data}})
            made.append(Push(PRINCIPAL, subscription.destination, source, account, payload))
    return made


async def _gathered(follower: Follower) -> list[LogLine]:
    lines = await follower.get()
    await asyncio.sleep(GATHER_S)
    while follower.has_more:
        lines += await follower.get()
    return lines


def _batches(lines: Iterable[LogLine]) -> Iterator[list[LogLine]]:
    batch: list[LogLine] = []
    size = 0
    for line in lines:
        octets = len(line.text) + OVERHEAD
        if batch and size + octets > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += octets
    if batch:
        yield batch


def _event(line: LogLine, number: int) -> dict[str, object]:
    # Digits, as the service's ids.
    return {"id": f"{line.at_ms:030d}{number:026d}", "timestamp": line.at_ms, "message": line.text + line.ending}


def _writer_of(group: str, stream: str) -> str:
    """The function whose environment writes a stream; "" where that is not to be told."""
    return function_in(stream) or group.removeprefix(default_group(""))


def _function_of(arn: str) -> str:
    parts = arn.split(":")
    return parts[6] if len(parts) >= _ARN_PARTS else arn
