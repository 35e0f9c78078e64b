"""Parsing and rendering of members, by the model (lambda.md §0.1)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest

from rie.api.model import operation_model
from rie.api.parse import Parts, parse
from rie.api.render import render
from rie.clock import ManualClock, with_fraction, with_milliseconds, with_seconds
from rie.errors import ServiceError

AT = datetime(2025, 11, 25, 2, 26, 54, 123456, tzinfo=UTC)


def parsed(operation: str, **parts: Any) -> dict[str, Any]:
    given = {"labels": {}, "query": {}, "headers": {}, "body": b"", **parts}
    return parse(operation_model(operation), Parts(**given))


def answered(operation: str, answer: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    status, headers, body = render(operation_model(operation), answer, "id")
    return status, headers, orjson.loads(body) if body else None


def test_members_come_from_label_query_headers_and_a_raw_body() -> None:
    found = parsed(
        "Invoke",
        labels={"FunctionName": "f"},
        query={"Qualifier": ["1"]},
        headers={"x-amz-INVOCATION-type": "Event"},
        body=b"\x00\xff",
    )
    assert found == {"FunctionName": "f", "Qualifier": "1", "InvocationType": "Event", "Payload": b"\x00\xff"}


def test_lists_and_booleans_in_the_query() -> None:
    found = parsed(
        "ListDurableExecutionsByFunction",
        labels={"FunctionName": "f"},
        query={"Statuses": ["RUNNING", "FAILED"], "ReverseOrder": ["true"], "StartedAfter": ["2025-11-25T02:26:54Z"]},
    )
    assert found["Statuses"] == ["RUNNING", "FAILED"]
    assert found["ReverseOrder"] is True
    assert found["StartedAfter"] == AT.replace(microsecond=0)
    with pytest.raises(ServiceError, match="can not be converted to a Boolean"):
        parsed("ListDurableExecutionsByFunction", labels={"FunctionName": "f"}, query={"ReverseOrder": ["yes"]})


def test_blobs_in_a_body_are_base64_and_instants_are_numbers() -> None:
    body = b'{"ZipFile": "AAH/"}'
    assert parsed("UpdateFunctionCode", labels={"FunctionName": "f"}, body=body)["ZipFile"] == b"\x00\x01\xff"
    lines = b'{"ZipFile": "AA\\r\\nH/\\n"}'
    assert parsed("UpdateFunctionCode", labels={"FunctionName": "f"}, body=lines)["ZipFile"] == b"\x00\x01\xff"
    stamp = b'{"StartingPositionTimestamp": 1764037614.5}'
    instant = datetime(2025, 11, 25, 2, 26, 54, 500000, tzinfo=UTC)
    assert parsed("CreateEventSourceMapping", body=stamp)["StartingPositionTimestamp"] == instant


def test_a_structure_may_be_the_whole_body() -> None:
    found = parsed("StopDurableExecution", labels={"DurableExecutionArn": "a"}, body=b'{"ErrorMessage": "m"}')
    assert found["Error"] == {"ErrorMessage": "m"}


def test_the_status_is_the_models_or_the_answers_own() -> None:
    assert answered("CreateFunction", {})[0] == 201
    assert answered("DeleteFunction", {}) == (204, {"x-amzn-RequestId": "id", "Content-Type": "application/json"}, None)
    status, headers, body = render(
        operation_model("Invoke"), {"StatusCode": 202, "ExecutedVersion": "1", "Payload": b"x"}, "id"
    )
    assert (status, headers["X-Amz-Executed-Version"], body) == (202, "1", b"x")


def test_members_without_a_value_are_left_out_at_every_depth() -> None:
    answer = {"Configuration": {"Runtime": None, "Timeout": 3, "TracingConfig": {"Mode": None}}, "Tags": None}
    assert answered("GetFunction", answer)[2] == {"Configuration": {"Timeout": 3, "TracingConfig": {}}}


def test_a_member_that_the_model_lacks_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="Nonsense"):
        render(operation_model("GetFunction"), {"Nonsense": 1}, "id")
    with pytest.raises(ValueError, match="Nonsense"):
        render(operation_model("GetFunction"), {"Configuration": {"Nonsense": 1}}, "id")


@pytest.mark.parametrize(
    ("operation", "answer", "expected"),
    [
        ("GetFunctionConfiguration", {"LastModified": AT}, {"LastModified": "2025-11-25T02:26:54.123+0000"}),
        (
            "GetFunction",
            {"Configuration": {"LastModified": AT}},
            {"Configuration": {"LastModified": "2025-11-25T02:26:54.123+0000"}},
        ),
        ("GetLayerVersion", {"CreatedDate": AT}, {"CreatedDate": "2025-11-25T02:26:54.123+0000"}),
        ("GetFunctionUrlConfig", {"CreationTime": AT}, {"CreationTime": "2025-11-25T02:26:54.123456000Z"}),
        ("GetProvisionedConcurrencyConfig", {"LastModified": AT}, {"LastModified": "2025-11-25T02:26:54+0000"}),
        ("GetEventSourceMapping", {"LastModified": AT}, {"LastModified": AT.timestamp()}),
        ("GetFunctionEventInvokeConfig", {"LastModified": AT}, {"LastModified": AT.timestamp()}),
    ],
)
def test_instants_are_spelled_as_each_shape_has_them(operation: str, answer: Any, expected: Any) -> None:
    assert answered(operation, answer)[2] == expected


def test_instants_are_told_in_utc() -> None:
    elsewhere = AT.astimezone(timezone(timedelta(hours=5)))
    for spell in (with_milliseconds, with_seconds, with_fraction):
        assert spell(elsewhere) == spell(AT)


def test_a_manual_clock_moves_when_it_is_told_to() -> None:
    clock = ManualClock()
    clock.advance(1.5)
    assert clock.monotonic() == 1.5
    assert clock.now().microsecond == 623456
