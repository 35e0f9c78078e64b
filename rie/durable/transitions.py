"""What happens to executions: they start, their functions checkpoint, time passes, others resolve, they end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rie.durable import pauses, tokens
from rie.durable.draft import Change, Draft, State, fault_view
from rie.durable.updates import check, invalid
from rie.model.durable import CONTEXT, EXECUTION, Execution, Fault, Operation, Replay, Update

MAX_FAILURES = 5  # invocations that fail one after the other, then the execution fails
RETRY_S = 5.0  # between them
REPLAY_S = 900.0  # for which a checkpoint is answered again
_CALLBACK = "Callback.Timeout"
_HEARTBEAT = "Callback.Heartbeat"
_CLOSED = {
    "SUCCEEDED": "ExecutionSucceeded",
    "FAILED": "ExecutionFailed",
    "TIMED_OUT": "ExecutionTimedOut",
    "STOPPED": "ExecutionStopped",
}
_CHAINED = {
    "SUCCEEDED": "ChainedInvokeSucceeded",
    "FAILED": "ChainedInvokeFailed",
    "TIMED_OUT": "ChainedInvokeTimedOut",
    "STOPPED": "ChainedInvokeStopped",
}


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """What CheckpointDurableExecution answers, and what is to be written; no change for a repeated call."""

    token: str
    operations: tuple[Operation, ...]
    change: Change | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler answered: its Status, with a Result or an Error; or `problem`, why this was no answer."""

    status: str = ""
    result: str | None = None
    error: Fault | None = None
    problem: Fault | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One invocation that has ended."""

    request_id: str
    started_at: float
    answer: Answer


def started(execution: Execution) -> Change:
    """A new execution, with the operation that stands for it."""
    draft = Draft(State(execution, {}), execution.started_at)
    operation = Operation(
        operation_id=execution.execution_id,
        type=EXECUTION,
        status="STARTED",
        started_at=execution.started_at,
        touched=0,
        payload=execution.payload,
        name=execution.name,
    )
    draft.put(operation)
    draft.tell(
        "ExecutionStarted",
        {"Input": {"Payload": execution.payload}, "ExecutionTimeout": execution.timeout_s},
        operation,
    )
    return draft.change()


def begun(state: State, invocation_id: str) -> State:
    """The function is about to run, with everything that there is. Not written: who reads it again, runs it again."""
    execution = state.execution
    draft = Draft(state, execution.started_at)
    draft.set(invocation_id=invocation_id, sequence=execution.sequence + 1, seen=execution.touched)
    return draft.state


def resumed(state: State) -> State:
    """As it goes on in another process than the one that ran its function."""
    if not state.execution.invocation_id:
        return state
    draft = Draft(state, state.execution.started_at)
    draft.set(invocation_id="", seen=0)
    return draft.state


def checkpointed(
    state: State,
    token: str,
    client_token: str | None,
    updates: Sequence[Update],
    now: float,
    new_nonce: Callable[[], str],
) -> Checkpointed:
    """Apply a checkpoint, whole or not at all. Raises ServiceError."""
    newest = state.execution.newest
    asked = (client_token, token)
    if client_token and newest and (newest.client_token, newest.token) == asked and now - newest.at <= REPLAY_S:
        again = tuple(state.operations[each] for each in newest.operation_ids)
        return Checkpointed(newest.next_token, again, None)
    check_token(state.execution, token)
    check(updates, state)
    draft = Draft(state, now)
    for update in updates:
        _apply(draft, update, new_nonce)
    _pass(draft)
    unseen = tuple(draft.state.unseen())
    draft.set(seen=draft.execution.touched, sequence=draft.execution.sequence + 1)
    next_token = tokens.token_of(draft.execution)
    ids = tuple(each.operation_id for each in unseen)
    draft.set(newest=Replay(client_token or "", token, next_token, ids, now))
    pauses.interrupt(draft)
    return Checkpointed(next_token, unseen, draft.change())


def check_token(execution: Execution, token: str) -> None:
    """Raises ServiceError for all but the newest token of the invocation that runs."""
    if execution.is_closed or not execution.invocation_id or token != tokens.token_of(execution):
        raise invalid("Invalid checkpoint token")


def answered(state: State, run: Run, now: float, retry_s: float = RETRY_S) -> Change:
    """An invocation has ended: the execution does so too, waits, or is tried again."""
    draft = Draft(state, now)
    draft.set(invocation_id="")
    answer = _checked(draft, run.answer)
    details = {"StartTimestamp": run.started_at, "EndTimestamp": now, "RequestId": run.request_id}
    problem = answer.problem
    draft.tell(
        "InvocationCompleted", details if problem is None else {**details, "Error": {"Payload": fault_view(problem)}}
    )
    execution = draft.execution
    if execution.is_closed:
        return draft.change()
    if problem is not None:
        draft.set(failures=execution.failures + 1, retry_at=now + retry_s, seen=0)
        if draft.execution.failures >= MAX_FAILURES:
            _close(draft, "FAILED", error=problem)
    elif answer.status == "PENDING":
        unseen = tuple(each for each in execution.updated if draft.operations[each].touched > execution.seen)
        draft.set(failures=0, updated=unseen)
        _pass(draft)
    else:
        _close(draft, answer.status, result=answer.result, error=answer.error)
    pauses.settle(draft)
    return draft.change()


def postponed(state: State, now: float, delay_s: float) -> Change:
    """The function could not be run: nobody's fault, and not counted."""
    draft = Draft(state, now)
    draft.set(invocation_id="", retry_at=now + delay_s, seen=0)
    pauses.settle(draft)
    return draft.change()


def passed(state: State, now: float) -> Change:
    """All that is due by now has happened."""
    draft = Draft(state, now)
    if not draft.execution.is_closed:
        _pass(draft)
    return draft.change()


def callback_resolved(
    state: State, operation: Operation, result: str | None, error: Fault | None, now: float
) -> Change:
    """Somebody has answered a callback, with a result or an error."""
    draft = Draft(state, now)
    if error is None:
        after = draft.end(operation, "SUCCEEDED", result=result)
        draft.tell("CallbackSucceeded", {"Result": _payload(result)}, after)
    else:
        after = draft.end(operation, "FAILED", error=error)
        draft.tell("CallbackFailed", {"Error": _payload(fault_view(error))}, after)
    return draft.change()


def callback_alive(state: State, operation: Operation, now: float) -> Change:
    """Somebody still works on a callback. No news for the function."""
    draft = Draft(state, now)
    draft.put(operation, is_news=False, heartbeat_at=now + operation.heartbeat_s if operation.heartbeat_s else None)
    return draft.change()


def chained_ended(
    state: State, operation: Operation, status: str, result: str | None, error: Fault | None, now: float
) -> Change:
    """What an operation called has ended."""
    draft = Draft(state, now)
    after = draft.end(operation, status, result=result, error=error)
    body = {"Result": _payload(result)} if status == "SUCCEEDED" else {"Error": _payload(fault_view(error))}
    draft.tell(_CHAINED[status], body, after)
    return draft.change()


def stopped(state: State, error: Fault | None, now: float) -> Change:
    """Somebody has had enough of it."""
    draft = Draft(state, now)
    _close(draft, "STOPPED", error=error)
    return draft.change()


def _checked(draft: Draft, answer: Answer) -> Answer:
    """The answer; of one that breaks a rule, which (lambda.md §13.1)."""
    execution = draft.execution
    message = ""
    if answer.problem is not None or execution.is_closed:
        return answer
    if answer.status == "SUCCEEDED" and answer.error is not None:
        message = "Cannot provide an Error for SUCCEEDED status."
    elif answer.status == "FAILED" and answer.result is not None:
        message = "Cannot provide a Result for FAILED status."
    elif answer.status == "PENDING" and not draft.state.outstanding() and execution.touched <= execution.seen:
        message = "Cannot return PENDING status with no pending operations."
    return Answer(problem=Fault(message, "InvalidParameterValueException")) if message else answer


def _close(draft: Draft, status: str, *, result: str | None = None, error: Fault | None = None) -> None:
    execution = draft.execution
    operation = draft.operations[execution.execution_id]
    draft.set(status=status, ended_at=draft.now, result=result, error=error, retry_at=None, pause=None)
    after = draft.end(operation, status, result=result, error=error)
    body = {"Result": _payload(result)} if status == "SUCCEEDED" else {"Error": _payload(fault_view(error))}
    draft.tell(_CLOSED[status], body, after)


def _pass(draft: Draft) -> None:
    execution, now = draft.execution, draft.now
    if execution.is_closed:
        return
    if execution.times_out_at <= now:
        _close(draft, "TIMED_OUT", error=Fault(f"Execution timed out after {execution.timeout_s} seconds."))
        return
    if execution.retry_at is not None and execution.retry_at <= now:
        draft.set(retry_at=None)
    for each in list(draft.operations.values()):
        if each.has_ended:
            continue
        if each.due_at is not None and each.due_at <= now:
            _due(draft, each)
        elif each.timeout_at is not None and each.timeout_at <= now:
            _give_up(draft, each, Fault("Callback timed out", _CALLBACK))
        elif each.heartbeat_at is not None and each.heartbeat_at <= now:
            _give_up(draft, each, Fault("Callback timed out on heartbeat", _HEARTBEAT))


def _due(draft: Draft, operation: Operation) -> None:
    if operation.type == "WAIT":
        after = draft.end(operation, "SUCCEEDED")
        assert operation.due_at is not None
        draft.tell("WaitSucceeded", {"Duration": round(operation.due_at - operation.started_at)}, after)
    elif operation.status == "PENDING":
        draft.put(operation, status="READY", due_at=None)


def _give_up(draft: Draft, operation: Operation, error: Fault) -> None:
    after = draft.end(operation, "TIMED_OUT", error=error)
    draft.tell("CallbackTimedOut", {"Error": _payload(fault_view(error))}, after)


def _apply(draft: Draft, update: Update, new_nonce: Callable[[], str]) -> None:
    if update.type == EXECUTION:
        status = "SUCCEEDED" if update.action == "SUCCEED" else "FAILED"
        return _close(draft, status, result=update.payload, error=update.error)
    current = draft.operations.get(update.operation_id) or Operation(
        operation_id=update.operation_id,
        type=update.type,
        status="STARTED",
        started_at=draft.now,
        touched=0,
        parent_id=update.parent_id,
        name=update.name,
        sub_type=update.sub_type,
    )
    if update.type == CONTEXT:
        return _apply_context(draft, update, current)
    if update.type == "STEP":
        return _apply_step(draft, update, current)
    if update.action == "CANCEL":
        after = draft.put(current, status="CANCELLED", ended_at=draft.now)
        if update.type == "WAIT":
            draft.tell("WaitCancelled", {}, after)
        return None
    if update.type == "WAIT":
        due_at = draft.now + (update.wait_s or 0)
        after = draft.put(current, due_at=due_at)
        draft.tell("WaitStarted", {"Duration": update.wait_s, "ScheduledEndTimestamp": due_at}, after)
        return None
    return _apply_outside(draft, update, current, new_nonce)


def _apply_context(draft: Draft, update: Update, current: Operation) -> None:
    if update.action == "START":
        return draft.tell("ContextStarted", {}, draft.put(current))
    status = "SUCCEEDED" if update.action == "SUCCEED" else "FAILED"
    after = draft.put(
        current,
        status=status,
        ended_at=draft.now,
        result=update.payload,
        error=update.error,
        replays_children=update.replays_children,
    )
    return draft.tell(*_ended("Context", update), after)


def _apply_step(draft: Draft, update: Update, current: Operation) -> None:
    if update.action == "START":
        return draft.tell("StepStarted", {}, draft.put(current, status="STARTED", due_at=None))
    attempt = current.attempt + 1
    retry: dict[str, object] = {"CurrentAttempt": attempt}
    if update.action == "RETRY":
        delay_s = update.delay_s or 0
        after = draft.put(
            current,
            status="PENDING",
            attempt=attempt,
            due_at=draft.now + delay_s,
            result=update.payload,
            error=update.error,
        )
        retry["NextAttemptDelaySeconds"] = delay_s
        return draft.tell("StepFailed", {"Error": _payload(fault_view(update.error)), "RetryDetails": retry}, after)
    status = "SUCCEEDED" if update.action == "SUCCEED" else "FAILED"
    after = draft.put(
        current,
        status=status,
        ended_at=draft.now,
        attempt=attempt,
        due_at=None,
        result=update.payload,
        error=update.error,
    )
    kind, details = _ended("Step", update)
    return draft.tell(kind, {**details, "RetryDetails": retry}, after)


def _apply_outside(draft: Draft, update: Update, current: Operation, new_nonce: Callable[[], str]) -> None:
    """What somebody else is to end: a callback, or another function."""
    if update.type == "CALLBACK":
        callback_id = tokens.callback_id(draft.execution, update.operation_id, new_nonce())
        after = draft.put(
            current,
            callback_id=callback_id,
            timeout_at=draft.now + update.timeout_s if update.timeout_s else None,
            heartbeat_s=update.heartbeat_s,
            heartbeat_at=draft.now + update.heartbeat_s if update.heartbeat_s else None,
        )
        limits = {"HeartbeatTimeout": update.heartbeat_s, "Timeout": update.timeout_s}
        return draft.tell("CallbackStarted", {"CallbackId": callback_id, **limits}, after)
    after = draft.put(current, payload=update.payload, target=update.target, tenant_id=update.tenant_id)
    details: dict[str, object] = {"FunctionName": update.target, "Input": _payload(update.payload)}
    if update.tenant_id:
        details["TenantId"] = update.tenant_id
    return draft.tell("ChainedInvokeStarted", details, after)


def _ended(what: str, update: Update) -> tuple[str, dict[str, object]]:
    if update.action == "SUCCEED":
        return f"{what}Succeeded", {"Result": _payload(update.payload)}
    return f"{what}Failed", {"Error": _payload(fault_view(update.error))}


def _payload(content: object) -> dict[str, object]:
    return {} if content is None else {"Payload": content}
