"""Telemetry on its way to those who have subscribed: rendered for each, kept back for company, sent, sent again.

A subscriber that is slow, dead or hostile costs a bounded amount of memory and nobody's time.
"""

import time

from . import platform_records
from .commands import Deliver, ReportEnd, ReportRuntimeDone
from .delivery import HttpDelivery, TcpDelivery
from .feed import NEVER, Feed
from .output import timestamp
from .platform_records import Platform, Span
from .records import replace
from .subscription import EXTENSION, FUNCTION, HTTP, PLATFORM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Callable

    from .loop import Loop
    from .records import Record
    from .subscription import Subscription
    from .telemetry_api import Early

TIMER = "telemetry"
ANSWER_LIMIT_S = 5.0  # for one portion to be taken
FIRST_RETRY_S = 0.05
MAX_RETRIES = 6  # 50 ms doubling: 3 s in all, then the portion is dropped
OVERHEAD_S = 1.0  # for the runtime to come back; what it takes longer is told of no more
FAREWELL_S = 0.3  # how long an extension is not yet told that it ends while telemetry is on its way to it
WITH_OBJECTS = ("2022-12-13", "2025-01-29")  # schemas in which a line that is a JSON object is one in its record


class Subscriber:
    """One extension: what waits for it, and the portion that is on its way."""

    def __init__(self, loop: "Loop", subscription: "Subscription", changed: "Callable[[], None]") -> None:
        """`changed` is called when `due_at` may be another than it was."""
        self.subscription = subscription
        self.feed = Feed(subscription, self._dropped)
        delivery = HttpDelivery if subscription.protocol == HTTP else TcpDelivery
        self._delivery = delivery(loop, subscription, self._delivered)
        self._changed = changed
        self._portion: list[bytes] = []
        self._retries = 0
        self._next_at = NEVER  # of the portion under way: when to try again, or to give up waiting

    @property
    def is_served(self) -> bool:
        """Whether nothing waits."""
        return not self._portion and not self.feed

    @property
    def due_at(self) -> float:
        """When `work` has something to do."""
        return self._next_at if self._portion else self.feed.due_at

    def work(self, at: float) -> None:
        """Do what is due."""
        if self._portion and at >= self._next_at:
            if self._delivery.is_busy:
                self._delivery.close()  # it has not been taken in time
                self._delivered(False)
            else:
                self._send(at)
        while not self._portion and at >= self.feed.due_at:
            self._portion = self.feed.take(at)
            self._retries = 0
            self._send(at)

    def _send(self, at: float) -> None:
        self._next_at = at + ANSWER_LIMIT_S
        self._delivery.send(self._portion)

    def _delivered(self, is_well: bool) -> None:
        if not is_well and self._retries < MAX_RETRIES:
            self._next_at = time.monotonic() + FIRST_RETRY_S * 2**self._retries
            self._retries += 1
        else:
            if not is_well:
                self.feed.lose(len(self._portion), sum(map(len, self._portion)))
            self._portion, self._next_at = [], NEVER
        self._changed()

    def _dropped(self, records: int, octets: int) -> bytes:
        kind, content = platform_records.dropped(records, octets)
        return encoded(timestamp(), kind, content)

    def close(self) -> None:
        """It is gone."""
        self._delivery.close()


class Telemetry:
    """The subscribers of one life of the environment."""

    def __init__(self, loop: "Loop", version: str) -> None:
        self._loop = loop
        self._platform = Platform(loop.settings, version)
        self._is_json = loop.settings.log_format == "JSON"
        self._is_concurrent = loop.settings.max_concurrency is not None
        self._subscribers: dict[str, Subscriber] = {}
        self._progress: dict[str, Progress] = {}  # of invocations, by request id
        self._held: list[tuple[Record, int]] = []  # from the runtime's answer on, until it is back
        self._held_until = NEVER
        self._farewells: list[Callable[[], None]] = []
        self._farewell_at = NEVER

    def api_of(self, name: str) -> str:
        """By which API an extension has subscribed; empty if it has not."""
        subscriber = self._subscribers.get(name)
        return subscriber.subscription.api if subscriber else ""

    def types_of(self, name: str) -> "tuple[str, ...]":
        """What it has subscribed to."""
        return self._subscribers[name].subscription.types

    def subscribe(self, name: str, subscription: "Subscription", early: "Early") -> None:
        """Let an extension in, and give it what has happened before."""
        self._subscribers[name] = new = Subscriber(self._loop, subscription, self._schedule)
        for at, item, used_mb in early.items:
            if isinstance(item, tuple):
                self._offer_lines([new], at, *item)
            else:
                self._offer_events([new], at, self._platform.render(item, used_mb))
        if early.lost_records:
            new.feed.lose(early.lost_records, early.lost_bytes)
        self._schedule()

    # -- what happens ---------------------------------------------------------------------------------------------

    def take_report(self, at: float, report: "Record", used_mb: int) -> None:
        """Something that the platform says, at an instant in seconds since 1970.

        How long the runtime took is told when it asks for its next event, and what is said meanwhile after that.
        """
        is_answer = False
        if isinstance(report, ReportRuntimeDone):
            progress = self._progress.get(report.invocation.request_id)
            if progress is not None:
                progress.has_answered(report.duration_ms)
                is_answer = report.status in ("success", "error")
        if not self._held and not is_answer:
            self._tell(at, report, used_mb)
            return
        if not self._held:
            self._held_until = time.monotonic() + OVERHEAD_S
        self._held.append((report, used_mb))
        if isinstance(report, ReportEnd) and report.status in ("timeout", "failure"):
            self.hurry()
        else:
            self._schedule()

    def answer_begins(self, request_id: str) -> None:
        """As `loop.Timekeeper`."""
        progress = self._progress.get(request_id)
        if progress is not None:
            progress.begin_answer()

    def runtime_polls(self) -> None:
        """As `loop.Timekeeper`."""
        held, self._held, self._held_until = self._held, [], NEVER
        at = time.time()
        for report, used_mb in held:
            if isinstance(report, ReportRuntimeDone):
                progress = self._progress.get(report.invocation.request_id)
                if progress is not None:
                    report = replace(report, duration_ms=report.duration_ms + progress.come_back())
            self._tell(at, report, used_mb)

    def _tell(self, at: float, report: "Record", used_mb: int) -> None:
        events = self._platform.render(report, used_mb, self._spans(report))
        self._offer_events(self._subscribers.values(), at, events)
        if isinstance(report, ReportEnd) and report.status in ("timeout", "failure"):
            self.hurry()
        else:
            self._schedule()

    def take_lines(self, at: float, name: str, text: bytes, is_record: bool) -> None:
        """Whole lines that a party has printed, or one record of several."""
        self._offer_lines(self._subscribers.values(), at, name, text, is_record)
        self._schedule()

    def take_sign(self, command: "Record") -> None:
        """What tells how far an invocation is, or that the end is near."""
        if isinstance(command, Deliver):
            self._progress[command.invocation.request_id] = Progress()
        else:
            self.hurry()

    def _spans(self, report: "Record") -> "tuple[Span, ...]":
        if isinstance(report, ReportRuntimeDone):
            progress = self._progress.get(report.invocation.request_id)
            return progress.spans(report.duration_ms) if progress is not None else ()
        if isinstance(report, ReportEnd):
            progress = self._progress.pop(report.invocation.request_id, None)
            if progress is None:
                return ()
            if not self._is_concurrent:
                return progress.overhead(report.duration_ms)
            progress.has_answered(report.duration_ms)
            return progress.spans(report.duration_ms)
        return ()

    def _offer_events(self, subscribers: "Iterable[Subscriber]", at: float, events: "list[tuple[str, Any]]") -> None:
        now, instant = time.monotonic(), timestamp(at)
        for kind, content in events:
            made: dict[str, bytes | None] = {}
            for subscriber in subscribers:
                wanted = subscriber.subscription
                if PLATFORM not in wanted.types:
                    continue
                if wanted.schema not in made:
                    record = platform_records.shaped(wanted.api, wanted.schema, kind, content)
                    made[wanted.schema] = None if record is None else encoded(instant, kind, record)
                event = made[wanted.schema]
                if event is not None:
                    subscriber.feed.offer(event, now, is_line=False)

    def _offer_lines(
        self, subscribers: "Iterable[Subscriber]", at: float, name: str, text: bytes, is_record: bool
    ) -> None:
        """The runtime has no name among the parties."""
        kind = EXTENSION if name else FUNCTION
        wanting = [subscriber for subscriber in subscribers if kind in subscriber.subscription.types]
        if not wanting:
            return
        now, instant = time.monotonic(), timestamp(at)
        text = text.removesuffix(b"\n")
        for line in [text] if is_record else text.split(b"\n"):
            record = line.decode("utf-8", "replace")
            event = encoded(instant, kind, record)
            with_object = self._with_object(instant, kind, record) or event
            for subscriber in wanting:
                is_object = subscriber.subscription.schema in WITH_OBJECTS
                subscriber.feed.offer(with_object if is_object else event, now, is_line=True)

    def _with_object(self, instant: str, kind: str, line: str) -> bytes:
        """The event of a line that is a JSON object, where the log format is JSON; else empty."""
        if not self._is_json or not line.lstrip().startswith("{"):
            return b""
        import json

        try:
            return encoded(instant, kind, json.loads(line))
        except (ValueError, RecursionError):
            return b""

    # -- what is due ----------------------------------------------------------------------------------------------

    def hurry(self) -> None:
        """The environment is about to be shut down: nothing waits any longer."""
        if self._held:
            self.runtime_polls()  # it never will
        for subscriber in self._subscribers.values():
            subscriber.feed.is_hurried = True
        self._schedule()

    def when_delivered(self, farewell: "Callable[[], None]") -> None:
        """Call `farewell` when nothing is on its way any more, or after FAREWELL_S."""
        self._farewells.append(farewell)
        self._farewell_at = min(self._farewell_at, time.monotonic() + FAREWELL_S)
        self.hurry()

    def _schedule(self) -> None:
        """Never at once: what the machine has said is carried out first, the answer to the caller among it."""
        due_at = min((self._held_until, *(subscriber.due_at for subscriber in self._subscribers.values())))
        if self._farewells:
            is_done = all(subscriber.is_served for subscriber in self._subscribers.values())
            due_at = 0.0 if is_done else min(due_at, self._farewell_at)
        if due_at < NEVER:
            self._loop.once(TIMER, due_at, self._work)

    def _work(self) -> None:
        now = time.monotonic()
        if now >= self._held_until:
            self.runtime_polls()  # it may yet
        for subscriber in self._subscribers.values():
            subscriber.work(now)
        if self._farewells:
            is_done = all(subscriber.is_served for subscriber in self._subscribers.values())
            if is_done or now >= self._farewell_at:
                self._bid_farewell()
        self._schedule()

    def _bid_farewell(self) -> None:
        farewells, self._farewells, self._farewell_at = self._farewells, [], NEVER
        for farewell in farewells:
            farewell()

    def close(self) -> None:
        """Those who had subscribed are gone."""
        for subscriber in self._subscribers.values():
            subscriber.close()
        self._subscribers.clear()
        self._bid_farewell()


class Progress:
    """How far an invocation is: made when its event is delivered. Instants on both clocks: 1970's, and monotonic."""

    def __init__(self) -> None:
        self._delivered_at, self._delivered = time.time(), time.monotonic()
        self._begun_at = self._begun = 0.0
        self._done_at = self._done = self._done_ms = 0.0
        self._back_ms = 0.0

    def begin_answer(self) -> None:
        """Its first octet is here."""
        self._begun_at, self._begun = time.time(), time.monotonic()

    def come_back(self) -> float:
        """The runtime asks for its next event; how long after its answer, in ms."""
        self._back_ms = (time.monotonic() - self._done) * 1e3
        return self._back_ms

    def has_answered(self, duration_ms: float) -> None:
        """The answer is here, or never will be."""
        self._done_at, self._done, self._done_ms = time.time(), time.monotonic(), duration_ms

    def spans(self, duration_ms: float) -> "tuple[Span, ...]":
        """Until the answer began, until it was here, until the runtime was back; no answer has no such parts."""
        if not self._begun:
            return ()
        latency_ms = min((self._begun - self._delivered) * 1e3, duration_ms)  # the whole was timed before
        return (
            Span("responseLatency", self._delivered_at, latency_ms),
            Span("responseDuration", self._begun_at, (self._done - self._begun) * 1e3),
            *([Span("runtimeOverhead", self._done_at, self._back_ms)] if self._back_ms else []),
        )

    def overhead(self, duration_ms: float) -> "tuple[Span, ...]":
        """What extensions took after that."""
        runtime_ms = self._done_ms + self._back_ms
        if not self._done_at or duration_ms <= runtime_ms:
            return ()
        return (Span("extensionOverhead", self._done_at + self._back_ms / 1e3, duration_ms - runtime_ms),)


def encoded(instant: str, kind: str, record: "Any") -> bytes:
    """One event as JSON text."""
    import json

    event = {"time": instant, "type": kind, "record": record}
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
