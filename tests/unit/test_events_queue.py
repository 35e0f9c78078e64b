"""The queue over a real store in memory, a function made of a script, and a clock moved by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from rie.clock import ManualClock
from rie.errors import SandboxFailed, ServiceError, StoreFailed
from rie.events.deliverer import Deliverer
from rie.events.destinations import Undeliverable
from rie.events.journal import Journal
from rie.events.queue import Queue, Surroundings
from rie.events.records import Targets
from rie.model.event import Delivery, Event, EventInvokeConfig
from rie.model.function import FunctionKey
from rie.model.invocation import STOPPED, Outcome
from rie.store import SqlStore
from rie.store.events import AddEvent, Entry

KEY = FunctionKey("123456789012", "us-east-1", "f")
OTHER = FunctionKey("123456789012", "us-east-1", "g")
THROTTLED = ServiceError("TooManyRequestsException", "Rate Exceeded.")


class Bench:
    """A queue and all that it talks to. `script` answers the runs in turn, then with success."""

    def __init__(self, store: SqlStore | None = None, clock: ManualClock | None = None) -> None:
        self.store = store or SqlStore("sqlite://")
        self.clock = clock or ManualClock()
        self.script: list[Exception | str | None] = []
        self.runs: list[tuple[str, str, float]] = []
        self.config: EventInvokeConfig | None = None
        self.targets = Targets(on_success="arn:ok", on_failure="arn:bad")
        self.stopped: set[FunctionKey] = set()
        self.sent: list[Delivery] = []
        self.sending: list[Exception] = []
        self.gate: asyncio.Event | None = None
        self.most = self.now_running = 0
        self.journal = Journal(self.store.events.apply)
        self.deliverer = Deliverer(self._send, self._within, self.journal, self.clock)
        self.executions: dict[tuple[str, int], asyncio.Future[Outcome]] = {}  # of durable functions, by attempt
        self.is_durable = False
        around = Surroundings(
            run=self._run,
            config_of=lambda _: self.config,
            targets_of=lambda *_: self.targets,
            is_stopped=self.stopped.__contains__,
            load=self._load,
            has_begun=self._has_begun,
            follow=self._follow,
        )
        self.queue = Queue(around, self.journal, self.deliverer, self.clock)

    async def _load(self, event_id: str) -> Event | None:
        return self.store.events.find(event_id)

    async def _has_begun(self, event: Event) -> bool:
        return (event.event_id, event.attempts) in self.executions

    async def _follow(self, event: Event) -> Outcome | None:
        return await self.executions[event.event_id, event.attempts]

    def execution(self, number: int = 1, attempt: int = 0) -> asyncio.Future[Outcome]:
        future = asyncio.get_running_loop().create_future()
        return self.executions.setdefault((f"e{number}", attempt), future)

    async def _run(self, event: Event) -> Outcome | None:
        self.runs.append((event.event_id, event.key.name, self.clock.monotonic()))
        if self.is_durable:
            self.execution(int(event.event_id[1:]), event.attempts)
            return None
        self.now_running += 1
        self.most = max(self.most, self.now_running)
        try:
            if self.gate is not None:
                await self.gate.wait()
            told = self.script.pop(0) if self.script else None
            if isinstance(told, Exception):
                raise told
            return Outcome(b"null" if told is None else b'{"errorMessage":"x"}', "$LATEST", told)
        finally:
            self.now_running -= 1

    def _send(self, delivery: Delivery) -> None:
        if self.sending:
            raise self.sending.pop(0)
        self.sent.append(delivery)

    async def _within(self, delivery: Delivery) -> bool:
        return False

    def event(self, number: int = 1, key: FunctionKey = KEY) -> Event:
        now = self.clock.now().timestamp()
        return Event(f"e{number}", key, None, b"{}", now, now)

    async def open(self) -> None:
        self.deliverer.open()
        self.deliverer.take(self.store.events.deliveries())
        self.queue.open(self.store.events.waiting())

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not holds():  # noqa: ASYNC110 - no event tells of what a test looks at
                await asyncio.sleep(0.001)

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.queue.poke()
        self.deliverer.poke()

    async def close(self) -> None:
        await self.queue.close()
        await self.deliverer.close()
        await self.journal.close()

    @property
    def left(self) -> int:
        return len(self.store.events.waiting()) + len(self.store.events.deliveries())


def played(play: Callable[[Bench], Awaitable[None]]) -> None:
    """Run a test's play on a loop of its own."""

    async def run() -> None:
        bench = Bench()
        await bench.open()
        try:
            await play(bench)
        finally:
            await bench.close()

    asyncio.run(run())


def test_a_success_is_told_once_and_leaves_nothing() -> None:
    async def play(bench: Bench) -> None:
        await bench.queue.accept(bench.event())
        await bench.until(lambda: bench.sent and not bench.left)
        assert [delivery.target for delivery in bench.sent] == ["arn:ok"]
        assert len(bench.runs) == 1

    played(play)


def test_a_failing_function_runs_three_times_with_one_id_after_one_and_two_minutes() -> None:
    async def play(bench: Bench) -> None:
        bench.script = ["Unhandled"] * 3
        await bench.queue.accept(bench.event())
        for runs, wait_s in ((1, 60), (2, 120)):
            await bench.until(lambda runs=runs: len(bench.runs) == runs and len(bench.queue._later) == 1)
            await bench.advance(wait_s - 1)
            await asyncio.sleep(0.01)
            assert len(bench.runs) == runs
            await bench.advance(1)
        await bench.until(lambda: bench.sent and not bench.left)
        assert bench.runs == [("e1", "f", 0.0), ("e1", "f", 60.0), ("e1", "f", 180.0)]
        assert bench.sent[0].target == "arn:bad"
        assert '"approximateInvokeCount":3' in bench.sent[0].body

    played(play)


@pytest.mark.parametrize("refusal", [THROTTLED, SandboxFailed("cannot start")])
def test_refusals_use_up_no_attempt(refusal: Exception) -> None:
    async def play(bench: Bench) -> None:
        bench.script = [refusal, refusal, None]
        await bench.queue.accept(bench.event())
        await bench.until(lambda: len(bench.runs) == 1 and bench.queue._later)
        await bench.advance(1)
        await bench.until(lambda: len(bench.runs) == 2 and bench.queue._later)
        await bench.advance(2)
        await bench.until(lambda: bench.sent and not bench.left)
        assert '"approximateInvokeCount":1' in bench.sent[0].body

    played(play)


def test_a_throttled_event_ends_when_its_next_try_would_be_too_late() -> None:
    async def play(bench: Bench) -> None:
        bench.config = EventInvokeConfig(0.0, max_age_s=60)
        bench.script = [THROTTLED] * 20
        await bench.queue.accept(bench.event())
        while not bench.sent:
            await bench.advance(1)
            await asyncio.sleep(0.002)
        assert '"condition":"EventAgeExceeded"' in bench.sent[0].body
        assert '"approximateInvokeCount":0' in bench.sent[0].body

    played(play)


def test_a_stopped_function_fails_its_events_without_a_run() -> None:
    async def play(bench: Bench) -> None:
        bench.stopped.add(KEY)
        await bench.queue.accept(bench.event())
        await bench.until(lambda: bench.sent and not bench.left)
        assert '"condition":"ZeroReservedConcurrency"' in bench.sent[0].body
        assert not bench.runs

    played(play)


def test_a_throttled_function_does_not_hold_up_another() -> None:
    async def play(bench: Bench) -> None:
        bench.script = [THROTTLED]
        await bench.queue.accept(bench.event(1, KEY))
        await bench.until(lambda: len(bench.runs) == 1)
        await bench.queue.accept(bench.event(2, OTHER))
        await bench.until(lambda: bench.sent)
        assert bench.sent[0].request_id == "e2"

    played(play)


def test_no_more_than_the_window_run_at_a_time() -> None:
    async def play(bench: Bench) -> None:
        bench.gate = asyncio.Event()
        await asyncio.gather(*(bench.queue.accept(bench.event(number)) for number in range(50)))
        assert bench.most == 10
        bench.gate.set()
        await bench.until(lambda: len(bench.sent) == 50 and not bench.left)
        assert len(bench.runs) == 50

    played(play)


def test_what_an_earlier_process_acknowledged_is_run_and_told() -> None:
    async def run() -> None:
        first = Bench()
        await first.journal.write()
        first.gate = asyncio.Event()
        await first.open()
        await asyncio.gather(*(first.queue.accept(first.event(number)) for number in range(30)))
        await first.close()  # ten were running and were cut off
        second = Bench(first.store)
        await second.open()
        await second.until(lambda: len(second.sent) == 30 and not second.left)
        await second.close()

    asyncio.run(run())


def test_a_destination_that_is_down_is_tried_again_also_after_a_restart() -> None:
    async def run() -> None:
        first = Bench()
        first.sending = [Undeliverable("down", is_permanent=False)] * 2
        await first.open()
        await first.queue.accept(first.event())
        await first.until(lambda: len(first.sending) == 1 and len(first.deliverer._due) == 1)
        await first.close()
        second = Bench(first.store)
        second.clock.advance(5)
        second.sending = [Undeliverable("down", is_permanent=False)]
        await second.open()
        await second.until(lambda: not second.sending and second.deliverer._due)
        await second.advance(2)
        await second.until(lambda: second.sent and not second.left)
        await second.close()

    asyncio.run(run())


def test_a_destination_that_will_never_be_there_is_given_up() -> None:
    async def play(bench: Bench) -> None:
        bench.sending = [Undeliverable("gone", is_permanent=True)]
        await bench.queue.accept(bench.event())
        await bench.until(lambda: not bench.sending and not bench.left)
        assert not bench.sent

    played(play)


def test_events_of_a_deleted_function_are_dropped_and_those_of_its_namesake_are_not() -> None:
    async def play(bench: Bench) -> None:
        bench.script = ["Unhandled"]
        await bench.queue.accept(bench.event(1))
        await bench.until(lambda: bench.queue._later)
        drop = asyncio.ensure_future(bench.queue.drop(KEY))
        await asyncio.gather(drop, bench.queue.accept(bench.event(2)))
        await bench.until(lambda: bench.sent and not bench.left)
        await bench.advance(60)
        await bench.until(lambda: not bench.queue._later)
        assert [event_id for event_id, _, _ in bench.runs] == ["e1", "e2"]

    played(play)


def test_payloads_beyond_what_is_remembered_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rie.events.queue.REMEMBERED_BYTES", 10)

    async def play(bench: Bench) -> None:
        await asyncio.gather(
            *(bench.queue.accept(replace(bench.event(number), payload=b'"123456"')) for number in range(20))
        )
        await bench.until(lambda: len(bench.sent) == 20 and not bench.left)
        assert all('"requestPayload":"123456"' in delivery.body for delivery in bench.sent)

    played(play)


def test_many_events_become_durable_in_few_commits() -> None:
    commits: list[int] = []

    async def run() -> None:
        store = SqlStore("sqlite://")

        def apply(entries: Sequence[Entry]) -> None:
            commits.append(len(entries))
            store.events.apply(entries)

        bench = Bench(store)
        journal = Journal(apply)
        from rie.store.events import AddEvent

        await asyncio.gather(*(journal.write(AddEvent(bench.event(number))) for number in range(500)))
        await journal.close()
        assert len(store.events.waiting()) == 500
        await bench.journal.close()

    asyncio.run(run())
    assert sum(commits) == 500
    assert len(commits) < 10


def test_one_refused_entry_fails_alone() -> None:
    async def run() -> None:
        bench = Bench()
        from rie.store.events import AddEvent

        twice = [AddEvent(bench.event(1)), AddEvent(bench.event(1)), AddEvent(bench.event(2))]
        answers = await asyncio.gather(*(bench.journal.write(entry) for entry in twice), return_exceptions=True)
        assert [type(answer) for answer in answers] == [type(None), StoreFailed, type(None)]
        assert len(bench.store.events.waiting()) == 2
        await bench.journal.close()

    asyncio.run(run())


def test_a_durable_execution_outlives_age_concurrency_and_process_and_tells_its_end() -> None:
    async def play(bench: Bench) -> None:
        event = bench.event()
        bench.store.events.apply([AddEvent(event)])
        bench.execution()
        bench.clock.advance(30 * 86_400.0)
        again = Bench(bench.store, bench.clock)  # the next process
        again.executions = bench.executions
        again.stopped.add(KEY)
        await again.open()
        try:
            await again.until(lambda: again.queue._following)
            assert not again.runs
            bench.execution().set_result(Outcome(b'"done"', "7"))
            await again.until(lambda: again.sent)
            await again.until(lambda: not again.left)
        finally:
            await again.close()
        assert [each.target for each in again.sent] == ["arn:ok"]
        assert not again.runs

    played(play)


def test_durable_executions_hold_no_place_in_the_lane_and_failed_ones_are_tried_again() -> None:
    async def play(bench: Bench) -> None:
        bench.is_durable = True
        bench.config = EventInvokeConfig(0.0, max_retries=1)
        for number in range(1, 101):  # ten times the window
            await bench.queue.accept(bench.event(number))
        await bench.until(lambda: len(bench.executions) == 100)
        bench.execution(7).set_result(Outcome(b'{"ErrorMessage":"x"}', "7", "Unhandled"))
        await bench.until(lambda: len(bench.queue))
        await bench.advance(61.0)
        await bench.until(lambda: ("e7", 1) in bench.executions)
        bench.execution(7, 1).set_result(Outcome(b'{"ErrorMessage":"x"}', "7", "Unhandled"))
        await bench.until(lambda: bench.sent)
        (told,) = bench.sent
        assert (told.target, json.loads(told.body)["requestContext"]["approximateInvokeCount"]) == ("arn:bad", 2)
        await bench.until(lambda: bench.left == 99)

    played(play)


def test_an_execution_that_was_stopped_is_not_tried_again() -> None:
    async def play(bench: Bench) -> None:
        bench.is_durable = True
        await bench.queue.accept(bench.event())
        await bench.until(lambda: bench.executions)
        bench.execution().set_result(Outcome(b"{}", "7", "Unhandled", status=STOPPED))
        await bench.until(lambda: bench.sent)
        assert bench.sent[0].target == "arn:bad"

    played(play)


def test_what_a_function_can_never_be_given_ends_at_once() -> None:
    async def play(bench: Bench) -> None:
        bench.script.append(ServiceError("InvalidParameterValueException", "You cannot invoke a durable function …"))
        await bench.queue.accept(bench.event())
        await bench.until(lambda: bench.sent)
        told = json.loads(bench.sent[0].body)
        assert (bench.sent[0].target, told["requestContext"]["approximateInvokeCount"]) == ("arn:bad", 0)

    played(play)
