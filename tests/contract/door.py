"""A caller of front doors: one HTTP connection as an asyncio protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import httptools

from bootstrap.wire import INIT_PATH, INVOKE_PREFIX, INVOKE_SUFFIX

ANSWER_S = 60.0


@dataclass
class Answer:
    """A response; header names in lower case."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        """The body's content."""
        return json.loads(self.body)


class Door(asyncio.Protocol):
    """Sends one request at a time; ConnectionResetError when the other side hangs up instead of answering."""

    def __init__(self) -> None:
        self._waiting: asyncio.Future[Answer] | None = None
        self._answer = Answer()
        self._parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport | None = None

    async def init(self) -> Answer:
        """Wait for the end of the init phase."""
        return await self.request("GET", INIT_PATH)

    async def invoke(self, event: object, headers: Mapping[str, str] | None = None) -> Answer:
        """Invoke the function."""
        path = f"{INVOKE_PREFIX}function{INVOKE_SUFFIX}"
        return await self.request("POST", path, json.dumps(event).encode(), headers or {})

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request and wait for its answer."""
        assert self.transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        lines = [f"{method} {path} HTTP/1.1", "Host: sandbox", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        return await asyncio.wait_for(self._waiting, ANSWER_S)

    def close(self) -> None:
        """Hang up."""
        if self.transport is not None:
            self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio's."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError("the sandbox hung up"))

    def data_received(self, data: bytes) -> None:
        """asyncio's."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """httptools'."""
        self._answer = Answer()

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools'."""
        self._answer.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        """httptools'."""
        self._answer.body += body

    def on_message_complete(self) -> None:
        """httptools'."""
        self._answer.status = self._parser.get_status_code()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(self._answer)
