"""Triggers put together from the parts of a node."""

from __future__ import annotations

from rie.aws import Clients, has_endpoint
from rie.clock import Clock
from rie.invoke.invoker import Invoker
from rie.invoke.mirror import Mirror
from rie.logs.files import LogFiles
from rie.model.policy import POLICIES
from rie.model.scope import Scope
from rie.triggers.attempts import Attempts, Tell
from rie.triggers.intake import Intake, is_function
from rie.triggers.log_subscriptions import LogSubscriptions
from rie.triggers.schedule_service import ScheduleService
from rie.triggers.scheduler import Scheduler, rules_run, scheduled_targets
from rie.triggers.subscriptions import Subscriptions, granted
from rie.triggers.taps import Taps


class Triggers:
    """Everything that pushes events, opened and closed together, on the event loop.

    `hands_over`: the endpoint tells us itself (`intake.take`); else queues are put behind what its users configure.
    Without any endpoint nothing is done but what the manager's own log groups want: AWS itself can't know this
    manager's functions.
    """

    def __init__(
        self,
        invoker: Invoker,
        mirror: Mirror,
        clients: Clients,
        clock: Clock,
        scope: Scope,
        owner: str,
        logs: LogFiles,
        tell: Tell,
    ) -> None:
        self.intake = Intake(invoker)
        self._mirror = mirror
        self._scope = scope
        self._rules = Scheduler(
            lambda: scheduled_targets(clients, [scope.region]), rules_run(self.intake.deliver), clock
        )
        schedules = ScheduleService(clients, scope.region)
        self._attempts = Attempts(self.intake.hand, tell, clock)
        self._schedules = Scheduler(schedules.look, self._attempts.run, clock, schedules.finished)
        taps = Taps(clients, owner, scope.region, scope.account, self._is_ours)
        self._subscriptions = Subscriptions(taps, self._grants, self.intake.offer)
        self._log_subscriptions = LogSubscriptions(logs, self.intake.deliver, scope.account)

    async def open(self, *, hands_over: bool) -> None:
        """Begin."""
        if hands_over or has_endpoint("events"):
            self._rules.open()
        if hands_over or has_endpoint("scheduler"):
            self._schedules.open()
        if not hands_over and has_endpoint("sqs"):
            self._subscriptions.open()
        await self._log_subscriptions.open()

    async def close(self) -> None:
        """End."""
        await self._log_subscriptions.close()
        await self._rules.close()
        await self._schedules.close()
        await self._attempts.close()
        await self._subscriptions.close()
        await self.intake.close()

    def _is_ours(self, arn: str) -> bool:
        return is_function(arn, self._scope.account, self._scope.region)

    def _grants(self) -> set[tuple[str, str]]:
        return {grant for _, policy in self._mirror.each(POLICIES) for grant in granted(policy.statements)}
