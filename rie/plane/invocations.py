"""Invoke, InvokeWithResponseStream and InvokeAsync over HTTP, from the wire to the invoker and back."""

from __future__ import annotations

import logging
from dataclasses import replace
from urllib.parse import parse_qsl, unquote

from bootstrap import wire
from bootstrap.ids import new_id, new_trace_id
from rie.api.errors import as_service_error, render_error
from rie.errors import HostFault, RieError, ServiceError
from rie.invoke.invoker import Invoker, InvokeRequest
from rie.model.invocation import Outcome
from rie.plane.connection import Connection, Request
from rie.plane.gate import Gate
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

    async def __call__(self, request: Request, exchange: Connection) -> None:
        request_id = new_id()
        trace_id = trace_of(request.headers.get("x-amzn-trace-id"))
        try:
            if request.path.startswith(wire.STREAM_PREFIX):
                await self._stream(request, exchange, request_id, trace_id)
                return
            if request.path.startswith(wire.ASYNC_PREFIX):
                await self._accept(request, exchange, request_id)
                return
            call = await self._read(request, request_id, trace_id, *PATHS[0])
            exchange.respond(*_success(call, await self._invoker.invoke(call)))
        except Exception as error:
            status, headers, body = render_error(as_told(error), request_id)
            exchange.respond(status, headers.items(), body)

    async def _stream(self, request: Request, exchange: Connection, request_id: str, trace_id: str) -> None:
        frames = Frames(exchange, Pace(self._stream_mib_per_s), request_id)
        call = await self._read(request, request_id, trace_id, *PATHS[1])
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
            raise ServiceError(
                "RequestEntityTooLargeException",
                f"Request must be smaller than {MAX_OLD_ASYNC} bytes for the InvokeAsync operation",
            )
        call = await self._read(request, request_id, new_trace_id(), *PATHS[2])
        await self._invoker.invoke(replace(call, invocation_type="Event", qualifier=None))
        exchange.respond(202, [(wire.REQUEST_ID, request_id), ("Content-Type", "application/json")], b'{"Status":202}')

    async def _read(self, request: Request, request_id: str, trace_id: str, prefix: str, suffix: str) -> InvokeRequest:
        headers = request.headers
        identity = await self._gate.identify(request.sent, request.body)
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
            trace_id=trace_id,
            request_id=request_id,
            tenant_id=headers.get("x-amz-tenant-id"),
            durable_execution_name=headers.get("x-amz-durable-execution-name"),
            source_arn=headers.get("x-amz-source-arn", ""),
            source_account=headers.get("x-amz-source-account", ""),
            source_ip=request.peer,
        )


def trace_of(given: str | None) -> str:
    """The caller's trace header, or one of ours if it sent none that is one."""
    return given if given and "root=" in given.lower() else new_trace_id()


def as_told(error: Exception) -> ServiceError:
    """What a caller sees of an error; the manager's log has what it must not see. To be called where it was caught."""
    if isinstance(error, HostFault):
        log.error("%s", error)
    elif not isinstance(error, RieError):
        log.exception("cannot answer an invocation")
    return as_service_error(error) or INTERNAL


def _success(request: InvokeRequest, outcome: Outcome | None) -> tuple[int, list[tuple[str, str]], bytes]:
    durable = [(DURABLE, outcome.durable_execution_arn)] if outcome and outcome.durable_execution_arn else []
    told = [(wire.REQUEST_ID, request.request_id), ("x-amzn-Remapped-Content-Length", "0"), *durable]
    if outcome is None or request.invocation_type == "Event":
        status = 202 if request.invocation_type == "Event" else 204
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
