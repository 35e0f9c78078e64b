"""Event source mappings while the endpoint of their sources is down at first, comes, dies, and comes again."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from tests.cloud import ACCOUNT, REGION, Cloud, clouding
from tests.contract.test_triggers import seen, wait_for
from tests.ports import free_port
from tests.stub_manager import StubManager, stub_managing

STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"


def result_of(manager: StubManager, mapping: str) -> str:
    return str(manager.client().get_event_source_mapping(UUID=mapping)["LastProcessingResult"])


def sources(cloud: Cloud, number: int) -> None:
    """A queue and a stream with one record each; moto forgets them with its process."""
    url = cloud.client("sqs").create_queue(QueueName="q")["QueueUrl"]
    cloud.client("sqs").send_message(QueueUrl=url, MessageBody=str(number))
    kinesis = cloud.client("kinesis")
    kinesis.create_stream(StreamName="s", ShardCount=1)
    kinesis.put_record(StreamName="s", Data=str(number).encode(), PartitionKey="k")


def given(manager: StubManager) -> set[str]:
    """What the functions have had of both."""
    records = [
        record for name in ("queued", "streamed") for event in seen(manager, name) for record in event["Records"]
    ]
    return {_text(record) for record in records}


def _text(record: dict[str, Any]) -> str:
    if "body" in record:
        return f"queue {record['body']}"
    return f"stream {base64.b64decode(record['kinesis']['data']).decode()}"


def test_an_endpoint_that_is_down_is_waited_for_and_shows(tmp_path: Path) -> None:
    port = free_port()
    cloud = Cloud(f"http://127.0.0.1:{port}")
    with stub_managing(tmp_path, **cloud.environment, RIE_ROLE_CREDENTIALS="own") as manager:
        manager.create("queued", "record")
        manager.create("streamed", "record")
        client = manager.client()
        client.create_event_source_mapping(EventSourceArn=QUEUE, FunctionName="queued")
        stream = client.create_event_source_mapping(
            EventSourceArn=STREAM, FunctionName="streamed", StartingPosition="TRIM_HORIZON"
        )["UUID"]
        wait_for(lambda: result_of(manager, stream).startswith("PROBLEM: "), "the problem does not show")
        with clouding(tmp_path, port):
            sources(cloud, 1)
            wait_for(lambda: given(manager) == {"queue 1", "stream 1"}, "nothing came once it was up", 120)
            wait_for(lambda: result_of(manager, stream) == "OK", "the problem still shows")
        wait_for(lambda: result_of(manager, stream).startswith("PROBLEM: "), "its death does not show")
        assert "Traceback" not in manager.log
        assert client.get_event_source_mapping(UUID=stream)["State"] == "Enabled"
        with clouding(tmp_path, port):
            sources(cloud, 2)
            wait_for(lambda: "queue 2" in given(manager), "nothing came of the queue once it was up again", 120)
            assert client.get_event_source_mapping(UUID=stream)["State"] == "Enabled"
