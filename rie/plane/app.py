"""What a node's listener asks: routes to the invocations, the admin paths and the control plane."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import parse_qs

from rie.api.errors import render_error
from rie.api.routes import match
from rie.errors import ServiceError
from rie.iam.caller import Identity
from rie.iam.decision import Call, authorize, refusal
from rie.iam.sigv4 import Sent
from rie.plane.admin import JSON, PREFIX
from rie.plane.apis import Apis
from rie.plane.connection import Connection, Request
from rie.plane.downloads import Downloads
from rie.plane.gate import Gate
from rie.plane.invocations import Invocations
from rie.plane.urls import FunctionUrls

Answerer = Callable[[Request, Connection], Awaitable[None]]
Invoked = Callable[[Request, Connection], Awaitable[None] | None]

MAX_BODY = 70_167_211  # AWS limit: a request with a package of 50 MB in base64
ADMIN_ACTION = "rie:Read"
HEALTH = "/_rie/health"
# Without --auth nobody is asked who he is, so a page that somebody looks at must not be able to deploy and invoke here.
BROWSER = ServiceError("AccessDeniedException", "Requests of web pages (with an Origin header) are refused.")


class OtherService(Protocol):
    """A service beside Lambda, at POST /."""

    def takes(self, sent: Sent) -> bool:
        """Whether a request is for it."""

    async def answer(self, sent: Sent, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """(status, headers, body) of the answer, whatever it is."""


class NodeApp:
    """Built once the node is open."""

    def __init__(
        self,
        gate: Gate,
        *,
        invocations: Invoked,
        urls: Answerer,
        admin: Answerer,
        others: tuple[OtherService, ...],
        control: Answerer,
        apis: Answerer,
        downloads: Answerer,
    ) -> None:
        self._gate = gate
        self._others = others
        self._invocations = invocations
        self._urls = urls
        self._admin = admin
        self._control = control
        self._apis = apis
        self._downloads = downloads

    def limit_of(self, request: Request) -> int:
        """See `listener.App.limit_of`."""
        if Invocations.takes(request):
            return Invocations.max_body
        return FunctionUrls.max_body if FunctionUrls.takes(request) or Apis.takes(request) else MAX_BODY

    def flies(self, request: Request) -> bool:
        """See `listener.App.flies`: invocations do, whose time counts."""
        return Invocations.takes(request)

    def __call__(self, request: Request, exchange: Connection) -> Awaitable[None] | None:
        """Answer a request."""
        if FunctionUrls.takes(request):
            return self._urls(request, exchange)
        if Apis.takes(request):
            return self._apis(request, exchange)
        if "origin" in request.headers:
            return _refuse(exchange, BROWSER)
        if Invocations.takes(request):
            return self._invocations(request, exchange)
        if Downloads.takes(request):
            return self._downloads(request, exchange)  # the link is signed: nobody is asked for more
        if request.path.startswith(PREFIX):
            return self._answer_admin(request, exchange)
        if request.body is None:
            return _refuse(exchange, _too_large(request))
        for service in self._others:
            if service.takes(request.sent):
                return _answer_other(service, request, exchange)
        return self._control(request, exchange)

    async def _answer_admin(self, request: Request, exchange: Connection) -> None:
        """Whoever is of this manager's account, and has full access, may look; that it is alive anybody may know."""
        try:
            identity = await self._gate.identify(request.sent, request.body)
            if not self._gate.is_open:
                _check_admin(identity, request.path, self._gate.account)
        except ServiceError as error:
            if request.path == HEALTH:
                exchange.respond(200, JSON, b'{"status":"ok"}')
            else:
                await _refuse(exchange, error)
            return
        await self._admin(request, exchange)


async def _answer_other(service: OtherService, request: Request, exchange: Connection) -> None:
    exchange.respond(*await service.answer(request.sent, request.body or b""))


def _check_admin(identity: Identity, path: str, account: str) -> None:
    """Raises ServiceError: environments and logs are those of all functions, of every account."""
    call = Call(identity.caller, ADMIN_ACTION, f"arn:aws:rie:{path}", account)
    decision = authorize(call)
    if not decision.is_allowed:
        raise refusal(call, decision)


def _too_large(request: Request) -> ServiceError:
    """The refusal names the operation (lambda.md §1.6), where the path is one's."""
    text = f"Request must be smaller than {MAX_BODY} bytes"
    with contextlib.suppress(ServiceError):
        text += f" for the {match(request.method, request.path, parse_qs(request.query)).operation} operation"
    return ServiceError("RequestEntityTooLargeException", text)


async def _refuse(exchange: Connection, error: ServiceError) -> None:
    status, headers, body = render_error(error)
    exchange.respond(status, headers.items(), body)
