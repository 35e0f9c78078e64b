"""Runs invocations: the checks in the service's order, then the pool, or for events the queue."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import orjson

from bootstrap.ids import new_id, new_trace_id
from bootstrap.wire import MAX_CLIENT_CONTEXT, MAX_EVENT
from rie.arn import function_arn, locate
from rie.environments.plan import Throttled
from rie.environments.pool import Pool
from rie.errors import ImageFault, ServiceError, StoreFailed
from rie.flight import land
from rie.iam.caller import Caller
from rie.invoke.access import Access
from rie.invoke.counters import Counters
from rie.invoke.directory import Directory, serving
from rie.invoke.durable import DurableCall, DurableRuns
from rie.invoke.loops import LoopGuard
from rie.invoke.tenancy import check_tenancy, check_tenant_id
from rie.model.event import MAX_EVENT as MAX_ASYNC
from rie.model.event import Event
from rie.model.function import Configuration, Function, FunctionKey
from rie.model.invocation import Invocation, Listener, Outcome
from rie.model.scope import Scope
from rie.payloads import check_json

log = logging.getLogger(__name__)

Accepted = Callable[[StoreFailed | None], None]
"""Told that an event is durable, or why it isn't."""


class Takes(Protocol):
    """The queue, as invocations see it."""

    async def accept(self, event: Event) -> None:
        """Takes an event; it is durable when this returns. Raises StoreFailed."""

    def offer(self, event: Event, accepted: Accepted) -> None:
        """The same without waiting."""

    def take(self, event: Event) -> None:
        """Takes an event that is durable already, with the durable execution that it has begun."""


EVENT = "Event"
TYPES = (EVENT, "RequestResponse", "DryRun")
STREAM_TYPES = ("RequestResponse", "DryRun")
LOG_TYPES = ("None", "Tail")
STREAM_OPERATION = "InvokeWithResponseStream"
NOT_DURABLE = "A durable execution name can be given to durable functions only."
RETRY_AFTER_S = "1"  # a slot may be free at any moment; asking more often than this is no use


@dataclass(frozen=True, slots=True)
class InvokeRequest:
    """What a caller sent, as it was sent. `body` is None when it passed the service's limit.

    `caller` is None for whoever has been let in already, at a door with rules of its own (a function URL, the queue).
    """

    function_name: str
    qualifier: str | None
    body: bytes | None
    scope: Scope
    caller: Caller | None
    request_id: str
    trace_id: str
    invocation_type: str = "RequestResponse"
    log_type: str = "None"
    client_context: str = ""
    source_arn: str = ""
    source_account: str = ""
    source_ip: str = ""
    tenant_id: str | None = None
    durable_execution_name: str | None = None


class Invoker:
    """One for a node."""

    def __init__(
        self,
        directory: Directory,
        access: Access,
        pool: Pool,
        guard: LoopGuard,
        queue: Callable[[], Takes],
        durable: Callable[[], DurableRuns],
    ) -> None:
        self._directory = directory
        self._access = access
        self._pool = pool
        self._guard = guard
        self._queue = queue  # runs on us as we on it
        self._durable = durable  # likewise
        self.counters = Counters()
        self._in_flight = 0
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()

    async def invoke(self, request: InvokeRequest, listener: Listener | None = None) -> Outcome | None:
        """The outcome; None for a dry run, and for an event once it is durable.

        A listener hears the answer as it is made; without one it is whole, and bounded.
        An event for a durable function has an outcome as well: no answer, but the execution's ARN.

        Raises ServiceError, HostFault. The first check that fails wins.
        """
        key, qualifier, function, payload = self._check(request, STREAM_TYPES if listener else TYPES)
        configuration = serving(function)
        if request.invocation_type == "DryRun":
            return None
        if function.durable is not None:
            await land()
            if listener is not None:
                listener.trace_id = request.trace_id  # of an answer that comes whole, at the end
            return await self._start(request, function, qualifier, payload)
        if request.durable_execution_name is not None:
            raise ServiceError("InvalidParameterValueException", NOT_DURABLE)
        if request.invocation_type == EVENT:
            await land()
            await self._queue().accept(_event(request, key, qualifier, payload))
            return None
        invocation = Invocation(
            request_id=request.request_id,
            payload=payload,
            function_arn=function_arn(key, qualifier),
            trace_id=self._guard.pass_on(key, request.trace_id),
            client_context=request.client_context,
            wants_log=request.log_type == "Tail",
            tenant_id=request.tenant_id or "",
        )
        if listener is not None:
            listener.trace_id = invocation.trace_id
        return await self._run(function, configuration, invocation, listener)

    def offer(self, request: InvokeRequest, accepted: Accepted) -> bool:
        """As `invoke` of an event, without waiting: `accepted` is told when it is durable.

        False, and nothing has been done, if it is a durable execution that would begin. Raises ServiceError.
        """
        key, qualifier, function, payload = self._check(request, TYPES)
        serving(function)
        if function.durable is not None:
            return False
        if request.durable_execution_name is not None:
            raise ServiceError("InvalidParameterValueException", NOT_DURABLE)
        self._queue().offer(_event(request, key, qualifier, payload), accepted)
        return True

    def _check(self, request: InvokeRequest, types: tuple[str, ...]) -> tuple[FunctionKey, str | None, Function, bytes]:
        """Function, qualifier, the version that it names, and the event. Raises ServiceError."""
        _check_choice(request.invocation_type, "invocationType", types)
        _check_choice(request.log_type, "logType", LOG_TYPES)
        if request.tenant_id is not None:
            check_tenant_id(request.tenant_id)
        key, qualifier = locate(request.function_name, request.qualifier, request.scope)
        if request.caller is not None:
            self._access.check(
                request.caller,
                key,
                qualifier,
                source_arn=request.source_arn,
                source_account=request.source_account,
                source_ip=request.source_ip,
            )
        function = self._directory.find(key, qualifier)
        limit = MAX_ASYNC if request.invocation_type == EVENT else MAX_EVENT
        operation = STREAM_OPERATION if types is STREAM_TYPES else "InvokeFunction"
        payload = _checked_payload(request.body, limit, operation)
        _check_client_context(request.client_context)
        check_tenancy(function, request.tenant_id)
        return key, qualifier, function, payload

    async def run_event(self, event: Event) -> Outcome | None:
        """One attempt at an asynchronous event; None for a durable function, whose execution has begun.

        Raises ServiceError, HostFault when it was not run.
        """
        function = self._directory.find(event.key, event.qualifier)
        if function.durable is not None:
            trace_id = self._guard.pass_on(event.key, event.trace_id)
            call = DurableCall(function, event.qualifier, event.payload, trace_id, event.tenant_id, attempt_of=event)
            await self._durable().start(call)
            return None
        invocation = Invocation(
            request_id=event.event_id,
            payload=event.payload,
            function_arn=function_arn(event.key, event.qualifier),
            trace_id=self._guard.pass_on(event.key, event.trace_id),
            tenant_id=event.tenant_id,
        )
        return await self._run(function, serving(function), invocation)

    async def has_begun(self, event: Event) -> bool:
        """Whether this attempt at an event is a durable execution that is there already. Raises StoreFailed."""
        with contextlib.suppress(ServiceError):  # what it named is gone, but it runs on
            if self._directory.find(event.key, event.qualifier).durable is None:
                return False
        return await self._durable().find(event) is not None

    async def follow(self, event: Event) -> Outcome | None:
        """Its outcome, which may take a year; None if there is no such execution. Raises ServiceError, StoreFailed."""
        return await self._durable().follow(event)

    async def run_batch(self, key: FunctionKey, qualifier: str | None, payload: bytes) -> Outcome:
        """A batch of an event source, synchronously. Raises ServiceError, HostFault when it was not run."""
        function = self._directory.find(key, qualifier)
        trace_id = self._guard.pass_on(key, new_trace_id())
        if function.durable is not None:
            return await self._durable().invoke(DurableCall(function, qualifier, payload, trace_id))
        invocation = Invocation(new_id(), payload, function_arn(key, qualifier), trace_id)
        return await self._run(function, serving(function), invocation)

    async def run_once(
        self, key: FunctionKey, qualifier: str | None, payload: bytes, trace_id: str, tenant_id: str
    ) -> Outcome:
        """One invocation of a durable execution, or one that it chains, with the event that the runtime is to get.

        Raises ServiceError, HostFault when it was not run.
        """
        function = self._directory.find(key, qualifier)
        check_tenancy(function, tenant_id or None)
        arn = function_arn(key, qualifier)
        invocation = Invocation(new_id(), payload, arn, trace_id, tenant_id=tenant_id)
        return await self._run(function, serving(function), invocation)

    async def _start(
        self, request: InvokeRequest, function: Function, qualifier: str | None, payload: bytes
    ) -> Outcome:
        call = DurableCall(
            function,
            qualifier,
            payload,
            self._guard.pass_on(function.key, request.trace_id),
            request.tenant_id or "",
            request.durable_execution_name,
        )
        if request.invocation_type != EVENT:
            return await self._durable().invoke(call)
        event = _event(request, function.key, qualifier, payload)
        execution, is_new = await self._durable().start(replace(call, attempt_of=event), event)
        if is_new:  # whoever asked for it first has an event that tells of its end
            self._queue().take(event)
        return Outcome(b"", execution.version, durable_execution_arn=execution.arn)

    async def _run(
        self,
        function: Function,
        configuration: Configuration,
        invocation: Invocation,
        listener: Listener | None = None,
    ) -> Outcome:
        self._in_flight += 1
        self._is_quiet.clear()
        try:
            outcome = await self._pool.run(function, configuration, invocation, listener)
            self.counters.of(function.key).ran(outcome)
            return outcome
        except Throttled as throttled:
            self.counters.of(function.key).throttled(throttled.reason)
            raise ServiceError(
                "TooManyRequestsException",
                "Rate Exceeded.",
                extra={"Reason": throttled.reason, "retryAfterSeconds": RETRY_AFTER_S},
            ) from None
        except ImageFault as fault:
            # It was there when the function was deployed: the engine lost it, the caller did nothing wrong.
            log.error("%s", fault)
            raise ServiceError("ServiceException", str(fault)) from fault
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._is_quiet.set()

    async def drain(self, within_s: float) -> None:
        """Wait until no invocation runs, or the time is up."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_quiet.wait(), within_s)


def _check_choice(value: str, path: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ServiceError(
            "ValidationException",
            f"1 validation error detected: Value '{value}' at '{path}' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(choices)}]",
        )


def _event(request: InvokeRequest, key: FunctionKey, qualifier: str | None, payload: bytes) -> Event:
    now = time.time()
    return Event(
        request.request_id, key, qualifier, payload, now, now, request.trace_id, tenant_id=request.tenant_id or ""
    )


def too_large(limit: int, operation: str) -> ServiceError:
    """The refusal of an event, in the service's words (spec §2.2)."""
    return ServiceError(
        "RequestEntityTooLargeException",
        f"Request must be smaller than {limit} bytes for the {operation} operation",
        status=413,
    )


def _checked_payload(body: bytes | None, limit: int, operation: str) -> bytes:
    """The event, `{}` for none. Raises RequestEntityTooLargeException, InvalidRequestContentException (spec §2.2)."""
    if body is None or len(body) > limit:
        raise too_large(limit, operation)
    if not body:
        return b"{}"
    try:
        check_json(body)
    except orjson.JSONDecodeError as error:
        raise ServiceError("InvalidRequestContentException", _unreadable(body, error)) from None
    return body


def _unreadable(body: bytes, error: orjson.JSONDecodeError) -> str:
    """What is wrong with an event, in the words of the service's parser as far as clients match them (spec §2.2)."""
    text = "Could not parse request body into json: Could not parse payload into json: "
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        text += f"Invalid UTF-8 start byte 0x{body[wrong.start]:x}"
    else:
        found = error.doc[error.pos : error.pos + 1]
        if found:
            shown = f"'{found}' (code {ord(found)})" if found.isprintable() else f"(CTRL-CHAR, code {ord(found)})"
            text += (
                f"Unexpected character ({shown}): expected a valid value "
                "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
            )
        else:
            text += "Unexpected end-of-input"
    where = f"line: {error.lineno}, column: {error.colno}"
    return f"{text}\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); {where}]"


def _check_client_context(text: str) -> None:
    if len(text) > MAX_CLIENT_CONTEXT:
        raise ServiceError(
            "InvalidRequestContentException", f"Client context must be no more than {MAX_CLIENT_CONTEXT} bytes."
        )
    if text and not _is_client_context(text):
        raise ServiceError(
            "InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object."
        )


def _is_client_context(text: str) -> bool:
    try:
        return isinstance(orjson.loads(base64.b64decode(text, validate=True)), dict)
    except ValueError:  # of base64, UTF-8 and JSON alike
        return False
