"""One listening socket and the connections that came through it: bounded, so that no caller can use up descriptors."""

import _socket
import errno
import select

from .connection import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .loop import Door, Loop

BACKLOG = 1_024
SHORT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """Accepts for `door`. With `limit` connections open, one that idles makes room; else callers wait in the kernel."""

    def __init__(self, loop: "Loop", sock: "_socket.socket", door: "Door", limit: int) -> None:
        self._loop = loop
        self._sock = sock
        self._door = door
        self._limit = limit
        self._connections: set[Connection] = set()
        self._is_paused = False
        sock.listen(BACKLOG)
        sock.setblocking(False)
        self._resume()

    def _resume(self) -> None:
        self._is_paused = False
        self._loop.watch(self._sock.fileno(), select.EPOLLIN, self._ready)

    def _pause(self) -> None:
        self._is_paused = True
        self._loop.forget(self._sock.fileno())

    def _ready(self, _: int) -> None:
        while True:
            if len(self._connections) >= self._limit and not self._make_room():
                self._pause()
                return
            try:
                fd, _address = self._sock._accept()  # type: ignore[attr-defined]
            except OSError as error:
                if error.errno in SHORT_OF_DESCRIPTORS and not self._make_room():
                    self._pause()
                return
            self._connections.add(Connection(fd, self._sock.family, self._loop, self._door, self))

    def _make_room(self) -> bool:
        """Close the connection that has idled the longest; False if none does."""
        idle = [connection for connection in self._connections if connection.is_idle]
        if not idle:
            return False
        min(idle, key=lambda connection: connection.touched_at).close()
        return True

    def close_stalled(self, before: float) -> None:
        """Close what has stopped half-way through a request or an answer since `before`."""
        for connection in [c for c in self._connections if c.is_stalled(before)]:
            connection.close()
        if self._is_paused:
            self._resume()

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        if self._is_paused:
            self._resume()
