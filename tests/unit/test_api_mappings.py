"""Event source mappings through the API, their sources never looked at (lambda.md §6.1)."""

from __future__ import annotations

from typing import Any

import pytest
from test_api_world import ARN, World, failure
from werkzeug.test import TestResponse

MAPPINGS = "/2015-03-31/event-source-mappings"


@pytest.fixture
def world() -> World:
    made = World()
    made.active()
    made.active("g")
    return made


def kafka(world: World, *servers: str, topic: str = "orders", function: str = "f") -> TestResponse:
    """CreateEventSourceMapping of a Kafka cluster without an ARN."""
    source = {
        "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": servers}},
        "SourceAccessConfigurations": [{"Type": "BASIC_AUTH", "URI": "arn:aws:secretsmanager:us-east-1:1:secret:s"}],
        "StartingPosition": "TRIM_HORIZON",
    }
    return world.call("POST", MAPPINGS, {"FunctionName": function, "Topics": [topic], **source})


def test_a_topic_of_clusters_that_share_a_server_feeds_a_function_once(world: World) -> None:
    first = kafka(world, "one:9092", "two:9092")
    assert first.status_code == 202
    status, kind, body = failure(kafka(world, "two:9092"))
    assert (status, kind) == (409, "ResourceConflictException")
    assert body["message"] == (
        f'An event source mapping with event source ("one:9092,two:9092"), function ("{ARN}f"), topics ("orders") '
        f"already exists. Please update or delete the existing mapping with UUID {first.json['UUID']}"
    )
    assert kafka(world, "three:9092").status_code == 202
    assert kafka(world, "two:9092", topic="bills").status_code == 202
    assert kafka(world, "two:9092", function="g").status_code == 202


def test_what_is_only_kept_is_taken_away_with_an_empty_structure(world: World) -> None:
    poller = {"MinimumPollers": 2, "MaximumPollers": 4}
    made: Any = world.call(
        "POST",
        MAPPINGS,
        {
            "FunctionName": "f",
            "EventSourceArn": "arn:aws:sqs:us-east-1:123456789012:q",
            "Enabled": False,
            "ProvisionedPollerConfig": poller,
        },
    ).json
    assert made["ProvisionedPollerConfig"] == poller
    after = world.call("PUT", f"{MAPPINGS}/{made['UUID']}", {"ProvisionedPollerConfig": {}})
    assert (after.status_code, "ProvisionedPollerConfig" in after.json) == (202, False)
