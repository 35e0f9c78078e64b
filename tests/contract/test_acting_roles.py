"""What the manager does for a function it does as the function's execution role: polling, telling, logging."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.cloud import Cloud, clouding
from tests.contract.test_async import messages
from tests.contract.test_triggers import named, seen, wait_for
from tests.recording import Call, Recorder, recording
from tests.stub_manager import StubManager, stub_managing

SESSION = "awslambda"
NOT_TRUSTED = b"""<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>
<Message>not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>"""
DENIED = b'{"__type":"AccessDeniedException","message":"no identity-based policy allows the action"}'
SQS_DENIED = b'{"__type":"com.amazonaws.sqs#AccessDeniedException","message":"no policy allows the action"}'
CANNOT_ASSUME = "The role defined for the function cannot be assumed by Lambda."


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with clouding(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def recorder(cloud: Cloud) -> Iterator[Recorder]:
    with recording(cloud.endpoint) as running:
        yield running


@pytest.fixture
def manager(recorder: Recorder, tmp_path: Path) -> Iterator[StubManager]:
    environment = Cloud(f"http://127.0.0.1:{recorder.port}").environment
    with stub_managing(tmp_path, **environment) as running:
        yield running


def told_to(manager: StubManager, name: str, queue_arn: str) -> None:
    manager.client().put_function_event_invoke_config(
        FunctionName=name, DestinationConfig={"OnSuccess": {"Destination": queue_arn}}
    )


def accept(manager: StubManager, name: str) -> None:
    assert manager.client().invoke(FunctionName=name, InvocationType="Event", Payload=b"{}")["StatusCode"] == 202


def result_of(manager: StubManager, mapping: str) -> str:
    return str(manager.client().get_event_source_mapping(UUID=mapping)["LastProcessingResult"])


def stream(cloud: Cloud, text: str) -> str:
    """A new stream with one record; its ARN."""
    kinesis, name = cloud.client("kinesis"), named("stream")
    kinesis.create_stream(StreamName=name, ShardCount=1)
    kinesis.put_record(StreamName=name, Data=text.encode(), PartitionKey="k")
    return str(kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"])


def read(manager: StubManager, name: str, stream_arn: str) -> str:
    """A new mapping's id."""
    made = manager.client().create_event_source_mapping(
        EventSourceArn=stream_arn, FunctionName=name, StartingPosition="TRIM_HORIZON"
    )
    return str(made["UUID"])


def test_pollers_destinations_and_logs_are_signed_as_the_role(
    manager: StubManager, cloud: Cloud, recorder: Recorder
) -> None:
    source, source_arn = cloud.queue(named("source"))
    told, told_arn = cloud.queue(named("told"))
    manager.create("acting", "record")
    told_to(manager, "acting", told_arn)
    manager.client().create_event_source_mapping(EventSourceArn=source_arn, FunctionName="acting")
    cloud.client("sqs").send_message(QueueUrl=source, MessageBody="1")
    accept(manager, "acting")
    messages(cloud, told)
    wait_for(lambda: len(seen(manager, "acting")) == 2, "the message did not come")
    wait_for(lambda: recorder.keys_of("logs", "PutLogEvents"), "no lines were delivered")
    (key,) = recorder.issued[SESSION]  # assumed once, for all of them
    for service, operation in (
        ("sqs", "ReceiveMessage"),
        ("sqs", "DeleteMessageBatch"),
        ("sqs", "SendMessage"),
        ("logs", "PutLogEvents"),
    ):
        assert recorder.keys_of(service, operation) == {key}
    assert recorder.keys_of("sts") == {"testing"}  # the manager's own, for nothing else
    assert key not in recorder.issued["acting"]  # the function's credentials are another session's


def test_a_role_that_cannot_be_assumed_shows_and_is_waited_for(
    manager: StubManager, cloud: Cloud, recorder: Recorder
) -> None:
    source = stream(cloud, "1")
    told, told_arn = cloud.queue(named("told"))
    manager.create("waiting", "record")
    told_to(manager, "waiting", told_arn)
    answer = (500, b"<ErrorResponse><Error><Code>InternalFailure</Code></Error></ErrorResponse>")
    recorder.refuse = lambda call: answer if call.session == SESSION else None
    mapping = read(manager, "waiting", source)
    accept(manager, "waiting")
    wait_for(lambda: result_of(manager, mapping).startswith("PROBLEM: cannot assume "), "the breakdown does not show")
    answer = (403, NOT_TRUSTED)
    wait_for(lambda: result_of(manager, mapping) == f"PROBLEM: {CANNOT_ASSUME}", "the refusal does not show")
    manager.create("other", "record")
    with pytest.raises(ClientError, match=CANNOT_ASSUME):
        read(manager, "other", source)
    assert not recorder.keys_of("kinesis") | recorder.keys_of("sqs", "SendMessage")
    recorder.refuse = lambda _: None
    messages(cloud, told)
    wait_for(lambda: result_of(manager, mapping) == "OK", "the problem still shows")
    assert {len(event.get("Records", [])) for event in seen(manager, "waiting")} == {0, 1}


def test_a_right_that_is_missing_shows_and_is_waited_for(
    manager: StubManager, cloud: Cloud, recorder: Recorder
) -> None:
    def refuse(call: Call) -> tuple[int, bytes] | None:
        return (400, DENIED) if call.operation == "GetRecords" else None

    manager.create("denied", "record")
    recorder.refuse = refuse
    mapping = read(manager, "denied", stream(cloud, "1"))
    wait_for(lambda: "AccessDeniedException" in result_of(manager, mapping), "the refusal does not show")
    assert result_of(manager, mapping).startswith("PROBLEM: ")
    recorder.refuse = lambda _: None
    wait_for(lambda: result_of(manager, mapping) == "OK", "the problem still shows")


def test_a_destination_that_the_role_may_not_send_to_is_given_up_and_one_that_it_cannot_reach_is_not(
    manager: StubManager, cloud: Cloud, recorder: Recorder
) -> None:
    told, told_arn = cloud.queue(named("told"))
    manager.create("telling", "record")
    told_to(manager, "telling", told_arn)
    recorder.refuse = lambda call: (403, SQS_DENIED) if call.operation == "SendMessage" else None
    accept(manager, "telling")
    wait_for(lambda: "gave up on telling" in manager.log, "it is still tried")
    recorder.refuse = lambda call: (503, b"{}") if call.operation == "SendMessage" else None
    accept(manager, "telling")
    wait_for(lambda: "; again in" in manager.log, "it is not tried again")
    recorder.refuse = lambda _: None
    assert len(messages(cloud, told)) == 1
