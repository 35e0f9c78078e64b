"""CloudWatch Logs' questions over the files: pages that end, tokens, patterns, ids, groups."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rie.errors import ServiceError
from rie.logs import query, writer
from rie.logs.files import LogFiles
from rie.logs.patterns import Unsupported, matcher
from rie.logs.query import LogQueries
from rie.model.scope import Scope

SCOPE = Scope("123456789012", "eu-west-1")
GROUP = "/aws/lambda/fn"


@pytest.fixture
def queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogQueries:
    """Two streams, "a" and "b": lines at 1 s, three at 2 s, one at 3 s."""
    logs = LogFiles(tmp_path)
    sinks = {name: logs.open(GROUP, name) for name in "ab"}
    for at, stream, text in ((1, "a", "one"), (2, "a", "two"), (2, "b", "2b"), (2, "a", "two again"), (3, "b", "end")):
        monkeypatch.setattr(writer.time, "time", lambda at=at: float(at))
        sinks[stream].write(text.encode() + b"\n")
    monkeypatch.undo()
    return LogQueries(logs)


def paged(operation: Callable[..., Any], key: str, **params: Any) -> list[Any]:
    found: list[Any] = []
    more: dict[str, Any] = {}
    for _ in range(100):
        answer = operation(SCOPE, {**params, **more})
        found += answer[key]
        if "nextToken" not in answer:
            return found
        more = {"nextToken": answer["nextToken"]}
    raise AssertionError("the pages do not end")


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_of_events_miss_nothing_and_repeat_nothing_also_within_one_instant(
    queries: LogQueries, limit: int
) -> None:
    events = paged(queries.filter_log_events, "events", logGroupName=GROUP, limit=limit)
    whole = paged(queries.filter_log_events, "events", logGroupName=GROUP)
    assert events == whole
    assert sorted(event["message"] for event in events) == ["2b\n", "end\n", "one\n", "two\n", "two again\n"]
    assert [event["timestamp"] for event in events] == [1_000, 2_000, 2_000, 2_000, 3_000]
    assert len({event["eventId"] for event in events}) == 5


def test_a_pattern_that_matches_nothing_ends_page_after_page(
    queries: LogQueries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "SCANNED", 2)
    assert paged(queries.filter_log_events, "events", logGroupName=GROUP, filterPattern="nowhere") == []
    found = paged(queries.filter_log_events, "events", logGroupName=GROUP, filterPattern="end")
    assert [event["message"] for event in found] == ["end\n"]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"startTime": 2_000, "endTime": 2_000, "logStreamNames": ["a"]}, ["two\n", "two again\n"]),
        ({"logStreamNamePrefix": "b"}, ["2b\n", "end\n"]),
        ({"filterPattern": "two -again"}, ["two\n"]),
        ({"logGroupIdentifier": f"arn:aws:logs:eu-west-1:123456789012:log-group:{GROUP}", "endTime": 1_500}, ["one\n"]),
    ],
)
def test_events_are_chosen_by_time_stream_and_pattern(
    queries: LogQueries, params: dict[str, Any], expected: list[str]
) -> None:
    group = {} if "logGroupIdentifier" in params else {"logGroupName": GROUP}
    events = queries.filter_log_events(SCOPE, {**group, **params})["events"]
    assert [event["message"] for event in events] == expected


def test_one_stream_is_read_forwards_until_the_token_stays_and_backwards_from_the_end(queries: LogQueries) -> None:
    call = {"logGroupName": GROUP, "logStreamName": "a", "limit": 2}
    first = queries.get_log_events(SCOPE, {**call, "startFromHead": True})
    assert [event["message"] for event in first["events"]] == ["one\n", "two\n"]
    second = queries.get_log_events(SCOPE, {**call, "nextToken": first["nextForwardToken"]})
    assert [event["message"] for event in second["events"]] == ["two again\n"]
    third = queries.get_log_events(SCOPE, {**call, "nextToken": second["nextForwardToken"]})
    assert (third["events"], third["nextForwardToken"]) == ([], second["nextForwardToken"])
    newest = queries.get_log_events(SCOPE, call)
    assert [event["message"] for event in newest["events"]] == ["two\n", "two again\n"]
    before = queries.get_log_events(SCOPE, {**call, "nextToken": newest["nextBackwardToken"]})
    assert [event["message"] for event in before["events"]] == ["one\n"]


def test_streams_come_by_name_or_newest_first(queries: LogQueries) -> None:
    assert [s["logStreamName"] for s in paged(queries.describe_log_streams, "logStreams", logGroupName=GROUP, limit=1)]
    streams = queries.describe_log_streams(SCOPE, {"logGroupName": GROUP, "orderBy": "LastEventTime"})["logStreams"]
    assert [stream["logStreamName"] for stream in streams] == ["a", "b"]
    assert streams[0]["firstEventTimestamp"] == 1_000
    assert streams[0]["arn"] == f"arn:aws:logs:eu-west-1:123456789012:log-group:{GROUP}:log-stream:a"


@pytest.mark.parametrize("token", ["x", "1:", "f/", "-1", "9" * 50, "\u0661:\u0662"])
def test_a_token_that_nobody_gave_is_refused(queries: LogQueries, token: str) -> None:
    for operation in (queries.filter_log_events, queries.describe_log_streams, queries.get_log_events):
        with pytest.raises(ServiceError, match="nextToken is invalid"):
            operation(SCOPE, {"logGroupName": GROUP, "logStreamName": "a", "nextToken": token})


@pytest.mark.parametrize(
    ("pattern", "line", "expected"),
    [
        ("", "anything", True),
        ("ERROR", "an ERROR", True),
        ("ERROR disk", "disk ERROR", True),
        ("ERROR disk", "ERROR", False),
        ("?ERROR ?WARN", "a WARN", True),
        ("?ERROR ?WARN", "INFO", False),
        ('"two words" -not', "has two words", True),
        ('"two words" -not', "has two words, not", False),
    ],
)
def test_patterns_of_plain_terms(pattern: str, line: str, expected: bool) -> None:
    assert matcher(pattern)(line) is expected


@pytest.mark.parametrize("pattern", ["{ $.level = 1 }", "[a, b]", '"open', "%regex%"])
def test_other_patterns_are_refused_not_misread(pattern: str) -> None:
    with pytest.raises(Unsupported):
        matcher(pattern)
