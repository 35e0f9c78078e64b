"""The client that both parties are measured with: a prepared request, a socket kept open, one send, one receive."""

from __future__ import annotations

import selectors
import socket
import time
from dataclasses import dataclass

Address = tuple[str, int]

PATH = "/2015-03-31/functions/function/invocations"  # the only one that AWS's RIE answers
# As Python's json writes it, so that an echo through any runtime client gives the same bytes.
EVENT = b'{"key": "value"}'
REQUEST = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (PATH.encode(), len(EVENT), EVENT)
READ_SIZE = 65_536
PATIENCE_S = 10.0  # past it, a call has failed


class CallFailed(Exception):
    """An invocation was not answered with its own event."""


class Caller:
    """One client; `connections` counts how often it had to connect, 1 when its connection was kept."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.connections = 0
        self._socket: socket.socket | None = None

    def invoke(self) -> None:
        """One invocation, answered and checked. Raises CallFailed or OSError."""
        sock = self._socket or self._connect()
        sock.sendall(REQUEST)
        received = b""
        while not is_whole(received):
            data = sock.recv(READ_SIZE)
            if not data:
                raise CallFailed(f"cannot invoke {self.address}: the connection was closed after {received!r}")
            received += data
        if is_last(received):
            self.close()

    def measure(self, invocations: int) -> list[float]:
        """The time of each of so many invocations, in ms."""
        clock = time.perf_counter
        samples = []
        for _ in range(invocations):
            began = clock()
            self.invoke()
            samples.append((clock() - began) * 1e3)
        return samples

    def close(self) -> None:
        """Give up the connection; the next invocation makes one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        self._socket = connect(self.address)
        self.connections += 1
        return self._socket


@dataclass(frozen=True, slots=True)
class Crowd:
    """What several clients at once got: answers, the time that all took, and what ended it early, if anything did."""

    answered: int
    elapsed_s: float
    failure: str

    @property
    def rate(self) -> float:
        """Invocations per second."""
        return self.answered / self.elapsed_s


def crowd(address: Address, clients: int, invocations: int, patience_s: float = PATIENCE_S) -> Crowd:
    """So many invocations by so many clients, each sending its next one on its answer; ends at the first failure.

    One thread serves all clients, since threads would measure the interpreter's lock.
    """
    with selectors.DefaultSelector() as selector:
        received: dict[socket.socket, bytes] = {connect(address): b"" for _ in range(clients)}
        for sock in received:
            selector.register(sock, selectors.EVENT_READ)
        answered, failure, began = 0, "", time.perf_counter()
        try:
            for sock in received:
                sock.sendall(REQUEST)
            while answered < invocations:
                ready = selector.select(patience_s)
                if not ready:
                    raise CallFailed(f"no answer within {patience_s:.0f} s")
                for key, _ in ready:
                    sock = key.fileobj  # type: ignore[assignment]
                    data = sock.recv(READ_SIZE)
                    if not data:
                        raise CallFailed("a connection was closed without an answer")
                    received[sock] += data
                    if is_whole(received[sock]):
                        answered += 1
                        if is_last(received[sock]):
                            del received[sock]
                            selector.unregister(sock)
                            sock.close()
                            sock = connect(address)
                            selector.register(sock, selectors.EVENT_READ)
                        received[sock] = b""
                        sock.sendall(REQUEST)
        except (CallFailed, OSError) as error:
            failure = str(error)
        elapsed_s = time.perf_counter() - began
        for sock in received:
            sock.close()
    return Crowd(answered, elapsed_s, failure)


def connect(address: Address) -> socket.socket:
    """A connection without Nagle's delay. Raises OSError."""
    sock = socket.create_connection(address, PATIENCE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def is_last(received: bytes) -> bool:
    """Whether the connection ends with this answer."""
    return b"\r\nconnection: close\r\n" in received.lower()


def is_whole(received: bytes) -> bool:
    """Whether the answer is here: status 200 with the event as its body. Raises CallFailed when it is another."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return False
    if not head.startswith(b"HTTP/1.1 200 ") or not EVENT.startswith(body):
        raise CallFailed(f"the answer is not the event: {received[:300]!r}")
    return body == EVENT
