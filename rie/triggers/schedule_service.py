"""Schedules of EventBridge Scheduler at an endpoint: which there are, and what their runs give to functions (§10.3)."""

from __future__ import annotations

import random
import uuid
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from rie.aws import Clients
from rie.model.event import Delivery
from rie.triggers.documents import SCHEDULER, Push, scheduled_event, seconds
from rie.triggers.scheduler import Plan
from rie.triggers.timetables import INSTANT, timetable

MOST_RETRIES, OLDEST_S = 185, 86_400.0  # AWS's defaults, and limits
MAX_LETTER = 245_760  # bytes of a message's body in SQS, with room for its attributes


@dataclass(frozen=True, slots=True)
class Schedule:
    """As GetSchedule tells it, in `told`, its instants in UTC."""

    told: Mapping[str, Any] = field(hash=False)
    chance: random.Random = field(hash=False, compare=False, default_factory=random.Random)

    @property
    def arn(self) -> str:
        """The schedule's."""
        return str(self.told["Arn"])

    @property
    def target(self) -> Mapping[str, Any]:
        """Arn, RoleArn, Input, RetryPolicy, DeadLetterConfig."""
        return dict(self.told["Target"])

    @property
    def expression(self) -> str:
        """The schedule expression."""
        return str(self.told["ScheduleExpression"])

    @property
    def identity(self) -> Hashable:
        """The same as long as it runs at the same times."""
        names = ("ScheduleExpression", "ScheduleExpressionTimezone", "StartDate", "EndDate", "CreationDate")
        return self.arn, *(str(self.told.get(name)) for name in names)

    def plan(self, seen_at: datetime, opened_at: datetime) -> Plan:
        """What fell due between its making and the first look at it is not too late. Raises InvalidSchedule."""
        made_at = self.told.get("CreationDate") or seen_at
        times = timetable(
            self.expression,
            self.told.get("ScheduleExpressionTimezone") or "UTC",
            made_at,
            self.told.get("StartDate"),
            self.told.get("EndDate"),
        )
        return Plan(times.after(max(made_at, opened_at) - INSTANT), times.after)

    def delay(self) -> timedelta:
        """How late it runs this time, within its flexible window."""
        window = self.told.get("FlexibleTimeWindow") or {}
        if window.get("Mode") != "FLEXIBLE":
            return timedelta()
        return timedelta(seconds=self.chance.uniform(0, 60.0 * window.get("MaximumWindowInMinutes", 0)))

    def run_at(self, due_at: datetime) -> Run:
        """That of this instant."""
        return Run(self, due_at, uuid.uuid4().hex[:16])


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a schedule, through all of its attempts."""

    schedule: Schedule
    due_at: datetime
    execution_id: str

    @property
    def retries(self) -> int:
        """How many attempts follow a first one that has failed, at most."""
        return int(self._policy.get("MaximumRetryAttempts", MOST_RETRIES))

    @property
    def oldest_s(self) -> float:
        """How long after its time it may be tried."""
        return float(self._policy.get("MaximumEventAgeInSeconds", OLDEST_S))

    @property
    def _policy(self) -> Mapping[str, Any]:
        return self.schedule.target.get("RetryPolicy") or {}

    def push(self, attempt: int) -> Push:
        """What the function gets at this attempt (from 1), as whom."""
        target = self.schedule.target
        account = self.schedule.arn.split(":")[4]
        payload = self._payload(attempt)
        return Push(SCHEDULER, target["Arn"], self.schedule.arn, account, payload, role_arn=target.get("RoleArn", ""))

    def letter(self, attempts: int, code: str, message: str, exhausted: str, now: float) -> tuple[Delivery, ...]:
        """What its dead-letter queue is told after so many attempts; `exhausted` "" where another was no use."""
        target, arn = self.schedule.target, self.schedule.arn
        queue = (target.get("DeadLetterConfig") or {}).get("Arn")
        if not queue:
            return ()
        payload = self._payload(attempts)
        is_cut = len(payload) > MAX_LETTER
        told = {
            "ERROR_CODE": code,
            "ERROR_MESSAGE": message,
            "EXECUTION_ID": self.execution_id,
            "EXHAUSTED_RETRY_CONDITION": exhausted,
            "IS_PAYLOAD_TRUNCATED": str(is_cut).lower(),
            "RETRY_ATTEMPTS": str(attempts - 1),
            "SCHEDULED_TIME": seconds(self.due_at.timestamp()),
            "SCHEDULE_ARN": arn,
            "TARGET_ARN": target["Arn"],
        }
        return (
            Delivery(
                delivery_id=str(uuid.uuid4()),
                target=queue,
                body=payload[:MAX_LETTER].decode("utf-8", "ignore"),
                region=arn.split(":")[3],
                role=target.get("RoleArn", ""),
                due_at=now,
                function_arn=target["Arn"],
                request_id=self.execution_id,
                is_dead_letter=True,
                created_at=now,
                attributes={name: value for name, value in told.items() if value},
            ),
        )

    def _payload(self, attempt: int) -> bytes:
        """The input with its context attributes, or the event of a schedule without one."""
        text = self.schedule.target.get("Input")
        if not text:
            event = scheduled_event(self.schedule.arn, self.due_at.timestamp())
            return orjson.dumps({**event, "source": "aws.scheduler", "detail": "{}"})
        values = {
            "schedule-arn": self.schedule.arn,
            "scheduled-time": seconds(self.due_at.timestamp()),
            "execution-id": self.execution_id,
            "attempt-number": str(attempt),
        }
        for name, value in values.items():
            text = text.replace(f"<aws.scheduler.{name}>", value)
        return str(text).encode()


class ScheduleService:
    """The endpoint's. Blocks; raises botocore's errors."""

    def __init__(self, clients: Clients, region: str) -> None:
        self._clients = clients
        self._region = region
        self._known: dict[str, tuple[datetime, Schedule]] = {}

    def look(self) -> Iterable[Schedule]:
        """Those that are enabled and run functions; of each that changed, the whole is asked for."""
        client = self._clients.client("scheduler", self._region)
        known: dict[str, tuple[datetime, Schedule]] = {}
        for page in client.get_paginator("list_schedules").paginate(State="ENABLED"):
            for each in page["Schedules"]:
                if ":lambda:" not in each["Target"]["Arn"] or each.get("State") != "ENABLED":
                    continue
                before = self._known.get(each["Arn"])
                if before is None or before[0] != each["LastModificationDate"]:
                    told = client.get_schedule(GroupName=each["GroupName"], Name=each["Name"])
                    before = each["LastModificationDate"], Schedule(_in_utc(told))
                known[each["Arn"]] = before
        self._known = known
        return [schedule for _, schedule in known.values()]

    def finished(self, schedule: Schedule) -> None:
        """It runs no more: delete it, where it says so."""
        if schedule.told.get("ActionAfterCompletion") == "DELETE":
            client = self._clients.client("scheduler", self._region)
            client.delete_schedule(GroupName=schedule.told["GroupName"], Name=schedule.told["Name"])


def _in_utc(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.astimezone(UTC) if isinstance(value, datetime) else value for name, value in told.items()}
