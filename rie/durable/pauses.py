"""Executions that are held and let go again: their functions don't run, what they wait for goes on happening."""

from __future__ import annotations

from dataclasses import replace

from rie.durable.draft import Change, Draft, State
from rie.errors import ServiceError
from rie.model.durable import PAUSED, PAUSING, RUNNING, Control, Execution, Pause

REPEAT_S = 900.0  # for which a request with the same client token is the same request
MAX_CONTROLS = 16  # that are remembered


def paused(state: State, control: Control, pause: Pause) -> Change | None:
    """Somebody wants it held; at once, or when the invocation that runs comes to its next checkpoint.

    None for a request that has been made before. Raises ResourceConflictException for one that is held or has ended.
    """
    if _is_known(state.execution, control):
        return None
    if state.execution.status != RUNNING:
        raise _conflict(state.execution, "paused")
    draft = Draft(state, control.at)
    draft.set(status=PAUSING, pause=pause, controls=_remembered(state.execution, control))
    settle(draft)
    return draft.change()


def resumed(state: State, control: Control, reason: str | None) -> Change | None:
    """It goes on; of one that was still to be held, the invocation does.

    None for a request that has been made before. Raises ResourceConflictException for one that is not held.
    """
    execution = state.execution
    if _is_known(execution, control):
        return None
    if execution.pause is None or execution.status not in (PAUSING, PAUSED):
        raise _conflict(execution, "resumed")
    draft = Draft(state, control.at)
    began_at = execution.pause.began_at
    held_s = control.at - began_at if began_at is not None and execution.pause.stops_timeout else 0.0
    draft.set(
        status=RUNNING,
        pause=None,
        paused_s=execution.paused_s + held_s,
        controls=_remembered(execution, control),
    )
    if began_at is not None:
        told = {} if reason is None else {"Reason": {"Payload": reason}}
        draft.tell("ExecutionResumed", {"ResumeRequestTimestamp": control.at, **told})
    return draft.change()


def settle(draft: Draft) -> None:
    """An execution that was to be held is, once no invocation of it runs."""
    execution, pause = draft.execution, draft.execution.pause
    if execution.status != PAUSING or pause is None or execution.invocation_id:
        return
    draft.set(status=PAUSED, pause=replace(pause, began_at=draft.now))
    told = {} if pause.reason is None else {"Reason": {"Payload": pause.reason}}
    details = {"PauseRequestTimestamp": pause.asked_at, "ExecutionTimeoutPaused": pause.stops_timeout}
    draft.tell("ExecutionPaused", {**details, **told})


def interrupt(draft: Draft) -> None:
    """The invocation of one that is to be held has come to a checkpoint: it ends here, and is run again afterwards."""
    if draft.execution.status == PAUSING:
        draft.set(invocation_id="", seen=0)
        settle(draft)


def settled(state: State, now: float) -> Change | None:
    """As `settle`, for a state whose invocation died with its process; None where nothing changes."""
    if state.execution.status != PAUSING or state.execution.invocation_id:
        return None
    draft = Draft(state, now)
    settle(draft)
    return draft.change()


def _is_known(execution: Execution, control: Control) -> bool:
    return any(
        (each.verb, each.client_token) == (control.verb, control.client_token) and control.at - each.at <= REPEAT_S
        for each in execution.controls
    )


def _remembered(execution: Execution, control: Control) -> tuple[Control, ...]:
    return (*execution.controls, control)[-MAX_CONTROLS:] if control.client_token else execution.controls


def _conflict(execution: Execution, what: str) -> ServiceError:
    return ServiceError(
        "ResourceConflictException",
        f"The durable execution {execution.arn} has the status {execution.status} and can't be {what}.",
    )
