"""Invoke, InvokeWithResponseStream and InvokeAsync over HTTP, from the wire to the invoker and back."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from dataclasses import replace
from urllib.parse import parse_qsl, unquote

from bootstrap import wire
from bootstrap.ids import new_id, new_trace_id
from rie.api.errors import as_service_error, render_error
from rie.errors import HostFault, RieError, ServiceError
from rie.iam.caller import Identity
from rie.invoke.invoker import EVENT, STREAM_OPERATION, Invoker, InvokeRequest, too_large
from rie.model.event import MAX_EVENT as MAX_ASYNC
from rie.model.invocation import Outcome
from rie.plane.connection import Connection, Request
from rie.plane.gate import THREAD_ABOVE, Gate
from rie.plane.streams import Frames, Pace

log = logging.getLogger(__name__)

INTERNAL = ServiceError("ServiceException", "An internal error occurred; the manager's log has it.")
PATHS = (
    (wire.INVOKE_PREFIX, wire.INVOKE_SUFFIX),
    (wire.STREAM_PREFIX, wire.STREAM_SUFFIX),
    (wire.ASYNC_PREFIX, wire.ASYNC_SUFFIX),
)
DURABLE = "X-Amz-Durable-Execution-Arn"
MAX_OLD_ASYNC = 262_144  # AWS limit of InvokeAsync


class Invocations:
    """Answers three paths. What it calls runs to its end even if the caller goes (spec §2.6)."""

    max_body = wire.MAX_EVENT

    def __init__(self, invoker: Invoker, gate: Gate, stream_mib_per_s: float = 0.0) -> None:
        """`stream_mib_per_s`: how fast streamed answers go past their first 6 MB; 0 for as fast as they can."""
        self._invoker = invoker
        self._gate = gate
        self._stream_mib_per_s = stream_mib_per_s

    @staticmethod
    def takes(request: Request) -> bool:
        """Whether a request is an invocation."""
        path = request.path
        return request.method == "POST" and any(
            path.startswith(prefix) and path.rstrip("/").endswith(suffix) for prefix, suffix in PATHS
        )

    def __call__(self, request: Request, exchange: Connection) -> Awaitable[None] | None:
        """Answer; None where the queue calls back once an event is durable, which spares a task for each."""
        is_event = request.headers.get("x-amz-invocation-type") == EVENT and request.path.startswith(wire.INVOKE_PREFIX)
        if not is_event or request.body is None or len(request.body) > THREAD_ABOVE:
            return self._answer(request, exchange)
        request_id = new_id()
        try:
            identity = self._gate.identify_now(request.sent, request.body)
            call = _read(request, request_id, identity, *PATHS[0])
            if not self._invoker.offer(call, lambda error: _accepted(error, exchange, call)):
                return self._start(call, exchange)
        except Exception as error:
            # Later: an answer from within would begin the next of many requests that came at once, and so on.
            return _refuse_later(error, exchange, request_id)
        return None

    async def _answer(self, request: Request, exchange: Connection) -> None:
        request_id = new_id()
        try:
            if request.path.startswith(wire.STREAM_PREFIX):
                await self._stream(request, exchange, request_id)
            elif request.path.startswith(wire.ASYNC_PREFIX):
                await self._accept(request, exchange, request_id)
            else:
                limit = MAX_ASYNC if request.headers.get("x-amz-invocation-type") == EVENT else wire.MAX_EVENT
                identity = await self._identify(request, limit, "InvokeFunction")
                call = _read(request, request_id, identity, *PATHS[0])
                exchange.respond(*_success(call, await self._invoker.invoke(call)))
        except Exception as error:
            _refuse(error, exchange, request_id)

    async def _start(self, call: InvokeRequest, exchange: Connection) -> None:
        """A durable execution, whose ARN its caller hears of."""
        try:
            exchange.respond(*_success(call, await self._invoker.invoke(call)))
        except Exception as error:
            _refuse(error, exchange, call.request_id)

    async def _identify(self, request: Request, limit: int, operation: str) -> Identity:
        return await self._gate.identify(request.sent, request.body, too_large=too_large(limit, operation))

    async def _stream(self, request: Request, exchange: Connection, request_id: str) -> None:
        frames = Frames(exchange, Pace(self._stream_mib_per_s), request_id)
        identity = await self._identify(request, wire.MAX_EVENT, STREAM_OPERATION)
        call = _read(request, request_id, identity, *PATHS[1])
        try:
            outcome = await self._invoker.invoke(call, frames)
        except Exception as error:
            if not frames.has_begun:
                raise
            frames.fail(as_told(error))
            return
        if outcome is None:
            exchange.respond(*_success(call, outcome))
        else:
            frames.complete(outcome)

    async def _accept(self, request: Request, exchange: Connection, request_id: str) -> None:
        """InvokeAsync: an older name of an invocation of type Event, without trace and qualifier (spec §2.8)."""
        if request.body is None or len(request.body) > MAX_OLD_ASYNC:
            raise too_large(MAX_OLD_ASYNC, "InvokeAsync")
        identity = await self._gate.identify(request.sent, request.body)
        call = _read(request, request_id, identity, *PATHS[2])
        call = replace(call, trace_id=new_trace_id(), invocation_type=EVENT, qualifier=None)
        await self._invoker.invoke(call)
        exchange.respond(202, [(wire.REQUEST_ID, request_id), ("Content-Type", "application/json")], b'{"Status":202}')


def _read(request: Request, request_id: str, identity: Identity, prefix: str, suffix: str) -> InvokeRequest:
    headers = request.headers
    parameters = dict(parse_qsl(request.query, keep_blank_values=True)) if request.query else {}
    return InvokeRequest(
        function_name=unquote(request.path.rstrip("/")[len(prefix) : -len(suffix)]),
        qualifier=parameters.get("Qualifier"),
        body=request.body,
        scope=identity.scope,
        caller=identity.caller,
        invocation_type=headers.get("x-amz-invocation-type") or "RequestResponse",
        log_type=headers.get("x-amz-log-type") or "None",
        client_context=headers.get("x-amz-client-context", ""),
        trace_id=trace_of(headers.get("x-amzn-trace-id")),
        request_id=request_id,
        tenant_id=headers.get("x-amz-tenant-id"),
        durable_execution_name=headers.get("x-amz-durable-execution-name"),
        source_arn=headers.get("x-amz-source-arn", ""),
        source_account=headers.get("x-amz-source-account", ""),
        source_ip=request.peer,
    )


def _accepted(error: HostFault | None, exchange: Connection, call: InvokeRequest) -> None:
    if error is None:
        exchange.respond(*_success(call, None))
    else:
        _refuse(error, exchange, call.request_id)


async def _refuse_later(error: Exception, exchange: Connection, request_id: str) -> None:
    _refuse(error, exchange, request_id)


def _refuse(error: Exception, exchange: Connection, request_id: str) -> None:
    status, headers, body = render_error(as_told(error), request_id)
    exchange.respond(status, headers.items(), body)


def trace_of(given: str | None) -> str:
    """The caller's trace header, or one of ours if it sent none that is one."""
    return given if given and "root=" in given.lower() else new_trace_id()


def as_told(error: Exception) -> ServiceError:
    """What a caller sees of an error; the manager's log has what it must not see."""
    if isinstance(error, HostFault):
        log.error("%s", error)
    elif not isinstance(error, RieError):
        log.error("cannot answer an invocation", exc_info=error)
    return as_service_error(error) or INTERNAL


def _success(request: InvokeRequest, outcome: Outcome | None) -> tuple[int, list[tuple[str, str]], bytes]:
    durable = [(DURABLE, outcome.durable_execution_arn)] if outcome and outcome.durable_execution_arn else []
    told = [(wire.REQUEST_ID, request.request_id), ("x-amzn-Remapped-Content-Length", "0"), *durable]
    if outcome is None or request.invocation_type == EVENT:
        status = 202 if request.invocation_type == EVENT else 204
        return status, [*told, (wire.TRACE_ID, request.trace_id)], b""
    headers = [
        ("Content-Type", "application/json"),
        *told,
        (wire.EXECUTED_VERSION, outcome.executed_version),
        (wire.TRACE_ID, outcome.trace_id),
    ]
    if outcome.function_error:
        headers.append((wire.FUNCTION_ERROR, outcome.function_error))
    if outcome.log_tail is not None:
        headers.append((wire.LOG_RESULT, outcome.log_tail))
    return 200, headers, outcome.payload
