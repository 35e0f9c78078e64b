"""What `rie ps`, `rie logs` and health checks ask the manager: GET /_rie/…, JSON, beside the service's own API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any
from urllib.parse import parse_qs

import orjson

from rie import __version__
from rie.environments.concurrency import Share
from rie.environments.environment import Environment
from rie.environments.pool import Pool
from rie.invoke.directory import Directory
from rie.logs.files import LogFiles
from rie.logs.follow import Follower, LogLine
from rie.logs.names import log_group
from rie.model.function import Function
from rie.plane.connection import Connection, Request
from rie.plane.metrics import CONTENT_TYPE, Metrics

PREFIX = "/_rie/"
BLOCK = 1_000  # lines sent at a time
MAX_DIGITS = 16
JSON = [("Content-Type", "application/json")]


class Admin:
    """Answers the paths below /_rie/.

    GET environments → [{"environment", "function", "version", "state", "isProvisioned", "memoryMb", "maxMemoryMb",
    "invocations", "ageS", "idleS", "logStream"}]; GET concurrency → [{"function", "region", "inUse", "reserved" (null:
    none), "provisioned", "spilledOver", "throttled", "requestsPerS", "meanDurationMs", "concurrency"}], the last three
    over the last minute; GET logs?group=&sinceMs=&stream=&follow= → lines of JSON {"atMs", "stream", "text"}, of
    streams with that in their names; GET functions → [{"function", "logGroup", …}]; GET metrics → Prometheus's text;
    GET health → {"status", "version", "engine", "environments", "functions"}.
    """

    def __init__(self, pool: Pool, directory: Directory, logs: LogFiles, metrics: Metrics, engine: str) -> None:
        self._pool = pool
        self._directory = directory
        self._logs = logs
        self._metrics = metrics
        self._engine = engine
        self._routes: dict[str, Callable[[], Any]] = {
            "/_rie/environments": lambda: [_environment(environment) for environment in self._pool],
            "/_rie/concurrency": self._concurrency,
            "/_rie/functions": lambda: [_function(function) for function in self._directory],
            "/_rie/health": self._health,
        }

    async def __call__(self, request: Request, exchange: Connection) -> None:
        path = request.path
        if request.method != "GET":
            exchange.respond(405, [("Allow", "GET"), *JSON], b'{"message":"only GET is answered here"}')
        elif path == "/_rie/logs":
            await self._answer_logs(request, exchange)
        elif path == "/_rie/metrics":
            exchange.respond(200, [("Content-Type", CONTENT_TYPE)], await self._metrics.render())
        elif path in self._routes:
            exchange.respond(200, JSON, orjson.dumps(self._routes[path]()))
        else:
            exchange.respond(404, JSON, b'{"message":"nothing is here"}')

    def _concurrency(self) -> list[dict[str, Any]]:
        shares = sorted(self._pool.concurrency, key=lambda share: (share.key.region, share.key.name))
        return [_share(share) for share in shares]

    def _health(self) -> dict[str, Any]:
        return {
            "status": "ok",
            "version": __version__,
            "engine": self._engine,
            "environments": sum(1 for _ in self._pool),
            "functions": len(self._directory),
        }

    async def _answer_logs(self, request: Request, exchange: Connection) -> None:
        query = {name: values[-1] for name, values in parse_qs(request.query).items()}
        group, stream = query.get("group", ""), query.get("stream", "")
        since = query.get("sinceMs", "0")
        since_ms = int(since) if since.isdecimal() and len(since) < MAX_DIGITS else 0
        with self._logs.follow(group) as follower:
            # At the same moment: nothing is missed or seen twice.
            lines = self._logs.read(group, since_ms, lambda name: stream in name)
            exchange.begin(200, [("Content-Type", "application/x-ndjson")])
            while block := await asyncio.to_thread(lambda: _dump(islice(lines, BLOCK))):
                if not exchange.write(block):
                    await exchange.drained()
            if query.get("follow"):
                await _follow(follower, stream, exchange)
        exchange.end()


async def _follow(follower: Follower, stream: str, exchange: Connection) -> None:
    """Pass lines on until the client goes."""
    gone = exchange.gone()
    while not gone.done():
        lines = asyncio.ensure_future(follower.get())
        both: list[asyncio.Future[Any]] = [lines, gone]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not lines.done():
            lines.cancel()
            return
        block = _dump(line for line in lines.result() if stream in line.stream)
        if block and not exchange.write(block):
            await exchange.drained()


def _dump(lines: Iterable[LogLine]) -> bytes:
    return b"".join(
        orjson.dumps({"atMs": line.at_ms, "stream": line.stream, "text": line.text}) + b"\n" for line in lines
    )


def _environment(environment: Environment) -> dict[str, Any]:
    now = time.monotonic()
    return {
        "environment": environment.environment_id,
        "function": environment.function.key.name,
        "version": environment.function.version,
        "state": environment.state.value,
        "isProvisioned": environment.is_provisioned,
        "memoryMb": environment.configuration.memory_mb,
        "maxMemoryMb": environment.max_memory_mb,
        "invocations": environment.invocations,
        "ageS": round(now - environment.started_at, 3),
        "idleS": round(now - environment.last_used_at, 3) if environment.state.value == "idle" else 0,
        "logStream": environment.log_stream,
    }


def _share(share: Share) -> dict[str, Any]:
    requests_per_s, duration_s = share.traffic.rate(time.monotonic())
    return {
        "function": share.key.name,
        "region": share.key.region,
        "inUse": share.busy,
        "reserved": share.reserved,
        "provisioned": share.provisioned,
        "spilledOver": share.spilled,
        "throttled": share.throttled,
        "requestsPerS": round(requests_per_s, 3),
        "meanDurationMs": round(duration_s * 1e3, 3),
        "concurrency": round(requests_per_s * duration_s, 3),
    }


def _function(function: Function) -> dict[str, Any]:
    return {
        "function": function.key.name,
        "region": function.key.region,
        "state": function.state,
        "lastUpdateStatus": function.last_update_status,
        "imageUri": function.configuration.image_uri,
        "runtime": function.configuration.runtime,
        "memoryMb": function.configuration.memory_mb,
        "timeoutS": function.configuration.timeout_s,
        "logGroup": log_group(function.key, function.configuration),
    }
