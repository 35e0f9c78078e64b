"""Bytes between a sandbox and an endpoint of the host."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import uvloop

from rie.engine.oci import carrier as module
from rie.engine.oci.carrier import Carrier
from rie.engine.passages import Passage
from tests.ports import free_port

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def carried(serve: Serve | None) -> AsyncIterator[int]:
    """A port that leads to a server (None: to nobody)."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0) if serve else None
    target = server.sockets[0].getsockname() if server else ("127.0.0.1", free_port())
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    port = listener.getsockname()[1]
    tasks = Carrier([Passage("", ("", 0), target)]).open([listener])
    try:
        yield port
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if server:
            server.close()


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers when it has heard everything."""
    writer.write((await reader.read()).upper())
    writer.close()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says hello, and stays for as long as the other does."""
    writer.write(b"hello")
    await reader.read()
    writer.close()


def test_bytes_go_both_ways_and_each_way_ends_by_itself() -> None:
    async def test() -> None:
        async with carried(upper) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"x" * 3_000_000)
            writer.write_eof()
            assert await reader.read() == b"X" * 3_000_000
            writer.close()

    uvloop.run(test())


def test_who_asks_has_another_address_than_the_host_itself() -> None:
    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(writer.get_extra_info("peername")[0].encode())
        writer.close()

    async def test() -> None:
        async with carried(tell) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b"127.0.0.2"
            writer.close()

    uvloop.run(test())


def test_an_endpoint_that_is_down_ends_the_connection_and_not_the_passage() -> None:
    async def test() -> None:
        async with carried(None) as port:
            for _ in range(module.PER_SANDBOX + 1):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                assert await reader.read() == b""
                writer.close()

    uvloop.run(test())


def test_a_sandbox_has_so_many_connections_and_the_next_waits_for_one_to_end() -> None:
    async def test() -> None:
        async with carried(greet) as port:
            opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(module.PER_SANDBOX + 1)]
            answers = [asyncio.create_task(reader.readexactly(5)) for reader, _ in opened]
            for answer in itertools.islice(asyncio.as_completed(answers), module.PER_SANDBOX):
                assert await answer == b"hello"
            (waiting,) = [answer for answer in answers if not answer.done()]
            served = next(place for place, answer in enumerate(answers) if answer.done())
            opened[served][1].transport.abort()
            assert await waiting == b"hello"
            for _, writer in opened:
                writer.transport.abort()

    uvloop.run(test())


def test_connections_end_with_the_sandbox() -> None:
    async def test() -> None:
        async with carried(greet) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.readexactly(5) == b"hello"
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()

    uvloop.run(test())
