"""APIs as the gateway knows them, and which route a request takes; pure (lambda.md §10.4, §10.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

REST, HTTP = "REST", "HTTP"
ANY = "ANY"
DEFAULT = "$default"
REST_TIMEOUT_MS, HTTP_TIMEOUT_MS = 29_000, 30_000  # AWS limits


@dataclass(frozen=True, slots=True)
class Route:
    """`method` "ANY" or one; `path` "/pets/{id}", "/{proxy+}", or "$default"; `payload` "1.0" or "2.0".

    `function` is an ARN, which may have `${stageVariables.x}` in it.
    """

    method: str
    path: str
    function: str
    payload: str = "2.0"
    timeout_ms: int = HTTP_TIMEOUT_MS
    resource_id: str = ""

    @property
    def key(self) -> str:
        """`GET /pets/{id}`, `$default`."""
        return DEFAULT if self.path == DEFAULT else f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Api:
    """One API; `stages` are the variables of each. `is_trusted`: its routes need no permission of their functions.

    `binary` are a REST API's binaryMediaTypes: "image/png", "image/*", "*/*".
    """

    api_id: str
    kind: str
    region: str
    account: str
    routes: tuple[Route, ...]
    stages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    is_trusted: bool = False
    binary: tuple[str, ...] = ()

    def is_binary(self, media: str) -> bool:
        """Whether a REST API takes a Content-Type for no text, or an Accept, of which the first media type counts."""
        kind = media.partition(",")[0].partition(";")[0].strip().lower()
        return any(_takes(wanted.lower(), kind) for wanted in self.binary)


def _takes(wanted: str, kind: str) -> bool:
    return wanted in ("*/*", kind) or (wanted.endswith("/*") and kind.startswith(wanted[:-1]))


@dataclass(frozen=True, slots=True)
class Match:
    """A request's place: its stage, the path below it, the route and what the path's parameters are."""

    stage: str
    path: str
    route: Route
    parameters: Mapping[str, str]


class NoStage(LookupError):
    """The path names no stage of the API."""


class NoRoute(LookupError):
    """No route takes the request."""


def matched(api: Api, method: str, path: str) -> Match:
    """`path` as sent, from the stage on. Raises NoStage, NoRoute."""
    first, _, rest = path.removeprefix("/").partition("/")
    if first in api.stages and first != DEFAULT:
        stage, below = first, f"/{rest}"
    elif api.kind == HTTP and (DEFAULT in api.stages or not api.stages):
        stage, below = DEFAULT, path
    else:
        raise NoStage(path)
    best: tuple[tuple[int, ...], Route, dict[str, str]] | None = None
    for route in api.routes:
        if route.method not in (ANY, method) and route.path != DEFAULT:
            continue
        found = _fits(route.path, below)
        if found is None:
            continue
        rank = (*_rank(route.path), route.method == ANY)
        if best is None or rank < best[0]:
            best = (rank, route, found)
    if best is None:
        raise NoRoute(path)
    return Match(stage, below, best[1], best[2])


def _fits(template: str, path: str) -> dict[str, str] | None:
    """The parameters of a path that fits."""
    if template == DEFAULT:
        return {}
    wanted, given = template.strip("/").split("/"), path.strip("/").split("/")
    found: dict[str, str] = {}
    for number, part in enumerate(wanted):
        if part.startswith("{") and part.endswith("+}"):
            rest = "/".join(given[number:])
            return {**found, part[1:-2]: unquote(rest)} if rest else None
        if number >= len(given):
            return None
        if part.startswith("{") and part.endswith("}"):
            if not given[number]:
                return None
            found[part[1:-1]] = unquote(given[number])
        elif part != unquote(given[number]):
            return None
    return found if len(wanted) == len(given) else None


def _rank(template: str) -> tuple[int, ...]:
    """Lower is more specific, part by part: a name, a parameter, all that follows; $default comes last."""
    if template == DEFAULT:
        return (9,)
    return tuple(2 if part.endswith("+}") else 1 if part.startswith("{") else 0 for part in template.split("/"))


def source_arn(api: Api, match: Match, method: str) -> str:
    """What the gateway calls in the name of, as permissions have it."""
    prefix = f"arn:aws:execute-api:{api.region}:{api.account}:{api.api_id}/{match.stage}"
    return f"{prefix}/{DEFAULT}" if match.route.path == DEFAULT else f"{prefix}/{method}{match.route.path}"


def function_of(api: Api, match: Match) -> str:
    """The function's ARN, with the stage's variables in their places."""
    arn = match.route.function
    for name, value in api.stages.get(match.stage, {}).items():
        arn = arn.replace(f"${{stageVariables.{name}}}", value)
    return arn
