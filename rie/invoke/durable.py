"""Runs durable executions: their functions when there is something to do, their timers, what they call (§13.1)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import orjson

from rie.arn import parse_function_reference
from rie.clock import Clock
from rie.durable.draft import fault_view
from rie.durable.handler_event import function_fault, read_answer
from rie.durable.transitions import RETRY_S, Run
from rie.durable.updates import invalid
from rie.errors import HostFault, ServiceError
from rie.functions.durable import Begun, DurableExecutions, Plan
from rie.invoke.directory import Directory
from rie.model.durable import Execution, Fault, Operation, Parent
from rie.model.event import Event
from rie.model.function import Function, FunctionKey
from rie.model.invocation import STOPPED, Outcome
from rie.model.scope import Scope

log = logging.getLogger(__name__)

UNQUALIFIED = "You cannot invoke a durable function using an unqualified ARN."
TOO_LONG = "You cannot synchronously invoke a durable function with an executionTimeout greater than 15 minutes."
MAX_SYNC_S = 900
MAX_SLEEP_S = 3_600.0  # then the clock is looked at again; it may have been set
POSTPONE_S = 1.0
PURGE_S = 3_600.0
_NAME = re.compile(r"[a-zA-Z0-9-_]{1,64}", re.ASCII)
_THROTTLED = "TooManyRequestsException"
_STOPPED = "STOPPED"


@dataclass(frozen=True, slots=True)
class DurableCall:
    """An invocation of a durable function, checked; `name` None has one made up.

    `attempt_of` is the event of the asynchronous queue that it is made for.
    """

    function: Function
    qualifier: str | None
    payload: bytes
    trace_id: str
    tenant_id: str = ""
    name: str | None = None
    parent: Parent | None = None
    attempt_of: Event | None = None


RunOnce = Callable[[FunctionKey, str | None, bytes, str, str], Awaitable[Outcome]]
"""(function, qualifier, event, trace id, tenant) → what it answered. Raises ServiceError, HostFault."""


class DurableRuns:
    """Lives on the event loop; the book is called on threads. `delay_scale` shortens the wait after a failure."""

    def __init__(
        self,
        book: DurableExecutions,
        directory: Directory,
        run: RunOnce,
        clock: Clock,
        delay_scale: float = 1.0,
    ) -> None:
        self._book = book
        self._directory = directory
        self._run = run
        self._clock = clock
        self._retry_s = RETRY_S * delay_scale
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._running: set[str] = set()
        self._again: set[str] = set()  # those that changed while they ran
        self._calling: set[tuple[str, str]] = set()
        self._waiting: dict[str, list[asyncio.Future[Execution]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def open(self) -> None:
        """Go on with what an earlier process had begun. Raises StoreFailed."""
        await asyncio.to_thread(self._book.open)
        self._spawn(self._purge())

    async def close(self) -> None:
        """Stop; everything is in the store. Those that wait for an end are told that there will be none here."""
        self._is_closed = True
        for timer in self._timers.values():
            timer.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(ServiceError("ServiceException", "The manager is being stopped."))

    async def start(self, call: DurableCall, asked_by: Event | None = None) -> tuple[Execution, bool]:
        """(an execution, whether it is new); durable when this returns, together with the event that asks for it.

        Raises ServiceError, StoreFailed.
        """
        return await self._start(call, asked_by)

    async def find(self, event: Event) -> Execution | None:
        """That of this attempt at an event, if it has begun. Raises StoreFailed."""
        return await asyncio.to_thread(self._book.find, _id_for(event))

    async def follow(self, event: Event) -> Outcome | None:
        """Wait for the end of the execution of this attempt at an event; None if there is none. Raises StoreFailed."""
        execution = await self.find(event)
        return None if execution is None else outcome_of(await self._ended(execution, is_new=False))

    async def invoke(self, call: DurableCall) -> Outcome:
        """Start an execution, or attach to the one of that name, and wait for its end."""
        config = call.function.durable
        if config is not None and config.execution_timeout_s > MAX_SYNC_S:
            raise invalid(TOO_LONG)
        execution, is_new = await self._start(call)
        return outcome_of(await self._ended(execution, is_new))

    def changed(self, plan: Plan) -> None:
        """The book has a change of an execution."""
        if self._is_closed:
            return
        execution_id = plan.execution.execution_id
        self._set_timer(execution_id, plan.due_at)
        if plan.execution.is_closed:
            for future in self._waiting.pop(execution_id, ()):
                if not future.done():
                    future.set_result(plan.execution)
            return
        if plan.wants_invocation and execution_id in self._running:
            self._again.add(execution_id)
        elif plan.wants_invocation:
            self._running.add(execution_id)
            self._spawn(self._work(execution_id))
        for operation in plan.calls:
            if (execution_id, operation.operation_id) not in self._calling:
                self._calling.add((execution_id, operation.operation_id))
                self._spawn(self._call(plan.execution, operation))

    def function_gone(self, key: FunctionKey, version: str | None) -> None:
        """A version was removed, or with None the whole function."""
        if not self._is_closed:
            self._spawn(self._soon(self._book.forget, key, version))

    async def _start(self, call: DurableCall, asked_by: Event | None = None) -> tuple[Execution, bool]:
        function = call.function
        assert function.durable is not None
        if call.qualifier is None:
            raise invalid(UNQUALIFIED)
        if call.name is not None and not _NAME.fullmatch(call.name):
            raise _wrong_name(call.name)
        execution_id = str(uuid.uuid4()) if call.attempt_of is None else _id_for(call.attempt_of)
        execution = Execution(
            execution_id=execution_id,
            key=function.key,
            version=function.version,
            name=call.name or execution_id,
            payload=call.payload.decode(),
            started_at=self._clock.now().timestamp(),
            timeout_s=function.durable.execution_timeout_s,
            retention_days=function.durable.retention_days,
            trace_id=call.trace_id,
            tenant_id=call.tenant_id,
            parent=call.parent,
        )
        return await asyncio.to_thread(self._book.start, execution, asked_by)

    async def _ended(self, execution: Execution, is_new: bool) -> Execution:
        if execution.is_closed:
            return execution
        future: asyncio.Future[Execution] = asyncio.get_running_loop().create_future()
        futures = self._waiting.setdefault(execution.execution_id, [])
        futures.append(future)
        try:
            if not is_new:  # it may have ended before we began to wait
                now = await asyncio.to_thread(self._book.get, execution.arn)
                if now.is_closed:
                    return now
            return await future
        finally:
            with contextlib.suppress(ValueError):
                futures.remove(future)
            if not futures:
                self._waiting.pop(execution.execution_id, None)

    async def _work(self, execution_id: str) -> None:
        """Run the function for as long as there is something to do."""
        try:
            while True:
                self._again.discard(execution_id)
                begun = await asyncio.to_thread(self._book.begin, execution_id)
                if begun is not None:
                    await self._invoke(begun)
                elif execution_id not in self._again:
                    return
        finally:
            self._running.discard(execution_id)

    async def _invoke(self, begun: Begun) -> None:
        execution = begun.execution
        started_at = self._clock.now().timestamp()
        try:
            outcome = await self._run(
                execution.key, execution.version, begun.event, execution.trace_id, execution.tenant_id
            )
        except (ServiceError, HostFault) as error:
            if isinstance(error, ServiceError) and error.code == "ResourceNotFoundException":
                await self._write(self._book.fail, begun, Fault(error.message, error.code))
            else:
                log.warning("cannot run durable execution %s, will try again: %s", execution.arn, error)
                await self._write(self._book.postpone, begun, POSTPONE_S)
            return
        run = Run(execution.invocation_id, started_at, read_answer(outcome))
        await self._write(self._book.end, begun, run, self._retry_s)

    async def _write(self, method: Callable[..., None], *arguments: Any) -> None:
        """Until it is durable: what an invocation came to is not forgotten because the database is busy."""
        while True:
            try:
                return await asyncio.to_thread(method, *arguments)
            except HostFault as error:
                log.error("cannot store a durable execution, will try again: %s", error)
                await asyncio.sleep(POSTPONE_S)

    def _set_timer(self, execution_id: str, due_at: float | None) -> None:
        timer = self._timers.pop(execution_id, None)
        if timer is not None:
            timer.cancel()
        if due_at is None:
            return
        # A little late rather than early: nothing is due before its instant.
        delay_s = min(max(due_at - self._clock.now().timestamp(), 0.0) + 0.001, MAX_SLEEP_S)
        loop = asyncio.get_running_loop()
        self._timers[execution_id] = loop.call_later(delay_s, self._fire, execution_id, due_at)

    def _fire(self, execution_id: str, due_at: float) -> None:
        if self._clock.now().timestamp() < due_at:
            return self._set_timer(execution_id, due_at)
        self._timers.pop(execution_id, None)
        return self._spawn(self._write(self._book.tick, execution_id))

    async def _call(self, execution: Execution, operation: Operation) -> None:
        """Run what a chained invocation calls, until it has an end."""
        try:
            status, result, error = await self._call_until_answered(execution, operation)
            await self._write(
                self._book.chained_ended, execution.execution_id, operation.operation_id, status, result, error
            )
        finally:
            self._calling.discard((execution.execution_id, operation.operation_id))

    async def _call_until_answered(
        self, execution: Execution, operation: Operation
    ) -> tuple[str, str | None, Fault | None]:
        while True:
            try:
                return await self._call_once(execution, operation)
            except ServiceError as error:
                if error.code != _THROTTLED:
                    return "FAILED", None, Fault(error.message, error.code)
            except HostFault as error:
                log.warning("cannot run what %s calls, will try again: %s", execution.arn, error)
            await asyncio.sleep(POSTPONE_S)

    async def _call_once(self, execution: Execution, operation: Operation) -> tuple[str, str | None, Fault | None]:
        scope = Scope(execution.key.account, execution.key.region)
        key, qualifier = parse_function_reference(operation.target or "", None, scope)
        function = self._directory.find(key, qualifier)
        payload = (operation.payload or "{}").encode()
        tenant_id = operation.tenant_id or ""
        if function.durable is None:
            outcome = await self._run(key, qualifier, payload, execution.trace_id, tenant_id)
            text = outcome.payload.decode(errors="replace")
            if not outcome.function_error:
                return "SUCCEEDED", text, None
            return "FAILED", None, function_fault(_document(text))
        parent = Parent(execution.execution_id, operation.operation_id)
        # The same each time, so that a process that goes on with this one finds it again.
        name = hashlib.sha256(f"{parent.execution_id}/{parent.operation_id}".encode()).hexdigest()[:32]
        call = DurableCall(function, qualifier, payload, execution.trace_id, tenant_id, name, parent)
        child, is_new = await self._start(call)
        ended = await self._ended(child, is_new)
        if ended.status == "TIMED_OUT":
            message = f"CHAINED_INVOKE timed out after {ended.timeout_s} seconds."
            return ended.status, None, Fault(message, "ChainedInvoke.Timeout")
        return ended.status, ended.result, ended.error

    async def _purge(self) -> None:
        while True:
            await asyncio.sleep(PURGE_S)
            await self._soon(self._book.purge)

    async def _soon(self, method: Callable[..., None], *arguments: Any) -> None:
        try:
            await asyncio.to_thread(method, *arguments)
        except HostFault as error:
            log.error("%s", error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a durable execution stands still", exc_info=task.exception())


def _id_for(event: Event) -> str:
    """The same whichever process asks, so that an attempt begins one execution and finds it again."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{event.event_id}/{event.attempts}"))


def outcome_of(execution: Execution) -> Outcome:
    """What a caller of Invoke gets for an execution that has ended."""
    status = "success"
    if execution.status == "SUCCEEDED":
        payload, error = (execution.result or "null").encode(), None
    else:
        fault = execution.error or Fault(f"The execution ended: {execution.status}", execution.status)
        payload, error = orjson.dumps(fault_view(fault)), "Unhandled"
        status = STOPPED if execution.status == _STOPPED else "error"
    return Outcome(
        payload,
        execution.version,
        error,
        status=status,
        trace_id=execution.trace_id,
        durable_execution_arn=execution.arn,
    )


def _document(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _wrong_name(name: str) -> ServiceError:
    constraint = (
        "Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+"
        if 1 <= len(name) <= 64
        else f"Member must have length {'less than or equal to 64' if name else 'greater than or equal to 1'}"
    )
    return ServiceError(
        "ValidationException",
        f"1 validation error detected: Value '{name}' at 'durableExecutionName' failed to satisfy constraint: "
        f"{constraint}",
    )
