"""What runs functions: environments, the invoker, asynchronous events, durable executions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from rie.environments.arrivals_file import ArrivalsFile
from rie.environments.plan import Limits
from rie.environments.pool import Pool
from rie.environments.pool_settings import PoolSettings
from rie.environments.provisioning import Provisioning
from rie.events.assembly import AsyncInvocations
from rie.functions.durable import DurableExecutions
from rie.invoke.access import Access
from rie.invoke.directory import Directory
from rie.invoke.durable import DurableRuns
from rie.invoke.invoker import Invoker
from rie.invoke.loops import LoopGuard
from rie.invoke.mirror import Mirror
from rie.invoke.upkeep import Upkeep
from rie.invoke.urls import UrlDirectory
from rie.model.function import LATEST, Function, FunctionKey
from rie.node import endpoints
from rie.node.credentials import credentials_for_pool, fetch_ahead
from rie.node.crossing import Crossing
from rie.node.ground import Ground


@dataclass(frozen=True, slots=True)
class Runs:
    """All of it lives on the event loop; `book`, what durable executions are, is called on threads as well."""

    mirror: Mirror
    directory: Directory
    url_directory: UrlDirectory
    access: Access
    pool: Pool
    arrivals: ArrivalsFile
    provisioning: Provisioning
    invoker: Invoker
    events: AsyncInvocations
    book: DurableExecutions
    durable: DurableRuns

    @classmethod
    def over(cls, ground: Ground, crossing: Crossing) -> Runs:
        """Built, and listening for changes; `mirror` and `directory` are empty yet."""
        settings, clock = ground.settings, ground.clock
        mirror = Mirror()
        directory = Directory(mirror=mirror)
        url_directory = UrlDirectory(mirror)
        access = Access(mirror, url_needs_invoke=settings.url_needs_invoke)
        pool = _pool(ground)
        arrivals = ArrivalsFile(settings.data / "arrivals.json", pool.book)
        provisioning = Provisioning(pool)
        upkeep = Upkeep(directory, mirror, pool, provisioning)
        invoker = Invoker(
            directory, access, pool, LoopGuard(mirror), lambda event: events.queue.accept(event), lambda: durable
        )
        book = DurableExecutions(ground.store.durable, clock, crossing.execution_changed)
        durable = DurableRuns(book, directory, invoker.run_once, clock, settings.async_delay_scale)
        events = AsyncInvocations(
            ground.store.events, invoker, directory, mirror, ground.clients, clock, settings.async_delay_scale
        )
        runs = cls(
            mirror, directory, url_directory, access, pool, arrivals, provisioning, invoker, events, book, durable
        )
        crossing.records = mirror.update
        crossing.executions = durable.changed
        crossing.functions += [upkeep.function_changed, runs._function_changed]
        if ground.roles is not None:
            crossing.functions.append(partial(fetch_ahead, ground.roles))
        return runs

    async def open(self) -> None:
        """Go on with what a predecessor acknowledged."""
        await self.arrivals.open(lambda key, version: version in self.directory.versions(key))
        await self.events.open()
        await self.durable.open()

    def _function_changed(self, key: FunctionKey, version: str, function: Function | None) -> None:
        """Nothing is left to do for what is gone."""
        if function is not None:
            return
        self.durable.function_gone(key, None if version == LATEST else version)
        if version == LATEST:
            self.invoker.counters.forget(key)
            asyncio.run_coroutine_threadsafe(self.events.queue.drop(key), asyncio.get_running_loop())


def _pool(ground: Ground) -> Pool:
    settings = ground.settings
    return Pool(
        ground.engine,
        PoolSettings(
            Limits(settings.concurrency, settings.memory_mb),
            settings.idle_s,
            endpoints.variables_inside(settings, ground.engine),
            settings.freeze_s,
            settings.keep_alive == "learned",
        ),
        ground.logs.sink,
        credentials_for_pool(ground.roles, settings),
        ground.preparation.mounts,
    )
