"""Durable functions in a whole manager: invoked by name, killed and started again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.ports import free_port
from tests.stub_manager import StubManager

DURABLE = {"DurableConfig": {"ExecutionTimeout": 120}}


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[StubManager]:
    port = free_port()
    environment = {"RIE_FUNCTION_LAMBDA_URL": f"http://127.0.0.1:{port}"}
    running = StubManager(tmp_path, port=port, environment=environment).start()
    yield running
    assert running.stop() == 0


def invoke(client: Any, given: dict[str, Any], **more: Any) -> Any:
    return client.invoke(FunctionName="f", Payload=json.dumps(given).encode(), **{"Qualifier": "$LATEST", **more})


def refused(client: Any, given: dict[str, Any], **more: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as raised:
        invoke(client, given, **more)
    error = raised.value.response
    return error["Error"]["Code"], error["Error"].get("Message") or error.get("message", "")


def callback_id(client: Any, arn: str) -> str:
    """That of the only callback, once the execution waits for it."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        events = client.get_durable_execution_history(DurableExecutionArn=arn)["Events"]
        for event in events:
            if event["EventType"] == "CallbackStarted":
                return str(event["CallbackStartedDetails"]["CallbackId"])
        time.sleep(0.05)
    raise AssertionError(events)


def ended(client: Any, arn: str) -> Any:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        shown = client.get_durable_execution(DurableExecutionArn=arn)
        if shown["Status"] != "RUNNING":
            return shown
        time.sleep(0.05)
    raise AssertionError(shown)


def test_durable_functions_are_invoked_and_executions_survive_a_kill(manager: StubManager) -> None:
    client = manager.client()
    manager.create("f", "durable", **DURABLE)

    answer = invoke(client, {"wait": 1}, DurableExecutionName="waits")
    assert json.loads(answer["Payload"].read()) == {"step": "SUCCEEDED", "wait": "SUCCEEDED"}
    assert (answer["ExecutedVersion"], "FunctionError" in answer) == ("$LATEST", False)
    assert "/durable-execution/waits/" in answer["DurableExecutionArn"]
    again = invoke(client, {"wait": 1}, DurableExecutionName="waits")
    assert again["DurableExecutionArn"] == answer["DurableExecutionArn"]

    code, _ = refused(client, {"wait": 2}, DurableExecutionName="waits")
    assert code == "DurableExecutionAlreadyStartedException"
    accepted = client.invoke(FunctionName="f:$LATEST", InvocationType="Event", Payload=b'{"callback": 1, "wait": 1}')
    assert accepted["StatusCode"] == 202
    arn = accepted["DurableExecutionArn"]
    identifier = callback_id(client, arn)

    manager.kill()
    manager.start()
    client.send_durable_execution_callback_success(CallbackId=identifier, Result=b"yes")
    shown = ended(client, arn)
    assert shown["Status"] == "SUCCEEDED"
    assert json.loads(shown["Result"]) == {"step": "SUCCEEDED", "wait": "SUCCEEDED", "callback": "SUCCEEDED"}
    events = client.get_durable_execution_history(DurableExecutionArn=arn, MaxItems=1000)["Events"]
    assert [each["EventType"] for each in events].count("StepSucceeded") == 1
    listed = client.list_durable_executions_by_function(FunctionName="f", Statuses=["SUCCEEDED"])["DurableExecutions"]
    assert [each["DurableExecutionArn"] for each in listed] == [arn, answer["DurableExecutionArn"]]


def test_an_execution_stays_with_the_version_that_its_alias_had(manager: StubManager) -> None:
    client = manager.client()
    manager.create("aliased", "durable", **DURABLE)
    client.publish_version(FunctionName="aliased")
    client.create_alias(FunctionName="aliased", Name="live", FunctionVersion="1")
    event = {"InvocationType": "Event", "Payload": b'{"callback": 1}'}
    arn = client.invoke(FunctionName="aliased:live", **event)["DurableExecutionArn"]
    assert ":function:aliased:1/durable-execution/" in arn
    identifier = callback_id(client, arn)
    client.update_function_configuration(FunctionName="aliased", Description="changed")
    client.get_waiter("function_updated_v2").wait(FunctionName="aliased", WaiterConfig={"Delay": 0.05})
    client.publish_version(FunctionName="aliased")
    client.update_alias(FunctionName="aliased", Name="live", FunctionVersion="2")
    client.send_durable_execution_callback_success(CallbackId=identifier, Result=b"yes")
    shown = ended(client, arn)
    assert (shown["Status"], shown["Version"]) == ("SUCCEEDED", "1")
    now = client.invoke(FunctionName="aliased", Qualifier="live", InvocationType="Event", Payload=b"{}")
    assert ":function:aliased:2/durable-execution/" in now["DurableExecutionArn"]


def test_what_durable_functions_refuse(manager: StubManager) -> None:
    client = manager.client()
    manager.create("f", "durable", DurableConfig={"ExecutionTimeout": 901})
    with pytest.raises(ClientError, match="You cannot invoke a durable function using an unqualified ARN"):
        client.invoke(FunctionName="f", InvocationType="Event")
    with pytest.raises(ClientError, match="executionTimeout greater than 15 minutes"):
        invoke(client, {})
    code, text = refused(client, {}, InvocationType="Event", DurableExecutionName="a b")
    assert (code, text) == (
        "ValidationException",
        "1 validation error detected: Value 'a b' at 'durableExecutionName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+",
    )
    manager.create("plain")
    with pytest.raises(ClientError, match="can be given to durable functions only"):
        client.invoke(FunctionName="plain", DurableExecutionName="a")
