"""Function URLs: any HTTP request to an event, the function's answer to an HTTP response (service specification §9)."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from typing import Any, Protocol

from bootstrap.http_mode import NotHttp, Origin, event_of, response_of
from bootstrap.ids import new_id
from bootstrap.wire import MAX_EVENT, REQUEST_ID, TRACE_ID
from rie.api.errors import render_error
from rie.errors import ServiceError
from rie.invoke.invoker import Invoker, InvokeRequest
from rie.invoke.urls import Target, UrlDirectory
from rie.model.scope import Scope
from rie.plane import cors
from rie.plane.connection import Connection, Request
from rie.plane.invocations import as_told, trace_of
from rie.plane.streams import Pace
from rie.plane.url_answers import FAILED, TEXT, Answer

log = logging.getLogger(__name__)

PREFIX = "/_lambda-url/"  # and the id: for clients that can't resolve names of any kind
MARK = ".lambda-url."
_HOST = re.compile(r"([a-z0-9-]+)\.lambda-url\.([a-z0-9-]+)\.[^:]*(?::\d+)?")
FORBIDDEN = ServiceError(
    "AccessDeniedException",
    "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html",
)
TOO_LARGE = f"the request makes an event of more than {MAX_EVENT} bytes\n".encode()
UNKNOWN = ServiceError("AccessDeniedException", None)


class Gate(Protocol):
    """Who may call a URL."""

    def admit(self, request: Request, target: Target) -> dict[str, Any] | None:
        """The caller as events have it under `requestContext.authorizer.iam`, None for nobody known.

        Raises ServiceError for one that may not call.
        """


@dataclass(frozen=True, slots=True)
class _Named:
    """What a request names: a URL's id, its region (None: any), the path below it."""

    url_id: str
    region: str | None
    path: str


class FunctionUrls:
    """Answers every request whose host, or path, is a function URL's."""

    max_body = MAX_EVENT

    def __init__(
        self, invoker: Invoker, directory: UrlDirectory, gate: Gate, port: int, stream_mib_per_s: float = 0.0
    ) -> None:
        """`port` is what callers are told that they came in by."""
        self._invoker = invoker
        self._directory = directory
        self._gate = gate
        self._port = port
        self._stream_mib_per_s = stream_mib_per_s

    @staticmethod
    def takes(request: Request) -> bool:
        """Whether a request is to a function URL, be there one or not."""
        return request.path.startswith(PREFIX) or MARK in request.headers.get("host", "").lower()

    async def __call__(self, request: Request, exchange: Connection) -> None:
        request_id = new_id()
        named = _named(request)
        target = self._directory.find(named.url_id)
        if target is None or named.region not in (None, target.key.region):
            status, headers, body = render_error(
                FORBIDDEN if self._directory.is_known(named.url_id) else UNKNOWN, request_id
            )
            exchange.respond(status, headers.items(), body)
            return
        rules = target.url.cors
        if rules is not None and cors.is_preflight(request.method, request.headers):
            exchange.respond(200, [*cors.preflight_headers(rules, request.headers), (REQUEST_ID, request_id)])
            return
        extra = [] if rules is None else cors.answer_headers(rules, request.headers)
        try:
            await self._call(request, exchange, named, target, request_id, extra)
        except Exception as error:
            if exchange.has_begun:
                as_told(error)
                exchange.abort()
                return
            known = as_told(error)
            if known.code == "ResourceNotFoundException":
                known = FORBIDDEN  # the alias that it hung on is gone
            status, headers, body = render_error(known, request_id)
            exchange.respond(status, [*headers.items(), *extra], body)

    async def _call(
        self,
        request: Request,
        exchange: Connection,
        named: _Named,
        target: Target,
        request_id: str,
        extra: list[tuple[str, str]],
    ) -> None:
        ours = [(REQUEST_ID, request_id), *extra]
        trace_id = trace_of(request.headers.get("x-amzn-trace-id"))
        event = None
        if request.body is not None:  # what is not whole can't be held against a signature
            caller = self._gate.admit(request, target)
            event = self._event(request, named, target, request_id, trace_id, caller)
        if event is None or len(event) > MAX_EVENT:
            exchange.respond(413, [*TEXT, *ours], TOO_LARGE)
            return
        call = InvokeRequest(
            function_name=target.key.name,
            qualifier=target.qualifier,
            body=event,
            scope=Scope(target.key.account, target.key.region),
            caller=None,  # let in by the gate
            request_id=request_id,
            trace_id=trace_id,
        )
        if target.url.is_streamed:
            answer = Answer(exchange, Pace(self._stream_mib_per_s), ours, target.key.name)
            outcome = await self._invoker.invoke(call, answer)
            assert outcome is not None
            answer.complete(outcome)
            return
        outcome = await self._invoker.invoke(call)
        assert outcome is not None
        head, body = FAILED
        if not outcome.function_error:
            try:
                head, body = response_of(outcome.payload)
            except NotHttp as error:
                log.warning("the answer of %s is no HTTP response: %s", target.key.name, error)
        exchange.respond(head.status, cors.overridden(head.headers, [*ours, (TRACE_ID, outcome.trace_id)]), body)

    def _event(
        self,
        request: Request,
        named: _Named,
        target: Target,
        request_id: str,
        trace_id: str,
        caller: dict[str, Any] | None,
    ) -> bytes:
        headers = request.headers
        if request.path.startswith(PREFIX):
            headers = {**headers, "host": f"{named.url_id}{MARK}{target.key.region}.localhost"}
        if caller is not None:  # the function learns who calls, not what proves it
            headers = {name: value for name, value in headers.items() if name != "authorization"}
        plain = Request(request.method, named.path, request.query, headers, request.peer)
        plain.body = request.body
        return event_of(plain, Origin(request.peer, self._port), request_id, trace_id, time.time(), caller)


def _named(request: Request) -> _Named:
    if request.path.startswith(PREFIX):
        url_id, _, path = request.path[len(PREFIX) :].partition("/")
        return _Named(url_id.lower(), None, f"/{path}")
    found = _HOST.fullmatch(request.headers.get("host", "").lower())
    return _Named("", None, request.path) if found is None else _Named(found[1], found[2], request.path)
