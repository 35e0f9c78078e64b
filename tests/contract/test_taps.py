"""Topics and rules at an endpoint that can't call the manager: queues of its own are put behind them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cloud import ACCOUNT, Cloud, _answers
from tests.contract.test_triggers import (
    allow,
    check_that_the_wanted_comes,
    end_long_polls,
    named,
    seen,
    wait_for,
    wanted_only,
)
from tests.ports import free_port
from tests.stub_manager import StubManager, stub_managing


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The program that `--with-aws` runs, with nobody who reads what it would tell of functions."""
    port = free_port()
    log = tmp_path_factory.mktemp("cloud") / "cloud.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "rie.cloud.endpoint", f"127.0.0.1:{port}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    running = Cloud(f"http://127.0.0.1:{port}")
    try:
        until = time.monotonic() + 60
        while not _answers(running.endpoint):
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield running
    finally:
        assert process.stdin is not None
        process.stdin.close()  # its sign to end
        process.wait(20)


@pytest.fixture(scope="module")
def manager(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubManager]:
    with stub_managing(tmp_path_factory.mktemp("manager"), **cloud.environment) as running:
        yield running


def taps(cloud: Cloud) -> list[str]:
    return list(cloud.client("sqs").list_queues(QueueNamePrefix="rie-tap-").get("QueueUrls", []))


def subscriptions(sns: Any, topic: str) -> list[Any]:
    return list(sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"])


def test_a_topic_reaches_the_function_through_a_queue_with_the_same_filter(manager: StubManager, cloud: Cloud) -> None:
    name = named("topic")
    topic, mine = wanted_only(manager, cloud, name)
    sns = cloud.client("sns")
    wait_for(lambda: len(subscriptions(sns, topic)) == 2, "no queue was put behind the topic")
    check_that_the_wanted_comes(manager, cloud, name, topic, mine)  # told of the user's own, not of the queue's
    sns.unsubscribe(SubscriptionArn=mine)
    wait_for(lambda: not subscriptions(sns, topic), "the queue is still behind the topic")
    wait_for(lambda: not taps(cloud), "the queue is still there")


@pytest.mark.parametrize("bus", ["default", "orders"])
def test_a_rule_reaches_the_function_through_a_queue(manager: StubManager, cloud: Cloud, bus: str) -> None:
    name = named("rule")
    arn = manager.create(name, "record")
    events = cloud.client("events")
    if bus != "default":
        events.create_event_bus(Name=bus)
    pattern = {"source": [name], "detail": {"n": [1]}}
    rule = events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(pattern))["RuleArn"]
    allow(manager, name, "events", rule)
    transformer = {"InputPathsMap": {"n": "$.detail.n"}, "InputTemplate": '{"number": <n>}'}
    events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "f", "Arn": arn}])

    def targets() -> list[Any]:
        return list(events.list_targets_by_rule(Rule=name, EventBusName=bus)["Targets"])

    def put(number: int) -> str:
        told = {"Source": name, "DetailType": "Counted", "Detail": json.dumps({"n": number}), "EventBusName": bus}
        return str(events.put_events(Entries=[told])["Entries"][0]["EventId"])

    wait_for(lambda: len(targets()) == 2, "no queue was put behind the rule")
    put(2)
    event_id = put(1)
    (event,) = wait_for(lambda: seen(manager, name), "no event came")
    assert (event["id"], event["version"], event["account"]) == (event_id, "0", ACCOUNT)
    assert (event["source"], event["detail-type"], event["detail"]) == (name, "Counted", {"n": 1})
    before = {each["Id"] for each in targets()}
    events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "f", "Arn": arn, "InputTransformer": transformer}])
    wait_for(lambda: {each["Id"] for each in targets()} not in (before, {"f"}) and len(targets()) == 2, "it stays")
    put(1)
    wait_for(lambda: {"number": 1} in seen(manager, name), "the target's input is not used")
    manager.kill()
    end_long_polls(cloud)
    put(1)
    manager.start()
    wait_for(lambda: seen(manager, name).count({"number": 1}) == 2, "what came meanwhile is lost")
    events.remove_targets(Rule=name, EventBusName=bus, Ids=["f"])
    wait_for(lambda: not targets(), "the queue is still behind the rule")
    wait_for(lambda: not taps(cloud), "the queue is still there")


def test_a_topic_that_no_policy_lets_in_gets_no_queue(manager: StubManager, cloud: Cloud) -> None:
    name = named("closed")
    arn = manager.create(name, "record")
    sns = cloud.client("sns")
    closed, opened = (sns.create_topic(Name=named(each))["TopicArn"] for each in ("closed", "opened"))
    for topic in (closed, opened):
        sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn)
    allow(manager, name, "sns", opened)
    wait_for(lambda: len(subscriptions(sns, opened)) == 2, "no queue was put behind the topic")
    assert len(subscriptions(sns, closed)) == 1


def test_a_rest_api_keeps_its_binary_media_types(cloud: Cloud) -> None:
    client = cloud.client("apigateway")
    api = client.create_rest_api(name="pictures", binaryMediaTypes=["image/png"])
    add = {"op": "add", "path": "/binaryMediaTypes/image~1gif"}  # as AWS takes it
    client.update_rest_api(restApiId=api["id"], patchOperations=[add])
    kept = client.get_rest_api(restApiId=api["id"])["binaryMediaTypes"]
    assert (api["binaryMediaTypes"], kept) == (["image/png"], ["image/png", "image/gif"])
