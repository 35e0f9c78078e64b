"""Deployment: makes the images of new configurations ready, beside the calls that asked for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Protocol

from rie.errors import (
    HostFault,
    ImageAccessDenied,
    ImageFault,
    ImageNotFound,
    InitFailed,
    RieError,
    RuntimeUnavailable,
)
from rie.model.function import Configuration, Function, FunctionKey
from rie.model.image import Image

Prepare = Callable[[Configuration], Awaitable[Image]]
"""Makes ready what a configuration needs, quickly when it is so already, and answers the image to run."""

TakeSnapshot = Callable[[Function], Awaitable[bool]]
"""Takes the snapshot that a version's environments are made from; False, with a line in the log, where that can't be.

Raises InitFailed."""

_AT_ONCE = 2  # pulls share one network and one disk; more of them end no sooner
_RETRY_AFTER_S = (0.1, 0.5, 2.0, 5.0)  # a store that refuses is asked again, every 5 s in the end

_log = logging.getLogger(__name__)


class Outcomes(Protocol):
    """Where the end of a deployment is written down; `Catalog` is one. Blocks."""

    def mark_deployed(self, key: FunctionKey, configuration_id: str, image: Image | None = None) -> None:
        """The configuration can serve, on `image`."""

    def mark_failed(self, key: FunctionKey, configuration_id: str, code: str, reason: str) -> None:
        """The configuration can't serve."""

    def mark_published(self, function: Function, image: Image | None, *, is_optimised: bool) -> None:
        """A version that takes a snapshot can serve."""

    def mark_unpublished(self, function: Function, code: str, reason: str) -> None:
        """Such a version can't serve."""


async def no_snapshot(function: Function) -> bool:
    """Where none are taken."""
    return False


class Deployment:
    """Deploys the newest configuration of each function that is submitted. Make it on the event loop it shall use.

    deployment: Deployment
    catalog = Catalog(store, resolve, lambda function: deployment.submit(function), changed, clock)
    deployment = Deployment(preparation, catalog)
    deployment.resume(catalog.unsettled())
    """

    def __init__(
        self,
        prepare: Prepare,
        outcomes: Outcomes,
        *,
        take_snapshot: TakeSnapshot = no_snapshot,
        at_once: int = _AT_ONCE,
    ) -> None:
        self._prepare = prepare
        self._take_snapshot = take_snapshot
        self._outcomes = outcomes
        self._turn = asyncio.Semaphore(at_once)
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def submit(self, function: Function) -> None:
        """Deploy a function's newest configuration soon. From any thread; never raises.

        After `close` nothing happens: the function stays as it is until the next start resumes it.
        """
        try:
            self._loop.call_soon_threadsafe(self._begin, function)
        except RuntimeError:  # the loop is closed
            _log.info("%s will be deployed at the next start", function.key.arn)

    def resume(self, functions: Iterable[Function]) -> None:
        """Submit what an earlier process left Pending or InProgress."""
        for function in functions:
            self.submit(function)

    async def close(self) -> None:
        """Give up what is under way; the next start resumes it."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, function: Function) -> None:
        if self._is_closed:
            return
        task = self._loop.create_task(self._deploy(function), name=f"deploy {function.key.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deploy(self, function: Function) -> None:
        key, configuration = function.key, function.configuration
        failure: Exception | None = None
        image: Image | None = None
        is_optimised = False
        async with self._turn:
            try:
                image = await self._prepare(configuration)
                if function.takes_snapshot:
                    serving = replace(configuration, image=image)
                    is_optimised = await self._take_snapshot(replace(function, configuration=serving, serving=serving))
            except Exception as error:
                failure = error
                _report(key, error)
        if failure is None and function.takes_snapshot:
            await self._mark(lambda: self._outcomes.mark_published(function, image, is_optimised=is_optimised))
        elif failure is None:
            await self._mark(lambda: self._outcomes.mark_deployed(key, configuration.configuration_id, image))
        else:
            code, reason = reason_of(failure)
            if function.takes_snapshot:
                await self._mark(lambda: self._outcomes.mark_unpublished(function, code, reason))
                return
            await self._mark(lambda: self._outcomes.mark_failed(key, configuration.configuration_id, code, reason))

    async def _mark(self, mark: Callable[[], None]) -> None:
        """Write the outcome down, however long the store refuses: no function may stay Pending for ever."""
        attempt = 0
        while True:
            try:
                return await asyncio.to_thread(mark)
            except Exception as error:
                unexpected = None if isinstance(error, HostFault) else error
                _log.error("cannot record a deployment: %s; will be tried again", error, exc_info=unexpected)
            await asyncio.sleep(_RETRY_AFTER_S[min(attempt, len(_RETRY_AFTER_S) - 1)])
            attempt += 1


def reason_of(error: Exception) -> tuple[str, str]:
    """A failed deployment's StateReasonCode and StateReason (lambda.md §1.7, §1.12)."""
    if isinstance(error, ImageNotFound):
        return "ImageDeleted", str(error)
    if isinstance(error, ImageAccessDenied):
        return "ImageAccessDenied", str(error)
    if isinstance(error, ImageFault):
        return "InvalidImage", str(error)
    if isinstance(error, RuntimeUnavailable):
        return "InvalidRuntime", str(error)
    if isinstance(error, InitFailed):
        return error.code, str(error)
    if isinstance(error, RieError):
        return "InternalError", str(error)
    return "InternalError", "The function could not be deployed because of an internal error."


def _report(key: FunctionKey, error: Exception) -> None:
    if isinstance(error, RieError):
        _log.warning("cannot deploy %s: %s", key.arn, error)
    else:
        _log.error("cannot deploy %s: unexpected error", key.arn, exc_info=error)
