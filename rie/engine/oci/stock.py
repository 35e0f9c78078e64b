"""Blank sandboxes: everything that one can have before its function is known, a few of them ready ahead."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path

from rie.engine.instance import Instance
from rie.engine.oci import disks
from rie.engine.oci.carrier import Carrier
from rie.engine.oci.network import PASSAGES, Networks, Port
from rie.engine.oci.spawner import Child, Spawner
from rie.errors import HostFault, SandboxFailed
from rie.limits import storage
from rie.limits.groups import Group, Groups

# A burst of starts is served first, and the functions' own init; only then is the stock filled again.
QUIET_S = 0.2
READY_S = 60.0  # milliseconds, but for a machine that has far more to do than it can
END_S = 10.0  # what the kernel may take to end a killed process
MAX_PASSAGES = 16
READY = b"ready\n"  # launcher.blank.READY


@dataclass(slots=True)
class Blank:
    """One of them; `network` names where it is plugged in, `tmp_mb` the size of its /tmp, 0 if it has none yet.

    `passages` carry what it sends to endpoints of this host, until they are cancelled.
    """

    child: Child
    group: Group
    network: str
    port: Port | None
    tmp_mb: int
    passages: list[asyncio.Task[None]] = field(default_factory=list)


class Stock:
    """Owned by the event loop. `take` one, and `give_back` in the end what was taken, used or not."""

    def __init__(
        self,
        spawner: Spawner,
        groups: Groups,
        networks: Networks,
        carrier: Carrier,
        instance: Instance,
        size: int,
    ) -> None:
        """`size` is how many are kept ready for the network and the size of /tmp that were asked for last."""
        self._spawner = spawner
        self._groups = groups
        self._networks = networks
        self._carrier = carrier
        self._instance = instance
        self._size = size
        self._numbers = itertools.count(1)
        self._ready: list[Blank] = []
        self._wanted = ("", 0)
        self._takes = 0
        self._filling: asyncio.Task[None] | None = None
        self._making: set[asyncio.Task[Blank]] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def take(self, network: str, tmp_mb: int, tmp: Path | None = None) -> Blank:
        """A blank sandbox on a network, with a /tmp of that size if there is a loop device for it.

        `tmp` is a file system to copy, where it shall not be empty; none of that are kept ready.

        Raises EngineUnavailable, HostFault, SandboxFailed.
        """
        if tmp is not None:
            return await self._make(network, tmp_mb, tmp)
        self._wanted = (network, tmp_mb)
        self._takes += 1
        if self._size and not self._is_closed and (self._filling is None or self._filling.done()):
            self._filling = asyncio.get_running_loop().create_task(self._fill())
        for place, blank in enumerate(self._ready):
            if self._fits(blank):
                return self._ready.pop(place)
        return await self._make(network, tmp_mb)

    def _fits(self, blank: Blank) -> bool:
        network, tmp_mb = self._wanted
        return blank.network == network and blank.tmp_mb in (0, tmp_mb) and not blank.child.ended.done()

    async def give_back(self, blank: Blank) -> None:
        """End its processes and remove what was made for it, to the end even if the caller is cancelled.

        Raises HostFault; then what is left is `reconcile`'s.
        """
        leaving = asyncio.get_running_loop().create_task(self._end(blank))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        await asyncio.shield(leaving)

    async def _end(self, blank: Blank) -> None:
        child = blank.child
        for passage in blank.passages:
            passage.cancel()
        try:
            if not child.ended.done():
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
                await asyncio.wait([child.ended], timeout=END_S)
            if not child.ended.done():
                raise HostFault(f"cannot end process {child.pid} within {END_S:.0f} s")
        finally:
            child.channel.close()
            if child.pidfd >= 0:
                os.close(child.pidfd)
                child.pidfd = -1
        self._networks.give_back(blank.network, blank.port)
        await asyncio.to_thread(blank.group.remove)

    async def close(self) -> None:
        """Give all of them back."""
        self._is_closed = True
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)
        while self._making:
            await asyncio.wait(self._making)
        ready, self._ready = self._ready, []
        await asyncio.gather(*(self.give_back(blank) for blank in ready), return_exceptions=True)
        while self._leaving:  # whoever gave them back may have been cancelled since
            await asyncio.wait(self._leaving)

    async def _make(self, network: str, tmp_mb: int, tmp: Path | None = None) -> Blank:
        making = asyncio.get_running_loop().create_task(self._order(network, tmp_mb, tmp))
        self._making.add(making)
        making.add_done_callback(self._making.discard)
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(self._keep if tmp is None else self._drop)
            raise

    def _keep(self, done: asyncio.Task[Blank]) -> None:
        """What was made for one who has gone serves the next."""
        if not done.cancelled() and done.exception() is None:
            self._ready.append(done.result())

    def _drop(self, done: asyncio.Task[Blank]) -> None:
        """What nobody else can use is given back."""
        if not done.cancelled() and done.exception() is None:
            self._ready.append(replace(done.result(), tmp_mb=-1))  # fits nobody: gone when the stock is filled next

    async def _order(self, network: str, tmp_mb: int, tmp: Path | None) -> Blank:
        port = await self._networks.take(network)
        name = str(next(self._numbers))
        try:
            group, device, descriptor = await asyncio.to_thread(self._hold, name, tmp_mb, tmp)
        except BaseException:
            self._networks.give_back(network, port)
            raise
        try:
            reaches_host = network == PASSAGES or (port is not None and port.is_outbound)
            listen = [passage.inside for passage in self._carrier.passages] if reaches_host else []
            child = await self._spawner.order(group.doors, port, device, storage.MOUNT_OPTIONS, listen)
        except BaseException:
            self._networks.give_back(network, port)
            await asyncio.to_thread(group.remove)
            raise
        else:
            blank = Blank(child, group, network, port, tmp_mb if device else 0)
            await self._await_ready(blank)
            return blank
        finally:
            if descriptor >= 0:
                os.close(descriptor)  # mounted now, or not wanted

    def _hold(self, name: str, tmp_mb: int, tmp: Path | None) -> tuple[Group, str, int]:
        """Make the control groups and the file system. Blocks."""
        device, descriptor = disks.attach(self._instance.directory, tmp_mb, self._instance.templates, name, tmp)
        try:
            return self._groups.make(self._instance.token, name), device, descriptor
        except BaseException:
            if descriptor >= 0:
                os.close(descriptor)
            raise

    async def _await_ready(self, blank: Blank) -> None:
        """Wait until a blank says that it is one. Raises SandboxFailed with what it says instead; then it is gone."""
        channel = blank.child.channel
        channel.setblocking(False)
        line = b""
        listeners: list[socket.socket] = []
        try:
            async with asyncio.timeout(READY_S):
                while not line.endswith(b"\n") and (data := await _receive(channel, listeners)):
                    line += data
        except (OSError, TimeoutError) as error:
            line = str(error).encode() or b"it is not ready in time"
        if listeners:
            blank.passages = self._carrier.open(listeners)
        if line != READY:
            await self.give_back(blank)
            why = line.decode("utf-8", "replace").strip().removeprefix("error ") or "its process has ended"
            raise SandboxFailed(f"cannot prepare a sandbox: {why}")

    async def _fill(self) -> None:
        while True:
            takes = self._takes
            await asyncio.sleep(QUIET_S)
            if takes != self._takes:
                continue
            others = [blank for blank in self._ready if not self._fits(blank)]
            for blank in others:
                self._ready.remove(blank)
                with contextlib.suppress(HostFault):
                    await self.give_back(blank)
            if len(self._ready) >= self._size:
                return
            try:
                self._ready.append(await self._make(*self._wanted))
            except HostFault:
                return  # whoever starts a sandbox next hears of it


async def _receive(channel: socket.socket, listeners: list[socket.socket]) -> bytes:
    """The next bytes on a blank's channel; the sockets that come with them are added to `listeners`."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(channel.fileno(), readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            with contextlib.suppress(BlockingIOError):
                data, descriptors, _, _ = socket.recv_fds(channel, 4096, MAX_PASSAGES)
                break
    finally:
        loop.remove_reader(channel.fileno())
    for descriptor in descriptors:
        listener = socket.socket(fileno=descriptor)
        listener.setblocking(False)
        listeners.append(listener)
    return data
