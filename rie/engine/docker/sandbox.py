"""One sandbox in a Docker container, as the manager sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rie.engine import front
from rie.engine.docker import holdings
from rie.engine.docker.holdings import Holdings
from rie.errors import EngineUnavailable, HostFault, SandboxFailed
from rie.limits import cgroup, share

if TYPE_CHECKING:
    from rie.engine.docker.engine import DockerEngine

DAEMON_LAG_S = 3.0
DAEMON_PAUSE_S = 0.02
LAST_WORDS = 20  # lines
SIGKILLED = 128 + 9


class DockerSandbox:
    """Made by DockerEngine.start, on the event loop, and used there only."""

    def __init__(self, held: Holdings, engine: DockerEngine) -> None:
        self.sandbox_id = held.spec.sandbox_id
        self._held = held
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._callbacks: list[Callable[[], None]] = []
        self._has_ended = held.has_ended
        self._removal: asyncio.Task[None] | None = None
        if not held.has_ended:
            if held.pidfd >= 0:
                self._loop.add_reader(held.pidfd, self._end)
            else:
                engine.watch.add(held.container_id, self._end)

    @property
    def log_fd(self) -> int:
        """The read end of the sandbox's log; take it off the event loop before `destroy`, which closes it."""
        return self._held.log_fd

    async def connect(self, factory: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        """See `Sandbox.connect`; waits up to 20 s for a bootstrap that is still starting."""
        try:
            protocol = await front.reach(self._held.directory_fd, factory, self._is_over)
        except TimeoutError as error:
            raise await self._failed(str(error)) from None
        except OSError as error:
            raise SandboxFailed(f"cannot connect to sandbox {self.sandbox_id}: {error}") from error
        if protocol is not None:
            return protocol
        if self._removal is not None:
            raise SandboxFailed(f"cannot connect to sandbox {self.sandbox_id}: it has been destroyed")
        raise await self._failed(await self._how_it_ended())

    def _is_over(self) -> bool:
        return self._removal is not None or self._has_ended

    async def limit_cpu(self) -> None:
        """See `Sandbox.limit_cpu`; two writes of some microseconds where the control group can be seen from here."""
        quota = share.quota(self._held.spec.cpus)
        if self._held.cpu is not None:
            try:
                cgroup.write_quota(self._held.cpu, quota)
                return
            except OSError:
                pass  # not ours to write, or gone: the daemon knows
        client = self._engine.client
        await self._engine.call(client.limit_cpu, self._held.container_id, self.sandbox_id, quota)

    async def freeze(self) -> None:
        """See `Sandbox.freeze`; nothing, because the daemon takes 20 to 34 ms to pause a container (measured)."""

    async def thaw(self) -> None:
        """See `Sandbox.thaw`; nothing."""

    async def take_snapshot(self, directory: Path) -> None:
        """See `Sandbox.take_snapshot`."""
        raise SandboxFailed(f"cannot take a snapshot of sandbox {self.sandbox_id}: its engine takes none")

    async def destroy(self) -> None:
        """See `Sandbox.destroy`; goes on to its end even if the caller is cancelled.

        Raises EngineUnavailable if the daemon does not answer: its processes are killed all the same, and a second
        call or a later `reconcile` removes the container's record.
        """
        again = self._removal is not None and self._removal.done() and self._removal.exception() is not None
        if self._removal is None or again:
            self._removal = self._loop.create_task(self._remove())
        await asyncio.shield(self._removal)

    def on_exit(self, callback: Callable[[], None]) -> None:
        """See `Sandbox.on_exit`; not called any more once `destroy` has begun."""
        if self._has_ended:
            self._loop.call_soon(callback)
        else:
            self._callbacks.append(callback)

    def _end(self) -> None:
        self._unwatch()
        self._has_ended = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._loop.call_soon(callback)

    def _unwatch(self) -> None:
        if self._held.pidfd >= 0:
            self._loop.remove_reader(self._held.pidfd)
        self._engine.watch.discard(self._held.container_id)

    async def _remove(self) -> None:
        self._unwatch()
        self._callbacks.clear()
        try:
            await self._engine.call(holdings.release, self._held, self._engine.client)
        finally:
            self._has_ended = True
            holdings.close(self._held)
            self._engine.forget(self.sandbox_id)

    async def _how_it_ended(self) -> str:
        # We see the end of a process before the daemon has heard of it and knows the status.
        gives_up_at = self._loop.time() + DAEMON_LAG_S
        try:
            facts = await self._engine.call(self._engine.client.container, self._held.container_id)
            while facts is not None and facts.pid and self._loop.time() < gives_up_at:
                await asyncio.sleep(DAEMON_PAUSE_S)
                facts = await self._engine.call(self._engine.client.container, self._held.container_id)
        except EngineUnavailable:
            return "it has ended, and Docker does not answer how"
        if facts is None:
            return "its container has been removed"
        if facts.is_out_of_memory:
            return f"it used more than its {self._held.spec.memory_mb} MB of memory (status {facts.exit_code})"
        killed = " (killed)" if facts.exit_code == SIGKILLED else ""
        return f"it ended with status {facts.exit_code}{killed}"

    async def _failed(self, why: str) -> SandboxFailed:
        try:
            words = await self._engine.call(self._engine.client.output, self._held.container_id, LAST_WORDS)
        except HostFault:
            words = ""
        return SandboxFailed(f"cannot connect to sandbox {self.sandbox_id}: {why}{': ' if words else ''}{words}")
