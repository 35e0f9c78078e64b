"""One node: everything of a manager, built in order, opened and closed in one place."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from a2wsgi import WSGIMiddleware

from rie import bundle
from rie.api.handlers import handlers
from rie.api.service import create_app
from rie.aws import Clients
from rie.clock import SystemClock
from rie.engine import choose
from rie.engine.base import Engine
from rie.engine.settings import EngineSettings
from rie.environments.environment import Environment
from rie.environments.plan import Limits
from rie.environments.pool import Pool, PoolSettings
from rie.errors import HostFault, SettingsError
from rie.events.assembly import AsyncInvocations
from rie.functions.catalog import Catalog
from rie.functions.deployment import Deployment
from rie.functions.domain import Domain
from rie.functions.ledger import Ledger
from rie.invoke.directory import Directory
from rie.invoke.invoker import Invoker
from rie.invoke.mirror import Mirror
from rie.logs.files import LogFiles, StreamWriter
from rie.model.alias import ALIASES
from rie.model.event import EVENT_INVOKE
from rie.model.function import LATEST, Function, FunctionKey
from rie.model.image import Image
from rie.model.mapping import MAPPINGS
from rie.model.record import Kind, Place, place_of
from rie.model.scope import Scope
from rie.plane.admin import Admin
from rie.plane.app import NodeApp
from rie.plane.http import AsgiApp
from rie.plane.invocations import Invocations
from rie.settings import Settings
from rie.sources.assembly import EventSources
from rie.sources.inspection import Inspection
from rie.store import SqlStore

log = logging.getLogger(__name__)

MIRRORED: tuple[Kind[Any], ...] = (  # the kinds of records that invocations need
    ALIASES,
    EVENT_INVOKE,
    MAPPINGS,
)
CONTROL_THREADS = 32  # some may wait for a registry that does not answer
LOCK_WAIT_S = 10.0  # a manager that was told to stop may still be cleaning up
RESOLVE_LIMIT_S = 60.0


def engine_for(settings: Settings) -> Engine:
    """The engine that the settings name, knowing this manager's sandboxes from others'. Raises SettingsError."""
    return choose(
        settings.engine,
        EngineSettings(
            bundle=bundle.ensure(settings.bundle),
            state_dir=settings.data / "sandboxes",
            owner=_owner(settings.data),
            network=settings.network,
        ),
    )


def prepare_data(data: Path) -> None:
    """Make the data directory; only its owner may look inside. Raises SettingsError."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SettingsError(f"cannot use the data directory {data}: {error.strerror}") from None
    if not os.access(data, os.W_OK | os.X_OK):
        raise SettingsError(f"cannot use the data directory {data}: no permission to write there")


def _owner(data: Path) -> str:
    """The name that this data directory's sandboxes carry, made up once."""
    path = data / "owner"
    if not path.exists():
        path.write_text(uuid.uuid4().hex)
    return path.read_text().strip()


@dataclass(slots=True)
class Node:
    """An open node; `app` answers its requests."""

    app: NodeApp
    invoker: Invoker
    _events: AsyncInvocations
    _sources: EventSources
    _pool: Pool
    _deployment: Deployment
    _engine: Engine
    _store: SqlStore
    _lock: int

    @classmethod
    async def open(cls, settings: Settings) -> Node:
        """Build all parts on the running event loop, clean up after a predecessor, resume what it had begun.

        Raises SettingsError (another manager holds the data), HostFault.
        """
        loop = asyncio.get_running_loop()
        lock = await asyncio.to_thread(_lock, settings.data)
        engine = engine_for(settings)
        described = await engine.check()
        leftovers = await engine.reconcile()
        if leftovers:
            log.warning("removed %d sandboxes that an earlier manager left behind", leftovers)
        store = SqlStore(settings.database_url)
        logs = LogFiles(settings.data / "logs")
        mirror = Mirror()
        directory = Directory(mirror=mirror)
        pool = Pool(engine, _pool_settings(settings), lambda environment: _sink(logs, environment))

        def changed(key: FunctionKey, version: str, function: Function | None) -> None:
            loop.call_soon_threadsafe(_apply, directory, mirror, pool, key, version, function)
            if function is None and version == LATEST:
                asyncio.run_coroutine_threadsafe(events.queue.drop(key), loop)

        def noted(kind: Kind[Any], place: Place, record: Any) -> None:
            loop.call_soon_threadsafe(mirror.update, kind, place, record)

        def resolve(reference: str, architecture: str) -> Image:
            future = asyncio.run_coroutine_threadsafe(engine.resolve(reference, architecture), loop)
            try:
                return future.result(RESOLVE_LIMIT_S)
            except TimeoutError:
                future.cancel()
                raise HostFault(f"cannot resolve {reference}: no answer within {RESOLVE_LIMIT_S:.0f} s") from None

        catalog = Catalog(store, resolve, lambda function: deployment.submit(function), changed, SystemClock())
        deployment = Deployment(engine.prepare, catalog)
        ledger = Ledger(store.records, noted)
        for kind in MIRRORED:
            mirror.load(kind, await asyncio.to_thread(ledger.all, kind))
        for function in await asyncio.to_thread(catalog.all):
            directory.update(function)
        deployment.resume(await asyncio.to_thread(catalog.unsettled))
        scope = Scope(settings.account, settings.region)
        clock = SystemClock()
        invoker = Invoker(directory, pool, lambda event: events.queue.accept(event))
        clients = Clients()
        events = AsyncInvocations(store.events, invoker, directory, mirror, clients, clock, settings.async_delay_scale)
        domain = Domain.over(catalog, ledger, clock, Inspection(clients))
        flask = create_app(handlers(domain), account=scope.account, region=scope.region)
        # Its types name every ASGI message; ours don't.
        control = cast(AsgiApp, WSGIMiddleware(cast(Any, flask), workers=CONTROL_THREADS))
        app = NodeApp(Invocations(invoker, scope), Admin(pool, directory, logs, described), control)
        pool.open()
        await events.open()
        sources = EventSources(ledger, mirror, directory, invoker, events, clients, clock)
        sources.open()
        return cls(app, invoker, events, sources, pool, deployment, engine, store, lock)

    async def close(self, drain_s: float) -> None:
        """Let running invocations end for up to `drain_s`, then destroy every sandbox and release the data."""
        drained = asyncio.get_running_loop().time() + drain_s
        await self._sources.close()
        await self._events.close(drain_s)
        await self.invoker.drain(max(drained - asyncio.get_running_loop().time(), 0.0))
        await self._deployment.close()
        await self._pool.close()
        with contextlib.suppress(HostFault):
            await self._engine.close()
        self._store.close()
        os.close(self._lock)


def _pool_settings(settings: Settings) -> PoolSettings:
    return PoolSettings(Limits(settings.concurrency, settings.memory_mb), settings.idle_s, settings.freeze_s)


def _sink(logs: LogFiles, environment: Environment) -> StreamWriter:
    group = environment.configuration.logging.group or f"/aws/lambda/{environment.function.key.name}"
    return logs.open(group, environment.log_stream)


def _apply(
    directory: Directory, mirror: Mirror, pool: Pool, key: FunctionKey, version: str, function: Function | None
) -> None:
    """Make a change known to invocations: environments of what no longer serves go."""
    if function is not None:
        directory.update(function)
        pool.retire(key, version, keep=function.serving.configuration_id if function.serving is not None else None)
        return
    directory.forget(key, version)
    if version == LATEST:
        mirror.forget(key)
        pool.retire(key)
    else:
        mirror.clear(place_of(key, version))
        pool.retire(key, version)


def _lock(data: Path) -> int:
    """Hold the data directory; it is released with the process, however that ends. Raises SettingsError."""
    fd = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(fd)
                raise SettingsError(f"cannot use the data directory {data}: another manager holds it") from None
            time.sleep(0.05)
