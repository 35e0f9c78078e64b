"""The one ASGI application of a node: routes to the invocations, the admin paths and the control plane."""

from __future__ import annotations

from rie.plane import admin
from rie.plane.http import AsgiApp, AsgiScope, Receive, Send
from rie.plane.invocations import Invocations


class NodeApp:
    """Built once the node is open; what serves the lifespan opens and closes the node."""

    def __init__(self, invocations: Invocations, admin_app: AsgiApp, control: AsgiApp) -> None:
        self._invocations = invocations
        self._admin = admin_app
        self._control = control

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        raw_path = scope["raw_path"]
        if Invocations.takes(scope["method"], raw_path):
            await self._invocations(scope, receive, send)
        elif raw_path.startswith(admin.PREFIX):
            await self._admin(scope, receive, send)
        else:
            await self._control(scope, receive, send)
