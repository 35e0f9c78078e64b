"""Sending portions of telemetry to a server on this machine, over HTTP or TCP, without ever waiting for it."""

import _socket
import errno
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .loop import Loop
    from .subscription import Subscription

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
GONE = select.EPOLLERR | select.EPOLLHUP
PIECE = 65_536
MAX_ANSWER = 65_536  # bytes of an HTTP answer that are looked at


class Delivery:
    """One connection, one portion at a time; `done` is told of each whether it has arrived."""

    def __init__(self, loop: "Loop", subscription: "Subscription", done: "Callable[[bool], None]") -> None:
        self._loop = loop
        self._subscription = subscription
        self._done = done
        self._sock: _socket.socket | None = None
        self._mask = 0
        self._out = b""
        self._sent = 0
        self.is_busy = False

    def send(self, portion: "list[bytes]") -> None:
        """Begin to send; `done` follows, perhaps at once."""
        self._out, self._sent = self._encoded(portion), 0
        self.is_busy = True
        if self._sock is None:
            self._connect()
        else:
            self._flush()

    def close(self) -> None:
        """Give up the connection, and what is under way."""
        self.is_busy = False
        self._out = b""
        self._hang_up()

    def _encoded(self, portion: "list[bytes]") -> bytes:
        raise NotImplementedError

    def _connect(self) -> None:
        self._sock = sock = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        sock.setblocking(False)
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        code = sock.connect_ex(("127.0.0.1", self._subscription.port))
        if code in (0, errno.EINPROGRESS):
            self._watch(READ | WRITE)
        else:
            self._end(False)

    def _ready(self, mask: int) -> None:
        if mask & READ and not self._read():
            return
        if mask & GONE:
            self._end(False)
        elif mask & WRITE:
            self._flush()

    def _flush(self) -> None:
        assert self._sock is not None
        try:
            while self._sent < len(self._out):
                self._sent += self._sock.send(memoryview(self._out)[self._sent : self._sent + PIECE])
        except BlockingIOError:
            self._watch(READ | WRITE)
            return
        except OSError:
            self._end(False)
            return
        self._watch(READ)
        self._all_sent()

    def _all_sent(self) -> None:
        raise NotImplementedError

    def _read(self) -> bool:
        """Take what the server says; False if that has ended the connection or the portion."""
        assert self._sock is not None
        try:
            data = self._sock.recv(PIECE)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        return self._heard(data)

    def _heard(self, data: bytes) -> bool:
        """`data` is empty when the server has hung up."""
        raise NotImplementedError

    def _watch(self, mask: int) -> None:
        if self._sock is not None and mask != self._mask:
            self._mask = mask
            self._loop.watch(self._sock.fileno(), mask, self._ready)

    def _hang_up(self) -> None:
        if self._sock is not None:
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            self._sock, self._mask = None, 0

    def _end(self, is_well: bool) -> None:
        """The portion under way, if there is one, has arrived or has not."""
        if not is_well:
            self._hang_up()
        if self.is_busy:
            self.is_busy = False
            self._out = b""
            self._done(is_well)


class TcpDelivery(Delivery):
    """Each event on a line of its own; it counts as arrived when the kernel has taken it."""

    def _encoded(self, portion: "list[bytes]") -> bytes:
        return b"\n".join(portion) + b"\n"

    def _all_sent(self) -> None:
        self._end(True)

    def _heard(self, data: bytes) -> bool:
        if not data:
            self._end(False)
        return bool(data)


class HttpDelivery(Delivery):
    """A JSON array of events in each request; it has arrived when the answer is 2xx."""

    def __init__(self, loop: "Loop", subscription: "Subscription", done: "Callable[[bool], None]") -> None:
        super().__init__(loop, subscription, done)
        self._answer = bytearray()

    def _encoded(self, portion: "list[bytes]") -> bytes:
        self._answer.clear()
        body = b"[" + b",".join(portion) + b"]"
        wanted = self._subscription
        head = (
            f"{wanted.method} {wanted.path} HTTP/1.1\r\nHost: sandbox.localdomain:{wanted.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def _all_sent(self) -> None:
        """The answer comes later."""

    def _heard(self, data: bytes) -> bool:
        self._answer += data
        head, end, body = bytes(self._answer).partition(b"\r\n\r\n")
        if end and self.is_busy:
            lines = head.lower().split(b"\r\n")
            status = lines[0].split(b" ")
            length = next((line[15:].strip() for line in lines if line.startswith(b"content-length:")), b"")
            stays = length.isdigit() and int(length[:9]) == len(body) and b"connection: close" not in lines
            if not stays or self._sent < len(self._out):
                self._hang_up()  # the next portion takes a new connection: an answer's body does not matter to us
            self._end(len(status) > 1 and len(status[1]) == 3 and status[1].startswith(b"2"))
            return False
        if not data or not self.is_busy or len(self._answer) > MAX_ANSWER:
            self._end(False)
            return False
        return True
