"""The little of ASGI that the data plane needs: read a bounded body, send one answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from rie.iam.sigv4 import Sent

AsgiScope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

# What is read and thrown away of a body past its limit, so that its sender hears the refusal instead of a reset.
MAX_DRAINED = 134_217_728


class ClientGone(Exception):
    """The client closed the connection before its request was whole."""


def sent_from(scope: AsgiScope) -> Sent:
    """A request as its signature sees it."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    path = scope["raw_path"].decode("latin-1").partition("?")[0]
    return Sent(scope["method"], path, scope["query_string"].decode("latin-1"), headers)


async def read_body(receive: Receive, limit: int) -> bytes | None:
    """The request's body, None if it is longer than `limit` bytes. Raises ClientGone."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body if len(body) <= limit else None
    chunks = [body]
    size = len(body)
    while message.get("more_body") and size < MAX_DRAINED:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body = message.get("body", b"")
        size += len(body)
        if size > limit:
            chunks = []
        else:
            chunks.append(body)
    return b"".join(chunks) if size <= limit else None


async def respond(send: Send, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
    """Send a whole answer."""
    raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
    raw.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
