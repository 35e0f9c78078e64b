"""What an extension asks for when it subscribes to telemetry, read and checked (service spec §3.10)."""

from .records import Record
from .wire import LOGS_API, TELEMETRY_API

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PLATFORM, FUNCTION, EXTENSION = TYPES = ("platform", "function", "extension")
SCHEMAS = {TELEMETRY_API: ("2022-07-01", "2022-12-13", "2025-01-29"), LOGS_API: ("2020-08-15", "2021-03-18")}
HOSTS = ("sandbox.localdomain", "sandbox")
HTTP, TCP = "HTTP", "TCP"
METHODS = ("POST", "PUT")
# Of each buffering option: the least, the most, and what holds where nothing is said.
BUFFERING = {
    "maxItems": (1_000, 10_000, 10_000),
    "maxBytes": (262_144, 1_048_576, 262_144),
    "timeoutMs": (25, 30_000, 1_000),
}
SCHEME = "http://"


class Subscription(Record):
    """What is sent (`types` of TYPES, in the shape of `schema`), whereto on this machine, and in what portions."""

    api: str
    schema: str
    types: "tuple[str, ...]"
    protocol: str
    port: int
    path: str
    method: str
    max_items: int
    max_bytes: int
    timeout_s: float


def parse(api: str, body: bytes) -> Subscription:
    """Raises ValueError with what is wrong, all of it, for the extension's author."""
    document = _document(body)
    wrong: list[str] = []
    schema: Any = document.get("schemaVersion", SCHEMAS[LOGS_API][0] if api == LOGS_API else None)
    if schema not in SCHEMAS[api]:
        said = "is not provided" if schema is None else f"{schema!r} is unknown"
        wrong.append(f"schemaVersion {said}: it must be one of {', '.join(SCHEMAS[api])}")
    protocol, port, path, method = _destination(document.get("destination"), wrong)
    max_items, max_bytes, timeout_ms = _buffering(document.get("buffering"), wrong)
    types = _types(document.get("types"), wrong)
    if wrong:
        raise ValueError("; ".join(wrong))
    return Subscription(api, schema, types, protocol, port, path, method, max_items, max_bytes, timeout_ms / 1e3)


def _document(body: bytes) -> "dict[str, Any]":
    import json

    try:
        document = json.loads(body)
    except RecursionError:
        raise ValueError("failed to parse JSON: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"failed to parse JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("failed to parse JSON: it is not an object")
    return document


def _types(types: "Any", wrong: "list[str]") -> "tuple[str, ...]":
    if types is None or types == []:
        wrong.append("types should not be empty")
    elif not isinstance(types, list) or any(kind not in TYPES for kind in types):
        wrong.append(f"types must be a list of some of {', '.join(TYPES)}")
    else:
        return tuple(dict.fromkeys(types))
    return ()


def _destination(destination: "Any", wrong: "list[str]") -> "tuple[str, int, str, str]":
    """Protocol, port, path and method."""
    nowhere = (HTTP, 0, "", METHODS[0])
    if not isinstance(destination, dict):
        wrong.append("destination is not provided" if destination is None else "destination is not an object")
        return nowhere
    protocol = destination.get("protocol")
    if protocol == TCP:
        port: Any = destination.get("port")
        if not _is_whole(port) or not 0 < port < 65_536:
            wrong.append("destination.port is not provided" if port is None else "destination.port is no port")
            return nowhere
        return TCP, port, "", ""
    if protocol != HTTP:
        wrong.append(f"destination.protocol must be {HTTP} or {TCP}")
        return nowhere
    method = destination.get("method", METHODS[0])
    if method not in METHODS:
        wrong.append(f"destination.method must be one of {', '.join(METHODS)}")
    if destination.get("encoding", "JSON") != "JSON":
        wrong.append("destination.encoding must be JSON")
    try:
        port, path = _address(destination.get("URI"))
    except ValueError as error:
        wrong.append(str(error))
        return nowhere
    return HTTP, port, path, method


def _address(uri: "Any") -> "tuple[int, str]":
    """Port and path, with the query, of http://sandbox.localdomain:<port>/<path>."""
    if not isinstance(uri, str) or not uri:
        raise ValueError("destination.URI is not provided")
    if not all("!" <= character <= "~" for character in uri):
        raise ValueError("destination.URI has characters that must be escaped")
    if not uri.lower().startswith(SCHEME):
        raise ValueError("destination.URI must begin with http://")
    address = uri[len(SCHEME) :].partition("#")[0]
    end = min((at for at in (address.find("/"), address.find("?")) if at >= 0), default=len(address))
    host, _, port = address[:end].partition(":")
    if host.lower() not in HOSTS:
        raise ValueError("Invalid destination: destination.URI host must be sandbox.localdomain")
    if not port:
        raise ValueError("URI port is not provided")
    if not port.isdigit() or len(port) > 5 or not 0 < int(port) < 65_536:
        raise ValueError("URI port is no port")
    path = address[end:]
    return int(port), path if path.startswith("/") else f"/{path}"


def _buffering(buffering: "Any", wrong: "list[str]") -> "tuple[int, int, int]":
    """maxItems, maxBytes and timeoutMs."""
    if buffering is not None and not isinstance(buffering, dict):
        wrong.append("buffering is not an object")
        buffering = None
    found = []
    for name, (least, most, default) in BUFFERING.items():
        value = (buffering or {}).get(name)
        if value is None:
            value = default
        if not _is_whole(value) or not least <= value <= most:
            wrong.append(f"buffering.{name} must be a whole number from {least} to {most}")
        found.append(value)
    return found[0], found[1], found[2]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
