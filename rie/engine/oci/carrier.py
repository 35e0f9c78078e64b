"""Carries bytes between sandboxes and the endpoints of this host that they may reach."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from rie.engine.passages import INSIDE, Passage

BLOCK = 65_536
# Of one sandbox, and of all: each connection takes two of the manager's file descriptors. Further ones wait.
PER_SANDBOX, IN_ALL = 64, 1_000
CONNECT_S = 10.0
PAUSE_S = 0.1  # where the process has no descriptor left


class Carrier:
    """Owned by the event loop; one for an engine."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = tuple(passages)
        self._all = asyncio.Semaphore(IN_ALL)

    def open(self, listeners: Sequence[socket.socket]) -> list[asyncio.Task[None]]:
        """Serve a sandbox's listening sockets, one for each passage; its life ends when the tasks are cancelled."""
        own = asyncio.Semaphore(PER_SANDBOX)
        create = asyncio.get_running_loop().create_task
        return [
            create(self._serve(listener, passage, own))
            for listener, passage in zip(listeners, self.passages, strict=True)
        ]

    async def _serve(self, listener: socket.socket, passage: Passage, own: asyncio.Semaphore) -> None:
        running: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        try:
            while True:
                await own.acquire()
                connection = await self._accept(listener)
                try:
                    await self._all.acquire()  # only then the next: what waits has a descriptor, too
                except BaseException:
                    connection.close()
                    raise
                task = loop.create_task(self._carry(connection, passage.target))
                running.add(task)
                task.add_done_callback(running.discard)
                for places in (own, self._all):
                    task.add_done_callback(lambda _, places=places: places.release())  # type: ignore[misc]
        finally:
            listener.close()
            for task in running:
                task.cancel()

    async def _accept(self, listener: socket.socket) -> socket.socket:
        while True:
            try:
                return (await asyncio.get_running_loop().sock_accept(listener))[0]
            except OSError:
                await asyncio.sleep(PAUSE_S)

    async def _carry(self, connection: socket.socket, target: tuple[str, int]) -> None:
        writers: list[asyncio.StreamWriter] = []
        try:
            inner, to_inner = await asyncio.open_connection(sock=connection)
            writers.append(to_inner)
            async with asyncio.timeout(CONNECT_S):
                outer, to_outer = await asyncio.open_connection(*target, local_addr=_source(target))
            writers.append(to_outer)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(inner, to_outer))
                both.create_task(_pump(outer, to_inner))
            for writer in writers:
                writer.close()
            for writer in writers:  # one who does not read what is left keeps his place among the connections
                await writer.wait_closed()
        except* OSError:  # timeouts are such; the caller sees its connection end
            pass
        finally:
            for writer in writers:
                writer.transport.abort()
            if not writers:
                connection.close()


def _source(target: tuple[str, int]) -> tuple[str, int] | None:
    """An address that is not this host's usual one, so that policies can tell functions from who is at the machine."""
    return (INSIDE, 0) if target[0].startswith("127.") else None


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Until the source says that it has no more, which the sink is told."""
    while block := await source.read(BLOCK):
        sink.write(block)
        await sink.drain()
    with contextlib.suppress(OSError):
        sink.write_eof()
