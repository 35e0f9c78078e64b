"""Whether a batch of updates may be applied: all of them, or none (lambda.md §13.1's table)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import orjson

from rie.durable.draft import State, fault_view
from rie.errors import ServiceError
from rie.model.durable import CONTEXT, EXECUTION, Operation, Update

MAX_ERROR = 32_768  # bytes of an error's JSON, AWS limit
_ACTIONS: Mapping[str, frozenset[str]] = {
    EXECUTION: frozenset(("SUCCEED", "FAIL")),
    CONTEXT: frozenset(("START", "SUCCEED", "FAIL")),
    "STEP": frozenset(("START", "SUCCEED", "FAIL", "RETRY")),
    "WAIT": frozenset(("START", "CANCEL")),
    "CALLBACK": frozenset(("START",)),
    "CHAINED_INVOKE": frozenset(("START", "CANCEL")),
}


def invalid(message: str) -> ServiceError:
    """InvalidParameterValueException."""
    return ServiceError("InvalidParameterValueException", message)


def check(updates: Sequence[Update], state: State) -> None:
    """Raises ServiceError for the first rule that is broken."""
    _check_execution(updates)
    _check_batch(updates, state)
    begun: dict[str, Update] = {}
    for update in updates:
        current = state.operations.get(update.operation_id)
        _check_same(update, current)
        error = fault_view(update.error)
        if update.error is not None and len(orjson.dumps(error)) > MAX_ERROR:
            raise invalid(f"Error object size must be less than {MAX_ERROR} bytes.")
        if update.action not in _ACTIONS.get(update.type, ()):
            raise invalid("Invalid action for the given operation type.")
        # What the same batch starts is STARTED when the next update comes to it.
        _RULES[update.type](update, current if current is not None else None, update.operation_id in begun)
        if update.action == "START":
            begun[update.operation_id] = update


def _check_execution(updates: Sequence[Update]) -> None:
    count = sum(update.type == EXECUTION for update in updates)
    if count > 1:
        raise invalid("Cannot checkpoint multiple EXECUTION updates.")
    if count and updates[-1].type != EXECUTION:
        raise invalid("EXECUTION checkpoint must be the last update.")


def _check_batch(updates: Sequence[Update], state: State) -> None:
    begun: dict[str, Update] = {}
    last: dict[str, Update] = {}
    for update in updates:
        before = last.get(update.operation_id)
        if before is not None and not (
            before.type in (CONTEXT, "STEP") and before.action == "START" and update.action != "START"
        ):
            raise invalid("Cannot checkpoint multiple operations with the same ID.")
        if update.parent_id is not None:
            parent = begun.get(update.parent_id) or state.operations.get(update.parent_id)
            if parent is None or parent.type != CONTEXT:
                raise invalid("Invalid parent operation id.")
        if update.action == "START":
            begun[update.operation_id] = update
        last[update.operation_id] = update


def _check_same(update: Update, current: Operation | None) -> None:
    if current is None or update.type == current.type == EXECUTION:
        return
    if update.type != current.type:
        raise invalid("Inconsistent operation type.")
    if update.sub_type is not None and update.sub_type != current.sub_type:
        raise invalid("Inconsistent operation subtype.")
    if update.name is not None and update.name != current.name:
        raise invalid("Inconsistent operation name.")
    if update.parent_id is not None and update.parent_id != current.parent_id:
        raise invalid("Inconsistent parent operation id.")


def _check_outcome(update: Update) -> None:
    if update.action == "FAIL" and update.payload is not None:
        raise invalid("Cannot provide a Payload for FAIL action.")
    if update.action == "SUCCEED" and update.error is not None:
        raise invalid("Cannot provide an Error for SUCCEED action.")


def _execution(update: Update, current: Operation | None, has_begun: bool) -> None:
    _check_outcome(update)


def _context(update: Update, current: Operation | None, has_begun: bool) -> None:
    if update.action == "START":
        return _check_new(update, current)
    if current is not None and current.status != "STARTED":
        raise invalid("Invalid current CONTEXT state to close.")
    return _check_outcome(update)


def _step(update: Update, current: Operation | None, has_begun: bool) -> None:
    status = None if current is None else "STARTED" if has_begun else current.status
    if update.action == "START":
        if status not in (None, "READY"):
            raise invalid("Invalid current STEP state to start.")
    elif update.action == "RETRY":
        if status not in (None, "STARTED", "READY"):
            raise invalid("Invalid current STEP state to re-attempt.")
        if update.delay_s is None:
            raise invalid("Invalid StepOptions for the given action.")
        if update.error is not None and update.payload is not None:
            raise invalid("Cannot provide both error and payload to RETRY a STEP.")
    else:
        if status not in (None, "STARTED", "READY"):
            raise invalid("Invalid current STEP state to close.")
        _check_outcome(update)


def _wait(update: Update, current: Operation | None, has_begun: bool) -> None:
    if update.action == "CANCEL":
        return _check_cancellable(update, current, "a WAIT")
    _check_new(update, current)
    if update.wait_s is None:
        raise invalid("Invalid WaitOptions for the given action.")
    return None


def _callback(update: Update, current: Operation | None, has_begun: bool) -> None:
    _check_new(update, current)


def _chained(update: Update, current: Operation | None, has_begun: bool) -> None:
    if update.action == "CANCEL":
        return _check_cancellable(update, current, "an INVOKE")
    _check_new(update, current)
    if update.target is None:
        raise invalid("Update for CHAINED_INVOKE operation requires ChainedInvokeOptions.")
    return None


def _check_new(update: Update, current: Operation | None) -> None:
    if current is not None:
        what = "an INVOKE" if update.type == "CHAINED_INVOKE" else f"a {update.type}"
        raise invalid(f"Cannot start {what} that already exist.")


def _check_cancellable(update: Update, current: Operation | None, what: str) -> None:
    if current is None or current.has_ended:
        raise invalid(f"Cannot cancel {what} that does not exist or has already completed.")


_RULES: Mapping[str, Callable[[Update, Operation | None, bool], None]] = {
    EXECUTION: _execution,
    CONTEXT: _context,
    "STEP": _step,
    "WAIT": _wait,
    "CALLBACK": _callback,
    "CHAINED_INVOKE": _chained,
}
