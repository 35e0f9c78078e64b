"""The client side of a front door: one timer for all requests, each with a time of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from rie.environments.door import Door
from rie.errors import SandboxFailed

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
HEAD = "GET /_rie/init HTTP/1.1\r\nHost: sandbox\r\n"
LONG_S, SHORT_S = 30.0, 0.02


def story(test: Callable[[Door, socket.socket], Awaitable[None]]) -> Callable[[], None]:
    """A door, and the sandbox's end of its connection."""

    async def live() -> None:
        ours, theirs = socket.socketpair()
        _, door = await asyncio.get_running_loop().create_unix_connection(Door, sock=ours)
        with theirs:
            await asyncio.wait_for(test(door, theirs), 10)
            door.close()

    def run() -> None:
        asyncio.run(live())

    run.__name__ = test.__name__
    return run


@story
async def test_a_short_wait_after_a_long_one_ends_in_its_own_time(door: Door, sandbox: socket.socket) -> None:
    sandbox.sendall(ANSWER)
    assert (await door.request(HEAD, b"", LONG_S)).status == 200
    with pytest.raises(TimeoutError):
        await door.request(HEAD, b"", SHORT_S)
    assert not door.is_open


@story
async def test_a_long_wait_is_not_cut_short_by_the_timer_of_a_short_one(door: Door, sandbox: socket.socket) -> None:
    sandbox.sendall(ANSWER)
    await door.request(HEAD, b"", SHORT_S)
    asyncio.get_running_loop().call_later(5 * SHORT_S, sandbox.sendall, ANSWER)
    assert (await door.request(HEAD, b"", LONG_S)).body == b"{}"
    await asyncio.sleep(2 * SHORT_S)
    assert door.is_open


@story
async def test_who_waits_hears_that_the_sandbox_has_hung_up(door: Door, sandbox: socket.socket) -> None:
    asyncio.get_running_loop().call_soon(sandbox.close)
    with pytest.raises(SandboxFailed, match="closed the connection"):
        await door.request(HEAD, b"", LONG_S)
