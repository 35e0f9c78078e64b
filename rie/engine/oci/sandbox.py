"""One sandbox of the daemonless engine, as the manager sees it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rie.engine import front
from rie.engine.oci import holdings
from rie.engine.oci.holdings import Holdings
from rie.engine.oci.spawner import status_text
from rie.errors import SandboxFailed
from rie.limits import share

if TYPE_CHECKING:
    from rie.engine.oci.engine import OciEngine

MAX_WORDS = 2_000  # characters of a dead bootstrap's last words
READ = 65_536
OPEN = b"open\n"  # launcher.blank.OPEN
STATUS_S = 3.0  # between the end of a process and the launcher's word of it


class OciSandbox:
    """Made by OciEngine.start, on the event loop, and used there only."""

    def __init__(self, held: Holdings, engine: OciEngine) -> None:
        self.sandbox_id = held.spec.sandbox_id
        self.image = held.spec.image
        self._held = held
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._callbacks: list[Callable[[], None]] = []
        self._has_ended = False
        self._is_frozen = False
        self._said = b""
        self._opened = asyncio.Event()  # its front door; or it never will be
        # One that is kept for a snapshot, or was made from one, is no fork of the launcher, and says nothing.
        is_kept = held.spec.is_template or held.spec.snapshot is not None
        self._announces = held.blank.child.announces and not is_kept
        self._channel = held.blank.child.channel
        self._heard(held.said)
        self._removal: asyncio.Task[None] | None = None
        self._loop.add_reader(held.blank.child.pidfd, self._end)
        self._loop.add_reader(self._channel.fileno(), self._listen)

    @property
    def pid(self) -> int:
        """The host's number of the sandbox's first process."""
        return self._held.blank.child.pid

    @property
    def log_fd(self) -> int:
        """The read end of the sandbox's log; take it off the event loop before `destroy`, which closes it."""
        return self._held.log_fd

    async def connect(self, factory: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        """See `Sandbox.connect`; waits up to 20 s for a bootstrap that is still starting."""
        try:
            if self._announces:
                await asyncio.wait_for(self._opened.wait(), front.CONNECT_TIMEOUT_S)
            protocol = await front.reach(self._held.directory_fd, factory, self._is_over)
        except (OSError, TimeoutError) as error:
            raise SandboxFailed(f"cannot connect to sandbox {self.sandbox_id}: {error}") from error
        if protocol is not None:
            return protocol
        if self._removal is not None:
            raise SandboxFailed(f"cannot connect to sandbox {self.sandbox_id}: it has been destroyed")
        raise SandboxFailed(f"cannot connect to sandbox {self.sandbox_id}: {await self._how_it_ended()}")

    async def limit_cpu(self) -> None:
        """See `Sandbox.limit_cpu`."""
        with contextlib.suppress(OSError):  # it has just been destroyed
            self._held.blank.group.limit_cpu(share.quota(self._held.spec.cpus))

    async def freeze(self) -> None:
        """See `Sandbox.freeze`."""
        if self._is_over():
            return
        self._is_frozen = True
        try:
            self._held.blank.group.freeze()
        except OSError:
            await self.thaw()  # half frozen is worse than running

    async def thaw(self) -> None:
        """See `Sandbox.thaw`."""
        if self._is_frozen:
            self._is_frozen = False
            with contextlib.suppress(OSError):
                self._held.blank.group.thaw()

    async def take_snapshot(self, directory: Path) -> None:
        """See `Sandbox.take_snapshot`."""
        await self._engine.take_snapshot(self._held, directory)

    async def destroy(self) -> None:
        """See `Sandbox.destroy`; goes on to its end even if the caller is cancelled. Raises HostFault."""
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

    def _is_over(self) -> bool:
        return self._removal is not None or self._has_ended

    def _end(self) -> None:
        self._unwatch()
        self._has_ended = True
        self._opened.set()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._loop.call_soon(callback)

    def _unwatch(self) -> None:
        if self._held.blank.child.pidfd >= 0:
            self._loop.remove_reader(self._held.blank.child.pidfd)

    def _listen(self) -> None:
        """Keep the end of what the bootstrap says on its standard error."""
        try:
            data = self._channel.recv(READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._channel.fileno())
        self._heard(data)

    def _heard(self, data: bytes) -> None:
        said = self._said + data
        if not self._opened.is_set() and said.startswith(OPEN):
            self._opened.set()
            said = said[len(OPEN) :]
        self._said = said[-MAX_WORDS:]

    async def _remove(self) -> None:
        self._unwatch()
        self._opened.set()
        if self._channel.fileno() >= 0:
            self._loop.remove_reader(self._channel.fileno())
        self._callbacks.clear()
        blank = self._held.blank
        await self.thaw()  # version 1 lets nobody die who is frozen
        with contextlib.suppress(OSError):
            # Hundreds of processes that die on a small share of CPU take seconds.
            blank.group.lift_cpu_limit()
        try:
            await self._engine.give_back(blank)
            await asyncio.to_thread(holdings.release, self._held)
        finally:
            self._has_ended = True
            self._engine.forget(self)

    async def _how_it_ended(self) -> str:
        ended = self._held.blank.child.ended
        await asyncio.wait([ended], timeout=STATUS_S)
        self._listen()
        words = self._said.decode("utf-8", "replace").strip()
        how = status_text(ended.result()) if ended.done() else "it has ended"
        if self._held.blank.group.out_of_memory_kills() and "(killed)" in how:
            how = how.replace("it ended", f"it used more than its {self._held.spec.memory_mb} MB of memory and ended")
        return f"{how}: {words}" if words else how
