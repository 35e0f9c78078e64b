"""Triggers through boto3: configured at an endpoint exactly as on AWS, with a manager over the stub engine."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rie.triggers.subscriptions import LONG_POLL_S
from tests.cloud import ACCOUNT, REGION, Cloud, clouding
from tests.ports import free_port
from tests.stub_manager import ROLE, StubManager, stub_managing

WITHIN_S = 60.0


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubManager]:
    """One that brings its own endpoint."""
    arguments = ("--with-aws", "--aws-port", str(free_port()))
    with stub_managing(tmp_path_factory.mktemp("manager"), *arguments) as running:
        yield running


@pytest.fixture(scope="module")
def cloud(manager: StubManager) -> Cloud:
    return exported(manager)


def exported(manager: StubManager) -> Cloud:
    """The endpoint as the manager prints it for shells."""
    found = wait_for(lambda: re.search(r"^export AWS_ENDPOINT_URL=(\S+)$", manager.log, re.M), "nothing is exported")
    return Cloud(found[1])


def wait_for(holds: Callable[[], Any], otherwise: str, within_s: float = WITHIN_S) -> Any:
    until = time.monotonic() + within_s
    while not (value := holds()):
        assert time.monotonic() < until, otherwise
        time.sleep(0.05)
    return value


def seen(manager: StubManager, name: str) -> list[dict[str, Any]]:
    """The events that a function of the behaviour `record` has had, from its log."""
    import urllib.request

    with urllib.request.urlopen(f"{manager.endpoint}/_rie/logs?group=/aws/lambda/{name}", timeout=10) as answer:
        lines = [json.loads(line)["text"] for line in answer.read().splitlines()]
    return [json.loads(line.removeprefix("EVENT ")) for line in lines if line.startswith("EVENT ")]


def named(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def allow(manager: StubManager, name: str, service: str, source_arn: str) -> None:
    manager.client().add_permission(
        FunctionName=name,
        StatementId=named("allow"),
        Action="lambda:InvokeFunction",
        Principal=f"{service}.amazonaws.com",
        SourceArn=source_arn,
    )


def end_long_polls(cloud: Cloud) -> None:
    """Of a manager that is gone: the endpoint does not notice, and would hand the next message to nobody."""
    sqs = cloud.client("sqs")
    for url in sqs.list_queues(QueueNamePrefix="rie-tap-").get("QueueUrls", []):
        sqs.send_message(QueueUrl=url, MessageBody="no event")
        name = "ApproximateNumberOfMessagesNotVisible"
        until = time.monotonic() + LONG_POLL_S  # or it was between two polls
        while sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name] == "0":
            if time.monotonic() > until:
                break
            time.sleep(0.02)


def bucket_with_trigger(cloud: Cloud, name: str, function: str, **more: Any) -> Any:
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=name)
    wanted = {"Id": "mine", "LambdaFunctionArn": function, "Events": ["s3:ObjectCreated:*"], **more}
    s3.put_bucket_notification_configuration(
        Bucket=name, NotificationConfiguration={"LambdaFunctionConfigurations": [wanted]}
    )
    return s3


def test_an_object_invokes_the_function_with_the_event_of_s3(manager: StubManager, cloud: Cloud) -> None:
    name = named("s3")
    arn = manager.create(name, "record")
    allow(manager, name, "s3", f"arn:aws:s3:::{name}")
    rules = [{"Name": "prefix", "Value": "in/"}, {"Name": "suffix", "Value": ".txt"}]
    s3 = bucket_with_trigger(cloud, name, arn, Filter={"Key": {"FilterRules": rules}})
    for key in ("out/a.txt", "in/a.bin", "in/a b+ü.txt"):
        s3.put_object(Bucket=name, Key=key, Body=b"12345")
    (event,) = wait_for(lambda: seen(manager, name), "no event came")
    (record,) = event["Records"]
    assert list(record) == [
        "eventVersion",
        "eventSource",
        "awsRegion",
        "eventTime",
        "eventName",
        "userIdentity",
        "requestParameters",
        "responseElements",
        "s3",
    ]
    assert (record["eventSource"], record["eventName"], record["awsRegion"]) == (
        "aws:s3",
        "ObjectCreated:Put",
        REGION,
    )
    assert record["s3"]["configurationId"] == "mine"
    assert (record["s3"]["bucket"]["name"], record["s3"]["bucket"]["arn"]) == (name, f"arn:aws:s3:::{name}")
    told = record["s3"]["object"]
    assert (told["key"], told["size"]) == ("in/a+b%2B%C3%BC.txt", 5)
    assert told["eTag"] == "827ccb0eea8a706c4c34a16891f84e7b"
    assert told["sequencer"]


def test_a_bucket_that_no_policy_lets_in_invokes_nothing(manager: StubManager, cloud: Cloud) -> None:
    name = named("denied")
    arn = manager.create(name, "record")
    allow(manager, name, "s3", "arn:aws:s3:::another-bucket")
    s3 = bucket_with_trigger(cloud, name, arn)
    s3.put_object(Bucket=name, Key="first", Body=b"")
    wait_for(lambda: f"an event of arn:aws:s3:::{name} for {arn} is dropped" in manager.log, "nothing was refused")
    allow(manager, name, "s3", f"arn:aws:s3:::{name}")
    s3.put_object(Bucket=name, Key="second", Body=b"")
    wait_for(lambda: seen(manager, name), "no event came")
    assert [each["Records"][0]["s3"]["object"]["key"] for each in seen(manager, name)] == ["second"]


def test_removed_objects_have_neither_size_nor_etag(manager: StubManager, cloud: Cloud) -> None:
    name = named("removed")
    arn = manager.create(name, "record")
    allow(manager, name, "s3", f"arn:aws:s3:::{name}")
    s3 = bucket_with_trigger(cloud, name, arn, Events=["s3:ObjectRemoved:*"])
    s3.put_object(Bucket=name, Key="x", Body=b"1")
    s3.delete_object(Bucket=name, Key="x")
    (event,) = wait_for(lambda: seen(manager, name), "no event came")
    assert event["Records"][0]["eventName"] == "ObjectRemoved:Delete"
    assert set(event["Records"][0]["s3"]["object"]) == {"key", "sequencer"}


def wanted_only(manager: StubManager, cloud: Cloud, name: str) -> tuple[str, str]:
    """A topic whose filter lets what is wanted through to a new function, and the subscription."""
    arn = manager.create(name, "record")
    sns = cloud.client("sns")
    topic = sns.create_topic(Name=name)["TopicArn"]
    allow(manager, name, "sns", topic)
    subscription = sns.subscribe(
        TopicArn=topic,
        Protocol="lambda",
        Endpoint=arn,
        Attributes={"FilterPolicy": json.dumps({"kind": ["wanted"]})},
        ReturnSubscriptionArn=True,
    )["SubscriptionArn"]
    return topic, subscription


def check_that_the_wanted_comes(manager: StubManager, cloud: Cloud, name: str, topic: str, subscription: str) -> None:
    sns = cloud.client("sns")
    kinds = {kind: {"kind": {"DataType": "String", "StringValue": kind}} for kind in ("other", "wanted")}
    sns.publish(TopicArn=topic, Message="no", MessageAttributes=kinds["other"])
    sent = sns.publish(TopicArn=topic, Message="yes", Subject="s", MessageAttributes=kinds["wanted"])
    (event,) = wait_for(lambda: seen(manager, name), "no event came")
    (record,) = event["Records"]
    assert list(record) == ["EventSource", "EventVersion", "EventSubscriptionArn", "Sns"]
    assert (record["EventSource"], record["EventVersion"]) == ("aws:sns", "1.0")
    assert record["EventSubscriptionArn"] == subscription
    told = record["Sns"]
    assert (told["Type"], told["MessageId"], told["TopicArn"]) == ("Notification", sent["MessageId"], topic)
    assert (told["Subject"], told["Message"]) == ("s", "yes")
    assert told["MessageAttributes"] == {"kind": {"Type": "String", "Value": "wanted"}}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["Timestamp"])
    assert {"SigningCertUrl", "UnsubscribeUrl", "Signature", "SignatureVersion"} <= set(told)
    assert not {"SigningCertURL", "UnsubscribeURL"} & set(told)


def test_a_topic_invokes_the_function_with_what_its_filter_lets_through(manager: StubManager, cloud: Cloud) -> None:
    name = named("sns")
    topic, subscription = wanted_only(manager, cloud, name)
    check_that_the_wanted_comes(manager, cloud, name, topic, subscription)


def test_a_rule_invokes_the_function_with_what_its_pattern_matches(manager: StubManager, cloud: Cloud) -> None:
    name = named("rule")
    arn = manager.create(name, "record")
    events = cloud.client("events")
    rule = events.put_rule(Name=name, EventPattern=json.dumps({"source": [name], "detail": {"n": [1]}}))["RuleArn"]
    allow(manager, name, "events", rule)
    events.put_targets(Rule=name, Targets=[{"Id": "f", "Arn": arn}])
    for number in (2, 1):
        told = {"Source": name, "DetailType": "Counted", "Detail": json.dumps({"n": number}), "Resources": ["r"]}
        answer = events.put_events(Entries=[told])
    (event,) = wait_for(lambda: seen(manager, name), "no event came")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", event.pop("time"))
    assert event == {
        "version": "0",
        "id": answer["Entries"][0]["EventId"],
        "detail-type": "Counted",
        "source": name,
        "account": ACCOUNT,
        "region": REGION,
        "resources": ["r"],
        "detail": {"n": 1},
    }
    transformer = {"InputPathsMap": {"n": "$.detail.n"}, "InputTemplate": '{"number": <n>, "text": "is <n>"}'}
    events.put_targets(Rule=name, Targets=[{"Id": "f", "Arn": arn, "InputTransformer": transformer}])
    events.put_events(Entries=[told])
    wait_for(lambda: len(seen(manager, name)) == 2, "no second event came")
    assert seen(manager, name)[1] == {"number": 1, "text": "is 1"}


def schedule(cloud: Cloud, name: str, expression: str, arn: str, **target: Any) -> str:
    """A schedule of EventBridge Scheduler that is deleted once it has run; its ARN."""
    return str(
        cloud.client("scheduler").create_schedule(
            Name=name,
            ScheduleExpression=expression,
            FlexibleTimeWindow={"Mode": "OFF"},
            ActionAfterCompletion="DELETE",
            Target={"Arn": arn, "RoleArn": ROLE, **target},
        )["ScheduleArn"]
    )


def soon() -> str:
    return f"at({datetime.now(UTC) + timedelta(seconds=5):%Y-%m-%dT%H:%M:%S})"


def test_a_schedule_runs_once_with_its_input_as_its_role_and_is_deleted(manager: StubManager, cloud: Cloud) -> None:
    name = named("schedule")
    arn = manager.create(name, "record")  # which has no policy that lets anybody in
    text = json.dumps({"at": "<aws.scheduler.scheduled-time>", "of": "<aws.scheduler.schedule-arn>", "try": 0})
    text = text.replace("0", "<aws.scheduler.attempt-number>")
    when = soon()
    own = schedule(cloud, name, when, arn, Input=text)
    (event,) = wait_for(lambda: seen(manager, name), "no event came")
    assert event == {"at": f"{when[3:-1]}Z", "of": own, "try": 1}
    left = cloud.client("scheduler")
    wait_for(lambda: name not in [each["Name"] for each in left.list_schedules()["Schedules"]], "it was not deleted")


def test_a_rate_begins_at_once_with_the_event_of_the_scheduler(manager: StubManager, cloud: Cloud) -> None:
    name = named("rate")
    own = schedule(cloud, name, "rate(1 hour)", manager.create(name, "record"))
    (event,) = wait_for(lambda: seen(manager, name), "no event came")
    assert event.pop("id")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", event.pop("time"))
    assert event == {
        "version": "0",
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": ACCOUNT,
        "region": REGION,
        "resources": [own],
        "detail": "{}",
    }
    cloud.client("scheduler").delete_schedule(Name=name)


def test_a_schedule_of_a_function_that_is_not_there_writes_a_dead_letter(manager: StubManager, cloud: Cloud) -> None:
    name = named("letter")
    url, queue = cloud.queue(name)
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
    own = schedule(cloud, name, soon(), arn, Input="[1]", DeadLetterConfig={"Arn": queue})

    def received() -> Any:
        return cloud.client("sqs").receive_message(QueueUrl=url, MessageAttributeNames=["All"]).get("Messages")

    (letter,) = wait_for(received, "no dead letter came")
    assert letter["Body"] == "[1]"
    told = {key: value["StringValue"] for key, value in letter["MessageAttributes"].items()}
    assert (told["ERROR_CODE"], told["SCHEDULE_ARN"], told["TARGET_ARN"], told["RETRY_ATTEMPTS"]) == (
        "ResourceNotFoundException",
        own,
        arn,
        "0",
    )


def test_where_signatures_are_asked_for_services_and_queues_reach_functions_all_the_same(tmp_path: Path) -> None:
    import boto3

    name = named("signed")
    secret = "s" * 40
    own = {"RIE_ACCESS_KEY_ID": "testing", "RIE_SECRET_ACCESS_KEY": secret}
    arguments = ("--with-aws", "--aws-port", str(free_port()), "--auth")
    with stub_managing(tmp_path, *arguments, **own) as manager:
        cloud = exported(manager)
        manager.secret = secret
        arn = manager.create(name, "record")
        refused = manager.ask("POST", f"/2015-03-31/functions/{name}/invocations", b"{}")
        assert (refused.status, refused.headers["x-amzn-errortype"]) == (403, "MissingAuthenticationTokenException")
        allow(manager, name, "s3", f"arn:aws:s3:::{name}")
        bucket_with_trigger(cloud, name, arn).put_object(Bucket=name, Key="x", Body=b"")
        url, queue = cloud.queue(name)
        manager.client().create_event_source_mapping(EventSourceArn=queue, FunctionName=name)
        cloud.client("sqs").send_message(QueueUrl=url, MessageBody="1")
        logs = boto3.client(
            "logs",
            endpoint_url=manager.endpoint,
            region_name=REGION,
            aws_access_key_id="testing",
            aws_secret_access_key=secret,
        )

        def sources() -> set[str]:
            told = logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
            lines = [each["message"] for each in told if each["message"].startswith("EVENT ")]
            return {json.loads(line.removeprefix("EVENT "))["Records"][0]["eventSource"] for line in lines}

        def has_both() -> bool:
            try:
                return sources() == {"aws:s3", "aws:sqs"}
            except logs.exceptions.ResourceNotFoundException:  # nothing has run yet
                return False

        wait_for(has_both, "the events did not come")


def test_an_endpoint_that_dies_is_started_again_on_its_port(tmp_path: Path) -> None:
    import psutil

    with stub_managing(tmp_path, "--with-aws", "--aws-port", str(free_port())) as manager:
        cloud = exported(manager)
        assert manager.process is not None
        children = psutil.Process(manager.process.pid).children(recursive=True)
        (child,) = [each for each in children if "rie.cloud.endpoint" in each.cmdline()]
        child.kill()
        child.wait(20)
        wait_for(lambda: _lists(cloud) is not None, "the endpoint did not come back")
        name = named("again")
        arn = manager.create(name, "record")
        allow(manager, name, "s3", f"arn:aws:s3:::{name}")
        bucket_with_trigger(cloud, name, arn).put_object(Bucket=name, Key="x", Body=b"")
        wait_for(lambda: seen(manager, name), "no event came")
        manager.kill()
        wait_for(lambda: not _is_there(cloud), "the endpoint outlives its manager")


def _lists(cloud: Cloud) -> Any:
    try:
        return cloud.client("sqs").list_queues()
    except Exception:
        return None


def _is_there(cloud: Cloud) -> bool:
    import urllib.request

    try:
        urllib.request.urlopen(f"{cloud.endpoint}/moto-api/", timeout=2).close()
    except OSError:
        return False
    return True


# -- an endpoint that can't call us: queues are put behind buckets -----------------------------------------------------


def test_where_the_endpoint_cannot_call_a_queue_is_put_behind_the_bucket(tmp_path: Path) -> None:
    name = named("tap")
    with clouding(tmp_path) as cloud, stub_managing(tmp_path / "m", **cloud.environment) as manager:
        arn = manager.create(name, "record")
        allow(manager, name, "s3", f"arn:aws:s3:::{name}")
        rules = [{"Name": "suffix", "Value": ".txt"}]
        s3 = bucket_with_trigger(cloud, name, arn, Filter={"Key": {"FilterRules": rules}})

        def queues() -> list[Any]:
            told = s3.get_bucket_notification_configuration(Bucket=name)
            assert [each["Id"] for each in told.get("LambdaFunctionConfigurations", [])] in (["mine"], [])
            return list(told.get("QueueConfigurations", []))

        wait_for(queues, "no queue was put behind the bucket")
        for key in ("a.bin", "a b.txt"):
            s3.put_object(Bucket=name, Key=key, Body=b"12")
        (event,) = wait_for(lambda: seen(manager, name), "no event came")
        record = event["Records"][0]
        assert (record["s3"]["object"]["key"], record["s3"]["configurationId"]) == ("a+b.txt", "mine")
        manager.stop()
        end_long_polls(cloud)
        s3.put_object(Bucket=name, Key="meanwhile.txt", Body=b"")
        manager.start()
        wait_for(lambda: len(seen(manager, name)) == 2, "what came meanwhile is lost")
        left = [each for each in queues() if "rie-tap-" not in each["QueueArn"]]
        s3.put_bucket_notification_configuration(
            Bucket=name, NotificationConfiguration={"QueueConfigurations": left} if left else {}
        )
        wait_for(lambda: not cloud.client("sqs").list_queues().get("QueueUrls"), "the queue is still there")
        assert not queues()
