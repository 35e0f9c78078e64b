"""The gateway's door on the node's listener: requests to APIs, by host name or path."""

from __future__ import annotations

from bootstrap.wire import MAX_EVENT
from rie.gateway.door import Gateway
from rie.gateway.events import Asked
from rie.plane.http import AsgiScope, ClientGone, Receive, Send, read_body, respond, sent_from


class Apis:
    """An ASGI application."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self._gateway = gateway
        self._port = port

    @staticmethod
    def takes(scope: AsgiScope) -> bool:
        """Whether a request is to an API, be there one or not."""
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        return Gateway.takes(host.decode("latin-1"), scope["raw_path"].decode("latin-1"))

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        sent = sent_from(scope)
        try:
            body = await read_body(receive, MAX_EVENT)
        except ClientGone:
            return
        peer = (scope.get("client") or ("127.0.0.1", 0))[0]
        asked = Asked(sent.method, sent.path, sent.query, dict(sent.headers), body, peer, self._port)
        response = await self._gateway.answer(asked)
        await respond(send, response.status, response.headers, response.body)
