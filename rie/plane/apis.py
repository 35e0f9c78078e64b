"""The gateway's door on the node's listener: requests to APIs, by host name or path."""

from __future__ import annotations

from rie.gateway.door import Gateway
from rie.gateway.events import Asked
from rie.plane.connection import Connection, Request


class Apis:
    """Answers every request whose host, or path, is an API's."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        """`port` is what functions are told that callers came in by."""
        self._gateway = gateway
        self._port = port

    @staticmethod
    def takes(request: Request) -> bool:
        """Whether a request is to an API, be there one or not."""
        return Gateway.takes(request.headers.get("host", ""), request.path)

    async def __call__(self, request: Request, exchange: Connection) -> None:
        asked = Asked(
            request.method,
            request.path,
            request.query,
            request.headers,
            tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.fields),
            request.body,
            request.peer,
            self._port,
        )
        response = await self._gateway.answer(asked)
        exchange.respond(response.status, response.headers, response.body)
