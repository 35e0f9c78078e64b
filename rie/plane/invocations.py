"""Invoke over HTTP: POST /2015-03-31/functions/{F}/invocations, from the wire to the invoker and back."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote

from bootstrap import wire
from rie.api.errors import as_service_error, render_error
from rie.errors import HostFault, RieError, ServiceError
from rie.iam.caller import Identity
from rie.invoke.invoker import Invoker, InvokeRequest, new_trace_id
from rie.model.invocation import Outcome
from rie.plane.gate import Gate
from rie.plane.http import AsgiScope, ClientGone, Receive, Send, read_body, respond, sent_from

log = logging.getLogger(__name__)

Answer = tuple[int, dict[str, str], bytes]
INTERNAL = ServiceError("ServiceException", "An internal error occurred; the manager's log has it.")
PREFIX = wire.INVOKE_PREFIX.encode()
SUFFIX = wire.INVOKE_SUFFIX.encode()


class Invocations:
    """An ASGI application for one path."""

    def __init__(self, invoker: Invoker, gate: Gate) -> None:
        self._invoker = invoker
        self._gate = gate
        self._running: set[asyncio.Task[Answer]] = set()

    @staticmethod
    def takes(method: str, raw_path: bytes) -> bool:
        """Whether a request is an invocation."""
        return method == "POST" and raw_path.startswith(PREFIX) and raw_path.rstrip(b"/").endswith(SUFFIX)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(receive, wire.MAX_EVENT)
        except ClientGone:
            return
        # A caller that goes away does not stop its function (spec §2.6): the server cancels us, not the task.
        task = asyncio.get_running_loop().create_task(self._answer(scope, body))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        status, headers, payload = await asyncio.shield(task)
        await respond(send, status, headers.items(), payload)

    async def _answer(self, scope: AsgiScope, body: bytes | None) -> Answer:
        request_id = str(uuid.uuid4())
        try:
            sent = sent_from(scope)
            identity = await self._gate.identify(sent, body)
            request = _request(scope, sent.headers, body, identity, request_id)
            return _success(request, await self._invoker.invoke(request))
        except RieError as error:
            if isinstance(error, HostFault):
                log.error("%s", error)
            return render_error(as_service_error(error) or INTERNAL, request_id)
        except Exception:
            log.exception("cannot answer an invocation")
            return render_error(INTERNAL, request_id)


def _request(
    scope: AsgiScope, headers: Mapping[str, str], body: bytes | None, identity: Identity, request_id: str
) -> InvokeRequest:
    query = scope["query_string"].decode("latin-1")
    parameters = dict(parse_qsl(query, keep_blank_values=True)) if query else {}
    raw_name = scope["raw_path"].rstrip(b"/")[len(PREFIX) : -len(SUFFIX)]
    return InvokeRequest(
        function_name=unquote(raw_name.decode("latin-1")),
        qualifier=parameters.get("Qualifier"),
        body=body,
        scope=identity.scope,
        caller=identity.caller,
        invocation_type=headers.get("x-amz-invocation-type") or "RequestResponse",
        log_type=headers.get("x-amz-log-type") or "None",
        client_context=headers.get("x-amz-client-context", ""),
        trace_id=headers.get("x-amzn-trace-id") or new_trace_id(),
        request_id=request_id,
        tenant_id=headers.get("x-amz-tenant-id"),
        source_arn=headers.get("x-amz-source-arn", ""),
        source_account=headers.get("x-amz-source-account", ""),
        source_ip=(scope.get("client") or ("",))[0],
    )


def _success(request: InvokeRequest, outcome: Outcome | None) -> Answer:
    headers = {wire.REQUEST_ID: request.request_id}
    if outcome is None:
        return (202 if request.invocation_type == "Event" else 204), headers, b""
    headers["Content-Type"] = "application/json"
    headers["x-amzn-Remapped-Content-Length"] = "0"
    headers[wire.EXECUTED_VERSION] = outcome.executed_version
    headers[wire.TRACE_ID] = outcome.trace_id
    if outcome.function_error:
        headers[wire.FUNCTION_ERROR] = outcome.function_error
    if outcome.log_tail is not None:
        headers[wire.LOG_RESULT] = outcome.log_tail
    return 200, headers, outcome.payload
