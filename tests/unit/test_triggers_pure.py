"""Schedules, inputs of targets, documents and permissions, without a socket."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from rie.clock import ManualClock
from rie.errors import ServiceError, StoreFailed
from rie.invoke.invoker import InvokeRequest
from rie.model.event import Delivery
from rie.store.codec import decode, encode
from rie.triggers import intake
from rie.triggers.attempts import Attempts
from rie.triggers.documents import NotAnEvent, Push, push_of, rule_event, s3_event
from rie.triggers.inputs import at_path, payload_of
from rie.triggers.intake import NotNow
from rie.triggers.schedule_service import Schedule
from rie.triggers.scheduler import ScheduledTarget, Scheduler, rules_run
from rie.triggers.schedules import InvalidSchedule, parse
from rie.triggers.subscriptions import granted
from rie.triggers.timetables import timetable

RULE = "arn:aws:events:us-east-1:123456789012:rule/nightly"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:f"
EVENT = {"source": "app", "time": "t", "detail": {"name": 'a "b"', "n": 3, "items": [{"x": 1}, {"x": 2}]}}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "now", "following"),
    [
        ("cron(0 12 * * ? *)", "2025-11-25T12:00", "2025-11-26T12:00"),
        ("cron(15 10 ? * 6L 2026-2027)", "2025-11-25T00:00", "2026-01-30T10:15"),
        ("cron(0 18 ? * MON-FRI *)", "2025-11-28T18:00", "2025-12-01T18:00"),
        ("cron(0/10 * ? * * *)", "2025-11-25T10:11", "2025-11-25T10:20"),
        ("cron(*/15 8,9 1 * ? *)", "2025-11-25T10:11", "2025-12-01T08:00"),
        ("cron(0 9 ? * 2#1 *)", "2025-11-25T00:00", "2025-12-01T09:00"),
        ("cron(0 0 L * ? *)", "2026-02-01T00:00", "2026-02-28T00:00"),
        ("cron(0 0 15W * ? *)", "2025-11-01T00:00", "2025-11-14T00:00"),
        ("cron(0 0 1W MAR ? *)", "2025-11-01T00:00", "2026-03-02T00:00"),
        ("cron(0 0 29 2 ? *)", "2025-11-01T00:00", "2028-02-29T00:00"),
        ("cron(30 6 ? * SAT-MON *)", "2025-11-25T00:00", "2025-11-29T06:30"),
        ("rate(1 minute)", "2025-11-25T10:00", "2025-11-25T10:01"),
        ("rate(2 days)", "2025-11-25T10:00", "2025-11-27T10:00"),
    ],
)
def test_a_schedule_says_when_it_runs_next(expression: str, now: str, following: str) -> None:
    assert parse(expression).after(at(now), at(now)) == at(following)


def test_a_rate_counts_from_its_beginning() -> None:
    assert parse("rate(5 minutes)").after(at("2025-11-25T10:11:30"), at("2025-11-25T10:00")) == at("2025-11-25T10:15")


def test_a_schedule_that_is_past_runs_no_more() -> None:
    assert parse("cron(0 0 1 1 ? 2020)").after(at("2025-01-01T00:00"), at("2025-01-01T00:00")) is None


@pytest.mark.parametrize(
    "expression",
    [
        "rate(1 minutes)",
        "rate(5 minute)",
        "rate(0 minutes)",
        "cron(0 12 * * * *)",
        "cron(0 12 ? * ? *)",
        "cron(60 12 * * ? *)",
        "cron(0 12 * * ?)",
        "cron(0 12 32 * ? *)",
        "every day",
        "cron(0 12 * JANUARY ? *)",
        "cron(0/0 12 * * ? *)",
    ],
)
def test_what_is_no_schedule_is_refused(expression: str) -> None:
    with pytest.raises(InvalidSchedule):
        parse(expression)


def test_a_target_input_replaces_the_event() -> None:
    assert payload_of({"Input": '{"a":1}'}, EVENT, RULE) == b'{"a":1}'
    assert payload_of({"InputPath": "$.detail.items[1]"}, EVENT, RULE) == b'{"x":2}'
    assert json.loads(payload_of({}, EVENT, RULE)) == EVENT
    assert at_path(EVENT, "$.detail.nothing.there") is None
    assert at_path(EVENT, "$") == EVENT


@pytest.mark.parametrize(
    ("template", "made"),
    [
        ('{"n": <n>, "text": "is <n>, <name>"}', {"n": 3, "text": 'is 3, a "b"'}),
        ("<items>", [{"x": 1}, {"x": 2}]),
        ('"<name> of <aws.events.rule-name>"', 'a "b" of nightly'),
        ('{"rule": <aws.events.rule-arn>}', {"rule": RULE}),
        ('{"whole": <aws.events.event.json>}', {"whole": EVENT}),
        ("it is <unknown>", "it is <unknown>"),
    ],
)
def test_a_template_is_filled(template: str, made: Any) -> None:
    paths = {"n": "$.detail.n", "name": "$.detail.name", "items": "$.detail.items"}
    transformer = {"InputPathsMap": paths, "InputTemplate": template}
    assert json.loads(payload_of({"InputTransformer": transformer}, EVENT, RULE)) == made


def test_a_notification_keeps_what_its_endpoint_says() -> None:
    told = {
        "eventName": "s3:ObjectCreated:Put",
        "awsRegion": "r",
        "eventTime": "2025-11-25T00:00:00.000Z",
        "userIdentity": {"principalId": "someone"},
        "s3": {
            "configurationId": "ours",
            "bucket": {"name": "b", "arn": "arn:aws:s3:::b"},
            "object": {"key": "a%2Fb+c", "size": 1, "eTag": "e", "versionId": "v", "sequencer": "77"},
        },
    }
    (record,) = json.loads(s3_event({"Records": [told]}, "123456789012", "users"))["Records"]
    assert record["userIdentity"] == {"principalId": "someone"}
    assert record["eventName"] == "ObjectCreated:Put"
    assert record["s3"]["configurationId"] == "users"
    assert record["s3"]["object"] == {"key": "a/b+c", "size": 1, "eTag": "e", "versionId": "v", "sequencer": "77"}


def test_the_time_of_an_event_has_whole_seconds() -> None:
    told = {"id": "i", "detail-type": "d", "source": "s", "account": "a", "region": "r", "detail": {}}
    assert rule_event({**told, "time": 1764028800.9})["time"] == "2025-11-25T00:00:00Z"
    assert rule_event({**told, "time": "2025-11-25T01:00:00+01:00"})["time"] == "2025-11-25T00:00:00Z"
    assert list(rule_event({**told, "time": 0})) == [
        *("version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"),
    ]


@pytest.mark.parametrize("told", [{}, {"kind": "s3"}, {"kind": "sns", "body": {}}, {"kind": "s3", "body": []}])
def test_what_is_no_event_is_no_event(told: dict[str, Any]) -> None:
    with pytest.raises(NotAnEvent):
        push_of(told)


def test_policies_say_where_to_look() -> None:
    statements = [
        {"Principal": {"Service": "s3.amazonaws.com"}, "Condition": {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"}}},
        {"Principal": {"Service": "sns.amazonaws.com"}},
        {"Principal": "*"},
        {"Principal": {"AWS": "arn:aws:iam::123456789012:root"}},
        {"Principal": {"Service": "apigateway.amazonaws.com"}},
    ]
    invoking = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": FUNCTION}
    assert list(granted(json.dumps({**invoking, **each}) for each in statements)) == [
        ("s3", "arn:aws:s3:::b"),
        ("sns", "*"),
    ]


class Pushed(list[Push]):
    """What a scheduler offers; refused once if `is_full`."""

    is_full = False

    async def offer(self, push: Push) -> None:
        if self.is_full:
            raise NotNow("full")
        self.append(push)


def target(expression: str, **more: Any) -> ScheduledTarget:
    return ScheduledTarget(RULE, expression, {"Id": "1", "Arn": FUNCTION, **more})


def test_a_scheduled_rule_runs_when_it_is_due_with_the_scheduled_event() -> None:
    clock, pushed = ManualClock(at("2025-11-25T10:00:10")), Pushed()
    scheduler = Scheduler(lambda: (), rules_run(pushed.offer), clock)

    async def play() -> None:
        scheduler.know([target("rate(1 minute)")])
        await scheduler.push_due()
        assert not pushed
        clock.advance(60)
        scheduler.know([target("rate(1 minute)")])
        await scheduler.push_due()
        await scheduler.push_due()
        assert len(pushed) == 1
        clock.advance(600)  # asleep for a while: once, not ten times
        await scheduler.push_due()
        assert len(pushed) == 2
        scheduler.know([])
        clock.advance(60)
        await scheduler.push_due()
        assert len(pushed) == 2

    asyncio.run(play())
    event = json.loads(pushed[0].payload)
    assert event.pop("id")
    assert event == {
        "version": "0",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "123456789012",
        "time": "2025-11-25T10:01:10Z",
        "region": "us-east-1",
        "resources": [RULE],
        "detail": {},
    }
    assert (pushed[0].service, pushed[0].source_arn, pushed[0].function_arn) == (
        "events.amazonaws.com",
        RULE,
        FUNCTION,
    )


def test_a_schedule_gives_the_input_that_its_target_has_now() -> None:
    clock, pushed = ManualClock(at("2025-11-25T10:00")), Pushed()
    scheduler = Scheduler(lambda: (), rules_run(pushed.offer), clock)
    scheduler.know([target("cron(5 10 * * ? *)", Input='"old"')])
    scheduler.know([target("cron(5 10 * * ? *)", Input='"new"'), target("nonsense", Id="2")])
    clock.advance(300)
    asyncio.run(scheduler.push_due())
    assert [push.payload for push in pushed] == [b'"new"']


def test_a_schedule_that_finds_no_room_does_not_stop_the_others() -> None:
    clock, pushed = ManualClock(at("2025-11-25T10:00")), Pushed()
    scheduler = Scheduler(lambda: (), rules_run(pushed.offer), clock)
    scheduler.know([target("rate(1 minute)")])
    pushed.is_full = True
    clock.advance(60)
    asyncio.run(scheduler.push_due())
    pushed.is_full = False
    clock.advance(60)
    asyncio.run(scheduler.push_due())
    assert len(pushed) == 1


MADE = at("2025-11-25T10:00:10")


@pytest.mark.parametrize(
    ("expression", "zone", "now", "following"),
    [
        ("at(2025-11-25T12:00:00)", "UTC", "2025-11-25T10:00", "2025-11-25T12:00"),
        ("at(2025-11-25T12:00:00)", "Europe/Berlin", "2025-11-25T10:00", "2025-11-25T11:00"),
        ("at(2025-11-25T12:00:00)", "UTC", "2025-11-25T12:00", None),
        ("rate(1 hour)", "UTC", "2025-11-25T10:00", "2025-11-25T10:00:10"),
        ("rate(1 hour)", "UTC", "2025-11-25T10:00:10", "2025-11-25T11:00:10"),
        ("cron(0 8 * * ? *)", "America/New_York", "2025-11-25T10:00", "2025-11-25T13:00"),
        # the clocks go from 2:00 to 3:00, so there is no 2:30 on that day
        ("cron(30 2 * * ? *)", "Europe/Berlin", "2025-03-29T12:00", "2025-03-31T00:30"),
        # and from 3:00 back to 2:00, so there are two: the first counts
        ("cron(30 2 * * ? *)", "Europe/Berlin", "2025-10-25T12:00", "2025-10-26T00:30"),
        ("cron(30 2 * * ? *)", "Europe/Berlin", "2025-10-26T00:30", "2025-10-27T01:30"),
        ("cron(0/15 * * * ? *)", "Europe/Berlin", "2025-10-26T01:20", "2025-10-26T02:00"),
    ],
)
def test_a_schedule_of_the_scheduler_says_when_it_runs_next(
    expression: str, zone: str, now: str, following: str | None
) -> None:
    found = timetable(expression, zone, MADE).after(at(now))
    assert found == (None if following is None else at(following))


def test_a_schedule_runs_from_its_start_to_its_end() -> None:
    table = timetable("rate(1 hour)", "UTC", MADE, at("2025-11-26T00:00"), at("2025-11-26T01:30"))
    assert table.after(MADE) == at("2025-11-26T00:00")
    assert table.after(at("2025-11-26T00:00")) == at("2025-11-26T01:00")
    assert table.after(at("2025-11-26T01:00")) is None


@pytest.mark.parametrize(
    ("expression", "zone"),
    [("at(2025-11-25)", "UTC"), ("at(2025-13-25T12:00:00)", "UTC"), ("rate(1 hour)", "Nowhere/Land"), ("x", "UTC")],
)
def test_what_is_no_schedule_of_the_scheduler_is_refused(expression: str, zone: str) -> None:
    with pytest.raises(InvalidSchedule):
        timetable(expression, zone, MADE)


def planned(**more: Any) -> Schedule:
    target = {"Arn": FUNCTION, "RoleArn": "arn:aws:iam::123456789012:role/r", **more.pop("Target", {})}
    arn = "arn:aws:scheduler:us-east-1:123456789012:schedule/default/s"
    told = {"Arn": arn, "ScheduleExpression": "rate(1 hour)", "CreationDate": MADE, "Target": target, **more}
    return Schedule(told, random.Random(1))


def test_a_schedule_runs_within_its_flexible_window_and_once() -> None:
    clock = ManualClock(at("2025-11-25T10:00:00"))
    ran: list[datetime] = []

    async def run(schedule: Schedule, due_at: datetime) -> None:
        ran.append(due_at)

    scheduler = Scheduler(lambda: (), run, clock)
    window = {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 10}
    clock.advance(10)
    scheduler.know([planned(FlexibleTimeWindow=window)])
    asyncio.run(scheduler.push_due())
    assert not ran
    for _ in range(20):
        clock.advance(30)
        asyncio.run(scheduler.push_due())
    assert ran == [MADE]


@pytest.mark.parametrize(
    ("policy", "attempts", "exhausted"),
    [
        ({"MaximumRetryAttempts": 2}, 3, "MaximumRetryAttempts"),
        ({"MaximumEventAgeInSeconds": 60}, 2, "MaximumEventAgeInSeconds"),
    ],
)
def test_a_run_that_finds_no_room_is_tried_as_its_policy_says_and_then_told(
    policy: dict[str, int], attempts: int, exhausted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rie.triggers.attempts.FIRST_PAUSE_S", 0.0)
    clock, letters, tries = ManualClock(MADE), [], []

    async def hand(push: Push) -> None:
        tries.append(push.payload)
        clock.advance(40)
        raise NotNow("full", "TooManyRequestsException")

    async def tell(deliveries: tuple[Delivery, ...]) -> None:
        letters.extend(deliveries)

    async def play() -> None:
        runs = Attempts(hand, tell, clock)
        given = {"Input": "<aws.scheduler.attempt-number>", "RetryPolicy": policy, "DeadLetterConfig": {"Arn": "q"}}
        await runs.run(planned(Target=given), MADE)
        async with asyncio.timeout(10):
            while not letters:  # noqa: ASYNC110 - no event tells of what a test looks at
                await asyncio.sleep(0.001)
        await runs.close()

    asyncio.run(play())
    assert tries == [str(number).encode() for number in range(1, attempts + 1)]
    (letter,) = letters
    assert (letter.target, letter.body, letter.role) == ("q", str(attempts), "arn:aws:iam::123456789012:role/r")
    assert letter.attributes["EXHAUSTED_RETRY_CONDITION"] == exhausted
    assert letter.attributes["RETRY_ATTEMPTS"] == str(attempts - 1)
    assert decode(Delivery, encode(letter)) == letter


class Refusing:
    """An invoker that refuses so often, and then takes what comes."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.taken: list[InvokeRequest] = []

    async def invoke(self, request: InvokeRequest) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.taken.append(request)


@pytest.mark.parametrize(
    ("errors", "taken"),
    [
        ([StoreFailed("full"), ServiceError("TooManyRequestsException", "Rate exceeded")], 1),
        ([ServiceError("AccessDeniedException", "no")], 0),
        ([ServiceError("ResourceNotFoundException", "gone")], 0),
    ],
)
def test_what_is_not_taken_now_is_tried_again_and_what_never_will_be_is_not(
    errors: list[Exception], taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As EventBridge does for a rule with a schedule (lambda.md §10)."""
    monkeypatch.setattr(intake, "FIRST_PAUSE_S", 0.001)
    invoker = Refusing(*errors)

    async def play() -> None:
        trying = intake.Intake(invoker)  # type: ignore[arg-type]
        clock = ManualClock(at("2025-11-25T10:00"))
        scheduler = Scheduler(lambda: (), rules_run(trying.deliver), clock)
        scheduler.know([target("rate(1 minute)")])
        clock.advance(60)
        await scheduler.push_due()
        async with asyncio.timeout(30):
            await asyncio.gather(*trying._again)
        await trying.close()

    asyncio.run(play())
    assert (len(invoker.taken), invoker.errors) == (taken, [])
