"""What answers requests: the Lambda API and the services beside it, over one listener."""

from __future__ import annotations

import asyncio
import os
from typing import Any, cast

from a2wsgi import WSGIMiddleware

from rie.api.handlers import handlers
from rie.api.permissions import Permissions
from rie.api.service import create_app
from rie.aws import has_endpoint
from rie.functions.domain import Domain
from rie.functions.ledger import Ledger
from rie.gateway.definitions import of_endpoint
from rie.gateway.door import Gateway
from rie.iam.caller import Identity
from rie.iam.setup import authentication_for
from rie.logs.changes import LogChanges
from rie.logs.query import LogQueries
from rie.model.function import LATEST, FunctionKey
from rie.model.policy import POLICIES
from rie.model.record import place_of
from rie.node.ground import Ground
from rie.node.runs import Runs
from rie.plane.admin import Admin
from rie.plane.apis import Apis
from rie.plane.app import NodeApp
from rie.plane.cloudwatch_logs import CloudWatchLogs
from rie.plane.control import IDENTITY, AsgiApp
from rie.plane.control import Control as ControlDoor
from rie.plane.downloads import Downloads
from rie.plane.gate import Gate
from rie.plane.invocations import Invocations
from rie.plane.metrics import Metrics
from rie.plane.sts import Sts
from rie.plane.url_gate import UrlGate
from rie.plane.urls import FunctionUrls

CONTROL_THREADS = 32  # some may wait for a registry that does not answer


async def doors_of(ground: Ground, runs: Runs, domain: Domain) -> NodeApp:
    """What the listener asks. Raises SettingsError (the keys of callers, the file of routes)."""
    settings = ground.settings
    authentication = await asyncio.to_thread(authentication_for, settings, ground.sessions, ground.clock, os.environ)
    gate = Gate(authentication, ground.scope)
    files, pace = ground.logs.files, settings.stream_mib_per_s
    metrics = Metrics(runs.invoker.counters, runs.pool, runs.events, ground.logs.undelivered)
    return NodeApp(
        gate,
        invocations=Invocations(runs.invoker, gate, pace),
        urls=FunctionUrls(runs.invoker, runs.url_directory, UrlGate(gate, runs.access), settings.port, pace),
        admin=Admin(runs.pool, runs.directory, files, metrics, ground.described),
        others=(Sts(gate, ground.sessions), CloudWatchLogs(gate, LogQueries(files), LogChanges(files))),
        control=ControlDoor(_flask(domain), gate),
        apis=Apis(_gateway(ground, runs), settings.port),
        downloads=Downloads(ground.links, ground.code),
    )


def _flask(domain: Domain) -> AsgiApp:
    """The control plane, on threads."""
    flask = create_app(
        handlers(domain),
        identify=lambda request: cast(Identity, request.environ["asgi.scope"][IDENTITY]),
        permit=Permissions(lambda key, qualifier: _statements(domain.ledger, key, qualifier)).permit,
    )
    # Its types name every ASGI message; ours don't.
    return cast(AsgiApp, WSGIMiddleware(cast(Any, flask), workers=CONTROL_THREADS))


def _statements(ledger: Ledger, key: FunctionKey, qualifier: str | None) -> tuple[str, ...]:
    policy = ledger.find(POLICIES, place_of(key, qualifier or LATEST))
    return () if policy is None else policy.statements


def _gateway(ground: Ground, runs: Runs) -> Gateway:
    define = (lambda api_id: of_endpoint(ground.clients, api_id, ground.scope)) if has_endpoint("apigateway") else None
    return Gateway(runs.invoker, ground.scope, define, ground.settings.routes)
