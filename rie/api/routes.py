"""Which operation a request is for: method, raw path and query, against the model's templates (lambda.md §0.1)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from urllib.parse import parse_qsl, unquote

from rie.api.model import operation_model, service_model
from rie.errors import ServiceError

Query = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation's template: literal segments, None where a label stands; `query` discriminates twins."""

    operation: str
    method: str
    segments: tuple[str | None, ...]
    labels: tuple[str, ...]
    query: Mapping[str, str]

    def takes(self, segments: Sequence[str]) -> bool:
        """Whether a path of as many segments is one of this route's."""
        return all(
            segment == literal if literal is not None else segment != ""
            for segment, literal in zip(segments, self.segments, strict=True)
        )

    def takes_query(self, query: Query) -> bool:
        """Whether the query is one of this route's; those without a discriminator take any."""
        return all(value in query.get(name, ()) for name, value in self.query.items())


@dataclass(frozen=True, slots=True)
class Match:
    """The operation that was found, and its labels, decoded once."""

    operation: str
    labels: Mapping[str, str]


def match(method: str, raw_path: str, query: Query) -> Match:
    """The operation of a request; `raw_path` is still percent-encoded, and may end in a slash.

    Raises ServiceError: UnknownOperationException 404, MethodNotAllowedException 405.
    """
    segments = raw_path.removesuffix("/").split("/")[1:]
    there = [route for route in _routes().get(len(segments), ()) if route.takes(segments)]
    if not there:
        raise ServiceError("UnknownOperationException", f"No operation at {raw_path}.", status=404)
    for route in there:
        if route.method == method and route.takes_query(query):
            values = [unquote(each) for each, literal in zip(segments, route.segments, strict=True) if literal is None]
            return Match(route.operation, dict(zip(route.labels, values, strict=True)))
    allowed = ", ".join(sorted({route.method for route in there}))
    raise ServiceError(
        "MethodNotAllowedException", f"{method} is not allowed at {raw_path}, only {allowed}.", status=405
    )


def operations() -> list[str]:
    """Every operation of the model, by name."""
    return list(service_model().operation_names)


@cache
def _routes() -> Mapping[int, Sequence[Route]]:
    """All routes by number of segments; those that a query discriminates come first."""
    by_length: dict[int, list[Route]] = defaultdict(list)
    for name in operations():
        route = _route(name)
        by_length[len(route.segments)].append(route)
    for routes in by_length.values():
        routes.sort(key=lambda route: -len(route.query))
    return by_length


def _route(operation: str) -> Route:
    http = operation_model(operation).http
    path, _, query = http["requestUri"].partition("?")
    parts = path.strip("/").split("/")
    return Route(
        operation=operation,
        method=http["method"],
        segments=tuple(None if part.startswith("{") else part for part in parts),
        labels=tuple(part.strip("{}") for part in parts if part.startswith("{")),
        query=dict(parse_qsl(query)),
    )
