"""A lean load: requests over many connections, each with one at a time, from one thread that makes nothing else.

asyncio's streams cost as much for a request as the manager that answers it; on a machine of two cores that is half of
what is measured. Here a request costs the two system calls and a search of its answer.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

READ = 65_536
END = b"\r\n\r\n"
SILENCE_S = 30.0


def send(port: int, request: bytes, count: int, connections: int, status: int) -> None:
    """Have one request answered so many times, each with this status and no body. Raises OSError if one isn't."""
    expected = b"HTTP/1.1 %d " % status
    with _connected(port, min(connections, count)) as sockets, select.epoll(len(sockets)) as poll:
        for number, each in sockets.items():
            poll.register(number, select.EPOLLIN)
            each.send(request)
        asked, answered = len(sockets), 0
        while answered < count:
            ready = poll.poll(SILENCE_S)
            if not ready:
                raise OSError(f"{count - answered} requests were not answered within {SILENCE_S:.0f} s")
            for number, _ in ready:
                answer = sockets[number].recv(READ)
                if not (
                    answer.startswith(expected) and answer.endswith(b"\r\n\r\n") and answer.count(b"\r\n\r\n") == 1
                ):
                    raise OSError(f"a request was not answered with {status}: {answer!r}")
                answered += 1
                if asked < count:
                    asked += 1
                    sockets[number].send(request)


@contextmanager
def _connected(port: int, count: int) -> Iterator[dict[int, socket.socket]]:
    sockets: dict[int, socket.socket] = {}
    try:
        for _ in range(count):
            each = socket.create_connection(("127.0.0.1", port), timeout=SILENCE_S)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sockets[each.fileno()] = each
        yield sockets
    finally:
        for each in sockets.values():
            with suppress(OSError):
                each.close()
