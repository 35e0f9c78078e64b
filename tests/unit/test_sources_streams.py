"""Stream pollers over a scripted stream, with a clock that is moved by hand: order, failures, windows, resharding."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from rie.clock import ManualClock
from rie.errors import ServiceError
from rie.model.event import Delivery
from rie.model.function import FunctionKey
from rie.model.invocation import Outcome
from rie.model.mapping import Checkpoint, Mapping
from rie.sources import shard_reader, stream_poller
from rie.sources.around import Around
from rie.sources.shard_source import Shard, StreamRecord
from rie.sources.stream_poller import StreamPoller

STREAM = "arn:aws:kinesis:us-east-1:123456789012:stream/s"
KEY = FunctionKey("123456789012", "us-east-1", "f")
START = ManualClock().now().timestamp()

Handler = Callable[[dict[str, Any]], Any]
"""A function: takes the event, answers, or raises."""


class Broken(Exception):
    """What a handler raises to fail."""


def record(number: int, key: str = "k", at: float = START) -> StreamRecord:
    return StreamRecord(f"{number:04d}", key, at, {"n": number}, {"data": str(number)}, 100)


@dataclass
class ScriptedStream:
    """Implements `ShardSource`: shards of records that are there already; some are closed."""

    shards_told: list[Shard] = field(default_factory=lambda: [Shard("s-0")])
    records: dict[str, list[StreamRecord]] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    fails: int = 0  # reads that fail before one succeeds
    idle_s = 0.001
    batch_info = "KinesisBatchInfo"
    payload: str | None = None

    def shards(self) -> list[Shard]:
        return list(self.shards_told)

    def iterator(self, shard: str, *, after: str | None, position: str, at: float | None) -> str:
        there = self.records.get(shard, [])
        if after:
            begin = sum(each.sequence <= after for each in there)
        elif position == "LATEST":
            begin = len(there)
        elif position == "AT_TIMESTAMP":
            assert at is not None
            begin = sum(each.arrived_at < at for each in there)
        else:
            begin = 0
        return f"{begin}"

    def read(self, shard: str, iterator: str, most: int) -> tuple[Sequence[StreamRecord], str | None]:
        if self.fails:
            self.fails -= 1
            raise ConnectionError("throttled")
        begin = int(iterator)
        found = self.records.get(shard, [])[begin : begin + most]
        is_end = shard in self.closed and begin + len(found) == len(self.records.get(shard, []))
        return found, None if is_end else f"{begin + len(found)}"

    def instant(self, at: float) -> str:
        return str(at)


@dataclass
class World:
    """What a poller needs, and what it did."""

    stream: ScriptedStream
    handler: Handler = lambda event: None
    clock: ManualClock = field(default_factory=ManualClock)
    events: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)
    at_a_time: int = 0
    most_at_a_time: int = 0

    @property
    def batches(self) -> list[list[int]]:
        return [[each["n"] for each in event["Records"]] for event in self.events]

    @property
    def given(self) -> list[int]:
        """All of the batches' records in one."""
        return [number for batch in self.batches for number in batch]

    async def run(self, mapping: Mapping, payload: bytes) -> Outcome:
        event = json.loads(payload)
        self.events.append(event)
        self.at_a_time += 1
        self.most_at_a_time = max(self.most_at_a_time, self.at_a_time)
        try:
            await asyncio.sleep(0)
            answer = self.handler(event)
        except Broken:
            return Outcome(b"{}", "$LATEST", "Unhandled")
        finally:
            self.at_a_time -= 1
        return Outcome(json.dumps(answer).encode(), "$LATEST")

    async def load(self, mapping: Mapping, shard: str) -> Checkpoint | None:
        return self.checkpoints.get(shard)

    async def save(self, mapping: Mapping, shard: str, checkpoint: Checkpoint) -> None:
        self.checkpoints[shard] = checkpoint

    async def deliver(self, deliveries: tuple[Delivery, ...]) -> None:
        self.told += [json.loads(each.body) for each in deliveries]

    @property
    def around(self) -> Around:
        return Around(
            run=self.run,
            client=lambda mapping: None,
            timeout_s=lambda mapping: 3,
            role=lambda mapping: "role",
            note=lambda mapping, text: self.notes.append(text),
            load=self.load,
            save=self.save,
            deliver=self.deliver,
            clock=self.clock,
        )

    def poll(self, until: Callable[[], bool], **settings: Any) -> None:
        """Run a poller until something holds."""
        mapping = replace(
            Mapping("u", KEY, None, KEY.arn, "kinesis", STREAM, 0.0, starting_position="TRIM_HORIZON"), **settings
        )

        async def polling() -> None:
            poller = StreamPoller(mapping, self.around)
            poller._source = lambda: self.stream  # type: ignore[method-assign]
            task = asyncio.create_task(poller.run())
            await soon(until)
            poller.stop()
            await task

        asyncio.run(polling())


async def soon(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what it waits for is no event
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_reader, "pause_s", lambda failures: 0.001)
    monkeypatch.setattr(stream_poller, "pause_s", lambda failures: 0.001)
    monkeypatch.setattr(stream_poller, "LOOK_AGAIN_S", 0.005)


def one_shard(*records: StreamRecord, closed: bool = False) -> ScriptedStream:
    return ScriptedStream(records={"s-0": list(records)}, closed={"s-0"} if closed else set())


def numbers(first: int, last: int, **more: Any) -> list[StreamRecord]:
    return [record(number, **more) for number in range(first, last + 1)]


# -- resharding --------------------------------------------------------------------------------------------------------


def test_parents_are_worked_off_before_their_children() -> None:
    family = [Shard("parent"), Shard("left", ("parent",)), Shard("merged", ("left", "other")), Shard("other")]
    stream = ScriptedStream(family, closed={"parent", "left", "other"})
    stream.records = {"parent": numbers(1, 25), "left": numbers(26, 30), "other": [], "merged": numbers(31, 40)}
    world = World(stream)
    world.poll(lambda: len(world.given) >= 40, batch_size=10)
    assert world.given == list(range(1, 41))
    assert world.checkpoints["parent"].is_done
    assert not world.checkpoints["merged"].is_done


def test_a_child_waits_while_its_parent_fails() -> None:
    stream = ScriptedStream([Shard("parent"), Shard("child", ("parent",))], closed={"parent"})
    stream.records = {"parent": numbers(1, 1), "child": numbers(2, 2)}
    attempts = []

    def handler(event: dict[str, Any]) -> None:
        attempts.append(event["Records"][0]["n"])
        if attempts.count(1) < 4:
            raise Broken

    world = World(stream, handler)
    world.poll(lambda: 2 in attempts)
    assert attempts == [1, 1, 1, 1, 2]


def test_a_parent_that_was_done_before_a_restart_is_not_read_again() -> None:
    stream = ScriptedStream([Shard("parent"), Shard("child", ("parent",))], closed={"parent"})
    stream.records = {"parent": numbers(1, 3), "child": numbers(4, 5)}
    world = World(stream, checkpoints={"parent": Checkpoint("0003", is_done=True), "child": Checkpoint("0004")})
    world.poll(lambda: bool(world.events))
    assert world.batches == [[5]]


def test_latest_leaves_out_what_was_in_the_children_before_and_nothing_that_comes() -> None:
    stream = ScriptedStream([Shard("parent"), Shard("child", ("parent",))], closed={"parent"})
    stream.records = {"parent": numbers(1, 3, at=START - 100), "child": numbers(4, 6, at=START - 50)}
    world = World(stream)
    world.poll(lambda: "child" in world.checkpoints, starting_position="LATEST")
    stream.records["child"] += numbers(7, 8, at=START + 10)
    stream.shards_told.append(Shard("grandchild", ("child",)))
    stream.closed.add("child")
    stream.records["grandchild"] = numbers(9, 9, at=START + 20)
    world.poll(lambda: len(world.given) >= 3, starting_position="LATEST")
    assert world.given == [7, 8, 9]


# -- order and concurrency ---------------------------------------------------------------------------------------------


def test_a_shard_has_one_batch_in_flight() -> None:
    world = World(one_shard(*numbers(1, 30)))
    world.poll(lambda: len(world.events) >= 3, batch_size=10)
    assert world.most_at_a_time == 1
    assert world.batches == [list(range(1, 11)), list(range(11, 21)), list(range(21, 31))]


def test_lanes_run_beside_each_other_and_keep_the_order_of_each_key() -> None:
    records = [record(number, key=f"k{number % 7}") for number in range(60)]
    world = World(one_shard(*records))
    world.poll(lambda: len(world.given) >= 60, batch_size=5, parallelization=4)
    assert 1 < world.most_at_a_time <= 4
    assert all(len(batch) <= 5 for batch in world.batches)
    for key in range(7):
        in_lane = [number for number in world.given if number % 7 == key]
        assert in_lane == sorted(in_lane)
    assert world.checkpoints["s-0"].sequence == "0059"


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_batch_is_tried_once_more_than_its_retries_then_told_and_left_behind() -> None:
    def handler(event: dict[str, Any]) -> None:
        if event["Records"][0]["n"] == 1:
            raise Broken

    world = World(one_shard(*numbers(1, 4)), handler)
    world.poll(lambda: [3, 4] in world.batches, batch_size=2, max_retries=2, on_failure="arn:aws:sqs:r:a:q")
    assert world.batches == [[1, 2], [1, 2], [1, 2], [3, 4]]
    (told,) = world.told
    assert told["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert told["requestContext"]["approximateInvokeCount"] == 3
    assert (told["KinesisBatchInfo"]["startSequenceNumber"], told["KinesisBatchInfo"]["batchSize"]) == ("0001", 2)


def test_reported_failures_are_tried_again_from_the_lowest() -> None:
    answers = [{"batchItemFailures": [{"itemIdentifier": "0004"}, {"itemIdentifier": "0003"}]}, None]
    world = World(one_shard(*numbers(1, 5)), lambda event: answers.pop(0))
    world.poll(lambda: len(world.events) == 2, reports_failures=True)
    assert world.batches == [[1, 2, 3, 4, 5], [3, 4, 5]]


def test_the_checkpoint_is_at_the_lowest_reported_failure() -> None:
    seen: list[str] = []

    def handler(event: dict[str, Any]) -> Any:
        seen.append(world.checkpoints.get("s-0", Checkpoint()).sequence)
        return {"batchItemFailures": [{"itemIdentifier": "0003"}]} if len(seen) < 3 else None

    world = World(one_shard(*numbers(1, 5)), handler)
    world.poll(lambda: len(seen) >= 3, reports_failures=True)
    assert seen == ["", "0002", "0002"]


def test_a_partial_failure_that_is_given_up_has_no_function_error() -> None:
    answer = {"batchItemFailures": [{"itemIdentifier": "0002"}]}
    world = World(one_shard(*numbers(1, 2)), lambda event: answer)
    world.poll(lambda: bool(world.told), reports_failures=True, max_retries=1, on_failure="arn:aws:sqs:r:a:q")
    assert world.batches == [[1, 2], [2]]
    assert world.told[0]["responseContext"] == {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": None,
    }


def test_records_too_old_are_told_and_never_tried() -> None:
    old, young = numbers(1, 2, at=START - 100), numbers(3, 4, at=START - 10)
    world = World(one_shard(*old, *young))
    world.poll(lambda: bool(world.events), max_age_s=60, on_failure="arn:aws:sqs:r:a:q")
    assert world.batches == [[3, 4]]
    (told,) = world.told
    assert told["requestContext"]["condition"] == "RecordAgeExceeded"
    assert told["requestContext"]["approximateInvokeCount"] == 1
    assert "responseContext" not in told
    assert told["KinesisBatchInfo"]["endSequenceNumber"] == "0002"


def test_a_batch_that_fails_until_it_is_too_old_is_given_up() -> None:
    def handler(event: dict[str, Any]) -> None:
        world.clock.advance(25)
        raise Broken

    world = World(one_shard(*numbers(1, 2)), handler)
    world.poll(lambda: bool(world.told), max_age_s=60, on_failure="arn:aws:sqs:r:a:q")
    assert len(world.events) == 3
    assert world.told[0]["requestContext"] == {
        **world.told[0]["requestContext"],
        "condition": "RecordAgeExceeded",
        "approximateInvokeCount": 3,
    }


def test_throttled_batches_wait_and_use_up_no_retries() -> None:
    left = [5]

    class Throttling(World):
        async def run(self, mapping: Mapping, payload: bytes) -> Outcome:
            if left[0]:
                left[0] -= 1
                raise ServiceError("TooManyRequestsException", "Rate Exceeded.")
            return await super().run(mapping, payload)

    world = Throttling(one_shard(*numbers(1, 2)))
    world.poll(lambda: bool(world.events), max_retries=0)
    assert world.batches == [[1, 2]]
    assert "PROBLEM: Function call was throttled" in world.notes
    assert world.notes[-1] == "OK"


def test_a_stream_that_cannot_be_read_is_read_on_where_it_was() -> None:
    stream = one_shard(*numbers(1, 20))
    world = World(stream)

    def handler(event: dict[str, Any]) -> None:
        if event["Records"][0]["n"] == 1:
            stream.fails = 3

    world.handler = handler
    world.poll(lambda: len(world.events) >= 2, batch_size=10)
    assert world.batches == [list(range(1, 11)), list(range(11, 21))]
    assert "PROBLEM: throttled" in world.notes


# -- tumbling windows --------------------------------------------------------------------------------------------------


def summing(event: dict[str, Any]) -> dict[str, Any]:
    return {"state": {"sum": event["state"].get("sum", 0) + sum(each["n"] for each in event["Records"])}}


def test_a_window_hands_its_state_on_and_ends_with_a_final_call() -> None:
    first = numbers(1, 4, at=START)
    world = World(one_shard(*first, record(5, at=START + 60)), summing)
    world.poll(lambda: [5] in world.batches, batch_size=2, tumbling_window_s=60)
    assert world.batches == [[1, 2], [3, 4], [], [5]]
    assert [event["state"] for event in world.events] == [{}, {"sum": 3}, {"sum": 10}, {}]
    assert [event["isFinalInvokeForWindow"] for event in world.events] == [False, False, True, False]
    assert not any(event["isWindowTerminatedEarly"] for event in world.events)
    begin = START - START % 60
    assert world.events[0]["window"]["start"] != world.events[3]["window"]["start"]
    assert world.checkpoints["s-0"].window_end == begin + 120
    assert (world.events[0]["shardId"], world.events[0]["eventSourceARN"]) == ("s-0", STREAM)


def test_a_window_is_over_once_its_time_has_passed_without_records() -> None:
    world = World(one_shard(*numbers(1, 1)), summing)

    def passed() -> bool:
        if world.events:
            world.clock.advance(1)
        return len(world.events) >= 2

    world.poll(passed, tumbling_window_s=60)
    assert world.events[1]["isFinalInvokeForWindow"]
    assert world.events[1]["state"] == {"sum": 1}


def test_a_window_survives_a_restart() -> None:
    stream = one_shard(*numbers(1, 2))
    world = World(stream, summing)
    world.poll(lambda: world.checkpoints.get("s-0", Checkpoint()).sequence == "0002", tumbling_window_s=60)
    stream.records["s-0"].append(record(3))
    world.poll(lambda: len(world.events) >= 2, tumbling_window_s=60)
    assert world.events[1]["state"] == {"sum": 3}
    assert world.batches[1] == [3]


def test_an_answer_without_a_state_is_a_failure() -> None:
    answers = [None, {"batchItemFailures": []}, {"state": {"ok": 1}}]
    world = World(one_shard(*numbers(1, 1)), lambda event: answers.pop(0))
    world.poll(lambda: not answers, tumbling_window_s=60)
    assert world.batches == [[1], [1], [1]]


def test_the_second_half_of_a_halved_batch_has_the_state_of_the_first() -> None:
    def handler(event: dict[str, Any]) -> Any:
        if len(event["Records"]) == 4:
            raise Broken
        return summing(event)

    world = World(one_shard(*numbers(1, 4)), handler)
    world.poll(lambda: len(world.events) >= 3, tumbling_window_s=60, does_bisect=True)
    assert world.batches == [[1, 2, 3, 4], [1, 2], [3, 4]]
    assert [event["state"] for event in world.events] == [{}, {}, {"sum": 3}]


def test_a_state_that_is_too_large_ends_its_window_early() -> None:
    answers = [{"state": "x" * 1_048_576}, {"state": {}}, {"state": {}}]
    world = World(one_shard(*numbers(1, 2)), lambda event: answers.pop(0))
    world.poll(lambda: not answers, batch_size=1, tumbling_window_s=60)
    assert world.batches == [[1], [], [2]]
    assert world.events[1]["isWindowTerminatedEarly"]
    assert world.events[1]["isFinalInvokeForWindow"]
    assert world.events[2]["state"] == {}


def test_the_end_of_a_shard_ends_its_window() -> None:
    stream = ScriptedStream([Shard("parent"), Shard("child", ("parent",))], closed={"parent"})
    stream.records = {"parent": numbers(1, 1), "child": numbers(2, 2)}
    world = World(stream, summing)
    world.poll(lambda: [2] in world.batches, tumbling_window_s=60)
    assert world.batches == [[1], [], [2]]
    assert world.events[1]["isFinalInvokeForWindow"]
    assert world.events[2]["state"] == {}
