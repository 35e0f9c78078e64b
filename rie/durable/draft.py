"""An execution while it changes: what it was, what became of it, and what is to be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from rie.model.durable import CONTEXT, EXECUTION, RUNNING, Execution, Fault, HistoryEvent, Operation
from rie.model.event import Event


@dataclass(frozen=True, slots=True)
class State:
    """An execution and its operations, by id, in the order they began."""

    execution: Execution
    operations: Mapping[str, Operation]

    def unseen(self) -> list[Operation]:
        """The operations that changed since the function last saw them."""
        return [each for each in self.operations.values() if each.touched > self.execution.seen]

    def shown(self) -> list[Operation]:
        """Those that a function needs to go on: all but what ended contexts hold, unless they are replayed."""
        closed = {
            each.operation_id
            for each in self.operations.values()
            if each.type == CONTEXT and each.has_ended and not each.replays_children
        }
        if not closed:
            return list(self.operations.values())
        hidden: set[str] = set()
        for each in self.operations.values():  # parents begin before what they hold
            if each.parent_id is not None and (each.parent_id in closed or each.parent_id in hidden):
                hidden.add(each.operation_id)
        return [each for each in self.operations.values() if each.operation_id not in hidden]

    def outstanding(self) -> bool:
        """Whether anything will happen without the function."""
        return any(
            (each.type not in (EXECUTION, CONTEXT, "STEP") and not each.has_ended)
            or (each.type == "STEP" and each.status in ("PENDING", "READY"))
            for each in self.operations.values()
        )

    def due_at(self) -> float | None:
        """When the next thing happens by itself; None once it is closed."""
        if self.execution.is_closed:
            return None
        instants = [self.execution.times_out_at]
        if self.execution.retry_at is not None:
            instants.append(self.execution.retry_at)
        for each in self.operations.values():
            if not each.has_ended:
                instants += [at for at in (each.due_at, each.timeout_at, each.heartbeat_at) if at is not None]
        return min(instants)

    def wants_invocation(self) -> bool:
        """Whether the function should run, and doesn't."""
        execution = self.execution
        return (
            execution.status == RUNNING
            and not execution.invocation_id
            and execution.retry_at is None
            and execution.touched > execution.seen
        )


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be written in one transaction: the state, and of it the operations and events that are new.

    `asked_by` is the asynchronous event that a new execution is acknowledged with.
    """

    state: State
    operations: tuple[Operation, ...] = ()
    events: tuple[HistoryEvent, ...] = ()
    asked_by: Event | None = None


class Draft:
    """A state that is being changed; the one that it began with stays as it is."""

    def __init__(self, state: State, now: float) -> None:
        self.execution = state.execution
        self.operations = dict(state.operations)
        self.now = now
        self._changed: dict[str, None] = {}
        self._events: list[HistoryEvent] = []

    @property
    def state(self) -> State:
        """As it stands."""
        return State(self.execution, self.operations)

    def set(self, **members: Any) -> None:
        """Change the execution itself."""
        self.execution = replace(self.execution, **members)

    def put(self, operation: Operation, *, is_news: bool = True, **members: Any) -> Operation:
        """An operation is new or different; `is_news`: for the function as well."""
        touched = operation.touched
        if is_news:
            touched = self.execution.touched + 1
            self.set(touched=touched)
        after = replace(operation, touched=touched, **members)
        self.operations[after.operation_id] = after
        self._changed[after.operation_id] = None
        return after

    def end(self, operation: Operation, status: str, **members: Any) -> Operation:
        """The service ended an operation: the function is told of it."""
        if operation.type != EXECUTION:
            self.set(updated=(*self.execution.updated, operation.operation_id))
        return self.put(operation, status=status, ended_at=self.now, **members)

    def tell(self, kind: str, details: Mapping[str, Any], operation: Operation | None = None) -> None:
        """Add an event to the history."""
        self.set(events=self.execution.events + 1)
        about = operation if operation is not None and operation.type != EXECUTION else None
        self._events.append(
            HistoryEvent(
                number=self.execution.events,
                type=kind,
                at=self.now,
                details=orjson.dumps(details).decode(),
                operation_id=None if operation is None else operation.operation_id,
                parent_id=None if about is None else about.parent_id,
                name=self.execution.name if about is None and operation is not None else about.name if about else None,
                sub_type=None if about is None else about.sub_type,
            )
        )

    def change(self) -> Change:
        """All of it."""
        return Change(self.state, tuple(self.operations[each] for each in self._changed), tuple(self._events))


def fault_view(fault: Fault | None) -> dict[str, Any]:
    """ErrorObject; members that were not given are left out."""
    if fault is None:
        return {}
    members = {"ErrorMessage": fault.message, "ErrorType": fault.type, "ErrorData": fault.data}
    trace = None if fault.trace is None else list(fault.trace)
    return {name: value for name, value in {**members, "StackTrace": trace}.items() if value is not None}


def read_fault(given: Mapping[str, Any] | None) -> Fault | None:
    """An ErrorObject; None for none. Raises ValueError for what is none."""
    if given is None:
        return None
    texts = [given.get(name) for name in ("ErrorMessage", "ErrorType", "ErrorData")]
    trace = given.get("StackTrace")
    if not all(text is None or isinstance(text, str) for text in texts):
        raise ValueError("an error's members are texts")
    if trace is not None and not (isinstance(trace, list) and all(isinstance(line, str) for line in trace)):
        raise ValueError("a stack trace is a list of texts")
    return Fault(texts[0], texts[1], texts[2], None if trace is None else tuple(trace))
