"""The one ASGI application of a node: routes to the invocations, the admin paths and the control plane."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import ItemsView, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from rie.api.errors import render_error
from rie.api.routes import match
from rie.errors import ServiceError
from rie.iam.caller import Identity
from rie.iam.decision import Call, authorize, refusal
from rie.plane import admin
from rie.plane.downloads import Downloads
from rie.plane.gate import Gate
from rie.plane.http import AsgiApp, AsgiScope, ClientGone, Receive, Send, read_body, respond, sent_from
from rie.plane.invocations import Invocations
from rie.plane.sts import Sts

MAX_BODY = 70_167_211  # AWS limit: a request with a package of 50 MB in base64
BODY_LIMIT_S = 60.0
IDENTITY = "rie.identity"  # where the control plane finds in its ASGI scope who calls
ADMIN_ACTION = "rie:Read"
HEALTH = b"/_rie/health"
SLOW = ServiceError("RequestTimeoutException", f"The request was not whole after {BODY_LIMIT_S:.0f} s", status=408)
# Without --auth nobody is asked who he is, so a page that somebody looks at must not be able to deploy and invoke here.
BROWSER = ServiceError("AccessDeniedException", "Requests of web pages (with an Origin header) are refused.")


class NodeApp:
    """Built once the node is open."""

    def __init__(
        self,
        gate: Gate,
        invocations: Invocations,
        admin_app: AsgiApp,
        sts: Sts,
        control: AsgiApp,
        downloads: AsgiApp | None = None,
    ) -> None:
        self._gate = gate
        self._invocations = invocations
        self._downloads = downloads
        self._admin = admin_app
        self._sts = sts
        self._control = control

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        raw_path = scope["raw_path"]
        if any(name == b"origin" for name, _ in scope["headers"]):
            await respond(send, *_refusal(BROWSER))
        elif Invocations.takes(scope["method"], raw_path):
            await self._invocations(scope, receive, send)
        elif self._downloads is not None and Downloads.takes(raw_path):
            await self._downloads(scope, receive, send)
        elif raw_path.startswith(admin.PREFIX):
            await self._answer_admin(scope, receive, send)
        else:
            await self._answer_control(scope, receive, send)

    async def _answer_admin(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Whoever is of this manager's account, by whatever key, may look; that it is alive anybody may know."""
        try:
            identity = await self._gate.identify(sent_from(scope), b"")
            if not self._gate.is_open:
                self._admin_access(identity, scope["raw_path"])
        except ServiceError as error:
            if scope["raw_path"] == HEALTH:
                await respond(send, 200, admin.JSON, b'{"status":"ok"}')
            else:
                await respond(send, *_refusal(error))
            return
        await self._admin(scope, receive, send)

    def _admin_access(self, identity: Identity, raw_path: bytes) -> None:
        """Raises ServiceError: environments and logs are those of all functions, of every account."""
        caller = identity.caller
        call = Call(caller, ADMIN_ACTION, f"arn:aws:rie:{raw_path.decode('latin-1')}", self._gate.account)
        decision = authorize(call)
        if not decision.is_allowed:
            raise refusal(call, decision)

    async def _answer_control(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """A thread is taken only once the request is whole: slow senders would use them all up."""
        try:
            body = await asyncio.wait_for(read_body(receive, MAX_BODY), BODY_LIMIT_S)
        except ClientGone:
            return
        except TimeoutError:
            await respond(send, *_refusal(SLOW))
            return
        if body is None:
            await respond(send, *_refusal(_too_large(scope)))
            return
        sent = sent_from(scope)
        if self._sts.takes(sent):
            await respond(send, *await self._sts.answer(sent, body))
            return
        try:
            scope[IDENTITY] = await self._gate.identify(sent, body)
        except ServiceError as error:
            await respond(send, *_refusal(error))
            return
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replay() -> MutableMapping[str, Any]:
            for message in messages:
                return message
            return await receive()

        await self._control(scope, replay, send)


def _too_large(scope: AsgiScope) -> ServiceError:
    """The refusal names the operation (lambda.md §1.6), where the path is one's."""
    text = f"Request must be smaller than {MAX_BODY} bytes"
    with contextlib.suppress(ServiceError):
        query = parse_qs(scope["query_string"].decode("latin-1"))
        text += f" for the {match(scope['method'], scope['raw_path'].decode('latin-1'), query).operation} operation"
    return ServiceError("RequestEntityTooLargeException", text)


def _refusal(error: ServiceError) -> tuple[int, ItemsView[str, str], bytes]:
    status, headers, body = render_error(error)
    return status, headers.items(), body
