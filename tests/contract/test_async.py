"""Asynchronous invocations through boto3: a manager over the stub engine, destinations at a compatible endpoint."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.cloud import Cloud, clouding
from tests.ports import free_port
from tests.stub_manager import StubManager, stub_managing

SCALE = "0.002"  # a minute becomes 0.12 s


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with clouding(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def manager(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubManager]:
    arguments = ("--async-delay-scale", SCALE)
    with stub_managing(tmp_path_factory.mktemp("manager"), *arguments, **cloud.environment) as running:
        yield running


def invoke(manager: StubManager, name: str, payload: Any = None, **more: Any) -> str:
    answer = manager.client().invoke(
        FunctionName=name, InvocationType="Event", Payload=json.dumps(payload).encode(), **more
    )
    assert answer["StatusCode"] == 202
    assert "ExecutedVersion" not in answer
    return str(answer["ResponseMetadata"]["RequestId"])


def messages(cloud: Cloud, url: str, count: int = 1, within_s: float = 30.0) -> list[dict[str, Any]]:
    """What a queue gets, once it has got so much."""
    sqs = cloud.client("sqs")
    got: list[dict[str, Any]] = []
    until = time.monotonic() + within_s
    while len(got) < count:
        assert time.monotonic() < until, f"{len(got)} of {count} messages came"
        answer = sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=1,
            MessageAttributeNames=["All"],
            AttributeNames=["All"],
        )
        for message in answer.get("Messages", []):
            got.append(message)
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return got


def test_a_success_is_told_to_a_queue(manager: StubManager, cloud: Cloud) -> None:
    url, arn = cloud.queue("on-success")
    manager.create("succeeds")
    manager.client().put_function_event_invoke_config(
        FunctionName="succeeds", DestinationConfig={"OnSuccess": {"Destination": arn}}
    )
    request_id = invoke(manager, "succeeds", {"a": 1})
    (message,) = messages(cloud, url)
    told = json.loads(message["Body"])
    assert told["requestContext"] == {
        "requestId": request_id,
        "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:succeeds:$LATEST",
        "condition": "Success",
        "approximateInvokeCount": 1,
    }
    assert told["requestPayload"] == told["responsePayload"] == {"a": 1}
    assert told["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}


def test_a_failure_runs_three_times_and_is_told_to_both_queues(manager: StubManager, cloud: Cloud) -> None:
    url, arn = cloud.queue("on-failure")
    dead_url, dead_arn = cloud.queue("dead")
    manager.create("fails", "fail", DeadLetterConfig={"TargetArn": dead_arn})
    manager.client().put_function_event_invoke_config(
        FunctionName="fails", DestinationConfig={"OnFailure": {"Destination": arn}}
    )
    request_id = invoke(manager, "fails", {"b": 2})
    told = json.loads(messages(cloud, url)[0]["Body"])
    assert told["requestContext"]["condition"] == "RetriesExhausted"
    assert told["requestContext"]["approximateInvokeCount"] == 3
    assert told["responseContext"]["functionError"] == "Unhandled"
    assert told["responsePayload"]["errorMessage"] == "told to fail"
    (dead,) = messages(cloud, dead_url)
    assert json.loads(dead["Body"]) == {"b": 2}
    attributes = {name: value["StringValue"] for name, value in dead["MessageAttributes"].items()}
    assert attributes == {"RequestID": request_id, "ErrorCode": "200", "ErrorMessage": "told to fail"}


def test_topics_buses_buckets_and_functions_are_told_too(manager: StubManager, cloud: Cloud) -> None:
    url, queue = cloud.queue("fan-in")
    topic = cloud.client("sns").create_topic(Name="ends")["TopicArn"]
    cloud.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    cloud.client("s3").create_bucket(Bucket="ends")
    events = cloud.client("events")
    events.put_rule(Name="all", EventPattern=json.dumps({"source": ["lambda"]}))
    events.put_targets(Rule="all", Targets=[{"Id": "1", "Arn": queue}])
    bus = "arn:aws:events:us-east-1:123456789012:event-bus/default"
    manager.create("receiver")
    manager.client().put_function_event_invoke_config(
        FunctionName="receiver", DestinationConfig={"OnSuccess": {"Destination": queue}}
    )
    receiver = "arn:aws:lambda:us-east-1:123456789012:function:receiver"
    seen = {}
    for name, target in (("topic", topic), ("bus", bus), ("function", receiver)):
        manager.create(f"to-{name}")
        manager.client().put_function_event_invoke_config(
            FunctionName=f"to-{name}", DestinationConfig={"OnSuccess": {"Destination": target}}
        )
        request_id = invoke(manager, f"to-{name}")
        seen[name] = json.loads(messages(cloud, url)[0]["Body"])
        assert request_id in json.dumps(seen[name])
    assert json.loads(seen["topic"]["Message"])["requestContext"]["condition"] == "Success"
    assert (seen["bus"]["source"], seen["bus"]["detail-type"]) == (
        "lambda",
        "Lambda Function Invocation Result - Success",
    )
    assert seen["function"]["requestPayload"]["requestContext"]["condition"] == "Success"
    manager.create("to-bucket", "fail")
    manager.client().put_function_event_invoke_config(
        FunctionName="to-bucket",
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": "arn:aws:s3:::ends"}},
    )
    invoke(manager, "to-bucket")
    s3 = cloud.client("s3")
    until = time.monotonic() + 30
    while not (found := s3.list_objects_v2(Bucket="ends").get("Contents")):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert found[0]["Key"].startswith("aws/lambda/async/to-bucket/")
    told = json.loads(s3.get_object(Bucket="ends", Key=found[0]["Key"])["Body"].read())
    assert told["requestContext"]["approximateInvokeCount"] == 1


def test_an_event_of_a_durable_function_is_told_of_when_its_execution_ends_kills_or_not(
    cloud: Cloud, tmp_path: Path
) -> None:
    done_url, done = cloud.queue("durable-done")
    failed_url, failed = cloud.queue("durable-failed")
    dead_url, dead = cloud.queue("durable-dead")
    port = free_port()
    environment = {**cloud.environment, "RIE_FUNCTION_LAMBDA_URL": f"http://127.0.0.1:{port}"}
    with stub_managing(tmp_path, "--async-delay-scale", SCALE, port=port, **environment) as manager:
        manager.create(
            "lasts", "durable", DeadLetterConfig={"TargetArn": dead}, DurableConfig={"ExecutionTimeout": 600}
        )
        manager.client().put_function_event_invoke_config(
            FunctionName="lasts",
            MaximumRetryAttempts=1,
            MaximumEventAgeInSeconds=3_600,
            DestinationConfig={"OnSuccess": {"Destination": done}, "OnFailure": {"Destination": failed}},
        )
        given = {"callback": 1, "wait": 1}
        request_id = invoke(manager, "lasts:$LATEST", given, DurableExecutionName="once")
        invoke(manager, "lasts:$LATEST", given, DurableExecutionName="once")  # is the same, and told of once
        (listed,) = manager.client().list_durable_executions_by_function(FunctionName="lasts")["DurableExecutions"]
        arn = listed["DurableExecutionArn"]
        callback = _until(lambda: _callback(manager, arn), lambda: "the function does not wait")
        manager.kill()
        manager.start()
        manager.client().send_durable_execution_callback_success(CallbackId=callback, Result=b"yes")
        (message,) = messages(cloud, done_url)
        told = json.loads(message["Body"])
        assert told["requestContext"] == {
            "requestId": request_id,
            "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:lasts:$LATEST",
            "condition": "Success",
            "approximateInvokeCount": 1,
        }
        assert told["requestPayload"] == given
        assert told["responsePayload"] == {"step": "SUCCEEDED", "wait": "SUCCEEDED", "callback": "SUCCEEDED"}

        request_id = invoke(manager, "lasts:$LATEST", {"fail": "told to"})
        told = json.loads(messages(cloud, failed_url)[0]["Body"])
        assert told["requestContext"]["condition"] == "RetriesExhausted"
        assert told["requestContext"]["approximateInvokeCount"] == 2
        assert told["responsePayload"] == {"ErrorMessage": "told to"}
        (letter,) = messages(cloud, dead_url)
        attributes = {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()}
        assert attributes == {"RequestID": request_id, "ErrorCode": "200", "ErrorMessage": "told to"}
        again = cloud.client("sqs").receive_message(QueueUrl=done_url)
        assert "Messages" not in again, "an execution of one name was told of twice"


def _callback(manager: StubManager, arn: str) -> str | None:
    """That of the only callback, once the execution waits for it."""
    events = manager.client().get_durable_execution_history(DurableExecutionArn=arn)["Events"]
    found = [each["CallbackStartedDetails"]["CallbackId"] for each in events if each["EventType"] == "CallbackStarted"]
    return found[0] if found else None


def test_a_megabyte_is_taken_and_a_byte_more_is_not(manager: StubManager) -> None:
    manager.create("large")
    assert invoke(manager, "large", "x" * (1_048_576 - 2))
    with pytest.raises(
        ClientError, match="Request must be smaller than 1048576 bytes for the InvokeFunction"
    ) as refused:
        invoke(manager, "large", "x" * (1_048_576 - 1))
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_unknown_functions_and_bad_json_are_refused_at_once(manager: StubManager) -> None:
    with pytest.raises(ClientError, match="Function not found"):
        invoke(manager, "nobody")
    manager.create("strict")
    with pytest.raises(ClientError, match="Could not parse request body into json"):
        manager.client().invoke(FunctionName="strict", InvocationType="Event", Payload=b"{")


def test_every_acknowledged_event_ends_however_often_the_manager_is_killed(cloud: Cloud, tmp_path: Path) -> None:
    """Kills at random instants under load; then each event is in the success queue or among the dead letters.

    RIE_KILLS=100 for a long run; tests/unit/test_events_kills.py has a hundred of the queue alone.
    """
    kills = int(os.environ.get("RIE_KILLS", "5"))
    done_url, done = cloud.queue("survivors")
    dead_url, dead = cloud.queue("casualties")
    acknowledged: set[str] = set()
    end = threading.Event()
    port = free_port()
    durable = {"DurableConfig": {"ExecutionTimeout": 600}}
    environment = {**cloud.environment, "RIE_FUNCTION_LAMBDA_URL": f"http://127.0.0.1:{port}"}
    with stub_managing(tmp_path, "--async-delay-scale", "0.0001", port=port, **environment) as manager:
        for name, behaviour, more in (("lives", "echo", {}), ("dies", "fail", {}), ("lasts", "durable", durable)):
            manager.create(name, behaviour, DeadLetterConfig={"TargetArn": dead}, **more)
            manager.client().put_function_event_invoke_config(
                FunctionName=name, DestinationConfig={"OnSuccess": {"Destination": done}}
            )
        callers = [
            threading.Thread(target=_call, args=(manager, name, end, acknowledged), daemon=True)
            for name in ("lives", "dies", "lasts:$LATEST")
        ]
        for caller in callers:
            caller.start()
        chance = random.Random(20_251_126)
        try:
            for _ in range(kills):
                before = len(acknowledged)
                _until(lambda before=before: len(acknowledged) > before, lambda: "there is no load")
                time.sleep(chance.uniform(0, 0.2))
                manager.kill()
                manager.start()
        finally:
            end.set()
        for caller in callers:
            caller.join()
        told: set[str] = set()
        sqs = cloud.client("sqs")

        def collect() -> bool:
            for url in (done_url, dead_url):
                answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
                for message in answer.get("Messages", []):
                    told.add(_request_id(message))
                    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return acknowledged <= told

        _until(collect, lambda: f"of {len(acknowledged)} events these have not ended: {sorted(acknowledged - told)}")


def _until(holds: Callable[[], Any], otherwise: Callable[[], str], within_s: float = 120.0) -> Any:
    until = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < until, otherwise()
        time.sleep(0.005)
    return found


def _request_id(message: dict[str, Any]) -> str:
    dead = message.get("MessageAttributes", {}).get("RequestID")
    return str(dead["StringValue"] if dead else json.loads(message["Body"])["requestContext"]["requestId"])


def _call(manager: StubManager, name: str, end: threading.Event, acknowledged: set[str]) -> None:
    """Invoke as long as it goes on; between a kill and the next start there is nobody to answer."""
    client = manager.client(connect_timeout=2, read_timeout=10)
    while not end.is_set():
        try:
            answer = client.invoke(FunctionName=name, InvocationType="Event", Payload=b"{}")
            acknowledged.add(answer["ResponseMetadata"]["RequestId"])
        except (ClientError, BotoCoreError):
            time.sleep(0.02)
        time.sleep(0.005)
