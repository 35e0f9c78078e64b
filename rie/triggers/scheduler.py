"""Runs the schedules of rules whose endpoint doesn't: looks for them, waits, pushes (lambda.md §10.3)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rie.aws import Clients
from rie.clock import Clock
from rie.triggers.documents import SERVICES, Push, scheduled_event
from rie.triggers.inputs import payload_of
from rie.triggers.intake import NotNow, Offer
from rie.triggers.schedules import Cron, InvalidSchedule, Rate, parse

log = logging.getLogger(__name__)

LOOK_S = 3.0  # between two looks at the rules
TICK_S = 0.5


@dataclass(frozen=True, slots=True)
class ScheduledTarget:
    """A function that a rule invokes by the clock; `target` as PutTargets takes it."""

    rule_arn: str
    expression: str
    target: dict[str, Any] = field(hash=False)

    @property
    def identity(self) -> tuple[str, str, str]:
        """The same as long as it runs at the same times."""
        return self.rule_arn, self.expression, str(self.target["Id"])


@dataclass(slots=True)
class _Timed:
    target: ScheduledTarget
    schedule: Rate | Cron
    since: datetime
    due_at: datetime | None


Look = Callable[[], Iterable[ScheduledTarget]]
"""What the endpoint has now. Blocks; raises botocore's errors."""


class Scheduler:
    """Lives on the event loop. What fell due while nobody ran is not made up for, as on the service."""

    def __init__(self, look: Look, offer: Offer, clock: Clock) -> None:
        self._look = look
        self._offer = offer
        self._clock = clock
        self._timed: dict[tuple[str, str, str], _Timed] = {}
        self._refused: set[tuple[str, str]] = set()
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

    def know(self, found: Iterable[ScheduledTarget]) -> None:
        """Take over what was found: new ones begin now, those that are gone don't run again."""
        now = self._clock.now()
        known: dict[tuple[str, str, str], _Timed] = {}
        for each in found:
            before = self._timed.get(each.identity)
            if before is not None:
                before.target = each
                known[each.identity] = before
                continue
            try:
                schedule = parse(each.expression)
            except InvalidSchedule as error:
                self._refuse(each, error)
                continue
            known[each.identity] = _Timed(each, schedule, now, schedule.after(now, now))
        self._timed = known

    async def push_due(self) -> None:
        """Push whatever is due, each once however late it is."""
        now = self._clock.now()
        for timed in list(self._timed.values()):
            if timed.due_at is None or timed.due_at > now:
                continue
            due_at, timed.due_at = timed.due_at, timed.schedule.after(now, timed.since)
            await self._push(timed.target, due_at)

    async def _push(self, target: ScheduledTarget, due_at: datetime) -> None:
        rule = target.rule_arn
        event = scheduled_event(rule, due_at.timestamp())
        payload = payload_of(target.target, event, rule)
        push = Push(SERVICES["events"], target.target["Arn"], rule, rule.split(":")[4], payload)
        try:
            await self._offer(push)
        except NotNow as error:
            log.warning("%s could not run at %s: %s", rule, due_at, error)

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

    def _refuse(self, target: ScheduledTarget, error: InvalidSchedule) -> None:
        """Said once."""
        if (target.rule_arn, target.expression) not in self._refused:
            self._refused.add((target.rule_arn, target.expression))
            log.warning("%s does not run: %s", target.rule_arn, error)


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
