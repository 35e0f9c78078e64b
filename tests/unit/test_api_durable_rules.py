"""Rules of durable executions that stand beside the table of refusals (lambda.md §13.1)."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest
from test_api_durable import BASE, FIRST, KEY, Acting, acting, path, update, world
from test_api_world import failure, refusal

from rie.errors import ServiceError
from rie.model.durable import Fault

__all__ = ["acting", "world"]  # fixtures


def operation(acting: Acting, name: str) -> dict[str, Any]:
    """As the function sees it."""
    token = quote(acting.token, safe="")
    assert acting.begun is not None
    answer = acting.world.call("GET", f"{path(acting.begun.execution)}/state?CheckpointToken={token}").json
    (found,) = [each for each in answer["Operations"] if each["Id"] == name]
    return dict(found)


def events(acting: Acting, kind: str) -> list[dict[str, Any]]:
    assert acting.begun is not None
    answer = acting.world.call("GET", f"{path(acting.begun.execution)}/history?IncludeExecutionData=true").json
    return [each[f"{kind}Details"] for each in answer["Events"] if each["EventType"] == kind]


def test_a_name_that_has_ended_is_not_used_for_another_payload(acting: Acting) -> None:
    first = acting.start()
    acting.run(first)
    acting.answer("FAILED", error=Fault("no"))
    assert acting.start().execution_id == first.execution_id
    with pytest.raises(ServiceError, match="and another payload exists already"):
        acting.start(payload="2")


def test_a_step_and_a_context_may_begin_and_end_in_one_batch_and_hold_what_begins_in_it(acting: Acting) -> None:
    acting.run(acting.start())
    acting.operations(
        update("CONTEXT", name="outer"),
        update("STEP", name="inner", ParentId="outer"),
        update("STEP", "SUCCEED", "inner", ParentId="outer", Payload="1"),
        update("CONTEXT", "SUCCEED", "outer", Payload="2"),
    )
    assert operation(acting, "outer")["ContextDetails"] == {"Result": "2"}
    assert events(acting, "StepSucceeded") == [
        {"Result": {"Payload": "1", "Truncated": False}, "RetryDetails": {"CurrentAttempt": 1}}
    ]


def test_one_end_in_a_batch_is_enough(acting: Acting) -> None:
    acting.run(acting.start())
    retry = update("STEP", "RETRY", StepOptions={"NextAttemptDelaySeconds": 1})
    answer = acting.checkpoint(update("STEP"), retry, update("STEP", "SUCCEED"))
    assert refusal(answer) == "Cannot checkpoint multiple operations with the same ID."


def test_a_step_is_pending_then_ready_then_begun_and_counts_its_attempts(acting: Acting) -> None:
    acting.run(acting.start())
    retry = update("STEP", "RETRY", StepOptions={"NextAttemptDelaySeconds": 7}, Error={"ErrorMessage": "once"})
    acting.operations(update("STEP"), retry)
    pending = operation(acting, "a")
    assert (pending["Status"], pending["StepDetails"]["Attempt"]) == ("PENDING", 1)
    assert pending["StepDetails"]["NextAttemptTimestamp"] == pending["StartTimestamp"] + 7
    (failed,) = events(acting, "StepFailed")
    assert failed["RetryDetails"] == {"CurrentAttempt": 1, "NextAttemptDelaySeconds": 7}
    assert refusal(acting.checkpoint(update("STEP"))) == "Invalid current STEP state to start."
    assert refusal(acting.checkpoint(update("STEP", "SUCCEED"))) == "Invalid current STEP state to close."
    assert refusal(acting.checkpoint(retry)) == "Invalid current STEP state to re-attempt."
    acting.world.clock.advance(7)
    (ready,) = acting.operations()
    assert (ready["Status"], "NextAttemptTimestamp" in ready["StepDetails"]) == ("READY", False)
    acting.operations(update("STEP"), update("STEP", "FAIL", Error={"ErrorType": "Twice"}))
    ended = operation(acting, "a")
    assert (ended["Status"], ended["StepDetails"]["Attempt"]) == ("FAILED", 2)
    assert ended["StepDetails"]["Error"] == {"ErrorType": "Twice"}


def test_waits_and_calls_are_cancelled_and_what_comes_of_them_is_nobodys(acting: Acting) -> None:
    execution = acting.start()
    acting.run(execution)
    acting.operations(*FIRST)
    acting.operations(update("WAIT", "CANCEL", "wait"), update("CHAINED_INVOKE", "CANCEL", "invoke"))
    assert [operation(acting, name)["Status"] for name in ("wait", "invoke")] == ["CANCELLED", "CANCELLED"]
    assert events(acting, "WaitCancelled") == [{}]
    acting.world.clock.advance(60)
    acting.world.durable.chained_ended(execution.execution_id, "invoke", "SUCCEEDED", "1", None)
    acting.world.durable.tick(execution.execution_id)
    assert [operation(acting, name)["Status"] for name in ("wait", "invoke")] == ["CANCELLED", "CANCELLED"]


def test_a_result_that_was_checkpointed_is_the_result(acting: Acting) -> None:
    """So the SDK hands over results of more than 6 MB; what its handler answers after that is empty."""
    execution = acting.start()
    acting.run(execution)
    ended = acting.checkpoint(update("EXECUTION", "SUCCEED", execution.execution_id, Payload='"large"'))
    assert ended.status_code == 200
    acting.answer("SUCCEEDED", result="")
    shown = acting.world.call("GET", path(execution)).json
    assert (shown["Status"], shown["Result"]) == ("SUCCEEDED", '"large"')


def test_tokens_are_of_the_alphabet_and_the_length_that_the_model_has(acting: Acting) -> None:
    acting.run(acting.start("n" * 64))
    assert re.fullmatch(r"[A-Za-z0-9+/]{1,2046}={0,2}", acting.token)


def test_a_page_of_history_has_a_hundred_events_unless_asked_otherwise(acting: Acting) -> None:
    execution = acting.start()
    acting.run(execution)
    acting.operations(*(update("STEP", name=f"s{number}") for number in range(101)))
    first = acting.world.call("GET", f"{path(execution)}/history").json
    assert [each["EventId"] for each in first["Events"]] == list(range(1, 101))
    rest = acting.world.call("GET", f"{path(execution)}/history?Marker={first['NextMarker']}").json
    assert ([each["EventId"] for each in rest["Events"]], "NextMarker" in rest) == ([101, 102], False)


def resolve(acting: Acting, callback_id: str, verb: str, body: bytes | None = None) -> Any:
    return acting.world.call("POST", f"{BASE}/durable-execution-callbacks/{quote(callback_id, safe='')}/{verb}", body)


def test_a_callback_takes_a_quarter_of_a_megabyte_and_a_failure_without_words(acting: Acting) -> None:
    acting.run(acting.start())
    acting.operations(update("CALLBACK", name="a"), update("CALLBACK", name="b"))
    one, other = (operation(acting, name)["CallbackDetails"]["CallbackId"] for name in "ab")
    assert resolve(acting, one, "succeed", b"x" * 262_145).status_code in (400, 413)
    assert resolve(acting, one, "succeed", b"x" * 262_144).status_code == 200
    assert resolve(acting, other, "fail").status_code == 200
    assert [operation(acting, name)["Status"] for name in "ab"] == ["SUCCEEDED", "FAILED"]
    for verb in ("succeed", "fail", "heartbeat"):
        assert failure(resolve(acting, one, verb))[:2] == (400, "CallbackTimeoutException")


def test_what_a_deleted_version_ran_is_stopped_and_other_versions_run_on(acting: Acting) -> None:
    execution = acting.start()
    acting.world.durable.forget(KEY, "1")
    assert acting.world.call("GET", path(execution)).json["Status"] == "RUNNING"
    acting.world.durable.forget(KEY, "$LATEST")
    shown = acting.world.call("GET", path(execution)).json
    assert (shown["Status"], shown["Error"]["ErrorType"]) == ("STOPPED", "FunctionDeleted")
