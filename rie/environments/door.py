"""The client side of a sandbox's front door: one HTTP/1.1 connection, one request at a time.

An answer in pieces goes to a listener as it comes. While the listener wants no more, nothing is read, so that the
sandbox and then its runtime wait too: nobody holds more than a buffer of it. But a function's time is its own: once
that is over, what the sandbox still holds of the answer (a buffer) is taken at once, whoever reads it slowly.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httptools

from bootstrap.wire import EXECUTED_VERSION, MAX_RESPONSE, MAX_STREAM, STREAM_TYPE
from rie.errors import SandboxFailed
from rie.flight import Reply
from rie.model.invocation import Listener

# No bootstrap sends more; what has taken the bootstrap's place may try.
MAX_ANSWER = MAX_RESPONSE + 131_072
MAX_PIECES = 2 * MAX_STREAM  # chunks of one byte cost six
LEFTOVERS_S = 3.0  # what taking the rest of an answer out of a sandbox may last
_STREAM_TYPE = STREAM_TYPE.lower()
_VERSION = EXECUTED_VERSION.lower()


@dataclass(slots=True)
class DoorAnswer:
    """Header names in lower case, those after the body among them; no body if a listener got it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_heard(self) -> bool:
        """Whether a listener got the body."""
        return _STREAM_TYPE in self.headers


class Door(asyncio.Protocol):
    """Use: `door = await sandbox.connect(Door)`; then `request`, never two at once."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: Reply[DoorAnswer] | None = None
        # One for all requests, set anew once it has run down: making and cancelling one costs as much as a read.
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0
        self._gives_up_at = 0.0
        self._listener: Listener | None = None
        self._is_streaming = False
        self._is_waiting = False  # for the listener
        self._is_patient = True  # and may
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._lost: Callable[[], None] | None = None
        self._received = 0  # bytes of the answer that is coming
        self._limit = MAX_ANSWER

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def request(self, head: str, body: bytes, within_s: float, listener: Listener | None = None) -> DoorAnswer:
        """Send a request, wait for its whole answer. Raises SandboxFailed (closed), TimeoutError (after `within_s`).

        `head` is its first line and headers, each with its line's end, but for Content-Length and the empty line.
        """
        if self._transport is None or self._transport.is_closing():
            raise SandboxFailed("cannot reach the sandbox: its front door is closed")
        self._waiter = waiter = Reply[DoorAnswer]()
        self._listener = listener
        self._is_patient = True
        self._transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body)
        self._give_up_in(within_s)
        try:
            return await waiter
        finally:
            self._waiter = self._listener = None

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the connection is gone."""
        self._lost = callback

    def close(self) -> None:
        """Close the connection; an open request fails."""
        if self._transport is not None:
            self._transport.close()

    def _give_up_in(self, within_s: float) -> None:
        self._gives_up_at = time.monotonic() + within_s
        if self._timer is None or self._fires_at > self._gives_up_at:
            self._set_timer(within_s)

    def _set_timer(self, in_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = self._gives_up_at
        self._timer = self._loop.call_later(in_s, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.is_settled:
            return
        left_s = self._gives_up_at - time.monotonic()
        if left_s > 0:
            self._set_timer(left_s)  # it was set for an earlier request
        elif self._is_streaming and self._is_patient:
            self._is_patient = False
            self._resume()
            self._give_up_in(LEFTOVERS_S)
        else:
            self._waiter.fail(TimeoutError())
            self.close()

    def _fail(self, why: str) -> None:
        if self._waiter is not None:
            self._waiter.fail(SandboxFailed(f"cannot hear from the sandbox: {why}"))

    def _resume(self) -> None:
        if self._is_waiting and self._transport is not None:
            self._is_waiting = False
            self._transport.resume_reading()

    # -- asyncio's and httptools' callbacks -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._fail(f"it closed the connection ({exc or 'end of stream'})")
        if self._lost is not None:
            self._lost()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"its answer is not HTTP ({error})")
            self.close()
            return
        if self._received > self._limit:
            self._fail(f"its answer is longer than {self._limit} bytes")
            self.close()

    def on_message_begin(self) -> None:
        self._headers = {}
        self._body = []
        self._received = 0
        self._limit = MAX_ANSWER
        self._is_streaming = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        content_type = self._headers.get(_STREAM_TYPE)
        if content_type is not None and self._listener is not None:
            self._is_streaming = True
            self._limit = MAX_PIECES
            self._listener.begin(content_type, self._headers.get(_VERSION, ""))

    def on_body(self, body: bytes) -> None:
        if not self._is_streaming or self._listener is None:
            self._body.append(body)
        elif not self._listener.piece(body) and self._is_patient and not self._is_waiting:
            self._is_waiting = True
            cast(asyncio.Transport, self._transport).pause_reading()
            self._listener.on_drained(self._resume)

    def on_message_complete(self) -> None:
        self._is_streaming = False
        self._resume()
        if self._waiter is not None:
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._waiter.set(DoorAnswer(self._parser.get_status_code(), self._headers, body))
