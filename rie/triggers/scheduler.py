"""Runs the schedules of rules and of EventBridge Scheduler, whose endpoint doesn't: looks, waits (lambda.md §10.3)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from rie.aws import Clients
from rie.clock import Clock
from rie.triggers.documents import SERVICES, Push, scheduled_event
from rie.triggers.inputs import payload_of
from rie.triggers.intake import NotNow, Offer
from rie.triggers.schedules import InvalidSchedule, parse

log = logging.getLogger(__name__)

LOOK_S = 3.0  # between two looks at the rules
TICK_S = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """When something runs: first, None for never, and after that."""

    first: datetime | None
    after: Callable[[datetime], datetime | None]


class Scheduled(Protocol):
    """What runs by the clock."""

    @property
    def expression(self) -> str:
        """The schedule expression."""

    @property
    def identity(self) -> Hashable:
        """The same as long as it runs at the same times."""

    def plan(self, seen_at: datetime, opened_at: datetime) -> Plan:
        """For one that is seen first now, by a scheduler that began then. Raises InvalidSchedule."""

    def delay(self) -> timedelta:
        """How late it runs this time."""


S = TypeVar("S", bound=Scheduled)


@dataclass(frozen=True, slots=True)
class ScheduledTarget:
    """A function that a rule invokes by the clock; `target` as PutTargets takes it."""

    rule_arn: str
    expression: str
    target: dict[str, Any] = field(hash=False)

    @property
    def identity(self) -> Hashable:
        """The same as long as it runs at the same times."""
        return self.rule_arn, self.expression, str(self.target["Id"])

    def plan(self, seen_at: datetime, opened_at: datetime) -> Plan:
        """A rule's schedule is counted from when it was seen first. Raises InvalidSchedule."""
        schedule = parse(self.expression)
        return Plan(schedule.after(seen_at, seen_at), lambda now: schedule.after(now, seen_at))

    def delay(self) -> timedelta:
        """None."""
        return timedelta()


@dataclass(slots=True)
class _Timed(Generic[S]):
    target: S
    plan: Plan
    due_at: datetime | None
    runs_at: datetime | None = None

    def set(self, due_at: datetime | None) -> None:
        self.due_at = due_at
        self.runs_at = None if due_at is None else due_at + self.target.delay()


Look = Callable[[], Iterable[S]]
"""What the endpoint has now. Blocks; raises botocore's errors."""
Run = Callable[[S, datetime], Awaitable[None]]
"""Runs what was due then; must not take long."""
Finished = Callable[[S], None]
"""Told of what runs no more after this. Blocks; raises botocore's errors."""


class Scheduler(Generic[S]):
    """Lives on the event loop. What fell due while nobody ran is not made up for."""

    def __init__(self, look: Look[S], run: Run[S], clock: Clock, finished: Finished[S] | None = None) -> None:
        self._look = look
        self._run = run
        self._clock = clock
        self._finished = finished
        self._opened_at = clock.now()
        self._timed: dict[Hashable, _Timed[S]] = {}
        self._refused: set[Hashable] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Begin."""
        loop = asyncio.get_running_loop()
        self._tasks |= {loop.create_task(self._watch()), loop.create_task(self._tick())}

    async def close(self) -> None:
        """End."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def know(self, found: Iterable[S]) -> None:
        """Take over what was found: new ones begin now, those that are gone don't run again."""
        now = self._clock.now()
        known: dict[Hashable, _Timed[S]] = {}
        for each in found:
            before = self._timed.get(each.identity)
            if before is not None:
                before.target = each
                known[each.identity] = before
                continue
            try:
                plan = each.plan(now, self._opened_at)
            except InvalidSchedule as error:
                self._refuse(each, error)
                continue
            known[each.identity] = timed = _Timed(each, plan, None)
            timed.set(plan.first)
        self._timed = known

    async def push_due(self) -> None:
        """Push whatever is due, each once however late it is."""
        now = self._clock.now()
        for timed in list(self._timed.values()):
            if timed.due_at is None or timed.runs_at is None or timed.runs_at > now:
                continue
            due_at = timed.due_at
            timed.set(timed.plan.after(now))
            await self._run(timed.target, due_at)
            if timed.due_at is None and self._finished is not None:
                await self._finish(timed.target)

    async def _finish(self, target: S) -> None:
        assert self._finished is not None
        try:
            await asyncio.to_thread(self._finished, target)
        except Exception as error:  # botocore's
            log.warning("cannot end a schedule: %s", error)

    async def _watch(self) -> None:
        while True:
            try:
                self.know(await asyncio.to_thread(lambda: list(self._look())))
            except Exception as error:  # botocore's errors have no common root but Exception
                log.debug("cannot look for schedules: %s", error)
            await asyncio.sleep(LOOK_S)

    async def _tick(self) -> None:
        while True:
            with contextlib.suppress(OverflowError):
                await self.push_due()
            await asyncio.sleep(TICK_S)

    def _refuse(self, target: S, error: InvalidSchedule) -> None:
        """Said once."""
        if target.identity not in self._refused:
            self._refused.add(target.identity)
            log.warning("%s does not run: %s", target.identity, error)


def rules_run(offer: Offer) -> Run[ScheduledTarget]:
    """Has a rule's target given its event."""

    async def run(target: ScheduledTarget, due_at: datetime) -> None:
        rule = target.rule_arn
        payload = payload_of(target.target, scheduled_event(rule, due_at.timestamp()), rule)
        try:
            await offer(Push(SERVICES["events"], target.target["Arn"], rule, rule.split(":")[4], payload))
        except NotNow as error:
            log.warning("%s could not run at %s: %s", rule, due_at, error)

    return run


def scheduled_targets(clients: Clients, regions: Iterable[str]) -> Iterable[ScheduledTarget]:
    """The functions that enabled rules invoke by the clock; only the default bus has schedules. Blocks."""
    for region in regions:
        client = clients.client("events", region)
        for page in client.get_paginator("list_rules").paginate():
            for rule in page["Rules"]:
                if rule.get("ScheduleExpression") and rule.get("State") != "DISABLED":
                    told = client.list_targets_by_rule(Rule=rule["Name"])
                    for target in told["Targets"]:
                        if ":lambda:" in target["Arn"]:
                            yield ScheduledTarget(rule["Arn"], rule["ScheduleExpression"], target)
