"""Durable executions over the API: configuration, the nine operations, and every text (lambda.md §13.1)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from test_api_world import ACCOUNT, ARN, FUNCTIONS, World, failure, refusal
from werkzeug.test import TestResponse

from rie.durable.transitions import Answer, Run
from rie.functions.durable import Begun
from rie.model.durable import Execution, Fault
from rie.model.function import FunctionKey

BASE = "/2025-12-01"
KEY = FunctionKey(ACCOUNT, "us-east-1", "f")
CONFIG = {"DurableConfig": {"ExecutionTimeout": 600, "RetentionPeriodInDays": 2}}


class Acting:
    """A durable function whose part the test plays."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.begun: Begun | None = None
        self.token = ""
        world.active(**CONFIG)

    def start(self, name: str = "order", payload: str = '{"n": 1}') -> Execution:
        now = self.world.clock.now().timestamp()
        number = len(self.world.plans)
        execution = Execution(f"id-{number}", KEY, "$LATEST", name, payload, now, 600, 2)
        return self.world.durable.start(execution)[0]

    def run(self, execution: Execution) -> dict[str, Any]:
        """The event that the handler gets."""
        self.begun = self.world.durable.begin(execution.execution_id)
        assert self.begun is not None
        event: dict[str, Any] = json.loads(self.begun.event)
        self.token = event["CheckpointToken"]
        return event

    def answer(self, status: str, **more: Any) -> None:
        assert self.begun is not None
        self.world.durable.end(self.begun, Run("r", 0.0, Answer(status, **more)), 5.0)

    def checkpoint(self, *updates: dict[str, Any], **more: Any) -> TestResponse:
        assert self.begun is not None
        body = {"CheckpointToken": self.token, "Updates": list(updates), **more}
        answer = self.world.call("POST", f"{path(self.begun.execution)}/checkpoint", body)
        if answer.status_code == 200 and "CheckpointToken" not in more:
            self.token = answer.json["CheckpointToken"]
        return answer

    def operations(self, *updates: dict[str, Any]) -> list[dict[str, Any]]:
        answer = self.checkpoint(*updates)
        assert answer.status_code == 200, answer.json
        found: list[dict[str, Any]] = answer.json["NewExecutionState"]["Operations"]
        return found


def path(execution: Execution) -> str:
    return f"{BASE}/durable-executions/{quote(execution.arn, safe='')}"


def update(kind: str, action: str = "START", name: str = "a", **more: Any) -> dict[str, Any]:
    return {"Id": name, "Type": kind, "Action": action, **more}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def acting(world: World) -> Acting:
    return Acting(world)


def test_a_durable_config_is_echoed_and_its_numbers_change(world: World) -> None:
    assert world.active(**CONFIG)["DurableConfig"] == CONFIG["DurableConfig"]
    assert world.configure(DurableConfig={"RetentionPeriodInDays": 9}).json["DurableConfig"] == {
        "ExecutionTimeout": 600,
        "RetentionPeriodInDays": 9,
    }


def test_the_retention_is_thirty_days_unless_given(world: World) -> None:
    shown = world.active(DurableConfig={"ExecutionTimeout": 5})
    assert shown["DurableConfig"] == {"ExecutionTimeout": 5, "RetentionPeriodInDays": 30}


def test_an_ordinary_function_does_not_become_durable(world: World) -> None:
    world.active()
    assert refusal(world.configure(DurableConfig={"ExecutionTimeout": 5})) == (
        "DurableConfig can only be set when a function is created; create a new one to make it durable."
    )
    assert "DurableConfig" not in world.call("GET", f"{FUNCTIONS}/f/configuration").json


def test_the_handler_gets_milliseconds_where_the_api_has_seconds(acting: Acting) -> None:
    execution = acting.start()
    event = acting.run(execution)
    (first,) = event["InitialExecutionState"]["Operations"]
    assert event["DurableExecutionArn"] == execution.arn == f"{ARN}f:$LATEST/durable-execution/order/id-0"
    assert first == {
        "Id": "id-0",
        "Name": "order",
        "Type": "EXECUTION",
        "StartTimestamp": int(execution.started_at * 1000),
        "Status": "STARTED",
        "ExecutionDetails": {"InputPayload": '{"n": 1}'},
    }
    shown = acting.world.call("GET", path(execution)).json
    assert shown == {
        "DurableExecutionArn": execution.arn,
        "DurableExecutionName": "order",
        "FunctionArn": f"{ARN}f:$LATEST",
        "InputPayload": '{"n": 1}',
        "StartTimestamp": execution.started_at,
        "Status": "RUNNING",
        "Version": "$LATEST",
        "DurableConfig": {"ExecutionTimeout": 600, "RetentionPeriodInDays": 2},
        "ExecutionDataIncluded": True,
        "ExpectedExecutionTimeoutTimestamp": execution.started_at + 600,
    }


def test_a_name_is_used_once(acting: Acting) -> None:
    first = acting.start()
    assert acting.start() == first
    with pytest.raises(Exception, match="DurableExecutionAlreadyStartedException"):
        acting.start(payload="2")
    acting.run(first)
    acting.answer("SUCCEEDED", result="7")
    assert acting.start().result == "7"
    acting.world.clock.advance(2 * 86_400 + 1)
    assert acting.start(payload="2").execution_id != first.execution_id


def test_tokens_are_good_for_one_call_of_the_running_invocation(acting: Acting) -> None:
    execution = acting.start()
    acting.run(execution)
    first = acting.token
    assert acting.checkpoint(update("STEP")).status_code == 200
    assert refusal(acting.checkpoint(update("STEP", "SUCCEED"), CheckpointToken=first)) == "Invalid checkpoint token"
    state = f"{path(execution)}/state"
    assert refusal(acting.world.call("GET", f"{state}?CheckpointToken={quote(first, safe='')}")) == (
        "Invalid checkpoint token"
    )
    found = acting.world.call("GET", f"{state}?MaxItems=1&CheckpointToken={quote(acting.token, safe='')}").json
    assert [each["Type"] for each in found["Operations"]] == ["EXECUTION"]
    more = f"{state}?CheckpointToken={quote(acting.token, safe='')}&Marker={found['NextMarker']}"
    assert [each["Type"] for each in acting.world.call("GET", more).json["Operations"]] == ["STEP"]
    acting.answer("SUCCEEDED", result="1")
    assert refusal(acting.checkpoint(update("STEP", "SUCCEED"))) == "Invalid checkpoint token"


def test_a_repeated_checkpoint_is_answered_again(acting: Acting) -> None:
    acting.run(acting.start())
    token = acting.token
    first = acting.checkpoint(update("STEP"), ClientToken="c", CheckpointToken=token)
    again = acting.checkpoint(update("STEP"), ClientToken="c", CheckpointToken=token)
    assert again.json == first.json
    acting.world.clock.advance(901)
    late = acting.checkpoint(update("STEP"), ClientToken="c", CheckpointToken=token)
    assert refusal(late) == "Invalid checkpoint token"


ERROR = {"ErrorMessage": "x" * 32_768}
FIRST = (
    update("CONTEXT", name="context"),
    update("STEP", name="step", SubType="Step", Name="n"),
    update("WAIT", name="wait", WaitOptions={"WaitSeconds": 9}),
    update("CALLBACK", name="callback"),
    update("CHAINED_INVOKE", name="invoke", ChainedInvokeOptions={"FunctionName": "g"}),
)


@pytest.mark.parametrize(
    ("updates", "text"),
    [
        ([update("EXECUTION", "FAIL"), update("EXECUTION", "FAIL")], "Cannot checkpoint multiple EXECUTION updates."),
        ([update("EXECUTION", "FAIL"), update("STEP")], "EXECUTION checkpoint must be the last update."),
        ([update("STEP"), update("STEP")], "Cannot checkpoint multiple operations with the same ID."),
        ([update("STEP", ParentId="none")], "Invalid parent operation id."),
        ([update("STEP", ParentId="step")], "Invalid parent operation id."),
        ([update("WAIT", name="step")], "Inconsistent operation type."),
        ([update("STEP", "SUCCEED", "step", SubType="x")], "Inconsistent operation subtype."),
        ([update("STEP", "SUCCEED", "step", Name="x")], "Inconsistent operation name."),
        ([update("STEP", "SUCCEED", "step", ParentId="context")], "Inconsistent parent operation id."),
        ([update("STEP", "FAIL", Error=ERROR)], "Error object size must be less than 32768 bytes."),
        ([update("CALLBACK", "SUCCEED")], "Invalid action for the given operation type."),
        ([update("CONTEXT", name="context")], "Cannot start a CONTEXT that already exist."),
        ([update("WAIT", name="wait")], "Cannot start a WAIT that already exist."),
        ([update("CALLBACK", name="callback")], "Cannot start a CALLBACK that already exist."),
        ([update("CHAINED_INVOKE", name="invoke")], "Cannot start an INVOKE that already exist."),
        ([update("STEP", name="step")], "Invalid current STEP state to start."),
        ([update("STEP", "RETRY", "step")], "Invalid StepOptions for the given action."),
        (
            [update("STEP", "RETRY", "step", StepOptions={"NextAttemptDelaySeconds": 1}, Payload="1", Error={})],
            "Cannot provide both error and payload to RETRY a STEP.",
        ),
        ([update("STEP", "FAIL", "step", Payload="1")], "Cannot provide a Payload for FAIL action."),
        ([update("CONTEXT", "SUCCEED", "context", Error={})], "Cannot provide an Error for SUCCEED action."),
        (
            [update("WAIT", "CANCEL", "other")],
            "Cannot cancel a WAIT that does not exist or has already completed.",
        ),
        (
            [update("CHAINED_INVOKE", "CANCEL", "other")],
            "Cannot cancel an INVOKE that does not exist or has already completed.",
        ),
    ],
)
def test_a_batch_with_a_fault_is_refused_whole(acting: Acting, updates: list[dict[str, Any]], text: str) -> None:
    execution = acting.start()
    acting.run(execution)
    acting.operations(*FIRST)
    before = acting.world.call("GET", f"{path(execution)}/history").json
    assert refusal(acting.checkpoint(update("STEP", name="new"), *updates)) == text
    assert acting.world.call("GET", f"{path(execution)}/history").json == before


def test_closed_operations_stay_closed(acting: Acting) -> None:
    acting.run(acting.start())
    acting.operations(*FIRST)
    acting.operations(update("STEP", "SUCCEED", "step"), update("CONTEXT", "FAIL", "context", Error={}))
    again = acting.checkpoint(update("STEP", "SUCCEED", "step"))
    assert refusal(again) == "Invalid current STEP state to close."
    again = acting.checkpoint(update("STEP", "RETRY", "step", StepOptions={"NextAttemptDelaySeconds": 1}))
    assert refusal(again) == "Invalid current STEP state to re-attempt."
    assert refusal(acting.checkpoint(update("CONTEXT", "SUCCEED", "context"))) == (
        "Invalid current CONTEXT state to close."
    )


def test_a_wait_ends_when_it_is_due_and_the_function_is_run_again(acting: Acting) -> None:
    execution = acting.start()
    acting.run(execution)
    acting.operations(update("WAIT", WaitOptions={"WaitSeconds": 2}))
    acting.answer("PENDING")
    plan = acting.world.plans[execution.execution_id]
    assert (plan.wants_invocation, plan.due_at) == (False, execution.started_at + 2)
    acting.world.clock.advance(2)
    acting.world.durable.tick(execution.execution_id)
    assert acting.world.plans[execution.execution_id].wants_invocation
    event = acting.run(execution)
    assert event["UpdatedOperationIds"] == ["a"]
    wait = event["InitialExecutionState"]["Operations"][1]
    assert (wait["Status"], wait["WaitDetails"]) == (
        "SUCCEEDED",
        {"ScheduledEndTimestamp": int((execution.started_at + 2) * 1000)},
    )


def test_a_wait_that_is_due_ends_in_the_answer_to_a_checkpoint(acting: Acting) -> None:
    acting.run(acting.start())
    acting.operations(update("WAIT", WaitOptions={"WaitSeconds": 2}))
    acting.world.clock.advance(3)
    (wait,) = acting.operations()
    assert wait["Status"] == "SUCCEEDED"


def test_an_execution_times_out(acting: Acting) -> None:
    execution = acting.start()
    acting.run(execution)
    acting.world.clock.advance(600)
    acting.world.durable.tick(execution.execution_id)
    acting.answer("SUCCEEDED", result="1")
    shown = acting.world.call("GET", path(execution)).json
    assert (shown["Status"], shown.get("Result")) == ("TIMED_OUT", None)
    assert shown["Error"] == {"ErrorMessage": "Execution timed out after 600 seconds."}


def test_callbacks_are_resolved_once_by_who_knows_their_id(acting: Acting) -> None:
    acting.run(acting.start())
    options = {"CallbackOptions": {"HeartbeatTimeoutSeconds": 10}}
    one, two, three = acting.operations(*(update("CALLBACK", name=name, **options) for name in ("a", "b", "c")))
    ids = [quote(each["CallbackDetails"]["CallbackId"], safe="") for each in (one, two, three)]
    calls = f"{BASE}/durable-execution-callbacks"
    world = acting.world
    assert world.call("POST", f"{calls}/{ids[0]}/succeed", b"raw").status_code == 200
    assert world.call("POST", f"{calls}/{ids[1]}/fail", {"ErrorType": "No"}).status_code == 200
    world.clock.advance(9)
    assert world.call("POST", f"{calls}/{ids[2]}/heartbeat").status_code == 200
    world.clock.advance(9)
    assert [(each["Status"], each["CallbackDetails"].get("Result")) for each in acting.operations()] == [
        ("SUCCEEDED", "raw"),
        ("FAILED", None),
    ]
    for late in (ids[0], "bm9uZQ==", "e30="):
        status, kind, _ = failure(world.call("POST", f"{calls}/{late}/succeed", b""))
        assert (status, kind) == (400, "CallbackTimeoutException")
    world.clock.advance(1)
    assert failure(world.call("POST", f"{calls}/{ids[2]}/heartbeat"))[1] == "CallbackTimeoutException"
    (timed_out,) = acting.operations()
    assert timed_out["CallbackDetails"]["Error"] == {
        "ErrorType": "Callback.Heartbeat",
        "ErrorMessage": "Callback timed out on heartbeat",
    }


def test_children_of_an_ended_context_are_not_shown_unless_they_are_replayed(acting: Acting) -> None:
    execution = acting.start()
    acting.run(execution)
    for name, options in (("a", {}), ("b", {"ContextOptions": {"ReplayChildren": True}})):
        acting.operations(
            update("CONTEXT", name=name),
            update("STEP", "SUCCEED", f"{name}-step", ParentId=name),
            update("WAIT", name=f"{name}-wait", WaitOptions={"WaitSeconds": 1}),
        )
        acting.operations(update("CONTEXT", "SUCCEED", name, **options))
    acting.answer("PENDING")
    acting.world.clock.advance(1)
    acting.world.durable.tick(execution.execution_id)
    shown = acting.run(execution)["InitialExecutionState"]["Operations"]
    assert [each["Id"] for each in shown[1:]] == ["a", "a-wait", "b", "b-step", "b-wait"]


def test_the_history_pages_in_both_directions_and_shows_payloads_when_asked(acting: Acting) -> None:
    execution = acting.start()
    acting.run(execution)
    acting.operations(update("STEP", "SUCCEED", Payload='"x"', Name="n", SubType="Step"))
    acting.answer("SUCCEEDED", result="1")
    history = f"{path(execution)}/history"
    world = acting.world
    first = world.call("GET", f"{history}?MaxItems=2&IncludeExecutionData=true").json
    assert first["Events"][1] == {
        "EventType": "StepSucceeded",
        "EventId": 2,
        "EventTimestamp": execution.started_at,
        "Id": "a",
        "Name": "n",
        "SubType": "Step",
        "StepSucceededDetails": {
            "Result": {"Payload": '"x"', "Truncated": False},
            "RetryDetails": {"CurrentAttempt": 1},
        },
    }
    rest = world.call("GET", f"{history}?Marker={quote(first['NextMarker'])}").json
    assert [each["EventType"] for each in rest["Events"]] == ["InvocationCompleted", "ExecutionSucceeded"]
    assert rest["Events"][1]["ExecutionSucceededDetails"] == {"Result": {"Truncated": True}}
    assert "NextMarker" not in rest
    backwards = world.call("GET", f"{history}?ReverseOrder=true&MaxItems=1").json
    assert [each["EventId"] for each in backwards["Events"]] == [4]
    next_page = f"{history}?ReverseOrder=true&MaxItems=1&Marker={quote(backwards['NextMarker'])}"
    assert [each["EventId"] for each in world.call("GET", next_page).json["Events"]] == [3]


def test_lists_filter_and_page_the_newest_first(acting: Acting) -> None:
    world = acting.world
    started = []
    for number in range(5):
        started.append(acting.start(f"e{number}"))
        world.clock.advance(10)
    acting.run(started[0])
    acting.answer("FAILED", error=Fault("no"))
    base = f"{BASE}/functions/f/durable-executions"

    def names(query: str = "") -> list[str]:
        found, marker = [], ""
        while True:
            page = world.call("GET", f"{base}?MaxItems=2&Marker={quote(marker)}&{query}").json
            found += [each["DurableExecutionName"] for each in page["DurableExecutions"]]
            marker = page.get("NextMarker", "")
            if not marker:
                return found

    assert names() == ["e4", "e3", "e2", "e1", "e0"]
    assert names("ReverseOrder=true") == ["e0", "e1", "e2", "e3", "e4"]
    assert names("Statuses=FAILED") == ["e0"]
    assert names("DurableExecutionName=e3") == ["e3"]
    assert names("Qualifier=%24LATEST&Statuses=RUNNING&Statuses=STOPPED") == ["e4", "e3", "e2", "e1"]
    after, before = started[1].started_at, started[3].started_at
    assert names(f"StartedAfter={iso(after)}&StartedBefore={iso(before)}") == ["e2"]
    assert failure(world.call("GET", f"{BASE}/functions/g/durable-executions"))[0] == 404


def iso(at: float) -> str:
    return quote(datetime.fromtimestamp(at, UTC).isoformat(), safe="")


def test_stopping_is_idempotent_and_unknown_executions_are_not_found(acting: Acting) -> None:
    execution = acting.start()
    world = acting.world
    first = world.call("POST", f"{path(execution)}/stop", {"ErrorMessage": "enough"}).json
    world.clock.advance(5)
    assert world.call("POST", f"{path(execution)}/stop").json == first == {"StopTimestamp": execution.started_at}
    shown = world.call("GET", path(execution)).json
    assert (shown["Status"], shown["Error"]) == ("STOPPED", {"ErrorMessage": "enough"})
    unknown = quote(execution.arn.replace("id-0", "id-9"), safe="")
    for method, rest in (("GET", ""), ("GET", "/history"), ("POST", "/stop")):
        status, kind, _ = failure(world.call(method, f"{BASE}/durable-executions/{unknown}{rest}"))
        assert (status, kind) == (404, "ResourceNotFoundException")


def test_what_a_deleted_function_ran_is_stopped_and_gone(acting: Acting) -> None:
    execution = acting.start()
    acting.run(execution)
    acting.world.durable.forget(KEY, None)
    assert acting.world.plans[execution.execution_id].execution.status == "STOPPED"
    acting.answer("SUCCEEDED", result="1")
    assert failure(acting.world.call("GET", path(execution)))[0] == 404
