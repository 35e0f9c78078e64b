"""Cross-origin requests of browsers: which headers let a page of another origin call us (service spec §9.6)."""

from .wire import ERROR_TYPE, EXECUTED_VERSION, FUNCTION_ERROR, LOG_RESULT, REQUEST_ID, TRACE_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .http1 import Request

PREFIX = "access-control-"
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
# `*` means all, but older browsers take it for a name; so those that the Invoke API has are listed too.
EXPOSED = ", ".join((REQUEST_ID, TRACE_ID, EXECUTED_VERSION, FUNCTION_ERROR, LOG_RESULT, ERROR_TYPE, "*"))
MAX_AGE_S = 600


def is_preflight(request: "Request") -> bool:
    """Whether a browser asks whether it may ask."""
    headers = request.headers
    return request.method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


def headers_for(request: "Request", origins: "tuple[str, ...]") -> "list[tuple[str, str]]":
    """What to add to the answer of a request, given the origins that are let in; nothing for others."""
    origin = request.headers.get("origin", "")
    if not origin:
        return []
    if "*" not in origins and origin not in origins:
        return [("Vary", "Origin")]
    allowed = [("Access-Control-Allow-Origin", "*")] if "*" in origins else _named(origin)
    if not is_preflight(request):
        return [*allowed, ("Access-Control-Expose-Headers", EXPOSED)]
    return [
        *allowed,
        ("Access-Control-Allow-Methods", METHODS),
        ("Access-Control-Allow-Headers", request.headers.get("access-control-request-headers") or "*"),
        ("Access-Control-Max-Age", str(MAX_AGE_S)),
    ]


def _named(origin: str) -> "list[tuple[str, str]]":
    return [("Access-Control-Allow-Origin", origin), ("Access-Control-Allow-Credentials", "true"), ("Vary", "Origin")]
