"""One connection of a caller: bytes to whole requests, answers to bytes, one at a time and in order.

Ours, over httptools, because it stands in the way of every invocation: with the same trivial handler, gunicorn's ASGI
protocol answered 7,800 requests a second and a bare httptools one 49,000 (0.15 and 0.06 ms at one connection). Requests
reach the application whole, so a slow sender costs no task; an answer is sent whole, or in pieces with back-pressure.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import httptools

from rie.iam.sigv4 import Sent
from rie.plane.dates import date_line

if TYPE_CHECKING:
    from rie.plane.listener import Listener

Headers = Iterable[tuple[str, str]]

MAX_HEAD = 131_072  # bytes of a request's line and headers together
# What is read and thrown away of a body past its limit, so that its sender hears the refusal instead of a reset.
MAX_DRAINED = 134_217_728
HIGH_WATER = 262_144  # bytes that wait for a slow reader before whoever makes them is asked to wait
LINGER_S = 2.0  # how long a caller that was refused may take to see it
TEXT = [("Content-Type", "text/plain; charset=utf-8")]
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
END = b"0\r\n\r\n"
BODILESS = (204, 304)
_STATUS_LINES = {status: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


class Request:
    """One request: `path` and `query` as sent, header names in lower case, repeated ones joined.

    `fields` are the headers as they came. `body` is None when it passed the limit that the application set; `peer` the
    caller's address.
    """

    __slots__ = ("body", "fields", "headers", "is_http_1_1", "keep_alive", "method", "path", "peer", "query")

    def __init__(self, method: str, path: str, query: str, headers: dict[str, str], peer: str) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.fields: Sequence[tuple[bytes, bytes]] = ()
        self.peer = peer
        self.body: bytes | None = b""
        self.keep_alive = True
        self.is_http_1_1 = True

    @property
    def sent(self) -> Sent:
        """What its signature is over, besides the body."""
        return Sent(self.method, self.path, self.query, self.headers)


class Connection(asyncio.Protocol):
    """Also the exchange that the application answers: `respond`, or `begin`, `write`… and `end` or `abort`."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        # The request that comes
        self._target = b""
        self._headers: dict[str, str] = {}
        self._fields: list[tuple[bytes, bytes]] = []
        self._coming: Request | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._head_size = 0
        self._limit = 0
        self._owed = 0  # bytes of the body of a request that asked for another protocol
        # The request that is answered
        self._waiting: deque[Request] = deque()
        self._request: Request | None = None
        self._is_chunked = False
        self._is_silent = False  # the answer has no body
        self._drained: Callable[[], None] | None = None
        self._gone: asyncio.Future[None] | None = None
        self._is_refused = False  # nothing more is taken
        self.has_begun = False  # something of the answer has been sent
        self.is_paused = False  # the caller takes the answer too slowly
        self.is_read_paused = False
        self.touched_at = time.monotonic()  # when something last moved
        self.unsent = 0  # bytes, when somebody last looked

    # -- what the listener asks ------------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self._request is not None

    @property
    def is_half_asked(self) -> bool:
        """Whether a part of a request has come."""
        return self._coming is not None or bool(self._head_size)

    @property
    def pending(self) -> int:
        """Bytes of the answer that the caller has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def refuse(self, status: int, text: str) -> None:
        """Answer whatever is half asked, and hang up once the caller does: closed at once, it might miss the answer."""
        if self._transport is None or self._is_refused:
            return
        self._is_refused = True
        request = self._coming or Request("GET", "/", "", {}, self._peer)
        request.keep_alive = False
        body = f"{text}\n".encode()
        head = self._head(status, [*TEXT, ("Content-Length", str(len(body)))], request)
        self._transport.write(f"{head}\r\n".encode("latin-1", "replace") + body)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, self.close)

    def close(self) -> None:
        """Hang up once everything is sent."""
        if self._transport is not None:
            self._transport.close()

    # -- answers --------------------------------------------------------------------------------------------------

    def respond(self, status: int, headers: Headers, body: bytes = b"") -> None:
        """Send a whole answer; nothing happens if the caller has gone."""
        request = self._request
        if self._transport is None or request is None:
            self._request = None
            return
        head = self._head(status, headers, request)
        if status in BODILESS:
            self._transport.write(f"{head}\r\n".encode("latin-1", "replace"))
        else:
            raw = f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1", "replace")
            self._transport.write(raw if request.method == "HEAD" else raw + body)
        self._answered()

    def begin(self, status: int, headers: Headers, size: int | None = None) -> None:
        """Begin an answer that comes in pieces, of `size` bytes together where that is known."""
        request = self._request
        self.has_begun = True
        if self._transport is None or request is None:
            return
        self._is_silent = request.method == "HEAD" or status in BODILESS
        self._is_chunked = request.is_http_1_1 and not self._is_silent and size is None
        if not request.is_http_1_1 and size is None:
            request.keep_alive = False  # its end is the connection's
        framing = "Transfer-Encoding: chunked\r\n" if self._is_chunked else ""
        if size is not None:
            framing = f"Content-Length: {size}\r\n"
        self._transport.write(f"{self._head(status, headers, request)}{framing}\r\n".encode("latin-1", "replace"))

    def write(self, data: bytes) -> bool:
        """Send a piece; False if its maker should wait for `on_drained`."""
        if self._transport is None or self._is_silent or not data:
            return True
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)
        return not self.is_paused

    def end(self) -> None:
        """The last piece has been sent."""
        if self._transport is not None and self._is_chunked:
            self._transport.write(END)
        self._answered()

    def abort(self) -> None:
        """There is no more of this answer, though it is not whole: the caller must see that."""
        if self._transport is None:
            return
        if self._is_chunked:
            self._transport.close()  # what was sent arrives; the last chunk is missing
        else:
            self._transport.abort()

    def on_drained(self, callback: Callable[[], None]) -> None:
        """Have `callback` called once when the caller has taken what was sent, or has gone."""
        if self.is_paused and self._transport is not None:
            self._drained = callback
        else:
            callback()

    async def drained(self) -> None:
        """Wait for it."""
        waiter = asyncio.get_running_loop().create_future()
        self.on_drained(lambda: None if waiter.done() else waiter.set_result(None))
        await waiter

    @property
    def has_gone(self) -> bool:
        """Whether the connection is closed: nobody can be told anything more."""
        return self._transport is None

    def gone(self) -> asyncio.Future[None]:
        """Done when the caller has hung up."""
        if self._gone is None:
            self._gone = asyncio.get_running_loop().create_future()
            if self._transport is None:
                self._gone.set_result(None)
        return self._gone

    def _head(self, status: int, headers: Headers, request: Request) -> str:
        self.has_begun = True
        self.touched_at = time.monotonic()
        line = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"  # type: ignore[call-overload]
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers])
        stay = "" if request.is_http_1_1 else "Connection: keep-alive\r\n"  # HTTP/1.0 has to be told
        connection = stay if request.keep_alive else "Connection: close\r\n"
        return f"{line}{date_line()}{connection}{fields}"

    def _answered(self) -> None:
        request, self._request = self._request, None
        if self._transport is None or request is None:
            return
        if not request.keep_alive or self._listener.is_closing:
            self._transport.close()
        elif self._waiting:
            # Not at once: whoever has sent hundreds ahead would have them answered within each other.
            self._start(self._waiting.popleft(), at_once=False)
        elif self.is_read_paused:
            self.is_read_paused = False
            self._transport.resume_reading()

    def _start(self, request: Request, *, at_once: bool) -> None:
        self._request = request
        self.has_begun = self._is_chunked = self._is_silent = False
        self._listener.serve(request, self, at_once=at_once)

    # -- asyncio's callbacks --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(HIGH_WATER)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else ""
        self._listener.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self.touched_at = time.monotonic()
        if self._is_refused:
            return
        if self._owed:
            self._take_owed(data)
            return
        if self._coming is None:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.refuse(400, "the request is not HTTP/1.1")
            return
        if self._coming is None and self._head_size > MAX_HEAD:
            self.refuse(431, f"the request's headers are longer than {MAX_HEAD} bytes")

    def eof_received(self) -> bool:
        """A caller that only stopped sending still gets its answer."""
        self._tell_gone()
        if self._request is None or self._is_refused:
            return False
        self._request.keep_alive = False
        self._waiting.clear()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        self._listener.connections.discard(self)
        self._tell_gone()
        self._tell_drained()

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        self._tell_drained()

    def _tell_drained(self) -> None:
        callback, self._drained = self._drained, None
        if callback is not None:
            callback()

    def _tell_gone(self) -> None:
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    # -- httptools' callbacks -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = {}
        self._fields = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        if key in self._headers:
            text = f"{self._headers[key]}{'; ' if key == 'cookie' else ','}{text}"
        self._headers[key] = text
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        self._head_size = 0
        target = self._target.decode("latin-1")
        if not target.startswith("/"):
            target = _origin_form(target)
        path, _, query = target.partition("?")
        request = Request(self._parser.get_method().decode(), path, query, self._headers, self._peer)
        request.fields = self._fields
        request.keep_alive = self._parser.should_keep_alive()
        request.is_http_1_1 = self._parser.get_http_version() != "1.0"
        self._coming = request
        self._body = []
        self._size = 0
        self._limit = self._listener.limit_of(request)
        if "expect" in self._headers and not self.is_busy and self._transport is not None:
            self._transport.write(CONTINUE)

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size <= self._limit:
            self._body.append(body)
        elif self._body:
            self._body = []
        if self._size > MAX_DRAINED and self._transport is not None:
            self._transport.abort()

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return  # its body is not what the parser takes for the end: see `_stay`
        self._complete()

    def _complete(self) -> None:
        request, self._coming = self._coming, None
        if request is None:
            return
        request.body = (
            None if self._size > self._limit else self._body[0] if len(self._body) == 1 else b"".join(self._body)
        )
        self._body = []
        if self._request is None:
            self._start(request, at_once=True)
            return
        self._waiting.append(request)
        if not self.is_read_paused and self._transport is not None:
            self.is_read_paused = True  # what came in one read is at most a few of them
            self._transport.pause_reading()

    def _stay(self, rest: bytes) -> None:
        """The request asks for HTTP/2 or a WebSocket: answered in HTTP/1.1, as whoever doesn't know it may."""
        request = self._coming
        self._parser = httptools.HttpRequestParser(self)
        if request is None or request.method == "CONNECT":
            self.refuse(501, "only HTTP/1.1 is spoken here")
            return
        if "transfer-encoding" in request.headers:
            self._coming = None
            self.data_received(_without_offer(request, self._target) + rest)
            return
        request.keep_alive = "close" not in request.headers.get("connection", "").lower()
        self._owed = int(request.headers.get("content-length", "0"))
        self._take_owed(rest)

    def _take_owed(self, data: bytes) -> None:
        taken, rest = data[: self._owed], data[self._owed :]
        self._owed -= len(taken)
        if taken:
            self.on_body(taken)
        if not self._owed:
            self._complete()
            if rest:
                self.data_received(rest)


def _without_offer(request: Request, target: bytes) -> bytes:
    """The head of a request as it would have come from someone who offers no other protocol."""
    closes = "close" in request.headers.get("connection", "").lower()
    told = {**request.headers, "connection": "close" if closes else "keep-alive"}
    left = [f"{name}: {value}\r\n" for name, value in told.items() if name not in ("upgrade", "expect")]
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (request.method.encode(), target, "".join(left).encode("latin-1"))


def _origin_form(target: str) -> str:
    """The target as it is sent to servers, of one that is sent to proxies; `*` stays."""
    if target == "*":
        return target
    parts = urlsplit(target)
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
