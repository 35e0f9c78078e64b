"""One accepted connection: bytes to requests, answers to bytes, one request at a time and in order.

`_socket` is used directly because `socket` costs 10 ms to import.
"""

import _socket
import select
import time

from .errors import ProtocolError
from .http1 import LONG, RequestParser
from .quick import deque, islice
from .responses import CONTINUE, chunk, chunked_head, date_line, last_chunk, response_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .http1 import Request
    from .listener import Listener
    from .loop import Door, Loop

READ_SIZE = 65_536  # larger ones are mapped and unmapped for each read
# What a client may send ahead while its request is being worked on, before we stop reading from it.
MAX_AHEAD = 1_048_576
HIGH_WATER = 1_048_576  # bytes that wait for a slow client before its sender is asked to wait
MAX_PARTS = 64  # of what waits, in one call
READ = select.EPOLLIN
WRITE = select.EPOLLOUT
GONE = select.EPOLLERR | select.EPOLLHUP


class Connection:
    """Also the *exchange* that the machine passes back: at most one request of a connection is open."""

    __slots__ = (
        "_ahead",
        "_door",
        "_drained",
        "_fd",
        "_has_part",
        "_is_closing",
        "_is_head",
        "_is_local",
        "_is_open",
        "_is_pumping",
        "_keep_alive",
        "_listener",
        "_loop",
        "_mask",
        "_out",
        "_parser",
        "_sock",
        "_unsent",
        "extra",
        "is_busy",
        "is_poll",
        "touched_at",
    )

    def __init__(self, fd: int, family: int, loop: "Loop", door: "Door", listener: "Listener") -> None:
        self._sock = _socket.socket(family, _socket.SOCK_STREAM, 0, fd)
        self._sock.setblocking(False)
        self._is_local = family == _socket.AF_UNIX  # the manager's, which has no use for dates
        if not self._is_local:
            self._sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self._fd = fd
        self._loop = loop
        self._door = door
        self._listener = listener
        self._parser = RequestParser(door.max_body, lambda request: door.wants_pieces(request, self))
        self._out: deque[memoryview] = deque()
        self._unsent = 0
        self._drained: Callable[[], None] | None = None
        self._has_part = False  # of a request: the parser has seen some of it
        self._ahead = 0
        self._mask = READ
        self._is_open = True
        self._is_closing = False
        self._is_head = False  # the open request wants no body in its answer
        self._is_pumping = False
        self._keep_alive = True
        self.touched_at = time.monotonic()
        self.extra: list[tuple[str, str]] = []  # headers for the answer of the open request, whatever it will be
        self.is_busy = False  # a request is open
        self.is_poll = False  # and it is a runtime that waits for an event
        loop.watch(fd, READ, self._ready)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked, nothing is half-asked and nothing is half-answered."""
        return not self.is_busy and not self._out and self._parser.is_between_requests

    @property
    def peer(self) -> str:
        """The client's address; empty where it has none."""
        try:
            name = self._sock.getpeername()
        except OSError:
            return ""
        return str(name[0]) if isinstance(name, tuple) else ""

    def is_stalled(self, before: float) -> bool:
        """Whether half a request, or half an answer, has lain here since `before`."""
        if self.touched_at >= before:
            return False
        return bool(self._out) or (not self.is_busy and not self._parser.is_between_requests)

    def _ready(self, mask: int) -> None:
        if mask & WRITE:
            self._flush()
        if mask & READ and self._is_open:
            self._read()
        elif mask & GONE:
            self.close()  # reported whatever we watch for; nobody can read an answer any more

    def _read(self) -> None:
        try:
            space = self._parser.space() if self._has_part else None
            if space is not None:
                self._fill(space)
                return
            data = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not data:
            self._ended()
            return
        self.touched_at = time.monotonic()
        if not (self._has_part or self.is_busy or self._is_closing):
            request = self._parser.whole(data)
            if request is not None:
                self._begin(request)
                return
        self._parser.feed(data)
        self._has_part = True
        if self._parser.is_in_pieces:
            self._pump()
        elif self.is_busy:
            self._ahead += len(data)
            if self._ahead > MAX_AHEAD:
                self._watch(self._mask & ~READ)
            return
        self._pump()

    def _fill(self, space: memoryview) -> None:
        """Read to where a long body goes."""
        count = self._sock.recv_into(space)
        if not count:
            self._ended()
            return
        self.touched_at = time.monotonic()
        self._parser.fill(count)
        if count == len(space):
            self._pump()

    def _ended(self) -> None:
        """The client sends no more. A caller may still read its answer; a poll or an idle connection is over."""
        if self.is_busy and not self.is_poll and not self._parser.is_in_pieces:
            self._keep_alive = False
            self._watch(self._mask & ~READ)
        elif not self.is_busy and self._parser.is_in_body and not self._parser.is_in_pieces:
            self._keep_alive = False
            self._watch(self._mask & ~READ)
            self._door.truncated(self)
        else:
            self.close()

    def _pump(self) -> None:
        """Work on the requests that are here, one after the other, until one must wait for its answer."""
        if self._is_pumping:
            return  # an answer was given at once; the loop below goes on
        self._is_pumping = True
        try:
            while self._is_open and not self.is_busy and not self._is_closing and self._begin_request():
                if self._parser.is_between_requests:
                    break
        finally:
            self._is_pumping = False
            self._has_part = not self._parser.is_between_requests

    def _begin_request(self) -> bool:
        """Hand the next request to the door; False if it is not whole yet."""
        try:
            request = self._parser.next_request()
        except ProtocolError as error:
            self._keep_alive = False
            self.respond(error.status, [("Content-Type", "text/plain; charset=utf-8")], f"{error}\n".encode())
            return False
        if self._parser.pieces:
            pieces, self._parser.pieces = self._parser.pieces, []
            self._door.take_pieces(self, pieces)
        if request is None:
            if self._parser.wants_continue:
                self._parser.wants_continue = False
                self._send(CONTINUE)
            return False
        self._begin(request)
        return True

    def _begin(self, request: "Request") -> None:
        self.is_busy = True
        self._keep_alive = request.keep_alive
        self._is_head = request.method == "HEAD"
        self._door.handle(request, self)

    def respond(self, status: int, headers: "list[tuple[str, str]]", body: bytes = b"") -> None:
        """Answer the open request; nothing happens if the client has gone."""
        if not self._is_open:
            return
        if self.extra:
            headers = _with(headers, self.extra)
        head = response_head(status, headers, len(body), self._keep_alive, "" if self._is_local else date_line())
        if self._is_head:
            self._send(head)
        elif len(body) < LONG:
            self._send(head + body)
        else:
            self._send_parts([head, body])
        self._answered()

    def succeed(self, lines: str, body: bytes) -> None:
        """As `respond` with 200; the headers are whole lines already, which takes half the time for each message."""
        if not self._is_open:
            return
        if self.extra or self._is_head or not self._keep_alive or len(body) >= LONG:
            self.respond(
                200, [(line.partition(": ")[0], line.partition(": ")[2]) for line in lines.split("\r\n")[:-1]], body
            )
            return
        date = "" if self._is_local else date_line()
        head = f"HTTP/1.1 200 OK\r\n{date}{lines}Content-Length: {len(body)}\r\n\r\n"
        self._send(head.encode("latin-1", "replace") + body)
        self._answered()

    def respond_with(self, response: bytes) -> None:
        """As `respond`, with a response that is whole: one that is the same for all, of status, headers and body."""
        if self._is_open:
            self._send(response)
            self._answered()

    def _answered(self) -> None:
        self.is_poll = False
        self.is_busy = False
        self.extra = []
        if not self._keep_alive:
            self._is_closing = True
            if not self._out:
                self.close()
            return
        if self._ahead:
            self._ahead = 0
            self._watch(self._mask | READ)
        if self._has_part:
            self._pump()

    def begin(self, status: int, headers: "list[tuple[str, str]]") -> None:
        """Begin an answer that comes in pieces; `send_piece` and `end` follow."""
        if self._is_open:
            if self.extra:
                headers = _with(headers, self.extra)
            self._send(chunked_head(status, headers, self._keep_alive, "" if self._is_local else date_line()))

    def send_piece(self, data: bytes) -> bool:
        """Send a piece; False if the client takes them too slowly, so that its sender should wait for `on_drained`."""
        if self._is_open and data:
            self._send(chunk(data))
        return not self._is_open or self._unsent < HIGH_WATER

    def end(self, trailers: "tuple[tuple[str, str], ...]" = ()) -> None:
        """The last piece has been sent."""
        if self._is_open:
            self._send(last_chunk(trailers))
            self._answered()

    def break_off(self) -> None:
        """There is no more of this answer, though it is not whole: the client must see that."""
        self._keep_alive = False
        self._answered()

    def on_drained(self, callback: "Callable[[], None]") -> None:
        """Have `callback` called once when the client has taken what was sent, or is gone."""
        self._drained = callback

    def pause(self) -> None:
        """Read no more from the client until `resume`."""
        self._watch(self._mask & ~READ)

    def resume(self) -> None:
        """Read from the client again."""
        self._watch(self._mask | READ)

    def _send(self, data: bytes) -> None:
        if self._out:
            self._out.append(memoryview(data))
            self._unsent += len(data)
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        if sent < len(data):
            self._keep(memoryview(data)[sent:])

    def _send_parts(self, parts: "list[bytes]") -> None:
        """Send them without making one of them first, for the memory of what is large is slow."""
        for part in parts:
            if self._is_open:
                self._send(part)

    def _keep(self, rest: memoryview) -> None:
        """The client takes no more now."""
        self._out.append(rest)
        self._unsent += len(rest)
        self.touched_at = time.monotonic()
        self._watch(self._mask | WRITE)

    def _flush(self) -> None:
        try:
            sent = self._sock.sendmsg([*islice(self._out, MAX_PARTS)])
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self.touched_at = time.monotonic()
        self._unsent -= sent
        while sent:
            part = self._out.popleft()
            if len(part) > sent:
                self._out.appendleft(part[sent:])
                break
            sent -= len(part)
        if not self._out:
            self._watch(self._mask & ~WRITE)
            self._tell_drained()
            if self._is_closing:
                self.close()

    def _tell_drained(self) -> None:
        callback, self._drained = self._drained, None
        if callback is not None:
            callback()

    def _watch(self, mask: int) -> None:
        if self._is_open and mask != self._mask:
            self._mask = mask
            self._loop.watch(self._fd, mask, self._ready)

    def close(self) -> None:
        """Close it; the loop tells whom it concerns."""
        if self._is_open:
            self._is_open = False
            self._loop.forget(self._fd)
            self._sock.close()
            if self._parser.is_in_pieces:
                self._door.cut(self)
            self._parser.forget_asker()
            self._tell_drained()
            self._listener.forget(self)
            self._loop.connection_closed(self)


def _with(headers: "list[tuple[str, str]]", extra: "list[tuple[str, str]]") -> "list[tuple[str, str]]":
    """Ours instead of the function's of the same name; `Vary` may be there twice."""
    names = {name.lower() for name, _ in extra if name != "Vary"}
    return [header for header in headers if header[0].lower() not in names] + extra


def _listed(lines: str) -> "list[tuple[str, str]]":
    parts = (line.partition(": ") for line in lines.split("\r\n")[:-1])
    return [(name, value) for name, _, value in parts]
