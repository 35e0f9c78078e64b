"""All parts of a node, and the order in which they open and close."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rie.invoke.invoker import Invoker
from rie.node.control import Control
from rie.node.crossing import Crossing
from rie.node.doors import doors_of
from rie.node.ground import Ground
from rie.node.runs import Runs
from rie.plane.app import NodeApp
from rie.settings import Settings
from rie.sources.assembly import EventSources
from rie.triggers.assembly import Triggers


@dataclass(frozen=True, slots=True)
class Node:
    """An open node; `app` answers its requests."""

    app: NodeApp
    _ground: Ground
    _runs: Runs
    _control: Control
    _sources: EventSources
    _triggers: Triggers

    @classmethod
    async def open(cls, settings: Settings) -> Node:
        """Build all parts on the running event loop, clean up after a predecessor, resume what it had begun.

        Raises SettingsError (another manager holds the data), HostFault.
        """
        ground = await Ground.open(settings)
        crossing = Crossing(ground.engine)
        runs = Runs.over(ground, crossing)
        control = await Control.over(ground, crossing, runs)
        app = await doors_of(ground, runs, control.domain)
        ground.logs.files.start_sweeping()
        await runs.open()
        clients, clock = ground.clients, ground.clock
        sources = EventSources(
            control.domain.ledger, runs.mirror, runs.directory, runs.invoker, runs.events, clients, clock
        )
        sources.open()
        logs, tell = ground.logs.files, runs.events.tell
        triggers = Triggers(runs.invoker, runs.mirror, clients, clock, ground.scope, ground.owner, logs, tell)
        await triggers.open(hands_over=ground.endpoint is not None)
        if ground.endpoint is not None:
            ground.endpoint.listen(triggers.intake.take)
        await control.sweeper.open()
        ground.images.open(control.domain.usage.configurations, lambda: runs.pool.configurations)
        return cls(app, ground, runs, control, sources, triggers)

    @property
    def invoker(self) -> Invoker:
        """What runs invocations."""
        return self._runs.invoker

    @property
    def endpoint_url(self) -> str | None:
        """Where the endpoint for AWS's services is that runs beside it."""
        return None if self._ground.endpoint is None else self._ground.endpoint.url

    async def close(self, drain_s: float) -> None:
        """Let running invocations end for up to `drain_s`, then destroy every sandbox and release the data."""
        drained = asyncio.get_running_loop().time() + drain_s
        await self._triggers.close()
        await self._sources.close()
        await self._runs.events.close(drain_s)
        await self.invoker.drain(max(drained - asyncio.get_running_loop().time(), 0.0))
        await self._runs.durable.close()
        await self._control.deployment.close()
        await self._control.sweeper.close()
        await self._ground.images.close()
        await self._runs.provisioning.close()
        await self._runs.pool.close()
        await self._runs.arrivals.close()
        await self._ground.close()
