"""Coroutines that run at once and are woken at once, without a task and its two rounds of the event loop.

A warm invocation waits for one thing, the sandbox's answer. With a task and a future around that, its caller's request
and its sandbox's answer each wait for another round of the loop, which costs more than all else that the manager does
in it. So it flies: `fly` runs it until it waits; whoever settles the `Reply` that it waits for runs the rest. What
waits for anything else goes on as a task.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class Reply(Generic[T]):
    """What one coroutine awaits, once: settled by `set` or `fail`, the first of which counts."""

    __slots__ = ("_error", "_future", "_value", "is_settled", "wake")

    def __init__(self) -> None:
        self.is_settled = False
        self.wake: Callable[[], None] | None = None  # runs on whoever flies
        self._future: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._value: T | None = None

    def __await__(self) -> Generator[Any, None, T]:
        if not self.is_settled:
            if asyncio.current_task() is None:
                yield self
            else:
                self._future = asyncio.get_running_loop().create_future()
                yield from self._future
        if self._error is not None:
            raise self._error
        return cast(T, self._value)

    def set(self, value: T) -> None:
        """It is this."""
        if not self.is_settled:
            self._value = value
            self._settle()

    def fail(self, error: BaseException) -> None:
        """There will be none."""
        if not self.is_settled:
            self._error = error
            self._settle()

    def _settle(self) -> None:
        self.is_settled = True
        if self._future is not None:
            if not self._future.done():  # whoever waited may have been cancelled
                self._future.set_result(None)
        elif self.wake is not None:
            self.wake()


Flight = Coroutine[Any, None, None]


def fly(flight: Flight, keep: Callable[[asyncio.Task[None]], object]) -> None:
    """Run a coroutine, which raises nothing, as far as it goes now; `keep` gets the task if it becomes one."""
    try:
        waits_for = flight.send(None)
    except StopIteration:
        return
    if isinstance(waits_for, Reply):
        waits_for.wake = lambda: fly(flight, keep)
    else:
        keep(asyncio.get_running_loop().create_task(_go_on(flight, waits_for)))


async def land() -> None:
    """Be a task from here on, as who needs one: timeouts and task groups do."""
    if asyncio.current_task() is None:
        await asyncio.sleep(0)


@types.coroutine
def _resume(flight: Flight, waits_for: Any) -> Generator[Any, None, None]:
    """The rest of a coroutine that has begun, and waits; what wakes or cancels the task goes to it."""
    while True:
        try:
            yield waits_for
        except BaseException as error:
            try:
                waits_for = flight.throw(error)
            except StopIteration:
                return
            continue
        try:
            waits_for = flight.send(None)
        except StopIteration:
            return


async def _go_on(flight: Flight, waits_for: Any) -> None:
    await _resume(flight, waits_for)
