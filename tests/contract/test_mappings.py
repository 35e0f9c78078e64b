"""Event source mappings through boto3: a manager over the stub engine, queues and streams at a compatible endpoint."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rie.sources.queue_poller import LONG_POLL_S
from tests.cloud import Cloud, clouding
from tests.stub_manager import StubManager, stub_managing


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with clouding(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def manager(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubManager]:
    with stub_managing(tmp_path_factory.mktemp("manager"), **cloud.environment) as running:
        yield running


def wait_for(holds: Callable[[], Any], otherwise: str, within_s: float = 60.0) -> Any:
    until = time.monotonic() + within_s
    while not (value := holds()):
        assert time.monotonic() < until, otherwise
        time.sleep(0.05)
    return value


def settled(manager: StubManager, mapping: str, state: str = "Enabled") -> dict[str, Any]:
    def get() -> dict[str, Any] | None:
        found = manager.client().get_event_source_mapping(UUID=mapping)
        return dict(found) if found["State"] == state else None

    return dict(wait_for(get, f"the mapping is not {state}"))


def gone(manager: StubManager, mapping: str) -> None:
    manager.client().delete_event_source_mapping(UUID=mapping)

    def is_gone() -> bool:
        try:
            manager.client().get_event_source_mapping(UUID=mapping)
        except ClientError as error:
            return bool(error.response["Error"]["Code"] == "ResourceNotFoundException")
        return False

    wait_for(is_gone, "the mapping is still there")


def left_in(cloud: Cloud, url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = cloud.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(value) for value in told.values())


def seen(manager: StubManager, name: str) -> list[dict[str, Any]]:
    """The events that a function of the behaviour `record` has had, from its log."""
    import urllib.request

    path = f"{manager.endpoint}/_rie/logs?group=/aws/lambda/{name}"
    with urllib.request.urlopen(path, timeout=10) as answer:
        lines = [json.loads(line)["text"] for line in answer.read().splitlines()]
    return [json.loads(line.removeprefix("EVENT ")) for line in lines if line.startswith("EVENT ")]


def bodies(events: list[dict[str, Any]]) -> list[str]:
    return [record["body"] for event in events for record in event["Records"]]


def named(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def test_messages_reach_the_function_and_are_deleted(manager: StubManager, cloud: Cloud) -> None:
    name = named("sqs")
    url, arn = cloud.queue(name)
    manager.create(name, "record")
    made = manager.client().create_event_source_mapping(EventSourceArn=arn, FunctionName=name)
    assert (made["State"], made["StateTransitionReason"], made["BatchSize"]) == ("Creating", "USER_INITIATED", 10)
    assert made["FunctionResponseTypes"] == []
    assert "LastProcessingResult" not in made
    settled(manager, made["UUID"])
    sqs = cloud.client("sqs")
    for number in range(25):
        attribute = {"Author": {"DataType": "String", "StringValue": "x"}}
        sqs.send_message(QueueUrl=url, MessageBody=f"m{number}", MessageAttributes=attribute)
    wait_for(lambda: left_in(cloud, url) == 0, "messages are left")
    events = seen(manager, name)
    assert sorted(bodies(events)) == sorted(f"m{number}" for number in range(25))
    assert all(len(event["Records"]) <= 10 for event in events)
    record = events[0]["Records"][0]
    assert record["messageAttributes"]["Author"] == {
        "stringValue": "x",
        "stringListValues": [],
        "binaryListValues": [],
        "dataType": "String",
    }
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    assert (record["eventSource"], record["eventSourceARN"], record["awsRegion"]) == ("aws:sqs", arn, "us-east-1")
    gone(manager, made["UUID"])


def test_failed_batches_come_again_until_the_queue_gives_them_up(manager: StubManager, cloud: Cloud) -> None:
    name = named("redrive")
    dead_url, dead_arn = cloud.queue(f"{name}-dead")
    policy = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 2})
    url, arn = cloud.queue(name, VisibilityTimeout="3", RedrivePolicy=policy)
    manager.create(name, "fail", Timeout=1)
    made = manager.client().create_event_source_mapping(EventSourceArn=arn, FunctionName=name)
    settled(manager, made["UUID"])
    cloud.client("sqs").send_message(QueueUrl=url, MessageBody="bad")
    wait_for(lambda: left_in(cloud, dead_url) == 1, "the message did not reach the dead-letter queue")
    gone(manager, made["UUID"])


def test_only_reported_failures_come_again(manager: StubManager, cloud: Cloud) -> None:
    name = named("partial")
    url, arn = cloud.queue(name, VisibilityTimeout="3")
    manager.create(name, "partial", Timeout=1)
    made = manager.client().create_event_source_mapping(
        EventSourceArn=arn, FunctionName=name, FunctionResponseTypes=["ReportBatchItemFailures"]
    )
    settled(manager, made["UUID"])
    entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(["good", "bad", "fine"])]
    cloud.client("sqs").send_message_batch(QueueUrl=url, Entries=entries)
    wait_for(lambda: bodies(seen(manager, name)).count("bad") >= 2, "the failed message did not come again")
    assert bodies(seen(manager, name)).count("good") == bodies(seen(manager, name)).count("fine") == 1
    gone(manager, made["UUID"])


def test_filtered_messages_are_deleted_unseen(manager: StubManager, cloud: Cloud) -> None:
    name = named("filter")
    url, arn = cloud.queue(name)
    manager.create(name, "record")
    pattern = json.dumps({"body": {"kind": ["wanted"]}})
    made = manager.client().create_event_source_mapping(
        EventSourceArn=arn, FunctionName=name, FilterCriteria={"Filters": [{"Pattern": pattern}]}
    )
    assert made["FilterCriteria"] == {"Filters": [{"Pattern": pattern}]}
    settled(manager, made["UUID"])
    for body in ('{"kind":"wanted"}', '{"kind":"other"}', "plain"):
        cloud.client("sqs").send_message(QueueUrl=url, MessageBody=body)
    wait_for(lambda: left_in(cloud, url) == 0 and seen(manager, name), "messages are left")
    assert bodies(seen(manager, name)) == ['{"kind":"wanted"}']
    gone(manager, made["UUID"])


def test_a_fifo_queue_keeps_the_order_of_each_group(manager: StubManager, cloud: Cloud) -> None:
    name = named("order")
    url, arn = cloud.queue(f"{name}.fifo", FifoQueue="true", ContentBasedDeduplication="true")
    manager.create(name, "record")
    made = manager.client().create_event_source_mapping(EventSourceArn=arn, FunctionName=name, BatchSize=3)
    settled(manager, made["UUID"])
    for number in range(20):
        cloud.client("sqs").send_message(
            QueueUrl=url, MessageBody=f"{number % 2}:{number}", MessageGroupId=str(number % 2)
        )
    wait_for(lambda: len(bodies(seen(manager, name))) == 20, "messages are missing")
    for group in "01":
        numbers = [int(body[2:]) for body in bodies(seen(manager, name)) if body.startswith(group)]
        assert numbers == sorted(numbers)
    gone(manager, made["UUID"])


def test_a_disabled_mapping_rests_and_goes_on_when_enabled(manager: StubManager, cloud: Cloud) -> None:
    name = named("rest")
    url, arn = cloud.queue(name)
    manager.create(name, "record")
    client = manager.client()
    made = client.create_event_source_mapping(EventSourceArn=arn, FunctionName=name)
    settled(manager, made["UUID"])
    assert client.update_event_source_mapping(UUID=made["UUID"], Enabled=False)["State"] == "Disabling"
    settled(manager, made["UUID"], "Disabled")
    cloud.client("sqs").send_message(QueueUrl=url, MessageBody="later")
    time.sleep(1)
    assert not seen(manager, name)
    assert client.update_event_source_mapping(UUID=made["UUID"], Enabled=True, BatchSize=1)["State"] == "Enabling"
    wait_for(lambda: bodies(seen(manager, name)) == ["later"], "the message did not come", 90)
    gone(manager, made["UUID"])


def test_a_manager_that_waits_for_messages_stops_at_once(cloud: Cloud, tmp_path: Path) -> None:
    name = named("stop")
    _, arn = cloud.queue(name)
    with stub_managing(tmp_path, **cloud.environment) as manager:
        manager.create(name, "record")
        made = manager.client().create_event_source_mapping(EventSourceArn=arn, FunctionName=name)
        settled(manager, made["UUID"])
        began_at = time.monotonic()
        assert manager.stop() == 0
        assert time.monotonic() - began_at < LONG_POLL_S / 2


def test_what_does_not_fit_is_refused_in_the_service_words(manager: StubManager, cloud: Cloud) -> None:
    name = named("refused")
    _, arn = cloud.queue(name)
    manager.create(name, "record")
    client = manager.client()
    missing = arn + "-missing"
    for text, call in {
        "Unrecognized event source.": {"EventSourceArn": "arn:aws:sns:us-east-1:123456789012:t"},
        "Function does not exist": {"EventSourceArn": arn, "FunctionName": "nobody"},
        "Maximum batch window in seconds must be greater than 0": {"EventSourceArn": arn, "BatchSize": 100},
        "The specified queue does not exist.": {"EventSourceArn": missing},
        "Invalid filter pattern definition.": {
            "EventSourceArn": arn,
            "FilterCriteria": {"Filters": [{"Pattern": '"x"'}]},
        },
        "Unsupported DestinationConfig parameter": {
            "EventSourceArn": arn,
            "DestinationConfig": {"OnFailure": {"Destination": arn}},
        },
        "Value null at 'startingPosition'": {"EventSourceArn": "arn:aws:kinesis:us-east-1:123456789012:stream/none"},
        "Stream not found": {
            "EventSourceArn": "arn:aws:kinesis:us-east-1:123456789012:stream/none",
            "StartingPosition": "LATEST",
        },
    }.items():
        with pytest.raises(ClientError, match=text) as refused:
            client.create_event_source_mapping(**{"FunctionName": name, **call})
        assert refused.value.response["Error"]["Code"] == "InvalidParameterValueException"
    made = client.create_event_source_mapping(EventSourceArn=arn, FunctionName=name)
    with pytest.raises(ClientError, match=f"mapping with UUID {made['UUID']}") as again:
        client.create_event_source_mapping(EventSourceArn=arn, FunctionName=name)
    assert again.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409
    settled(manager, made["UUID"])
    client.tag_resource(Resource=made["EventSourceMappingArn"], Tags={"a": "b"})
    assert client.list_tags(Resource=made["EventSourceMappingArn"])["Tags"] == {"a": "b"}
    gone(manager, made["UUID"])


def test_a_stream_is_read_in_order_and_not_twice_after_a_restart(cloud: Cloud, tmp_path: Path) -> None:
    name = named("stream")
    kinesis = cloud.client("kinesis")
    kinesis.create_stream(StreamName=name, ShardCount=2)
    arn = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
    with stub_managing(tmp_path, **cloud.environment) as manager:
        manager.create(name, "record")
        made = manager.client().create_event_source_mapping(
            EventSourceArn=arn, FunctionName=name, StartingPosition="TRIM_HORIZON", BatchSize=5
        )
        assert made["DestinationConfig"] == {"OnFailure": {}}
        assert (made["MaximumRetryAttempts"], made["StateTransitionReason"]) == (-1, "User action")
        assert made["LastProcessingResult"] == "No records processed"

        def put(numbers: range) -> None:
            for number in numbers:
                kinesis.put_record(StreamName=name, Data=str(number).encode(), PartitionKey=str(number % 4))

        def numbers() -> list[int]:
            import base64

            records = [record for event in seen(manager, name) for record in event["Records"]]
            return [int(base64.b64decode(record["kinesis"]["data"])) for record in records]

        put(range(20))
        wait_for(lambda: len(numbers()) >= 20, "records are missing")
        wait_for(
            lambda: manager.client().get_event_source_mapping(UUID=made["UUID"])["LastProcessingResult"] == "OK", "?"
        )
        manager.kill()
        manager.start()
        put(range(20, 40))
        wait_for(lambda: len(set(numbers())) == 40, "records are missing")
        for key in range(4):
            in_lane = [number for number in numbers() if number % 4 == key]
            assert sorted(set(in_lane)) == list(range(key, 40, 4))
            assert [number for number in in_lane if number >= 20] == list(range(20 + key, 40, 4))


def test_a_failing_batch_is_halved_until_the_bad_record_is_told(manager: StubManager, cloud: Cloud) -> None:
    name = named("bisect")
    url, queue = cloud.queue(name)
    kinesis = cloud.client("kinesis")
    kinesis.create_stream(StreamName=name, ShardCount=1)
    arn = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
    kinesis.put_records(
        StreamName=name,
        Records=[{"Data": body.encode(), "PartitionKey": "k"} for body in ("a", "b", "bad", "d")],
    )
    manager.create(name, "choosy")
    made = manager.client().create_event_source_mapping(
        EventSourceArn=arn,
        FunctionName=name,
        StartingPosition="TRIM_HORIZON",
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=1,
        DestinationConfig={"OnFailure": {"Destination": queue}},
    )
    received = wait_for(
        lambda: cloud.client("sqs").receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages"),
        "no failure record came",
    )
    told = json.loads(received[0]["Body"])
    assert told["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert told["requestContext"]["approximateInvokeCount"] == 2
    assert told["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
    assert told["KinesisBatchInfo"]["batchSize"] == 1
    assert told["KinesisBatchInfo"]["shardId"] == "shardId-000000000000"
    gone(manager, made["UUID"])


def test_changes_of_a_table_reach_the_function(manager: StubManager, cloud: Cloud) -> None:
    name = named("table")
    dynamodb = cloud.client("dynamodb")
    table = dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )["TableDescription"]
    manager.create(name, "record")
    pattern = json.dumps({"eventName": ["INSERT"], "dynamodb": {"NewImage": {"n": {"N": [{"prefix": "1"}]}}}})
    made = manager.client().create_event_source_mapping(
        EventSourceArn=table["LatestStreamArn"],
        FunctionName=name,
        StartingPosition="TRIM_HORIZON",
        FilterCriteria={"Filters": [{"Pattern": pattern}]},
    )
    for number in ("1", "2", "12"):
        dynamodb.put_item(TableName=name, Item={"id": {"S": number}, "n": {"N": number}})
    wait_for(lambda: len([r for e in seen(manager, name) for r in e["Records"]]) >= 2, "records are missing")
    records = [record for event in seen(manager, name) for record in event["Records"]]
    assert [record["dynamodb"]["NewImage"]["n"]["N"] for record in records] == ["1", "12"]
    assert records[0]["eventSource"] == "aws:dynamodb"
    assert records[0]["eventSourceARN"] == table["LatestStreamArn"]
    assert {record["eventVersion"] for record in records} == {"1.1"}
    assert isinstance(records[0]["dynamodb"]["ApproximateCreationDateTime"], int)
    gone(manager, made["UUID"])
