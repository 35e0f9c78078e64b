"""What the runtime of a durable function gets for an event, and what its answer says; times in ms (lambda.md §13.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from rie.durable import tokens
from rie.durable.draft import State, fault_view, read_fault
from rie.durable.transitions import Answer
from rie.model.durable import CONTEXT, EXECUTION, Fault, Operation
from rie.model.invocation import Outcome

MAX_PAGE = 5_242_880  # bytes of operations in one event or page
MAX_OPERATIONS = 1_000
_STATUSES = ("SUCCEEDED", "FAILED", "PENDING")


def handler_event(state: State, updated: Sequence[str]) -> bytes:
    """The event of an invocation that is about to begin; `updated` are the operations that ended meanwhile."""
    execution = state.execution
    page, marker = paged(state.shown(), 0, MAX_OPERATIONS)
    return orjson.dumps(
        {
            "DurableExecutionArn": execution.arn,
            "CheckpointToken": tokens.token_of(execution),
            "InitialExecutionState": {
                "Operations": [operation_view(each, _milliseconds) for each in page],
                "NextMarker": marker or "",
            },
            "UpdatedOperationIds": list(updated),
        }
    )


def paged(operations: Sequence[Operation], start: int, longest: int) -> tuple[Sequence[Operation], str | None]:
    """As many as fit from a position on, and the marker of the rest: at least one, or none would ever come."""
    octets = 0
    end = start
    for each in operations[start : start + longest]:
        octets += len(each.payload or "") + len(each.result or "") + len(orjson.dumps(fault_view(each.error))) + 300
        if octets > MAX_PAGE and end > start:
            break
        end += 1
    return operations[start:end], str(end) if end < len(operations) else None


def read_answer(outcome: Outcome) -> Answer:
    """What a function's outcome says of its execution."""
    try:
        said = orjson.loads(outcome.payload)
    except orjson.JSONDecodeError:
        said = None
    if outcome.function_error:
        return Answer(problem=function_fault(said))
    status = said.get("Status") if isinstance(said, dict) else None
    if status not in _STATUSES or not isinstance(said.get("Result"), str | None):
        return _no_answer("Invalid Status in invocation output.")
    try:
        return Answer(status, said.get("Result"), read_fault(said.get("Error")))
    except (ValueError, AttributeError):
        return _no_answer("Invalid Error in invocation output.")


def function_fault(document: Any) -> Fault:
    """An error document of the runtime API as an ErrorObject."""
    if not isinstance(document, dict):
        return Fault("The function ended with an error.", "Unhandled")
    trace = document.get("stackTrace")
    lines = tuple(str(line) for line in trace) if isinstance(trace, list) and trace else None
    message, kind = document.get("errorMessage"), document.get("errorType")
    return Fault(
        str(message) if message is not None else None, str(kind) if kind is not None else "Unhandled", None, lines
    )


def operation_view(operation: Operation, instant: Any) -> dict[str, Any]:
    """An Operation of the service model; `instant` spells epoch seconds. Members without a value are left out."""
    view: dict[str, Any] = {
        "Id": operation.operation_id,
        "ParentId": operation.parent_id,
        "Name": operation.name,
        "Type": operation.type,
        "SubType": operation.sub_type,
        "StartTimestamp": instant(operation.started_at),
        "EndTimestamp": None if operation.ended_at is None else instant(operation.ended_at),
        "Status": operation.status,
    }
    outcome = {"Result": operation.result, "Error": None if operation.error is None else fault_view(operation.error)}
    due = None if operation.due_at is None else instant(operation.due_at)
    if operation.type == EXECUTION:
        view["ExecutionDetails"] = {"InputPayload": operation.payload}
    elif operation.type == CONTEXT:
        view["ContextDetails"] = {**outcome, "ReplayChildren": operation.replays_children or None}
    elif operation.type == "STEP":
        view["StepDetails"] = {**outcome, "Attempt": operation.attempt, "NextAttemptTimestamp": due}
    elif operation.type == "WAIT":
        view["WaitDetails"] = {"ScheduledEndTimestamp": due}
    elif operation.type == "CALLBACK":
        view["CallbackDetails"] = {**outcome, "CallbackId": operation.callback_id}
    else:
        view["ChainedInvokeDetails"] = outcome
    return _given(view)


def _given(view: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _given(value) if isinstance(value, dict) and name.endswith("Details") else value
        for name, value in view.items()
        if value is not None
    }


def _milliseconds(at: float) -> int:
    return int(at * 1000)


def _no_answer(message: str) -> Answer:
    return Answer(problem=Fault(message, "InvalidParameterValueException"))
