"""A request to an API, to the answer of its route's function: whatever carries the two is somebody else's."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bootstrap.http_mode import JSON_TYPE, NotHttp
from bootstrap.ids import new_id, new_trace_id
from rie.errors import RieError, ServiceError, SettingsError
from rie.gateway import definitions, responses
from rie.gateway.events import Asked, Call, payload_of
from rie.gateway.responses import Response
from rie.gateway.routes import Api, Match, NoRoute, NoStage, function_of, matched, source_arn
from rie.iam.caller import service
from rie.invoke.invoker import Invoker, InvokeRequest
from rie.model.scope import Scope

log = logging.getLogger(__name__)

PREFIX = "/_execute-api/"  # and the id, the stage, the path: for clients that can't resolve names of any kind
MARK = ".execute-api."
PRINCIPAL = "apigateway.amazonaws.com"
FRESH_S = 2.0  # how long a definition is believed
UNKNOWN_S = 0.5  # and that there is none

_HOST = re.compile(r"([a-z0-9-]+)\.execute-api\.[^/]+")

Define = Callable[[str], Api | None]
"""The API of an id as the endpoint has it. Blocks; raises botocore's errors."""


@dataclass(slots=True)
class _Known:
    api: Api | None
    read_at: float


class Gateway:
    """Lives on the event loop."""

    def __init__(self, invoker: Invoker, scope: Scope, define: Define | None, routes: Path | None) -> None:
        """Raises SettingsError for a file of routes that can't be read."""
        self._invoker = invoker
        self._scope = scope
        self._define = define
        self._file = routes
        self._written_at = 0
        self._of_file: dict[str, Api] = {}
        self._known: dict[str, _Known] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._running: set[asyncio.Task[Response]] = set()
        if routes is not None:
            self._of_file = definitions.of_file(routes, scope)
            self._written_at = routes.stat().st_mtime_ns

    @staticmethod
    def takes(host: str, path: str) -> bool:
        """Whether a request is to an API, be there one or not."""
        return path.startswith(PREFIX) or MARK in host.lower()

    async def answer(self, asked: Asked) -> Response:
        """Never raises."""
        api_id, path = _named(asked)
        api = await self._api(api_id)
        if api is None:
            return responses.FORBIDDEN
        try:
            match = matched(api, asked.method, path)
        except NoStage:
            return responses.FORBIDDEN
        except NoRoute:
            return responses.not_found(api)
        return await self._integrated(replace(asked, path=path), api, match)

    async def _integrated(self, asked: Asked, api: Api, match: Match) -> Response:
        if asked.body is None:
            return responses.plain(413, "Request Too Long")
        task = asyncio.get_running_loop().create_task(self._called(asked, api, match))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.wait({task}, timeout=match.route.timeout_ms / 1000)
        return task.result() if task.done() else responses.timed_out(api)  # the function runs on, as on the service

    async def _called(self, asked: Asked, api: Api, match: Match) -> Response:
        call = Call(new_id(), asked.headers.get("x-amzn-trace-id") or new_trace_id(), time.time())
        arn = function_of(api, match)
        parts = arn.split(":")
        request = InvokeRequest(
            function_name=arn,
            qualifier=None,
            body=payload_of(asked, api, match, call),
            scope=Scope(parts[4], parts[3]) if len(parts) > 6 else self._scope,
            caller=None if api.is_trusted else service(PRINCIPAL, api.account),
            request_id=call.request_id,
            trace_id=call.trace_id,
            source_arn="" if api.is_trusted else source_arn(api, match, asked.method),
            source_account=api.account,
        )
        try:
            outcome = await self._invoker.invoke(request)
            assert outcome is not None
            if outcome.function_error is not None:
                return responses.failed(api)
            return responses.of_answer(outcome.payload, api, match, asked.headers.get("accept", JSON_TYPE))
        except NotHttp as error:
            log.warning("the answer of %s is no HTTP response: %s", arn, error)
            return responses.failed(api)
        except RieError as error:
            log.warning("%s %s of API %s: %s", asked.method, match.path, api.api_id, error)
            is_throttled = isinstance(error, ServiceError) and error.code == "TooManyRequestsException"
            return responses.throttled(api) if is_throttled else responses.refused(api)
        except Exception:
            log.exception("cannot answer %s %s of API %s", asked.method, match.path, api.api_id)
            return responses.refused(api)

    # -- definitions ----------------------------------------------------------------------------------------------

    async def _api(self, api_id: str) -> Api | None:
        if self._file is not None:
            self._look_at_file(self._file)
            if api_id in self._of_file:
                return self._of_file[api_id]
        if self._define is None or not api_id:
            return None
        known = self._known.get(api_id)
        age_s = time.monotonic() - known.read_at if known is not None else 0.0
        if known is None or age_s > (UNKNOWN_S if known.api is None else FRESH_S):
            await self._read(api_id)
        found = self._known.get(api_id)
        return found.api if found is not None else None

    async def _read(self, api_id: str) -> None:
        """Ask the endpoint, once for all who wait; what was known stays where it does not answer."""
        task = self._reading.get(api_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(api_id))
            self._reading[api_id] = task
            task.add_done_callback(lambda _: self._reading.pop(api_id, None))
        await asyncio.shield(task)

    async def _ask(self, api_id: str) -> None:
        assert self._define is not None
        define = self._define
        try:
            api = await asyncio.to_thread(define, api_id)
        except Exception as error:  # botocore's errors have no common root but Exception
            log.warning("cannot read the definition of API %s: %s", api_id, error)
            return
        if len(self._known) > 1_024:  # ids that somebody has made up
            self._known.clear()
        self._known[api_id] = _Known(api, time.monotonic())

    def _look_at_file(self, path: Path) -> None:
        """Read again when it has changed; a broken one leaves what was known."""
        try:
            written_at = path.stat().st_mtime_ns
        except OSError:
            return
        if written_at != self._written_at:
            self._written_at = written_at
            try:
                self._of_file = definitions.of_file(path, self._scope)
            except SettingsError as error:
                log.error("%s", error)


def _named(asked: Asked) -> tuple[str, str]:
    """(the API's id, the path from the stage on)."""
    if asked.path.startswith(PREFIX):
        api_id, _, path = asked.path[len(PREFIX) :].partition("/")
        return api_id.lower(), f"/{path}"
    found = _HOST.fullmatch(asked.headers.get("host", "").lower())
    return ("", asked.path) if found is None else (found[1], asked.path)
