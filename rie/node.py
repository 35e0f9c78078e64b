"""One node: everything of a manager, built in order, opened and closed in one place."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from a2wsgi import WSGIMiddleware

from rie import bundle
from rie.api.handlers import handlers
from rie.api.permissions import Permissions
from rie.api.service import create_app
from rie.aws import Clients, endpoint_of, has_endpoint
from rie.clock import SystemClock
from rie.cloud import child
from rie.cloud.child import Endpoint
from rie.code.links import Links, key_in
from rie.code.s3 import S3
from rie.code.store import CodeStore
from rie.engine import choose, default
from rie.engine.base import Engine
from rie.engine.settings import EngineSettings
from rie.environments.arrivals_file import ArrivalsFile
from rie.environments.environment import Environment, credentials_needed_s
from rie.environments.plan import Limits
from rie.environments.pool import Pool
from rie.environments.pool_settings import CredentialsOf, PoolSettings, no_credentials
from rie.environments.provisioning import Provisioning
from rie.errors import HostFault, ServiceError, SettingsError
from rie.events.assembly import AsyncInvocations
from rie.functions.catalog import Catalog
from rie.functions.concurrency import Quota
from rie.functions.deployment import Deployment
from rie.functions.domain import Code, Domain, any_role
from rie.functions.durable import DurableExecutions, Plan
from rie.functions.image_sweeper import Bounds as ImageBounds
from rie.functions.image_sweeper import ImageSweeper
from rie.functions.ledger import Ledger
from rie.functions.preparation import Preparation
from rie.functions.runtimes import read_table
from rie.functions.sweeper import Sweeper
from rie.gateway.definitions import of_endpoint
from rie.gateway.door import Gateway
from rie.iam.caller import Identity
from rie.iam.roles import CANNOT_ASSUME, RoleCredentials
from rie.iam.sessions import Credentials, Sessions, master_key
from rie.iam.setup import are_roles_known_here, authentication_for, role_credentials_for
from rie.invoke.access import Access
from rie.invoke.directory import Directory
from rie.invoke.durable import DurableRuns
from rie.invoke.invoker import Invoker
from rie.invoke.loops import LoopGuard
from rie.invoke.mirror import Mirror
from rie.invoke.upkeep import Upkeep
from rie.invoke.urls import UrlDirectory
from rie.logs.bounds import MB, Bounds
from rie.logs.cloudwatch import CloudWatch
from rie.logs.delivery import Delivery
from rie.logs.files import LogFiles
from rie.logs.names import log_group
from rie.logs.query import LogQueries
from rie.logs.writer import StreamWriter
from rie.model.alias import ALIASES
from rie.model.concurrency import PROVISIONED, RESERVED
from rie.model.event import EVENT_INVOKE
from rie.model.function import LATEST, Configuration, Function, FunctionKey
from rie.model.function_url import FUNCTION_URLS, URL_IDS
from rie.model.image import Image
from rie.model.mapping import MAPPINGS
from rie.model.policy import POLICIES
from rie.model.record import Kind, Place, place_of
from rie.model.recursion import RECURSION
from rie.model.scope import Scope
from rie.plane.admin import Admin
from rie.plane.apis import Apis
from rie.plane.app import NodeApp
from rie.plane.cloudwatch_logs import CloudWatchLogs
from rie.plane.control import IDENTITY, AsgiApp, Control
from rie.plane.downloads import Downloads
from rie.plane.gate import Gate
from rie.plane.invocations import Invocations
from rie.plane.metrics import Metrics
from rie.plane.sts import Sts
from rie.plane.url_gate import UrlGate
from rie.plane.urls import FunctionUrls
from rie.settings import Settings
from rie.sources.assembly import EventSources
from rie.sources.inspection import Inspection
from rie.store import SqlStore
from rie.triggers.assembly import Triggers

log = logging.getLogger(__name__)

MIRRORED: tuple[Kind[Any], ...] = (  # the kinds of records that invocations need
    ALIASES,
    RESERVED,
    PROVISIONED,
    RECURSION,
    EVENT_INVOKE,
    MAPPINGS,
    POLICIES,
    FUNCTION_URLS,
    URL_IDS,
)
CONTROL_THREADS = 32  # some may wait for a registry that does not answer
LOCK_WAIT_S = 10.0  # a manager that was told to stop may still be cleaning up
RESOLVE_LIMIT_S = 60.0
LOGS_LIMIT_S = 5.0  # what delivering the last log lines may take at the end


def engine_for(settings: Settings) -> Engine:
    """The engine that the settings name, knowing this manager's sandboxes from others'. Raises SettingsError."""
    return choose(
        settings.engine,
        EngineSettings(
            bundle=bundle.ensure(settings.bundle),
            state_dir=settings.data / "sandboxes",
            owner=_owner(settings.data),
            network=settings.network,
            host_urls=tuple(_endpoints(settings).values()),
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
    _durable: DurableRuns
    _sources: EventSources
    _triggers: Triggers
    _endpoint: Endpoint | None
    _pool: Pool
    _arrivals: ArrivalsFile
    _provisioning: Provisioning
    _deployment: Deployment
    _sweepers: tuple[Sweeper, ImageSweeper]
    _engine: Engine
    _store: SqlStore
    _roles: RoleCredentials | None
    _logs: LogFiles
    _delivery: Delivery | None
    _lock: int

    @classmethod
    async def open(cls, settings: Settings) -> Node:
        """Build all parts on the running event loop, clean up after a predecessor, resume what it had begun.

        Raises SettingsError (another manager holds the data), HostFault.
        """
        loop = asyncio.get_running_loop()
        lock = await asyncio.to_thread(_lock, settings.data)
        endpoint = None
        if settings.with_aws:
            endpoint, settings = _endpoint_of(settings)
            await endpoint.open()
        engine = engine_for(settings)
        described = await engine.check()
        leftovers = await engine.reconcile()
        if leftovers:
            log.warning("removed %d sandboxes that an earlier manager left behind", leftovers)
        store = SqlStore(settings.database_url)
        bounds = Bounds(settings.log_function_mb * MB, settings.log_total_mb * MB, settings.log_retention_days)
        logs = LogFiles(settings.data / "logs", bounds, settings.log_kb_per_s)
        clients = Clients()
        delivery = _delivery(settings, clients)
        mirror = Mirror()
        directory = Directory(mirror=mirror)
        url_directory = UrlDirectory(mirror)
        sessions = Sessions(await asyncio.to_thread(master_key, settings.data))
        roles = await asyncio.to_thread(role_credentials_for, settings, sessions, os.environ)
        code = await asyncio.to_thread(CodeStore, settings.data / "code")
        links = Links(key_in(settings.data / "links.key"), SystemClock())
        runtimes = read_table(settings.data, settings.runtimes)
        image_bounds = ImageBounds(settings.data, settings.images_unused_mb, settings.disk_free_mb)
        image_sweeper = ImageSweeper(
            engine, image_bounds, lambda: domain.usage.configurations(), lambda: pool.configurations
        )
        preparation = Preparation(engine.resolve, image_sweeper.prepare, runtimes, code)
        pool = Pool(
            engine,
            _pool_settings(settings, engine),
            lambda environment: _sink(logs, delivery, environment),
            no_credentials if roles is None else _credentials_of(roles, settings),
            preparation.mounts,
        )

        provisioning = Provisioning(pool)
        upkeep = Upkeep(directory, mirror, pool, provisioning)

        def changed(key: FunctionKey, version: str, function: Function | None) -> None:
            loop.call_soon_threadsafe(upkeep.function_changed, key, version, function)
            if function is None:
                loop.call_soon_threadsafe(durable.function_gone, key, None if version == LATEST else version)
            if function is None and version == LATEST:
                loop.call_soon_threadsafe(invoker.counters.forget, key)
                asyncio.run_coroutine_threadsafe(events.queue.drop(key), loop)
            if roles is not None:
                loop.call_soon_threadsafe(_fetch_ahead, roles, key, version, function)

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
        deployment = Deployment(preparation, catalog)
        ledger = Ledger(store.records, noted)
        for function in await asyncio.to_thread(catalog.all):
            directory.update(function)
        for kind in MIRRORED:
            mirror.load(kind, await asyncio.to_thread(ledger.all, kind))
        deployment.resume(await asyncio.to_thread(catalog.unsettled))
        scope = Scope(settings.account, settings.region)
        clock = SystemClock()
        gate = Gate(await asyncio.to_thread(authentication_for, settings, sessions, clock, os.environ), scope)
        access = Access(mirror, url_needs_invoke=settings.url_needs_invoke)
        invoker = Invoker(
            directory,
            access,
            pool,
            LoopGuard(mirror),
            lambda event: events.queue.accept(event),
            lambda: durable,
        )

        def execution_changed(plan: Plan) -> None:
            loop.call_soon_threadsafe(durable.changed, plan)

        book = DurableExecutions(store.durable, clock, execution_changed)
        durable = DurableRuns(book, directory, invoker.run_once, clock, settings.async_delay_scale)
        events = AsyncInvocations(store.events, invoker, directory, mirror, clients, clock, settings.async_delay_scale)
        domain = Domain.over(
            catalog,
            ledger,
            clock,
            code=Code(code, S3(clients), links),
            inspect=Inspection(clients),
            durable=book,
            check_role=roles.check if roles is not None else any_role,
            quota=Quota(settings.concurrency, settings.unreserved),
            find_allocation=provisioning.allocation,
            url_pattern=settings.url_pattern,
        )
        sweeper = Sweeper(code, domain.usage.uses, lambda: pool.configurations)
        flask = create_app(
            handlers(domain),
            identify=lambda request: cast(Identity, request.environ["asgi.scope"][IDENTITY]),
            permit=Permissions(lambda key, qualifier: _statements(ledger, key, qualifier)).permit,
        )
        # Its types name every ASGI message; ours don't.
        control = cast(AsgiApp, WSGIMiddleware(cast(Any, flask), workers=CONTROL_THREADS))
        metrics = Metrics(invoker.counters, pool, events, lambda: 0 if delivery is None else len(delivery))
        pace = settings.stream_mib_per_s
        app = NodeApp(
            gate,
            invocations=Invocations(invoker, gate, pace),
            urls=FunctionUrls(invoker, url_directory, UrlGate(gate, access), settings.port, pace),
            admin=Admin(pool, directory, logs, metrics, described),
            others=(Sts(gate, sessions), CloudWatchLogs(gate, LogQueries(logs))),
            control=Control(control, gate),
            apis=Apis(_gateway(invoker, clients, scope, settings), settings.port),
            downloads=Downloads(links, code),
        )
        logs.start_sweeping()
        arrivals = ArrivalsFile(settings.data / "arrivals.json", pool.book)
        await arrivals.open(lambda key, version: version in directory.versions(key))
        await events.open()
        await durable.open()
        sources = EventSources(ledger, mirror, directory, invoker, events, clients, clock)
        sources.open()
        triggers = Triggers(invoker, mirror, clients, clock, scope, _owner(settings.data))
        triggers.open(hands_over=endpoint is not None)
        if endpoint is not None:
            endpoint.listen(triggers.intake.take)
        await sweeper.open()
        image_sweeper.open()
        return cls(
            app=app,
            invoker=invoker,
            _events=events,
            _durable=durable,
            _sources=sources,
            _triggers=triggers,
            _endpoint=endpoint,
            _pool=pool,
            _arrivals=arrivals,
            _provisioning=provisioning,
            _deployment=deployment,
            _sweepers=(sweeper, image_sweeper),
            _engine=engine,
            _store=store,
            _roles=roles,
            _logs=logs,
            _delivery=delivery,
            _lock=lock,
        )

    @property
    def endpoint_url(self) -> str | None:
        """Where the endpoint for AWS's services is that runs beside it."""
        return None if self._endpoint is None else self._endpoint.url

    async def close(self, drain_s: float) -> None:
        """Let running invocations end for up to `drain_s`, then destroy every sandbox and release the data."""
        drained = asyncio.get_running_loop().time() + drain_s
        await self._triggers.close()
        await self._sources.close()
        await self._events.close(drain_s)
        await self.invoker.drain(max(drained - asyncio.get_running_loop().time(), 0.0))
        await self._durable.close()
        await self._deployment.close()
        for sweeper in self._sweepers:
            await sweeper.close()
        await self._provisioning.close()
        await self._pool.close()
        await self._arrivals.close()
        await self._logs.close()
        if self._delivery is not None:
            await self._delivery.close(LOGS_LIMIT_S)
        if self._roles is not None:
            await self._roles.close()
        with contextlib.suppress(HostFault):
            await self._engine.close()
        if self._endpoint is not None:
            await self._endpoint.close()
        self._store.close()
        os.close(self._lock)


def _endpoint_of(settings: Settings) -> tuple[Endpoint, Settings]:
    """The endpoint to run beside the manager, and the settings that use it; boto3 has its own from the environment."""
    port, addresses, for_functions = child.place(settings.aws_port, settings.port + 1, settings.engine or default()[0])
    endpoint = Endpoint(port, addresses, settings.account, settings.data / "aws.log")
    os.environ["AWS_ENDPOINT_URL"] = endpoint.url
    return endpoint, replace(
        settings,
        function_endpoint_url=settings.function_endpoint_url or for_functions,
        # Those of its STS would be no keys of this manager's; it takes any itself.
        role_credentials="own" if settings.role_credentials == "auto" else settings.role_credentials,
    )


def _gateway(invoker: Invoker, clients: Clients, scope: Scope, settings: Settings) -> Gateway:
    define = (lambda api_id: of_endpoint(clients, api_id, scope)) if has_endpoint("apigateway") else None
    return Gateway(invoker, scope, define, settings.routes)


def _endpoints(settings: Settings) -> dict[str, str]:
    """What functions may reach of this host's, by the variables that tell them so.

    This API is among it only where it asks everybody for a signature, and functions have credentials for one; or
    where whoever runs it says so.
    """
    found = {"AWS_ENDPOINT_URL": settings.function_endpoint_url or ""}
    if settings.port and are_roles_known_here(settings, os.environ):
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        found["AWS_ENDPOINT_URL_LAMBDA"] = f"http://{host}:{settings.port}"
    if settings.function_lambda_url:
        found["AWS_ENDPOINT_URL_LAMBDA"] = settings.function_lambda_url
    return {name: url for name, url in found.items() if url}


def _pool_settings(settings: Settings, engine: Engine) -> PoolSettings:
    variables = {name: engine.url_inside(url) for name, url in _endpoints(settings).items()}
    if engine.name == "docker" and settings.is_on_loopback and not settings.function_lambda_url:
        variables.pop("AWS_ENDPOINT_URL_LAMBDA", None)  # nobody listens where its sandboxes see this host
    limits, is_learned = Limits(settings.concurrency, settings.memory_mb), settings.keep_alive == "learned"
    return PoolSettings(limits, settings.idle_s, variables, settings.freeze_s, is_learned)


def _credentials_of(roles: RoleCredentials, settings: Settings) -> CredentialsOf:
    """The pool's way to credentials: what a caller of Invoke hears when the role can't be assumed any more."""

    async def credentials_of(function: Function, configuration: Configuration) -> Credentials:
        if settings.auth and configuration.role.split(":")[4] != function.key.account:
            raise ServiceError("AccessDeniedException", CANNOT_ASSUME)  # stored when nobody was asked who he is
        try:
            return await roles.get(configuration.role, function.key.name, credentials_needed_s(configuration))
        except ServiceError as error:
            raise ServiceError("AccessDeniedException", error.message) from None

    return credentials_of


def _fetch_ahead(roles: RoleCredentials, key: FunctionKey, version: str, function: Function | None) -> None:
    """So that the first environment of a function waits for nobody."""
    if function is None and version == LATEST:
        roles.forget(key.name)
    elif function is not None:
        roles.prepare(function.configuration.role, key.name)


def _statements(ledger: Ledger, key: FunctionKey, qualifier: str | None) -> tuple[str, ...]:
    policy = ledger.find(POLICIES, place_of(key, qualifier or LATEST))
    return () if policy is None else policy.statements


def _delivery(settings: Settings, clients: Clients) -> Delivery | None:
    """What brings logs to CloudWatch Logs; None where the settings don't want it, or would have it talk to itself."""
    endpoint = endpoint_of("logs")
    if settings.log_delivery == "off" or (settings.log_delivery == "auto" and not endpoint):
        return None
    if endpoint:
        url = urlsplit(endpoint)
        if url.port == settings.port and url.hostname in ("localhost", "127.0.0.1", "::1", settings.host):
            return None
    return Delivery(CloudWatch(lambda region, role: clients.client("logs", region, role)).put)


def _sink(logs: LogFiles, delivery: Delivery | None, environment: Environment) -> StreamWriter:
    key, configuration, stream = environment.function.key, environment.configuration, environment.log_stream
    group = log_group(key, configuration)
    also = None if delivery is None else delivery.channel(key.region, configuration.role, group, stream, key.arn)
    return logs.open(group, stream, key.arn, also)


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
