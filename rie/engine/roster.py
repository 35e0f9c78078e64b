"""The sandboxes of one engine, each from the beginning of `start` to the end of `destroy`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from rie.engine.inside import ID
from rie.errors import EngineUnavailable, SandboxFailed


class Destroyable(Protocol):
    """As much of a sandbox as is needed here."""

    async def destroy(self) -> None:
        """See `rie.engine.base.Sandbox.destroy`."""


S = TypeVar("S", bound=Destroyable)

_abandoned: set[asyncio.Future[None]] = set()  # the loop itself keeps only weak references to its tasks


class Roster(Generic[S]):
    """Starts a bounded number at a time, each id once, and gives back what nobody waits for any more."""

    def __init__(self, parallel_starts: int) -> None:
        self.held: set[str] = set()
        self.is_closed = False
        self._turns = asyncio.Semaphore(parallel_starts)
        self._sandboxes: dict[str, S] = {}
        self._starting: set[asyncio.Task[S]] = set()
        self._unwanted: set[str] = set()

    async def start(self, sandbox_id: str, make: Callable[[], Awaitable[S]]) -> S:
        """What `make` makes, when its turn has come. Raises EngineUnavailable (closed), SandboxFailed (bad id)."""
        if self.is_closed:
            raise EngineUnavailable(f"cannot start sandbox {sandbox_id}: the engine is closed")
        if not ID.fullmatch(sandbox_id):
            raise SandboxFailed(f"cannot start sandbox {sandbox_id!r}: an id is made of letters, digits and _ . -")
        if sandbox_id in self.held:
            raise SandboxFailed(f"cannot start sandbox {sandbox_id}: there is one of that name")
        self.held.add(sandbox_id)
        task = asyncio.get_running_loop().create_task(self._make(sandbox_id, make))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._unwanted.add(sandbox_id)
            task.add_done_callback(lambda _: self._unwanted.discard(sandbox_id))
            task.add_done_callback(_give_back)
            raise

    def forget(self, sandbox_id: str) -> None:
        """A sandbox has been destroyed, or left to `reconcile`."""
        self.held.discard(sandbox_id)
        self._sandboxes.pop(sandbox_id, None)

    async def close(self) -> None:
        """Let no more start, and destroy all."""
        self.is_closed = True
        await asyncio.gather(*self._starting, return_exceptions=True)
        sandboxes = tuple(self._sandboxes.values())
        await asyncio.gather(*(sandbox.destroy() for sandbox in sandboxes), return_exceptions=True)

    async def _make(self, sandbox_id: str, make: Callable[[], Awaitable[S]]) -> S:
        try:
            async with self._turns:
                if self.is_closed or sandbox_id in self._unwanted:
                    raise EngineUnavailable(f"cannot start sandbox {sandbox_id}: it is not wanted any more")
                sandbox = await make()
        except BaseException:
            self.held.discard(sandbox_id)
            raise
        self._sandboxes[sandbox_id] = sandbox
        return sandbox


def _give_back(task: asyncio.Task[S]) -> None:
    """Destroy a sandbox that was started for a caller who has gone."""
    if not task.cancelled() and task.exception() is None:
        _abandoned.add(removal := asyncio.ensure_future(task.result().destroy()))
        removal.add_done_callback(_abandoned.discard)
