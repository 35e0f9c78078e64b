"""The client side of a sandbox's front door: one HTTP/1.1 connection, one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httptools

from bootstrap.wire import MAX_RESPONSE
from rie.errors import SandboxFailed

# No bootstrap sends more; what has taken the bootstrap's place may try.
MAX_ANSWER = MAX_RESPONSE + 131_072


@dataclass(slots=True)
class DoorAnswer:
    """Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Door(asyncio.Protocol):
    """Use: `door = await sandbox.connect(Door)`; then `request`, never two at once."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[DoorAnswer] | None = None
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._lost: Callable[[], None] | None = None
        self._received = 0  # bytes of the answer that is coming

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def request(
        self, method: str, path: str, headers: list[tuple[str, str]], body: bytes, within_s: float
    ) -> DoorAnswer:
        """Send a request, wait for its whole answer. Raises SandboxFailed (closed), TimeoutError (after `within_s`)."""
        if not self.is_open:
            raise SandboxFailed("cannot reach the sandbox: its front door is closed")
        lines = [f"{method} {path} HTTP/1.1", "Host: sandbox"]
        lines += [f"{name}: {value}" for name, value in headers]
        lines.append(f"Content-Length: {len(body)}\r\n\r\n")
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[DoorAnswer] = loop.create_future()
        self._waiter = waiter
        cast(asyncio.Transport, self._transport).write("\r\n".join(lines).encode("latin-1") + body)
        timer = loop.call_later(within_s, self._expire, waiter)
        try:
            return await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the connection is gone."""
        self._lost = callback

    def close(self) -> None:
        """Close the connection; an open request fails."""
        if self._transport is not None:
            self._transport.close()

    def _expire(self, waiter: asyncio.Future[DoorAnswer]) -> None:
        if not waiter.done():
            waiter.set_exception(TimeoutError())
            self.close()

    def _fail(self, why: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(SandboxFailed(f"cannot hear from the sandbox: {why}"))

    # -- asyncio's and httptools' callbacks -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"it closed the connection ({exc or 'end of stream'})")
        if self._lost is not None:
            self._lost()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > MAX_ANSWER:
            self._fail(f"its answer is longer than {MAX_ANSWER} bytes")
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"its answer is not HTTP ({error})")
            self.close()

    def on_message_begin(self) -> None:
        self._headers = {}
        self._body = []
        self._received = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._waiter.set_result(DoorAnswer(self._parser.get_status_code(), self._headers, body))
