"""PauseDurableExecution, ResumeDurableExecution, DeleteDurableExecution (lambda.md §13.1)."""

from __future__ import annotations

from typing import Any

import pytest
from test_api_durable import Acting, acting, path, update, world
from test_api_world import failure
from werkzeug.test import TestResponse

from rie.functions.durable import DurableExecutions
from rie.model.durable import LONGEST_S, Execution

__all__ = ["acting", "world"]  # fixtures


def pause(acting: Acting, execution: Execution, **members: Any) -> TestResponse:
    return acting.world.call("POST", f"{path(execution)}/pause", members)


def resume(acting: Acting, execution: Execution, **members: Any) -> TestResponse:
    return acting.world.call("POST", f"{path(execution)}/resume", members)


def shown(acting: Acting, execution: Execution, query: str = "") -> dict[str, Any]:
    return dict(acting.world.call("GET", f"{path(execution)}{query}").json)


def wants_invocation(acting: Acting, execution: Execution) -> bool:
    return acting.world.plans[execution.execution_id].wants_invocation


def history(acting: Acting, execution: Execution) -> list[dict[str, Any]]:
    answer = acting.world.call("GET", f"{path(execution)}/history?IncludeExecutionData=true")
    return [each for each in answer.json["Events"] if each["EventType"] in ("ExecutionPaused", "ExecutionResumed")]


def test_what_waits_is_held_at_once_and_what_it_waits_for_happens_meanwhile(acting: Acting) -> None:
    execution = acting.start()
    acting.run(execution)
    acting.operations(update("WAIT", WaitOptions={"WaitSeconds": 10}))
    acting.answer("PENDING")
    assert pause(acting, execution, Reason="lunch").status_code == 202
    assert shown(acting, execution)["Status"] == "PAUSED"
    acting.world.clock.advance(11)
    acting.world.durable.tick(execution.execution_id)
    assert not wants_invocation(acting, execution)
    assert acting.world.durable.begin(execution.execution_id) is None
    assert resume(acting, execution, Reason="back").status_code == 202
    assert (shown(acting, execution)["Status"], wants_invocation(acting, execution)) == ("RUNNING", True)
    assert acting.run(execution)["UpdatedOperationIds"] == ["a"]
    acting.answer("SUCCEEDED", result="1")
    began, ended = history(acting, execution)
    assert began["ExecutionPausedDetails"] == {
        "PauseRequestTimestamp": execution.started_at,
        "ExecutionTimeoutPaused": True,
        "Reason": {"Payload": "lunch", "Truncated": False},
    }
    assert ended["ExecutionResumedDetails"] == {
        "ResumeRequestTimestamp": execution.started_at + 11,
        "Reason": {"Payload": "back", "Truncated": False},
    }


def test_what_nothing_happened_to_goes_on_waiting(acting: Acting) -> None:
    execution = acting.start()
    acting.run(execution)
    acting.operations(update("WAIT", WaitOptions={"WaitSeconds": 100}))
    acting.answer("PENDING")
    pause(acting, execution)
    resume(acting, execution)
    assert not wants_invocation(acting, execution)


def test_an_invocation_is_held_at_its_next_checkpoint_and_is_run_again_afterwards(acting: Acting) -> None:
    execution = acting.start()
    acting.run(execution)
    pause(acting, execution)
    assert shown(acting, execution)["Status"] == "PAUSING"
    assert history(acting, execution) == []
    status, kind, body = failure(acting.checkpoint(update("STEP")))
    assert (status, kind, body["message"]) == (400, "InvalidParameterValueException", "Invalid checkpoint token")
    assert shown(acting, execution)["Status"] == "PAUSED"
    acting.answer("SUCCEEDED", result="1")  # nobody listens to it any more
    assert shown(acting, execution)["Status"] == "PAUSED"
    resume(acting, execution)
    operations = acting.run(execution)["InitialExecutionState"]["Operations"]
    assert [each["Id"] for each in operations] == [execution.execution_id, "a"], "what it had checkpointed is kept"


@pytest.mark.parametrize(
    ("status", "expected"), [("PENDING", "PAUSED"), ("SUCCEEDED", "SUCCEEDED"), ("FAILED", "FAILED")]
)
def test_an_invocation_that_ends_first_has_the_execution_held_or_ended(
    acting: Acting, status: str, expected: str
) -> None:
    execution = acting.start()
    acting.run(execution)
    acting.operations(update("CALLBACK"))
    pause(acting, execution)
    acting.answer(status)
    found = shown(acting, execution)
    assert found["Status"] == expected
    assert ("PauseDetails" in found) == (expected == "PAUSED")


def test_what_was_to_be_held_may_go_on(acting: Acting) -> None:
    execution = acting.start()
    acting.run(execution)
    pause(acting, execution)
    assert resume(acting, execution).status_code == 202
    assert acting.checkpoint(update("STEP")).status_code == 200
    assert history(acting, execution) == [], "it never was held"


def test_the_time_that_it_is_held_for_is_not_counted_unless_asked_otherwise(acting: Acting) -> None:
    held, counted = acting.start("held"), acting.start("counted")
    pause(acting, held)
    pause(acting, counted, ExecutionTimeoutPaused=False)
    assert shown(acting, held)["ExpectedExecutionTimeoutTimestamp"] == held.started_at + LONGEST_S
    assert shown(acting, counted)["ExpectedExecutionTimeoutTimestamp"] == counted.started_at + 600
    acting.world.clock.advance(700)
    for execution in (held, counted):
        acting.world.durable.tick(execution.execution_id)
    assert [shown(acting, each)["Status"] for each in (held, counted)] == ["PAUSED", "TIMED_OUT"]
    resume(acting, held)
    assert shown(acting, held)["ExpectedExecutionTimeoutTimestamp"] == held.started_at + 1_300
    acting.world.clock.advance(601)
    acting.world.durable.tick(held.execution_id)
    assert shown(acting, held)["Status"] == "TIMED_OUT"
    assert "ExpectedExecutionTimeoutTimestamp" not in shown(acting, held)


def test_nothing_is_held_longer_than_366_days(acting: Acting) -> None:
    execution = acting.start()
    pause(acting, execution)
    acting.world.clock.advance(LONGEST_S + 1)
    acting.world.durable.tick(execution.execution_id)
    assert shown(acting, execution)["Status"] == "TIMED_OUT"


def test_the_reason_is_shown_with_the_data(acting: Acting) -> None:
    execution = acting.start()
    pause(acting, execution, Reason="why not")
    details = {"PauseRequestTimestamp": execution.started_at, "ExecutionTimeoutPaused": True}
    assert shown(acting, execution)["PauseDetails"] == {**details, "Reason": "why not"}
    assert shown(acting, execution, "?IncludeExecutionData=false")["PauseDetails"] == details


def test_a_request_is_repeated_by_its_token_for_a_quarter_of_an_hour(acting: Acting) -> None:
    execution = acting.start()
    assert pause(acting, execution, ClientToken="t").status_code == 202
    assert pause(acting, execution, ClientToken="t").status_code == 202
    assert failure(pause(acting, execution, ClientToken="u"))[:2] == (409, "ResourceConflictException")
    assert resume(acting, execution, ClientToken="t").status_code == 202
    assert resume(acting, execution, ClientToken="t").status_code == 202
    assert pause(acting, execution, ClientToken="t").status_code == 202, "the first one came late once more"
    assert shown(acting, execution)["Status"] == "RUNNING"
    assert failure(resume(acting, execution))[:2] == (409, "ResourceConflictException")
    assert pause(acting, execution, ClientToken="v").status_code == 202
    assert resume(acting, execution, ClientToken="t").status_code == 202
    assert shown(acting, execution)["Status"] == "PAUSED", "that was the first one again"
    acting.world.clock.advance(901)
    assert resume(acting, execution, ClientToken="t").status_code == 202
    assert shown(acting, execution)["Status"] == "RUNNING"


def test_what_has_ended_is_neither_held_nor_let_go(acting: Acting) -> None:
    execution = acting.start()
    pause(acting, execution)
    acting.world.call("POST", f"{path(execution)}/stop")
    assert shown(acting, execution)["Status"] == "STOPPED"
    for request in (pause, resume):
        assert failure(request(acting, execution))[:2] == (409, "ResourceConflictException")


def test_what_was_held_is_held_in_the_next_process(acting: Acting) -> None:
    waiting, running = acting.start("waiting"), acting.start("running")
    pause(acting, waiting)
    acting.run(running)
    pause(acting, running)
    world = acting.world
    world.plans.clear()
    book = DurableExecutions(world.store.durable, world.clock, lambda plan: world.on_plan(plan))
    book.open()
    assert [book.get(each.arn).status for each in (waiting, running)] == ["PAUSED", "PAUSED"]
    assert not any(plan.wants_invocation for plan in world.plans.values())
    book.resume(running.arn, "", None)
    assert world.plans[running.execution_id].wants_invocation


def test_lists_find_what_is_held(acting: Acting) -> None:
    execution = acting.start()
    pause(acting, execution)
    listing = "/2025-12-01/functions/f/durable-executions?Statuses="
    assert len(acting.world.call("GET", f"{listing}PAUSED").json["DurableExecutions"]) == 1
    assert acting.world.call("GET", f"{listing}RUNNING").json["DurableExecutions"] == []


def test_what_has_ended_may_be_deleted_and_its_name_is_free(acting: Acting) -> None:
    execution = acting.start()
    assert failure(acting.world.call("DELETE", path(execution)))[:2] == (409, "ResourceConflictException")
    acting.run(execution)
    acting.answer("SUCCEEDED", result="1")
    answer = acting.world.call("DELETE", path(execution))
    assert (answer.status_code, answer.json) == (202, {"DeletionRequestTimestamp": execution.started_at})
    for request in (("GET", path(execution)), ("GET", f"{path(execution)}/history"), ("DELETE", path(execution))):
        assert failure(acting.world.call(*request))[:2] == (404, "ResourceNotFoundException")
    assert acting.start(payload="2").payload == "2"
