"""Who listens: accepts connections, runs the application for their requests, and hangs up on those that stand still."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from rie.flight import fly
from rie.plane.connection import Connection, Request

log = logging.getLogger(__name__)

SWEEP_S = 5.0
KEEP_ALIVE_S = 75.0  # how long a connection may be idle
SILENCE_S = 60.0  # how long a request, or the reading of an answer, may stand still


class App(Protocol):
    """What answers requests."""

    def limit_of(self, request: Request) -> int:
        """How many bytes the request's body may have; it is asked once the headers are there."""

    def flies(self, request: Request) -> bool:
        """Whether what answers it may run without a task, see `rie.flight`."""

    def __call__(self, request: Request, exchange: Connection) -> Awaitable[None] | None:
        """Answer a whole request: what is left to do runs to its end even if the caller goes. None if it has been
        done, or somebody will call `exchange.respond`."""


class Listener:
    """One for a node: `open`, then `close`."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self.limit_of: Callable[[Request], int] = app.limit_of
        self.connections: set[Connection] = set()
        self.is_closing = False

    async def open(self, sockets: Iterable[socket.socket]) -> None:
        """Accept connections from now on."""
        for sock in sockets:
            self._servers.append(await self._loop.create_server(lambda: Connection(self), sock=sock))
        self._sweep()

    def stop_accepting(self) -> None:
        """Take no new connections, and hang up on those that ask for nothing; requests that run are answered."""
        self.is_closing = True
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            if not connection.is_busy:
                connection.close()

    def close(self) -> None:
        """Hang up on everybody."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self.connections):
            connection.close()

    def serve(self, request: Request, exchange: Connection, *, at_once: bool) -> None:
        """Have the application answer a request, perhaps before this returns if `at_once`."""
        try:
            answer = self._app(request, exchange)
        except Exception as error:
            return _fail(request, exchange, error)
        if answer is None:
            return None
        finishing = _finish(answer, request, exchange)
        if at_once and self._app.flies(request):
            fly(finishing, self._keep)
        else:
            self._keep(self._loop.create_task(finishing))
        return None

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self.connections):
            self._look_at(connection, now)
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def _look_at(self, connection: Connection, now: float) -> None:
        pending = connection.pending
        if pending != connection.unsent or (not pending and connection.is_busy):
            connection.unsent = pending
            connection.touched_at = now
        still_s = now - connection.touched_at
        if pending:
            if still_s > SILENCE_S:
                connection.abort()
        elif connection.is_busy:
            return
        elif connection.is_half_asked:
            if still_s > SILENCE_S:
                connection.refuse(408, f"The request was not whole after {SILENCE_S:.0f} s")
        elif still_s > KEEP_ALIVE_S:
            connection.close()


async def _finish(answer: Awaitable[None], request: Request, exchange: Connection) -> None:
    try:
        await answer
    except Exception as error:
        _fail(request, exchange, error)


def _fail(request: Request, exchange: Connection, error: Exception) -> None:
    log.error("cannot answer %s %s", request.method, request.path, exc_info=error)
    if exchange.has_begun:
        exchange.abort()
    else:
        exchange.respond(500, [("Content-Type", "text/plain")], b"Internal Server Error\n")
