"""Logs and metrics with real clients: a manager over the stub engine, CloudWatch Logs elsewhere and at the manager."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from prometheus_client.parser import text_string_to_metric_families

from tests.cloud import Cloud, clouding
from tests.ports import free_port
from tests.stub_manager import StubManager, stub_managing

BIN = Path(sys.executable).parent
SIGNED = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with clouding(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def manager(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubManager]:
    directory = tmp_path_factory.mktemp("manager")
    with stub_managing(directory, **{**SIGNED, "AWS_ENDPOINT_URL_LOGS": cloud.endpoint}) as running:
        yield running


def wait_for(holds: Callable[[], Any], otherwise: str, within_s: float = 60.0) -> Any:
    until = time.monotonic() + within_s
    while not (value := holds()):
        assert time.monotonic() < until, otherwise
        time.sleep(0.05)
    return value


def named(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        command, env={**given, **SIGNED, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


def logs_client(endpoint: str) -> Any:
    return boto3.client(
        "logs",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


def events_of(client: Any, group: str) -> list[dict[str, Any]]:
    pages = client.get_paginator("filter_log_events").paginate(logGroupName=group)
    try:
        return [event for page in pages for event in page["events"]]
    except client.exceptions.ResourceNotFoundException:
        return []


def test_the_lines_of_a_function_arrive_at_cloudwatch_logs_in_its_group_and_stream(
    manager: StubManager, cloud: Cloud
) -> None:
    name = named("told")
    manager.create(name, "record")
    request_id = manager.client().invoke(FunctionName=name, Payload=b'{"n": 1}')["ResponseMetadata"]["RequestId"]
    client = cloud.client("logs")
    group = f"/aws/lambda/{name}"
    events = wait_for(
        lambda: [e for e in events_of(client, group) if "REPORT" in e["message"]] and events_of(client, group),
        "the log does not arrive",
    )
    messages = [event["message"] for event in events]
    assert messages[1:3] == [f"START RequestId: {request_id} Version: $LATEST\n", 'EVENT {"n": 1}\n']
    assert [message.split(" ")[0] for message in messages[-2:]] == ["END", "REPORT"]
    (stream,) = {event["logStreamName"] for event in events}
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", stream)


def test_what_aws_logs_tail_asks_is_answered_by_the_endpoint_and_by_the_manager(
    manager: StubManager, cloud: Cloud
) -> None:
    """The CLI that is installed here, version 1, has no `tail`; this is the call that version 2 makes for it."""
    name = named("tailed")
    manager.create(name, "record")
    manager.client().invoke(FunctionName=name, Payload=b'"hello tail"')
    start = str(int((time.time() - 600) * 1e3))
    call = ("logs", "filter-log-events", "--log-group-name", f"/aws/lambda/{name}", "--start-time", start)
    for endpoint in (cloud.endpoint, manager.endpoint):

        def tail(endpoint: str = endpoint) -> str:
            return run(str(BIN / "aws"), "--endpoint-url", endpoint, *call, "--interleaved").stdout

        wait_for(lambda tail=tail: r"EVENT \"hello tail\"" in tail(), f"{endpoint} does not tell")


def test_a_shared_group_has_streams_that_name_their_functions(manager: StubManager) -> None:
    group = named("shared")
    for name in (f"{group}-a", f"{group}-b"):
        manager.create(name, "record", LoggingConfig={"LogGroup": group})
        manager.client().invoke(FunctionName=name, Payload=b"1")
    client = logs_client(manager.endpoint)
    wait_for(lambda: sum("REPORT" in e["message"] for e in events_of(client, group)) == 2, "lines are missing")
    streams = client.describe_log_streams(logGroupName=group)["logStreams"]
    pattern = r"\d{4}/\d\d/\d\d/(" + group + r"-[ab])\[\$LATEST\][0-9a-f]{32}"
    found = [re.fullmatch(pattern, stream["logStreamName"]) for stream in streams]
    assert sorted(each[1] for each in found if each) == [f"{group}-a", f"{group}-b"]


def test_boto3_reads_the_managers_own_cloudwatch_logs(manager: StubManager) -> None:
    name = named("own")
    manager.create(name, "record")
    for number in range(3):
        manager.client().invoke(FunctionName=name, Payload=str(number).encode())
    client = logs_client(manager.endpoint)
    group = f"/aws/lambda/{name}"
    wait_for(lambda: sum("REPORT" in e["message"] for e in events_of(client, group)) == 3, "lines are missing")
    (shown,) = client.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert shown["arn"] == f"arn:aws:logs:us-east-1:123456789012:log-group:{group}:*"
    (stream,) = client.describe_log_streams(logGroupName=group)["logStreams"]
    call = {"logGroupName": group, "logStreamName": stream["logStreamName"], "startFromHead": True, "limit": 4}
    messages: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = client.get_log_events(**call, **token)
        messages += [event["message"] for event in page["events"]]
        if token == {"nextToken": page["nextForwardToken"]}:
            break
        token = {"nextToken": page["nextForwardToken"]}
    assert messages == [event["message"] for event in events_of(client, group)]
    assert [message for message in messages if message.startswith("EVENT")] == ["EVENT 0\n", "EVENT 1\n", "EVENT 2\n"]


def test_boto3_puts_events_that_boto3_and_the_cli_read(manager: StubManager) -> None:
    client, group = logs_client(manager.endpoint), named("put")
    client.create_log_group(logGroupName=group, tags={"team": "rie"})
    client.create_log_stream(logGroupName=group, logStreamName="app.log")
    now_ms = int(time.time() * 1e3)
    batch = [{"timestamp": now_ms + n, "message": f"line {n}"} for n in range(3)]
    answer = client.put_log_events(logGroupName=group, logStreamName="app.log", logEvents=batch)
    again = {"logEvents": [{**batch[-1], "message": "last"}], "sequenceToken": answer["nextSequenceToken"]}
    client.put_log_events(logGroupName=group, logStreamName="app.log", **again)
    call = ("logs", "get-log-events", "--log-group-name", group, "--log-stream-name", "app.log", "--start-from-head")
    shown = run(str(BIN / "aws"), "--endpoint-url", manager.endpoint, *call, "--output", "json")
    messages = [event["message"] for event in json.loads(shown.stdout)["events"]]
    assert messages == ["line 0", "line 1", "line 2", "last"]
    assert [event["message"] for event in events_of(client, group)] == messages
    assert client.list_tags_log_group(logGroupName=group)["tags"] == {"team": "rie"}
    client.delete_log_stream(logGroupName=group, logStreamName="app.log")
    assert client.describe_log_streams(logGroupName=group)["logStreams"] == []


def told(manager: StubManager, name: str) -> list[dict[str, Any]]:
    """What a function that records its events has been told of log groups."""
    lines = [event["message"] for event in events_of(logs_client(manager.endpoint), f"/aws/lambda/{name}")]
    events = [json.loads(line.removeprefix("EVENT ")) for line in lines if line.startswith("EVENT ")]
    return [json.loads(gzip.decompress(base64.b64decode(event["awslogs"]["data"]))) for event in events]


def test_a_function_hears_of_the_lines_that_its_filter_lets_through(manager: StubManager) -> None:
    client, reader, writer = logs_client(manager.endpoint), named("reader"), named("writer")
    arn = manager.create(reader, "record")
    manager.create(writer, "record")
    group = f"/aws/lambda/{writer}"
    client.create_log_group(logGroupName=group)
    client.put_subscription_filter(
        logGroupName=group, filterName="mine", filterPattern="apple -rotten", destinationArn=arn
    )
    (shown,) = client.describe_subscription_filters(logGroupName=group)["subscriptionFilters"]
    assert (shown["filterName"], shown["filterPattern"], shown["destinationArn"]) == ("mine", "apple -rotten", arn)
    manager.client().invoke(FunctionName=writer, Payload=b'"an apple, but nobody may hear of it"')
    wait_for(lambda: f"log-group:{group}:* for {arn} is dropped" in manager.log, "who may not call is not refused")
    manager.client().add_permission(
        FunctionName=reader,
        StatementId="logs",
        Action="lambda:InvokeFunction",
        Principal="logs.amazonaws.com",
        SourceArn=f"arn:aws:logs:us-east-1:123456789012:log-group:{group}:*",
        SourceAccount="123456789012",
    )
    for text in ("a pear", "a rotten apple", "an apple"):
        manager.client().invoke(FunctionName=writer, Payload=json.dumps(text).encode())
    client.create_log_stream(logGroupName=group, logStreamName="by hand")
    now_ms = int(time.time() * 1e3)
    batch = [{"timestamp": now_ms, "message": "apple\npie"}]
    client.put_log_events(logGroupName=group, logStreamName="by hand", logEvents=batch)
    wait_for(lambda: len(told(manager, reader)) == 2, "it hears nothing")
    by_hand, of_function = sorted(told(manager, reader), key=lambda each: each["logStream"] != "by hand")
    assert list(of_function) == ["messageType", "owner", "logGroup", "logStream", "subscriptionFilters", "logEvents"]
    assert (of_function["messageType"], of_function["owner"]) == ("DATA_MESSAGE", "123456789012")
    assert (of_function["logGroup"], of_function["subscriptionFilters"]) == (group, ["mine"])
    assert [event["message"] for event in of_function["logEvents"]] == ['EVENT "an apple"\n']
    (event,) = by_hand["logEvents"]
    assert (event["timestamp"], event["message"]) == (now_ms, "apple\npie")
    client.delete_subscription_filter(logGroupName=group, filterName="mine")
    assert client.describe_subscription_filters(logGroupName=group)["subscriptionFilters"] == []


def test_a_function_does_not_hear_of_itself(manager: StubManager) -> None:
    client, name, other = logs_client(manager.endpoint), named("self"), named("other")
    for each in (name, other):
        manager.create(each, "record", LoggingConfig={"LogGroup": f"{name}-shared"})
        manager.client().add_permission(
            FunctionName=each, StatementId="s", Action="lambda:InvokeFunction", Principal="logs.amazonaws.com"
        )
    group = {"logGroupName": f"{name}-shared"}
    client.create_log_group(**group)
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{name}"
    client.put_subscription_filter(**group, filterName="f", filterPattern="EVENT", destinationArn=arn)
    manager.client().invoke(FunctionName=name, Payload=b'"from itself"')
    manager.client().invoke(FunctionName=other, Payload=b'"from the other"')

    def heard() -> list[str]:
        messages = [event["message"] for event in events_of(client, group["logGroupName"])]
        return [each for each in messages if "awslogs" in each]

    (line,) = wait_for(heard, "it hears nothing")
    document = json.loads(line.removeprefix("EVENT "))["awslogs"]["data"]
    (event,) = json.loads(gzip.decompress(base64.b64decode(document)))["logEvents"]
    assert event["message"] == 'EVENT "from the other"\n'


@pytest.mark.parametrize(
    ("operation", "params", "code"),
    [
        ("filter_log_events", {"logGroupName": "nobody"}, "ResourceNotFoundException"),
        ("get_log_events", {"logGroupName": "nobody", "logStreamName": "s"}, "ResourceNotFoundException"),
        ("create_log_group", {"logGroupName": "bad name"}, "InvalidParameterException"),
        ("create_log_stream", {"logGroupName": "nobody", "logStreamName": "s"}, "ResourceNotFoundException"),
        ("delete_subscription_filter", {"logGroupName": "nobody", "filterName": "f"}, "ResourceNotFoundException"),
        ("delete_log_stream", {"logGroupName": "nobody", "logStreamName": "s"}, "ResourceNotFoundException"),
        ("start_query", {"startTime": 0, "endTime": 1, "queryString": "x"}, "UnknownOperationException"),
    ],
)
def test_what_is_not_there_is_told_as_the_service_does(
    manager: StubManager, operation: str, params: dict[str, Any], code: str
) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(logs_client(manager.endpoint), operation)(**params)
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"logGroupName": 1}', b'{"logGroupName": {"a": []}}'])
def test_a_body_that_is_no_request_is_refused(manager: StubManager, body: bytes) -> None:
    headers = {"X-Amz-Target": "Logs_20140328.FilterLogEvents", "Content-Type": "application/x-amz-json-1.1"}
    request = urllib.request.Request(f"{manager.endpoint}/", body, headers, method="POST")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=20)
    assert caught.value.code == 400


def metrics_of(manager: StubManager) -> dict[tuple[str, str], float]:
    """By sample's name and function; of buckets those without an upper bound."""
    with urllib.request.urlopen(f"{manager.endpoint}/_rie/metrics", timeout=20) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            (sample.name, sample.labels.get("function", "")): sample.value
            for family in families
            for sample in family.samples
            if sample.labels.get("le", "+Inf") == "+Inf"
        }


def send(manager: StubManager, name: str, event: bytes) -> None:
    """Its answer may never come."""
    with contextlib.suppress(Exception):
        manager.client().invoke(FunctionName=name, Payload=event)


def test_metrics_count_what_ran_what_failed_and_what_was_refused(manager: StubManager, tmp_path: Path) -> None:
    with stub_managing(tmp_path, "--concurrency", "1", RIE_DRAIN_S="0") as small:
        small.create("well")
        small.create("ill", "fail")
        small.create("slow", "sleep", Timeout=900)
        for name in ("well", "well", "ill"):
            small.client().invoke(FunctionName=name)
        event = b'{"seconds": 600}'
        caller = threading.Thread(target=lambda: send(small, "slow", event), daemon=True)
        caller.start()
        wait_for(lambda: metrics_of(small).get(("rie_concurrent_executions", "slow")) == 1, "it does not run")
        with pytest.raises(ClientError, match="TooManyRequestsException"):
            small.client().invoke(FunctionName="well")
        found = metrics_of(small)
    assert found["rie_invocations_total", "well"] == 2
    assert found["rie_errors_total", "well"] == 0
    assert found["rie_cold_starts_total", "well"] == 1
    assert found["rie_throttles_total", "well"] == 1
    assert found["rie_duration_milliseconds_count", "well"] == 2
    assert found["rie_errors_total", "ill"] == found["rie_invocations_total", "ill"] == 1
    assert found["rie_account_concurrent_executions", ""] == 1
    assert found["rie_async_events_waiting", ""] == 0


def test_asynchronous_events_are_counted(manager: StubManager) -> None:
    name = named("counted")
    manager.create(name, "fail")
    manager.client().put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    manager.client().invoke(FunctionName=name, InvocationType="Event")
    wait_for(lambda: metrics_of(manager).get(("rie_async_events_dropped_total", name)) == 1, "the event is not dropped")
    assert metrics_of(manager)["rie_async_events_received_total", name] == 1


def test_rie_logs_shows_what_is_asked_for(manager: StubManager) -> None:
    name = named("shown")
    manager.create(name, "record")
    manager.client().invoke(FunctionName=name, Payload=b'"apple"')
    manager.client().invoke(FunctionName=name, Payload=b'"pear"')

    def shown(*arguments: str) -> list[str]:
        done = run(str(BIN / "rie"), "logs", name, "--endpoint", manager.endpoint, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    wait_for(lambda: sum("REPORT" in line for line in shown()) == 2, "lines are missing")
    assert [line.split(" ", 1)[1] for line in shown("--grep", "EVENT .*pe")] == ['EVENT "pear"']
    lines = [json.loads(line) for line in shown("--json")]
    assert set(lines[0]) == {"atMs", "stream", "text"}
    assert shown("--stream", "nowhere") == []
    assert len(shown("--stream", lines[0]["stream"])) == len(lines)
    done = run(str(BIN / "rie"), "logs", name, "--endpoint", manager.endpoint, "--grep", "(")
    assert (done.returncode, "no regular expression" in done.stderr.replace("\n", " ")) == (2, True)


def test_an_endpoint_that_is_down_holds_up_no_invocation_and_lines_arrive_once_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    with stub_managing(tmp_path, **SIGNED, AWS_ENDPOINT_URL_LOGS=f"http://127.0.0.1:{port}") as manager:
        manager.create("fn", "record")
        for number in range(20):
            assert manager.client().invoke(FunctionName="fn", Payload=str(number).encode())["StatusCode"] == 200
        wait_for(lambda: metrics_of(manager)["rie_logs_undelivered_bytes", ""] > 0, "nothing waits")
        wait_for(lambda: "cannot deliver logs" in manager.log, "nobody says so")
        with clouding(tmp_path, port) as cloud:
            client = cloud.client("logs")
            wait_for(lambda: metrics_of(manager)["rie_logs_undelivered_bytes", ""] == 0, "lines are left")
            told = [event["message"] for event in events_of(client, "/aws/lambda/fn")]
    assert [line for line in told if line.startswith("EVENT")] == [f"EVENT {number}\n" for number in range(20)]


def test_with_auth_logs_are_told_to_whom_the_account_lets_read_them(tmp_path: Path) -> None:
    allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "logs:*", "Resource": "*"}]}
    only_lambda = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "lambda:*", "Resource": "*"}]}
    streams = {"Effect": "Allow", "Action": "logs:PutLogEvents", "Resource": "*:log-group:app:log-stream:mine"}
    making = {"Effect": "Allow", "Action": "logs:CreateLogStream", "Resource": "*:log-group:app:*"}
    one_stream = {"Version": "2012-10-17", "Statement": [streams, making]}
    keys = {
        "AKIAWRITER": {"secret": "s" * 40, "account": "123456789012", "user": "app", "policies": [one_stream]},
        "AKIAREADER": {"secret": "s" * 40, "account": "123456789012", "user": "ada", "policies": [allowed]},
        "AKIAOTHER": {"secret": "s" * 40, "account": "123456789012", "user": "bob", "policies": [only_lambda]},
        "AKIASTRANGER": {"secret": "s" * 40, "account": "210987654321", "user": "eve"},
    }
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": keys}))
    path.chmod(0o600)
    with stub_managing(tmp_path, "--auth", "--keys", str(path)) as manager:

        def client_of(key: str) -> Any:
            return boto3.client(
                "logs",
                endpoint_url=manager.endpoint,
                region_name="us-east-1",
                aws_access_key_id=key,
                aws_secret_access_key="s" * 40,
            )

        def groups(key: str) -> Any:
            return client_of(key).describe_log_groups()["logGroups"]

        assert groups("AKIAREADER") == []
        client_of("AKIAREADER").create_log_group(logGroupName="app")
        own = client_of("AKIAWRITER")
        own.create_log_stream(logGroupName="app", logStreamName="mine")
        events = [{"timestamp": int(time.time() * 1e3), "message": "x"}]
        own.put_log_events(logGroupName="app", logStreamName="mine", logEvents=events)
        with pytest.raises(ClientError, match="AccessDenied"):
            own.put_log_events(logGroupName="app", logStreamName="others", logEvents=events)
        for key in ("AKIAOTHER", "AKIASTRANGER", "AKIANOBODY"):
            with pytest.raises(ClientError) as caught:
                groups(key)
            assert caught.value.response["Error"]["Code"] in ("AccessDeniedException", "UnrecognizedClientException")
