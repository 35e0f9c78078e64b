"""The control plane behind the data plane's connections: one ASGI exchange for each request, which is whole already."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from rie.api.errors import render_error
from rie.errors import ServiceError
from rie.plane.connection import Connection, Request
from rie.plane.gate import Gate

Message = MutableMapping[str, Any]
AsgiApp = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
IDENTITY = "rie.identity"  # where the application finds in its scope who calls


class Control:
    """Calls an ASGI application for whom the gate knows, and passes its answer on."""

    def __init__(self, app: AsgiApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, request: Request, exchange: Connection) -> None:
        """Answer a request whose body is not None."""
        try:
            identity = await self._gate.identify(request.sent, request.body)
        except ServiceError as error:
            status, headers, body = render_error(error)
            exchange.respond(status, headers.items(), body)
            return
        incoming = [{"type": "http.request", "body": request.body or b"", "more_body": False}]

        async def receive() -> Message:
            if incoming:
                return incoming.pop()
            await exchange.gone()
            return {"type": "http.disconnect"}

        answer = _Answer(exchange)
        await self._app({**_scope(request), IDENTITY: identity}, receive, answer.send)


class _Answer:
    """Sends an answer whole if it is one piece, else in pieces."""

    def __init__(self, exchange: Connection) -> None:
        self._exchange = exchange
        self._status = 500
        self._headers: list[tuple[str, str]] = []
        self._first = b""

    async def send(self, message: Message) -> None:
        """ASGI's."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            raw = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"])
            self._headers = [(name, value) for name, value in raw if name.lower() != "content-length"]
            return
        body, is_last = message.get("body", b""), not message.get("more_body")
        if not self._exchange.has_begun:
            if is_last:
                self._exchange.respond(self._status, self._headers, self._first + body)
                return
            if not self._first:
                self._first = body
                return
            self._exchange.begin(self._status, self._headers)
            body = self._first + body
        if not self._exchange.write(body):
            await self._exchange.drained()
        if is_last:
            self._exchange.end()


def _scope(request: Request) -> Message:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers.items()]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote(request.path),
        "raw_path": request.path.encode("latin-1"),
        "query_string": request.query.encode("latin-1"),
        "root_path": "",
        "headers": headers,
        "client": (request.peer, 0) if request.peer else None,
        "server": None,
    }
