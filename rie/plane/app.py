"""What a node's listener asks: routes to the invocations, the admin paths and the control plane."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rie.api.errors import render_error
from rie.errors import ServiceError
from rie.plane import admin
from rie.plane.connection import Connection, Request
from rie.plane.invocations import Invocations
from rie.plane.urls import FunctionUrls

Answerer = Callable[[Request, Connection], Awaitable[None]]

MAX_BODY = 70_167_211  # AWS limit: a request with a package of 50 MB in base64
LARGE = ServiceError("RequestEntityTooLargeException", f"Request must be smaller than {MAX_BODY} bytes")
# Nobody is asked who he is, so a page that somebody looks at must not be able to deploy and invoke here.
BROWSER = ServiceError("AccessDeniedException", "Requests of web pages (with an Origin header) are refused.")


class NodeApp:
    """Built once the node is open."""

    def __init__(self, invocations: Invocations, urls: FunctionUrls, admin_app: Answerer, control: Answerer) -> None:
        self._invocations = invocations
        self._urls = urls
        self._admin = admin_app
        self._control = control

    def limit_of(self, request: Request) -> int:
        """See `listener.App.limit_of`."""
        if Invocations.takes(request):
            return Invocations.max_body
        return FunctionUrls.max_body if self._urls.takes(request) else MAX_BODY

    def __call__(self, request: Request, exchange: Connection) -> Awaitable[None]:
        """Answer a request."""
        if self._urls.takes(request):
            return self._urls(request, exchange)
        if "origin" in request.headers:
            return _refuse(exchange, BROWSER)
        if Invocations.takes(request):
            return self._invocations(request, exchange)
        if request.path.startswith(admin.PREFIX):
            return self._admin(request, exchange)
        return _refuse(exchange, LARGE) if request.body is None else self._control(request, exchange)


async def _refuse(exchange: Connection, error: ServiceError) -> None:
    status, headers, body = render_error(error)
    exchange.respond(status, headers.items(), body)
