"""Delivery to CloudWatch Logs: batches within the limits, what is made when it is missing, outages, bounds."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rie.logs import batches, delivery
from rie.logs.batches import LogEvent
from rie.logs.cloudwatch import CloudWatch, Refused, Unreachable
from rie.logs.delivery import Delivery
from rie.logs.follow import as_text

PLACE = ("us-east-1", "role", "/aws/lambda/fn", "s")


@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.binary(max_size=200)), max_size=40),
    st.integers(400, 2_000),
    st.integers(1, 10),
)
def test_batches_keep_within_every_limit_and_lose_nothing(
    blocks: list[tuple[int, bytes]], most_bytes: int, most_events: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "MAX_BYTES", most_bytes)
        patch.setattr(batches, "MAX_EVENTS", most_events)
        patch.setattr(batches, "MAX_MESSAGE", 100)
        made = batches.batches(blocks)
    for batch in made:
        times = [event["timestamp"] for event in batch]
        assert 0 < len(batch) <= most_events
        assert times == sorted(times)
        assert times[-1] - times[0] < batches.MAX_SPAN_MS
        assert all(0 < len(event["message"].encode()) <= 100 for event in batch)
        assert sum(len(event["message"].encode()) + 26 for event in batch) <= most_bytes
    whole = "".join(event["message"] for batch in made for event in batch)
    lines = [line for _, block in sorted(blocks, key=lambda block: block[0]) for line in block.split(b"\n")]
    assert whole == "".join(f"{as_text(line)}\n" for line in lines)


class Endpoint:
    """What takes batches, or does not."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, list[LogEvent]]] = []
        self.error: Exception | None = None
        self.calls = 0
        self.gate = threading.Event()
        self.gate.set()

    def put(self, region: str, role: str, group: str, stream: str, events: list[LogEvent]) -> None:
        self.calls += 1
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        self.taken.append((stream, events))

    def messages(self, stream: str = "s") -> list[str]:
        return [event["message"] for name, events in self.taken if name == stream for event in events]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(4_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to pass")


def test_lines_are_gathered_and_arrive_in_order() -> None:
    async def live() -> None:
        endpoint = Endpoint()
        sent = Delivery(endpoint.put, gather_s=0.0)
        take = sent.channel(*PLACE, "fn")
        for number in range(100):
            take(number, b"line %d" % number)
        await until(lambda: len(sent) == 0)
        assert endpoint.messages() == [f"line {number}\n" for number in range(100)]
        assert endpoint.calls == 1
        await sent.close(5)

    asyncio.run(live())


def test_what_cannot_be_delivered_now_arrives_later_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(batches, "MAX_EVENTS", 2)

    async def live() -> None:
        endpoint = Endpoint()
        endpoint.error = Unreachable("down")
        sent = Delivery(endpoint.put, gather_s=0.0)
        take = sent.channel(*PLACE, "fn")
        take(1, b"a\nb\nc\nd")
        await until(lambda: endpoint.calls > 1)
        take(2, b"e")
        endpoint.error = None
        await until(lambda: len(sent) == 0)
        assert endpoint.messages() == ["a\n", "b\n", "c\n", "d\n", "e\n"]
        await sent.close(5)

    asyncio.run(live())


def test_lines_that_are_refused_are_given_up_and_others_go_on() -> None:
    async def live() -> None:
        endpoint = Endpoint()
        endpoint.error = Refused("the role may not")
        sent = Delivery(endpoint.put, gather_s=0.0)
        take = sent.channel(*PLACE, "fn")
        take(1, b"gone")
        await until(lambda: len(sent) == 0)
        endpoint.error = None
        take(2, b"there")
        await until(lambda: len(sent) == 0)
        assert endpoint.messages() == ["there\n"]
        await sent.close(5)

    asyncio.run(live())


def test_a_flood_takes_bounded_memory_says_what_it_lost_and_costs_other_functions_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "OWNER_BYTES", 10_000)

    async def live() -> None:
        endpoint = Endpoint()
        endpoint.gate.clear()  # the endpoint hangs
        sent = Delivery(endpoint.put, gather_s=0.0)
        flood = sent.channel("us-east-1", "role", "/aws/lambda/flood", "flood", "flood")
        quiet = sent.channel("us-east-1", "role", "/aws/lambda/quiet", "quiet", "quiet")
        for number in range(10_000):
            flood(number, b"x" * 100)
        quiet(1, b"heard")
        assert len(sent) < 12_000
        endpoint.gate.set()
        await until(lambda: any(line.startswith("rie: ") for line in endpoint.messages("flood")))
        await until(lambda: endpoint.messages("quiet") != [])
        kept = [line for line in endpoint.messages("flood") if line.startswith("x")]
        notice = endpoint.messages("flood")[-1]
        lost = 10_000 - len(kept)
        assert notice == f"rie: {lost} lines ({lost * 100} bytes) dropped: CloudWatch Logs takes them too slowly\n"
        assert endpoint.messages("quiet") == ["heard\n"]
        await sent.close(5)

    asyncio.run(live())


def test_closing_sends_what_waits_and_does_not_wait_for_an_endpoint_that_is_down() -> None:
    async def live(error: Exception | None) -> list[str]:
        endpoint = Endpoint()
        endpoint.error = error
        sent = Delivery(endpoint.put, gather_s=0.0)
        sent.channel(*PLACE, "fn")(1, b"last")
        await sent.close(60 if error is None else 0.01)
        return endpoint.messages()

    assert asyncio.run(live(None)) == ["last\n"]
    began_at = time.monotonic()
    assert asyncio.run(live(Unreachable("down"))) == []
    assert time.monotonic() - began_at < 30


class Client:
    """As boto3's: says what it is told to."""

    class exceptions:
        class ResourceNotFoundException(Exception):
            pass

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def put_log_events(self, **call: Any) -> None:
        if self.error is not None:
            raise self.error


def fault(code: str, status: int) -> Exception:
    error = Exception(code)
    error.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (fault("ThrottlingException", 400), Unreachable),
        (fault("ServiceUnavailableException", 503), Unreachable),
        (Exception("Could not connect to the endpoint URL"), Unreachable),
        (fault("AccessDeniedException", 400), Refused),
        (fault("InvalidParameterException", 400), Refused),
        (fault("DataAlreadyAcceptedException", 400), None),
    ],
)
def test_errors_are_told_apart_by_whether_it_helps_to_try_again(error: Exception, kind: type | None) -> None:
    endpoint = CloudWatch(lambda region, role: Client(error))
    if kind is None:
        endpoint.put(*PLACE, [])
        return
    with pytest.raises(kind):
        endpoint.put(*PLACE, [])
