"""What all other parts of a node stand on: the engine, the database, clients of other services, keys, code, logs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from dataclasses import dataclass

from rie.aws import Clients
from rie.clock import Clock, SystemClock
from rie.cloud.child import Endpoint
from rie.code.links import Links, key_in
from rie.code.store import CodeStore
from rie.engine.base import Engine
from rie.errors import HostFault
from rie.functions.image_sweeper import Bounds, ImageSweeper
from rie.functions.preparation import Preparation
from rie.functions.runtimes import read_table
from rie.iam.roles import RoleCredentials
from rie.iam.sessions import Sessions, master_key
from rie.iam.setup import role_credentials_for
from rie.model.scope import Scope
from rie.node import data, endpoints
from rie.node.engine import engine_for
from rie.node.logs import Logs
from rie.settings import Settings
from rie.store import SqlStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ground:
    """`settings`: those given, changed by what runs beside; `described`: the engine, in a line for people;
    `roles` None: functions get no credentials; `lock` holds the data directory."""

    settings: Settings
    lock: int
    endpoint: Endpoint | None
    engine: Engine
    described: str
    store: SqlStore
    clients: Clients
    clock: Clock
    scope: Scope
    sessions: Sessions
    roles: RoleCredentials | None
    code: CodeStore
    links: Links
    images: ImageSweeper
    preparation: Preparation
    logs: Logs

    @classmethod
    async def open(cls, settings: Settings) -> Ground:
        """Hold the data, clean up after a predecessor.

        Raises SettingsError (another manager holds it), StoreFailed (likewise), HostFault.
        """
        lock = await asyncio.to_thread(data.hold, settings.data)
        endpoint = None
        if settings.with_aws:
            endpoint, settings = endpoints.beside(settings)
            await endpoint.open()
        engine = engine_for(settings)
        described = await engine.check()
        if leftovers := await engine.reconcile():
            log.warning("removed %d sandboxes that an earlier manager left behind", leftovers)
        store = await asyncio.to_thread(SqlStore, settings.database_url)
        await asyncio.to_thread(store.hold)
        clients = Clients()
        sessions = Sessions(await asyncio.to_thread(master_key, settings.data))
        code = await asyncio.to_thread(CodeStore, settings.data / "code")
        images = ImageSweeper(engine, Bounds(settings.data, settings.images_unused_mb, settings.disk_free_mb))
        clock = SystemClock()
        return cls(
            settings=settings,
            lock=lock,
            endpoint=endpoint,
            engine=engine,
            described=described,
            store=store,
            clients=clients,
            clock=clock,
            scope=Scope(settings.account, settings.region),
            sessions=sessions,
            roles=await asyncio.to_thread(role_credentials_for, settings, sessions, os.environ),
            code=code,
            links=Links(key_in(settings.data / "links.key"), clock),
            images=images,
            preparation=Preparation(engine.resolve, images.prepare, read_table(settings.data, settings.runtimes), code),
            logs=Logs(settings, clients),
        )

    @property
    def owner(self) -> str:
        """The name that what this manager makes elsewhere carries."""
        return data.owner_of(self.settings.data)

    async def close(self) -> None:
        """Destroy what the engine still holds, and release the data."""
        await self.logs.close()
        if self.roles is not None:
            await self.roles.close()
        with contextlib.suppress(HostFault):
            await self.engine.close()
        if self.endpoint is not None:
            await self.endpoint.close()
        self.store.close()
        os.close(self.lock)
