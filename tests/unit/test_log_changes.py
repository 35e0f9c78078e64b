"""CloudWatch Logs' changes over the files: groups, streams, events in their order, what is refused."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from rie.errors import ServiceError
from rie.logs import put, writer
from rie.logs.bounds import Bounds, sweep
from rie.logs.changes import LogChanges
from rie.logs.files import LogFiles
from rie.logs.follow import LogLine
from rie.logs.groups import Group, Subscription, directory_of
from rie.logs.query import LogQueries
from rie.model.scope import Scope
from rie.triggers.log_subscriptions import pushes

SCOPE = Scope("123456789012", "eu-west-1")
GROUP = {"logGroupName": "mine"}
STREAM = {**GROUP, "logStreamName": "app.log/2026"}
ARN = "arn:aws:logs:eu-west-1:123456789012:log-group:mine"
NOW_MS = int(time.time() * 1e3)


class World:
    """Changes and queries over the same files, with a group and an empty stream in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = LogFiles(root)
        self.changes, self.queries = LogChanges(self.files), LogQueries(self.files)
        self.changes.create_log_group(SCOPE, GROUP)
        self.changes.create_log_stream(SCOPE, STREAM)

    def put(self, *events: tuple[int, str], **more: str) -> dict[str, Any]:
        """Instants are told from now, in ms."""
        given = [{"timestamp": NOW_MS + at_ms, "message": message} for at_ms, message in events]
        return self.changes.put_log_events(SCOPE, {**STREAM, **more, "logEvents": given})

    def read(self, **more: Any) -> list[tuple[int, str]]:
        page = self.queries.get_log_events(SCOPE, {**STREAM, "startFromHead": True, **more})
        return [(event["timestamp"] - NOW_MS, event["message"]) for event in page["events"]]

    def stream(self) -> dict[str, Any]:
        (found,) = self.queries.describe_log_streams(SCOPE, GROUP)["logStreams"]
        return dict(found)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_group_is_made_tagged_given_days_and_removed(world: World) -> None:
    changes, queries, name = world.changes, world.queries, {"logGroupName": "other"}
    changes.create_log_group(SCOPE, {**name, "tags": {"a": "1"}, "logGroupClass": "INFREQUENT_ACCESS", "kmsKeyId": "k"})
    with pytest.raises(ServiceError, match="already exists"):
        changes.create_log_group(SCOPE, name)
    changes.put_retention_policy(SCOPE, {**name, "retentionInDays": 7})
    arn = "arn:aws:logs:eu-west-1:123456789012:log-group:other"
    changes.tag_resource(SCOPE, {"resourceArn": arn, "tags": {"b": "2"}})
    changes.untag_resource(SCOPE, {"resourceArn": arn, "tagKeys": ["a"]})
    assert queries.list_tags_for_resource(SCOPE, {"resourceArn": arn}) == {"tags": {"b": "2"}}
    (group,) = queries.describe_log_groups(SCOPE, {"logGroupNamePrefix": "oth"})["logGroups"]
    assert (group["retentionInDays"], group["logGroupClass"], group["kmsKeyId"]) == (7, "INFREQUENT_ACCESS", "k")
    changes.disassociate_kms_key(SCOPE, {"resourceIdentifier": arn})
    changes.delete_retention_policy(SCOPE, name)
    (group,) = queries.describe_log_groups(SCOPE, {"logGroupIdentifiers": [arn]})["logGroups"]
    assert not {"retentionInDays", "kmsKeyId"} & set(group)
    changes.associate_kms_key(SCOPE, {**name, "kmsKeyId": "z"})
    assert queries.describe_log_groups(SCOPE, {"logGroupNamePrefix": "oth"})["logGroups"][0]["kmsKeyId"] == "z"
    changes.delete_log_group(SCOPE, name)
    with pytest.raises(ServiceError, match=r"The specified log group does not exist\."):
        queries.describe_log_streams(SCOPE, name)


def test_older_clients_tag_by_name(world: World) -> None:
    world.changes.tag_log_group(SCOPE, {**GROUP, "tags": {"a": "1", "b": "2"}})
    world.changes.untag_log_group(SCOPE, {**GROUP, "tags": ["a"]})
    assert world.queries.list_tags_log_group(SCOPE, GROUP) == {"tags": {"b": "2"}}


def test_a_group_has_fifty_tags(world: World) -> None:
    world.changes.tag_resource(SCOPE, {"resourceArn": ARN, "tags": {str(n): "" for n in range(50)}})
    with pytest.raises(ServiceError, match="no more than 50 tags"):
        world.changes.tag_resource(SCOPE, {"resourceArn": ARN, "tags": {"one more": ""}})


def test_days_are_those_that_the_service_has(world: World) -> None:
    with pytest.raises(ServiceError, match="Value '2' at 'retentionInDays' failed to satisfy constraint"):
        world.changes.put_retention_policy(SCOPE, {**GROUP, "retentionInDays": 2})


@pytest.mark.parametrize(
    ("pattern", "expected"), [("min|zzz", ["mine"]), ("^ine", []), ("^min", ["mine"]), ("ine", ["mine"])]
)
def test_groups_are_listed_by_parts_of_their_names(world: World, pattern: str, expected: list[str]) -> None:
    groups = world.queries.list_log_groups(SCOPE, {"logGroupNamePattern": pattern})["logGroups"]
    assert [group["logGroupName"] for group in groups] == expected


def test_a_stream_is_empty_then_has_what_was_put_then_is_gone(world: World) -> None:
    empty = world.stream()
    assert abs(empty["creationTime"] - time.time() * 1e3) < 60_000
    assert "firstEventTimestamp" not in empty
    assert world.read() == []
    with pytest.raises(ServiceError, match="log stream already exists"):
        world.changes.create_log_stream(SCOPE, STREAM)
    world.put((-5_000, "one"), (-5_000, "two\nlines\n"), (0, '{"three": "\u00fc"}'))
    assert world.read() == [(-5_000, "one"), (-5_000, "two\nlines\n"), (0, '{"three": "\u00fc"}')]
    found = world.stream()
    assert (found["logStreamName"], found["creationTime"]) == (STREAM["logStreamName"], empty["creationTime"])
    assert (found["firstEventTimestamp"], found["lastEventTimestamp"]) == (NOW_MS - 5_000, NOW_MS)
    world.changes.delete_log_stream(SCOPE, STREAM)
    for gone in (world.read, lambda: world.put((0, "late")), lambda: world.changes.delete_log_stream(SCOPE, STREAM)):
        with pytest.raises(ServiceError, match=r"The specified log stream does not exist\."):
            gone()


def test_what_comes_late_is_read_in_its_place(world: World) -> None:
    world.put((-1_000, "second\r"), (-500, "third"))
    world.put((-3_000, "first"))
    world.put((-700, "between"))
    expected = [(-3_000, "first"), (-1_000, "second\r"), (-700, "between"), (-500, "third")]
    assert world.read() == expected
    events = world.queries.filter_log_events(SCOPE, GROUP)["events"]
    assert [event["message"] for event in events] == [message for _, message in expected]


def test_an_event_of_the_next_hour_is_found_by_its_time(world: World) -> None:
    world.put((3_600_000, "soon"))
    assert world.read(startTime=NOW_MS + 3_000_000) == [(3_600_000, "soon")]


def test_a_full_file_makes_room_and_the_one_before_is_still_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(put, "MAX_STREAM_BYTES", 300)
    for number in range(12):
        world.put((number, chr(ord("a") + number) * 50))
    assert "".join(message[0] for _, message in world.read()) == "efghijkl"
    assert len(list(directory_of(world.root, "mine").glob("*.log*"))) == 2


def test_an_environments_stream_takes_events_beside_its_lines(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer.time, "time", lambda: (NOW_MS + 100) / 1e3)
    world.files.open("mine", STREAM["logStreamName"]).write(b"written\n")
    monkeypatch.undo()
    world.put((0, "before"), (200, "after"))
    assert world.read() == [(0, "before"), (100, "written\n"), (200, "after")]


@pytest.mark.parametrize("name", ["x" * 512, "\u00fc" * 512, "a.log.1", "~", "..", "/", "a%2Fb", "$LATEST[]~.put.log"])
def test_a_stream_may_be_named_anything_and_is_told_by_it(world: World, name: str) -> None:
    named = {**GROUP, "logStreamName": name}
    world.changes.create_log_stream(SCOPE, named)
    world.put((0, "here"), logStreamName=name)
    assert world.read(logStreamName=name) == [(0, "here")]
    streams = world.queries.describe_log_streams(SCOPE, {**GROUP, "logStreamNamePrefix": name})["logStreams"]
    assert [stream["logStreamName"] for stream in streams] == [name]
    outside = [path for path in world.root.rglob("*") if path.is_file() and path.parent.parent != world.root]
    assert outside == []


@pytest.mark.parametrize("name", ["a:b", "a*", "x" * 513])
def test_other_names_of_streams_are_refused(world: World, name: str) -> None:
    with pytest.raises(ServiceError, match="at 'logStreamName' failed to satisfy constraint"):
        world.changes.create_log_stream(SCOPE, {**GROUP, "logStreamName": name})


HOUR = 3_600_000


@pytest.mark.parametrize(
    ("events", "kept", "told"),
    [
        ([(0, "a")], ["a"], None),
        ([(0, "a"), (3 * HOUR, "b")], ["a"], {"tooNewLogEventStartIndex": 1}),
        ([(3 * HOUR, "b")], [], {"tooNewLogEventStartIndex": 0}),
        ([(-15 * 24 * HOUR, "a")], [], {"tooOldLogEventEndIndex": 1}),
        ([(-25 * HOUR, "a"), (-2 * HOUR, "b")], ["b"], {"expiredLogEventEndIndex": 1}),
    ],
)
def test_events_too_old_or_too_new_are_left_out_and_the_answer_says_which(
    world: World, events: list[tuple[int, str]], kept: list[str], told: dict[str, int] | None
) -> None:
    if told and "expiredLogEventEndIndex" in told:
        world.changes.put_retention_policy(SCOPE, {**GROUP, "retentionInDays": 1})
    assert world.put(*events).get("rejectedLogEventsInfo") == told
    assert [message for _, message in world.read()] == kept


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([(1, "a"), (0, "b")], "must be in chronological order"),
        ([(0, "a"), (25 * HOUR, "b")], "cannot span more than 24 hours"),
        ([(0, "x" * 1_048_551)], "Upload too large: 1048577 bytes exceeds limit of 1048576"),
        ([(0, "x")] * 10_001, "less than or equal to 10000"),
    ],
)
def test_a_batch_that_the_service_refuses_is_refused_whole(
    world: World, events: list[tuple[int, str]], text: str
) -> None:
    with pytest.raises(ServiceError, match=text):
        world.put(*events)
    assert world.read() == []


def test_who_puts_too_much_is_told_to_wait(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.files = LogFiles(tmp_path, kb_per_s=1)
    world.changes = LogChanges(world.files)
    world.put((0, "x" * 8_000))
    with pytest.raises(ServiceError, match="Rate exceeded") as caught:
        world.put((0, "y" * 8_000))
    assert caught.value.code == "ThrottlingException"
    assert len(world.read()) == 1


def test_streams_that_were_put_are_swept_like_others(world: World) -> None:
    world.put((0, "x" * 1_000))
    sweep(world.root, Bounds(function_bytes=100), time.time())
    assert world.queries.describe_log_streams(SCOPE, GROUP)["logStreams"] == []


def test_a_follower_hears_what_is_put(world: World) -> None:
    async def hear() -> str:
        with world.files.follow("mine") as follower:
            await asyncio.to_thread(world.put, (0, "two\nlines"))
            (line,) = await asyncio.wait_for(follower.get(), 10)
            return line.text

    assert asyncio.run(hear()) == "two\nlines"


FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:reader"


def subscribe(world: World, name: str = "f", **more: str) -> None:
    given = {"filterName": name, "filterPattern": "", "destinationArn": FUNCTION, **more}
    world.changes.put_subscription_filter(SCOPE, {**GROUP, **given})


def test_a_group_has_two_subscriptions_and_each_may_change(world: World) -> None:
    heard: list[Group | None] = []
    world.files.on_change = lambda name, group: heard.append(group)
    subscribe(world, "a")
    subscribe(world, "b", filterPattern="x")
    with pytest.raises(ServiceError, match="Resource limit exceeded"):
        subscribe(world, "c")
    subscribe(world, "b", filterPattern="y")
    found = world.queries.describe_subscription_filters(SCOPE, {**GROUP, "filterNamePrefix": "b"})
    assert [each["filterPattern"] for each in found["subscriptionFilters"]] == ["y"]
    world.changes.delete_subscription_filter(SCOPE, {**GROUP, "filterName": "a"})
    with pytest.raises(ServiceError, match="subscription filter does not exist"):
        world.changes.delete_subscription_filter(SCOPE, {**GROUP, "filterName": "a"})
    assert [each and [s.name for s in each.subscriptions] for each in heard] == [["a"], ["a", "b"], ["a", "b"], ["b"]]
    world.changes.delete_log_group(SCOPE, GROUP)
    assert heard[-1] is None


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"destinationArn": "arn:aws:kinesis:eu-west-1:123456789012:stream/s"}, "only functions are available here"),
        ({"filterPattern": "{ $.a = 1 }"}, "Invalid filter pattern"),
    ],
)
def test_a_subscription_that_would_not_work_is_refused(world: World, more: dict[str, str], text: str) -> None:
    with pytest.raises(ServiceError, match=text):
        subscribe(world, **more)


def test_many_lines_make_several_events_and_each_stream_its_own() -> None:
    lines = [LogLine(number, "ab"[number % 2], "x" * 100_000) for number in range(6)]
    made = pushes("123456789012", "mine", Subscription("f", "", FUNCTION, 0), lines)
    events = [json.loads(gzip.decompress(base64.b64decode(json.loads(p.payload)["awslogs"]["data"]))) for p in made]
    assert [(each["logStream"], len(each["logEvents"])) for each in events] == [("a", 2), ("a", 1), ("b", 2), ("b", 1)]
    assert {push.source_arn for push in made} == {"arn:aws:logs:eu-west-1:123456789012:log-group:mine:*"}
