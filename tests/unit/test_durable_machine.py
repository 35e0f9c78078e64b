"""Durable executions as a pure machine: what is left to its own tests by those over the API."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rie.durable import tokens, transitions
from rie.durable.draft import State
from rie.durable.handler_event import MAX_PAGE, handler_event, read_answer
from rie.durable.transitions import Answer, Run
from rie.errors import ServiceError
from rie.model.durable import Execution, Fault, Update
from rie.model.function import FunctionKey
from rie.model.invocation import Outcome

KEY = FunctionKey("123456789012", "us-east-1", "f")
PROBLEM = Answer(problem=Fault("broken", "Unhandled"))
WAIT = Update("w", "WAIT", "START", wait_s=5)


def running(*updates: Update) -> State:
    """An execution whose function runs, and has checkpointed this at 100."""
    state = transitions.started(Execution("x", KEY, "1", "n", "{}", 100.0, 60, 30)).state
    state = transitions.begun(state, "inv-1")
    return checkpoint(state, *updates) if updates else state


def checkpoint(state: State, *updates: Update, now: float = 100.0) -> State:
    token = tokens.token_of(state.execution)
    done = transitions.checkpointed(state, token, None, updates, now, lambda: "nonce")
    assert done.change is not None
    return done.change.state


def ended(state: State, answer: Answer, now: float = 100.0) -> State:
    return transitions.answered(state, Run("r", 99.0, answer), now).state


def test_a_new_execution_wants_an_invocation_and_one_that_waits_does_not() -> None:
    assert transitions.started(running().execution).state.due_at() == 160.0
    waiting = ended(running(WAIT), Answer("PENDING"))
    assert not waiting.wants_invocation()
    assert waiting.due_at() == 105.0
    assert transitions.passed(waiting, 105.0).state.wants_invocation()


def test_what_ends_while_the_function_runs_has_it_run_once_more() -> None:
    state = transitions.passed(running(WAIT), 105.0).state
    assert not state.wants_invocation()
    assert ended(state, Answer("PENDING"), 106.0).wants_invocation()


def test_what_a_checkpoint_has_told_already_does_not() -> None:
    state = checkpoint(running(WAIT, Update("c", "CALLBACK", "START")), now=105.0)
    assert state.operations["w"].status == "SUCCEEDED"
    assert not ended(state, Answer("PENDING"), 106.0).wants_invocation()


def test_failed_invocations_are_tried_again_and_a_clean_one_forgives_them() -> None:
    state = running(WAIT)
    for number in range(4):
        state = ended(state, PROBLEM, 100.0)
        assert (state.execution.failures, state.execution.retry_at) == (number + 1, 105.0)
        assert not state.wants_invocation()
        state = transitions.begun(transitions.passed(state, 105.0).state, f"inv-{number + 2}")
    forgiven = ended(state, Answer("SUCCEEDED", result="1"))
    assert (forgiven.execution.status, forgiven.execution.result) == ("SUCCEEDED", "1")
    failed = ended(state, PROBLEM)
    assert (failed.execution.status, failed.execution.error) == ("FAILED", PROBLEM.problem)


def test_what_could_not_be_run_counts_for_nothing() -> None:
    state = transitions.postponed(running(), 100.0, 1.0).state
    assert (state.execution.failures, state.execution.retry_at) == (0, 101.0)
    assert transitions.passed(state, 101.0).state.wants_invocation()


def test_an_execution_whose_process_died_runs_again() -> None:
    state = transitions.resumed(running(WAIT))
    assert state.wants_invocation()
    assert transitions.resumed(ended(running(WAIT), Answer("PENDING"))) == ended(running(WAIT), Answer("PENDING"))


def test_a_step_is_ready_when_its_delay_is_over() -> None:
    retry = Update("s", "STEP", "RETRY", delay_s=3, error=Fault("no"))
    state = ended(running(Update("s", "STEP", "START"), retry), Answer("PENDING"))
    step = state.operations["s"]
    assert (step.status, step.attempt, step.due_at) == ("PENDING", 1, 103.0)
    ready = transitions.passed(state, 103.0).state
    assert ready.operations["s"].status == "READY"
    after = checkpoint(transitions.begun(ready, "inv-2"), Update("s", "STEP", "SUCCEED", payload="1"))
    assert (after.operations["s"].status, after.operations["s"].attempt) == ("SUCCEEDED", 2)


def test_an_answer_after_the_end_changes_nothing() -> None:
    state = checkpoint(running(), Update("x", "EXECUTION", "SUCCEED", payload='"big"'))
    assert ended(state, Answer("SUCCEEDED", result="")).execution.result == '"big"'


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer("SUCCEEDED", error=Fault()), "Cannot provide an Error for SUCCEEDED status."),
        (Answer("FAILED", result="1"), "Cannot provide a Result for FAILED status."),
        (Answer("PENDING"), "Cannot return PENDING status with no pending operations."),
    ],
)
def test_answers_that_break_a_rule_count_as_failures(answer: Answer, text: str) -> None:
    change = transitions.answered(running(), Run("r", 99.0, answer), 100.0)
    assert change.state.execution.failures == 1
    assert json.loads(change.events[0].details)["Error"]["Payload"]["ErrorMessage"] == text


@pytest.mark.parametrize("said", [b"null", b"{}", b"not json", b'{"Status": "DONE"}', b'{"Status":"FAILED","Error":1}'])
def test_what_is_no_answer_is_a_problem(said: bytes) -> None:
    problem = read_answer(Outcome(said, "1")).problem
    assert problem is not None
    assert problem.type == "InvalidParameterValueException"


def test_a_foreign_token_is_refused() -> None:
    state = running()
    foreign = tokens.token_of(replace(state.execution, invocation_id="other"))
    with pytest.raises(ServiceError, match="Invalid checkpoint token"):
        transitions.checkpointed(state, foreign, None, (), 100.0, lambda: "nonce")


def test_a_state_that_is_too_large_for_an_event_is_paged() -> None:
    half = "x" * (MAX_PAGE // 2)
    steps = [Update(f"s{number}", "STEP", "SUCCEED", payload=half) for number in range(3)]
    event = json.loads(handler_event(running(*steps), ()))
    state = event["InitialExecutionState"]
    assert ([each["Id"] for each in state["Operations"]], state["NextMarker"]) == (["x", "s0"], "2")
