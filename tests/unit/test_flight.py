"""Coroutines that run without a task until they wait for something else than a reply."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from rie.flight import Reply, fly, land
from rie.plane.connection import Connection, Request
from rie.plane.listener import Listener


def flown(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


async def called_back(action: Callable[[], None]) -> None:
    """Do something outside of any task, as who receives data does."""
    asyncio.get_running_loop().call_soon(action)
    await asyncio.sleep(0)


def test_it_runs_at_once_as_far_as_it_can_and_on_as_soon_as_its_reply_is_there() -> None:
    async def scenario() -> None:
        reply, tasks = Reply[int](), set[asyncio.Task[None]]()
        heard: list[object] = []

        async def flight() -> None:
            heard.append(-1)
            heard.append(await reply)

        def callback() -> None:
            fly(flight(), tasks.add)
            assert heard == [-1]
            reply.set(7)
            assert heard == [-1, 7]

        await called_back(callback)
        assert heard == [-1, 7]
        assert not tasks

    flown(scenario)


def test_a_reply_that_fails_raises_where_it_is_awaited_and_what_comes_later_does_not_count() -> None:
    async def scenario() -> None:
        reply = Reply[int]()
        heard: list[object] = []

        async def flight() -> None:
            try:
                await reply
            except ValueError as error:
                heard.append(str(error))

        def callback() -> None:
            fly(flight(), lambda task: None)
            reply.fail(ValueError("no"))
            reply.set(7)

        await called_back(callback)
        assert heard == ["no"]
        with pytest.raises(ValueError, match="no"):
            await reply

    flown(scenario)


def test_what_waits_for_anything_else_goes_on_as_a_task_and_hears_replies_there() -> None:
    async def scenario() -> None:
        reply, tasks = Reply[int](), set[asyncio.Task[None]]()
        heard: list[object] = []
        gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def flight() -> None:
            heard.append(await gate)
            async with asyncio.timeout(5):  # needs a task
                heard.append(str(await reply))

        fly(flight(), tasks.add)
        (task,) = tasks
        gate.set_result("open")
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(reply.set, 7)
        await task
        assert heard == ["open", "7"]

    flown(scenario)


def test_a_flight_that_became_a_task_hears_errors_and_is_cancelled_like_one() -> None:
    async def scenario() -> None:
        heard: list[str] = []
        tasks = set[asyncio.Task[None]]()
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def flight() -> None:
            try:
                await gate
            except ValueError:
                heard.append("error")
            try:
                await asyncio.sleep(60)
            finally:
                heard.append("cancelled")

        fly(flight(), tasks.add)
        (task,) = tasks
        gate.set_exception(ValueError())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert heard == ["error", "cancelled"]

    flown(scenario)


def test_landing_makes_a_task_of_a_flight_and_costs_a_task_nothing() -> None:
    async def scenario() -> None:
        current: list[asyncio.Task[None] | None] = []
        tasks = set[asyncio.Task[None]]()

        async def flight() -> None:
            current.append(asyncio.current_task())
            await land()
            current.append(asyncio.current_task())

        await called_back(lambda: fly(flight(), tasks.add))
        (task,) = tasks
        await task
        assert current == [None, task]
        turns: list[str] = []
        asyncio.get_running_loop().call_soon(turns.append, "another")
        await land()
        assert not turns

    flown(scenario)


def test_a_reply_awaited_by_a_task_that_is_cancelled_can_still_be_settled() -> None:
    async def scenario() -> None:
        reply = Reply[int]()

        async def wait() -> int:
            return await reply

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        reply.set(1)
        assert await reply == 1

    flown(scenario)


class Echo:
    """An application that flies: it waits for its first request's reply, and answers all others at once."""

    def __init__(self) -> None:
        self.reply = Reply[None]()
        self.is_asked = asyncio.Event()

    def limit_of(self, request: Request) -> int:
        return 100

    def flies(self, request: Request) -> bool:
        return True

    async def __call__(self, request: Request, exchange: Connection) -> None:
        if request.path == "/0":
            self.is_asked.set()
            await self.reply
        exchange.respond(200, [], request.path.encode())


def test_hundreds_of_requests_sent_ahead_are_answered_in_their_order() -> None:
    count = 2_000  # each within the one before would be too deep

    async def scenario() -> None:
        app = Echo()
        listener = Listener(app)
        server = socket.create_server(("127.0.0.1", 0))
        await listener.open([server])
        reader, writer = await asyncio.open_connection(*server.getsockname())
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(count)))
        await writer.drain()
        await app.is_asked.wait()
        asyncio.get_running_loop().call_soon(app.reply.set, None)
        for number in range(count):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(len(f"/{number}")) == f"/{number}".encode()
        writer.close()
        listener.stop_accepting()
        listener.close()

    flown(scenario)
