"""Subscribes for functions where an endpoint can't call us: keeps the queues they need, and reads them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from rie.iam.policy import stored_statement
from rie.triggers.documents import SERVICES, NotAnEvent
from rie.triggers.intake import NotNow, Offer
from rie.triggers.taps import Tap, Taps

log = logging.getLogger(__name__)

LOOK_S = 3.0  # between two looks at what users have configured
PAUSE_S = 2.0  # after a failure
LONG_POLL_S = 10
PER_RECEIVE = 10
TAKE_S = 20  # what taking them may last, a write each; so long they are hidden when we die with them
MOST_THREADS = 64  # each queue's long poll holds one

T = TypeVar("T")

Grants = Callable[[], set[tuple[str, str]]]
"""(service, pattern of its sources' ARNs) of every policy there is."""


class Subscriptions:
    """Lives on the event loop; the endpoint is asked in threads."""

    def __init__(self, taps: Taps, grants: Grants, offer: Offer) -> None:
        self._taps = taps
        self._grants = grants
        self._offer = offer
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._watch: asyncio.Task[None] | None = None
        self._has_looked = False
        self._threads = ThreadPoolExecutor(MOST_THREADS, "taps")

    def open(self) -> None:
        """Begin to look."""
        self._watch = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """End; queues stay, and keep what comes for the next start."""
        tasks = [*self._readers.values(), *([self._watch] if self._watch else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:  # botocore's errors have no common root but Exception
                log.debug("cannot look for triggers: %s", error)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Once: what is new gets a queue, what is gone loses it. Raises botocore's errors."""
        grants = self._grants()
        if not grants and not self._readers and self._has_looked:
            return
        wanted = await self._in_thread(partial(self._wanted, grants))
        left = [] if self._has_looked else await self._in_thread(self._taps.left)
        self._has_looked = True
        for name in {*left, *self._readers} - set(wanted):
            reader = self._readers.pop(name, None)
            if reader is not None:
                reader.cancel()
            await self._in_thread(partial(self._taps.close, name))
        for name, tap in wanted.items():
            # Again for those there are: the user may have written the bucket's configuration anew, without us.
            url = await self._in_thread(partial(self._taps.open, tap)) if self._needs(tap) else ""
            if name not in self._readers:
                self._readers[name] = asyncio.get_running_loop().create_task(self._read(tap, url))

    def _needs(self, tap: Tap) -> bool:
        return tap.name not in self._readers or tap.service == "s3"

    def _wanted(self, grants: Iterable[tuple[str, str]]) -> dict[str, Tap]:
        return {tap.name: tap for service, pattern in grants for tap in self._taps.wanted(service, pattern)}

    async def _read(self, tap: Tap, url: str) -> None:
        """A message is deleted once its event is in our own queue."""
        sqs = self._taps.client("sqs")
        while True:
            try:
                call = {"QueueUrl": url, "WaitTimeSeconds": LONG_POLL_S, "MaxNumberOfMessages": PER_RECEIVE}
                call["VisibilityTimeout"] = TAKE_S
                told = await self._in_thread(partial(sqs.receive_message, **call))
                for message in told.get("Messages", []):
                    if await self._taken(tap, message["Body"]):
                        handle = message["ReceiptHandle"]
                        await self._in_thread(partial(sqs.delete_message, QueueUrl=url, ReceiptHandle=handle))
            except Exception as error:
                log.warning("cannot read what %s sends: %s", tap.source_arn, error)
                await asyncio.sleep(PAUSE_S)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    async def _taken(self, tap: Tap, body: str) -> bool:
        try:
            push = tap.push(body)
        except NotAnEvent as error:
            log.warning("a message of %s is dropped: %s", tap.source_arn, error)
            return True
        if push is None:
            return True
        try:
            await self._offer(push)
        except NotNow as error:
            log.info("an event of %s waits: %s", tap.source_arn, error)
            return False
        return True


def granted(statements: Iterable[str]) -> Iterable[tuple[str, str]]:
    """What the statements of a policy let in of the services that push events; everything, where no source is named."""
    for text in statements:
        statement = stored_statement(text)
        principals = statement.principals
        if not statement.is_allow or principals is None:
            continue
        sources = [each.values for each in statement.conditions if each.key == "aws:sourcearn"]
        for service, principal in SERVICES.items():
            if principal in principals.services:
                for source in sources[0] if sources else ("*",):
                    yield service, source
