"""The book of durable executions: every change is written down before anybody hears of it (lambda.md §13.1)."""

from __future__ import annotations

import secrets
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rie.clock import Clock
from rie.durable import pauses, tokens, transitions
from rie.durable.draft import Change, State
from rie.durable.handler_event import MAX_OPERATIONS, handler_event, paged
from rie.durable.transitions import Run
from rie.durable.updates import invalid
from rie.errors import ServiceError
from rie.model.durable import OPEN, PAUSED, Control, Execution, Fault, HistoryEvent, Operation, Pause, Update
from rie.model.event import Event
from rie.model.function import FunctionKey
from rie.store.durable import SqlDurable, Wanted


@dataclass(frozen=True, slots=True)
class Plan:
    """What an execution asks of whoever runs functions, after a change of it.

    `due_at` is when to say that time has passed, in epoch seconds; `calls` are the functions that it waits for.
    """

    execution: Execution
    due_at: float | None
    wants_invocation: bool
    calls: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Begun:
    """An invocation that is to be run now."""

    execution: Execution
    event: bytes


Changed = Callable[[Plan], None]
"""Told of every change, in their order for one execution, on any thread; must be quick, must not call the book."""


class DurableExecutions:
    """Every method blocks and may be called from any thread. Raises ServiceError, StoreFailed."""

    def __init__(self, store: SqlDurable, clock: Clock, changed: Changed) -> None:
        self._store = store
        self._clock = clock
        self._changed = changed
        self._lock = threading.RLock()
        self._running: dict[str, State] = {}  # those whose function runs: it will checkpoint soon

    # --- for whoever runs functions

    def open(self) -> None:
        """Go on with what an earlier process, or an earlier owner of this book, had begun."""
        with self._lock:
            self._running.clear()
        self._store.purge(self._now())
        for execution_id in self._store.running():
            with self._lock:
                self._change(execution_id, lambda state: pauses.settled(state, self._now()))
                state = self._find(execution_id)
                if state is not None:
                    self._changed(_plan(state))

    def start(self, execution: Execution, asked_by: Event | None = None) -> tuple[Execution, bool]:
        """(the execution, whether it is new): one of the same name and payload is not started twice.

        A new one is stored together with the event of the asynchronous queue that asks for it.
        Raises ServiceError DurableExecutionAlreadyStartedException for a name that has another payload.
        """
        with self._lock:
            wanted = Wanted(name=execution.name)
            for other in self._store.page(execution.key, wanted, self._now(), limit=1):
                if other.payload != execution.payload:
                    raise ServiceError(
                        "DurableExecutionAlreadyStartedException",
                        f"A durable execution with the name {execution.name} and another payload exists already: "
                        f"{other.arn}",
                    )
                return other, False
            change = replace(transitions.started(execution), asked_by=asked_by)
            return self._write(change).execution, True

    def find(self, execution_id: str) -> Execution | None:
        """One execution by its id."""
        with self._lock:
            state = self._find(execution_id)
        return None if state is None else state.execution

    def begin(self, execution_id: str) -> Begun | None:
        """What to run of an execution now; None for nothing."""
        with self._lock:
            state = self._find(execution_id)
            if state is None or not state.wants_invocation():
                return None
            state = transitions.begun(state, str(uuid.uuid4()))
            self._running[execution_id] = state
            return Begun(state.execution, handler_event(state, state.execution.updated))

    def end(self, begun: Begun, run: Run, retry_s: float) -> None:
        """An invocation has been run."""
        self._end(begun, lambda state: transitions.answered(state, run, self._now(), retry_s))

    def postpone(self, begun: Begun, delay_s: float) -> None:
        """An invocation could not be run."""
        self._end(begun, lambda state: transitions.postponed(state, self._now(), delay_s))

    def fail(self, begun: Begun, error: Fault) -> None:
        """An invocation can never be run."""
        run = Run("", self._now(), transitions.Answer("FAILED", error=error))
        self._end(begun, lambda state: transitions.answered(state, run, self._now()))

    def tick(self, execution_id: str) -> None:
        """Time has passed."""
        self._change(execution_id, lambda state: transitions.passed(state, self._now()))

    def chained_ended(
        self, execution_id: str, operation_id: str, status: str, result: str | None, error: Fault | None
    ) -> None:
        """What an operation called has ended."""

        def decide(state: State) -> Change | None:
            operation = state.operations.get(operation_id)
            if state.execution.is_closed or operation is None or operation.has_ended:
                return None
            return transitions.chained_ended(state, operation, status, result, error, self._now())

        self._change(execution_id, decide)

    def forget(self, key: FunctionKey, version: str | None) -> None:
        """A version is gone: what it ran is stopped; of a function (None) nothing is left."""
        versions = None if version is None else (version,)
        running = Wanted(versions=versions, statuses=OPEN)
        error = Fault("The function was deleted.", "FunctionDeleted")
        for execution in self._store.page(key, running, self._now(), limit=1_000_000):
            self._change(execution.execution_id, lambda state: self._stop(state, error))
        if version is None:
            with self._lock:
                self._store.drop(key)
                # What their invocations come to is written nowhere any more.
                for execution_id in [each for each, state in self._running.items() if state.execution.key == key]:
                    del self._running[execution_id]

    def purge(self) -> None:
        """Remove those whose retention is over."""
        self._store.purge(self._now())

    # --- for the API

    def get(self, arn: str) -> Execution:
        """One execution. Raises ResourceNotFoundException."""
        return self._of(arn).execution

    def history(self, arn: str, *, after: int | None, limit: int, is_newest_first: bool) -> list[HistoryEvent]:
        """A page of its events. Raises ResourceNotFoundException."""
        found = self.get(arn)
        return self._store.history(found.execution_id, after=after, limit=limit, is_newest_first=is_newest_first)

    def page(self, key: FunctionKey, wanted: Wanted, *, after: tuple[float, str] | None, limit: int) -> list[Execution]:
        """Executions of a function."""
        return self._store.page(key, wanted, self._now(), after=after, limit=limit)

    def operations(self, arn: str, token: str, start: int, limit: int | None) -> tuple[Sequence[Operation], str | None]:
        """A page of the state, and the marker of the next one, for the invocation that holds the token."""
        with self._lock:
            state = self._held(arn, token)
        return paged(state.shown(), start, min(limit or MAX_OPERATIONS, MAX_OPERATIONS))

    def checkpoint(
        self, arn: str, token: str, client_token: str | None, updates: Sequence[Update]
    ) -> tuple[str, Sequence[Operation]]:
        """(next token, operations that the function has not seen). Raises InvalidParameterValueException."""
        with self._lock:
            state = self._find(tokens.execution_id_of(arn))
            if state is None or state.execution.arn != arn:
                raise invalid("Invalid checkpoint token")
            done = transitions.checkpointed(
                state, token, client_token, updates, self._now(), lambda: secrets.token_hex(8)
            )
            if done.change is not None:
                execution = self._write(done.change).execution
                if execution.status == PAUSED:  # what was checkpointed is kept, and the invocation ends with this
                    raise invalid("Invalid checkpoint token")
            return done.token, done.operations

    def stop(self, arn: str, error: Fault | None) -> float:
        """When it was stopped, or had ended anyway. Raises ResourceNotFoundException."""
        self._change(self._of(arn).execution.execution_id, lambda state: self._stop(state, error))
        return self.get(arn).ended_at or self._now()

    def pause(self, arn: str, client_token: str, reason: str | None, *, stops_timeout: bool) -> None:
        """Hold it. Raises ResourceNotFoundException, ResourceConflictException."""
        now = self._now()
        control, pause = Control("pause", client_token, now), Pause(now, reason, stops_timeout)
        self._control(arn, lambda state: pauses.paused(state, control, pause))

    def resume(self, arn: str, client_token: str, reason: str | None) -> None:
        """Let it go on. Raises ResourceNotFoundException, ResourceConflictException."""
        control = Control("resume", client_token, self._now())
        self._control(arn, lambda state: pauses.resumed(state, control, reason))

    def delete(self, arn: str) -> float:
        """Remove one that has ended; when that was asked. Raises ResourceNotFoundException, ResourceConflictException.

        It is done at once: nobody ever sees the status DELETING.
        """
        with self._lock:
            execution = self._of(arn).execution
            if not execution.is_closed:
                raise ServiceError(
                    "ResourceConflictException",
                    f"The durable execution {arn} has the status {execution.status} and can't be deleted.",
                )
            self._store.remove(execution.execution_id)
        return self._now()

    def succeed_callback(self, account: str, callback_id: str, result: str | None) -> None:
        """Raises CallbackTimeoutException for one that nobody waits for."""
        self._resolve(account, callback_id, lambda s, o: transitions.callback_resolved(s, o, result, None, self._now()))

    def fail_callback(self, account: str, callback_id: str, error: Fault) -> None:
        """Raises CallbackTimeoutException for one that nobody waits for."""
        self._resolve(account, callback_id, lambda s, o: transitions.callback_resolved(s, o, None, error, self._now()))

    def keep_callback(self, account: str, callback_id: str) -> None:
        """A heartbeat. Raises CallbackTimeoutException for one that nobody waits for."""
        self._resolve(account, callback_id, lambda s, o: transitions.callback_alive(s, o, self._now()))

    # ---

    def _resolve(self, account: str, callback_id: str, decide: Callable[[State, Operation], Change]) -> None:
        gone = ServiceError("CallbackTimeoutException", "The callback has timed out, has ended already, or never was.")
        read = tokens.read_callback_id(callback_id)
        if read is None:
            raise gone
        arn, operation_id = read

        def decide_one(state: State) -> Change:
            operation = state.operations.get(operation_id)
            if (
                state.execution.arn != arn
                or state.execution.key.account != account
                or state.execution.is_closed
                or operation is None
                or operation.callback_id != callback_id
                or operation.has_ended
            ):
                raise gone
            return decide(state, operation)

        with self._lock:
            # What is due at this very moment comes first.
            self.tick(tokens.execution_id_of(arn))
            if not self._change(tokens.execution_id_of(arn), decide_one):
                raise gone

    def _control(self, arn: str, decide: Callable[[State], Change | None]) -> None:
        with self._lock:
            # What is due at this very moment comes first.
            self.tick(self._of(arn).execution.execution_id)
            self._change(tokens.execution_id_of(arn), decide)

    def _stop(self, state: State, error: Fault | None) -> Change | None:
        return None if state.execution.is_closed else transitions.stopped(state, error, self._now())

    def _end(self, begun: Begun, decide: Callable[[State], Change]) -> None:
        execution_id, invocation_id = begun.execution.execution_id, begun.execution.invocation_id
        with self._lock:
            state = self._running.get(execution_id)
            if state is not None and state.execution.invocation_id == invocation_id:
                self._write(decide(state))

    def _change(self, execution_id: str, decide: Callable[[State], Change | None]) -> bool:
        """Whether there is such an execution."""
        with self._lock:
            state = self._find(execution_id)
            if state is None:
                return False
            change = decide(state)
            if change is not None and change.state != state:
                self._write(change)
            return True

    def _write(self, change: Change) -> State:
        self._store.write(change)
        state = change.state
        if state.execution.invocation_id:
            self._running[state.execution.execution_id] = state
        else:
            self._running.pop(state.execution.execution_id, None)
        self._changed(_plan(state))
        return state

    def _find(self, execution_id: str) -> State | None:
        running = self._running.get(execution_id)
        if running is not None:
            return running
        found = self._store.find(execution_id, self._now())
        # Nobody of this process runs its function: if it says so, that was another one.
        return None if found is None else transitions.resumed(found)

    def _of(self, arn: str) -> State:
        with self._lock:
            state = self._find(tokens.execution_id_of(arn))
        if state is None or state.execution.arn != arn:
            raise ServiceError("ResourceNotFoundException", f"Durable execution not found: {arn}")
        return state

    def _held(self, arn: str, token: str) -> State:
        state = self._find(tokens.execution_id_of(arn))
        if state is None or state.execution.arn != arn:
            raise invalid("Invalid checkpoint token")
        transitions.check_token(state.execution, token)
        return state

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _plan(state: State) -> Plan:
    calls: tuple[Operation, ...] = ()
    if not state.execution.is_closed:
        calls = tuple(each for each in state.operations.values() if each.target is not None and not each.has_ended)
    return Plan(state.execution, state.due_at(), state.wants_invocation(), calls)
