"""A request's parts into a dictionary of members, typed as the model says."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from botocore.model import OperationModel, Shape

from rie.api.routes import Query
from rie.errors import ServiceError

Params = dict[str, Any]
"""Members by their names in the model: str, int, float, bool, bytes, datetime, list, dict; None only inside those."""

_INTEGER_BITS = {"integer": 31, "long": 63}
_KINDS = {str: "STRING_VALUE", int: "NUMBER_VALUE", float: "NUMBER_VALUE", dict: "START_OBJECT", list: "START_ARRAY"}
_NAMES = {
    "string": "a String",
    "integer": "an Integer",
    "long": "a Long",
    "double": "a Double",
    "boolean": "a Boolean",
    "blob": "a ByteBuffer",
    "timestamp": "a Timestamp",
    "list": "a List",
    "map": "a Map",
    "structure": "a Structure",
}


@dataclass(frozen=True, slots=True)
class Parts:
    """A request as it came: labels decoded, header names in any case, the body whole."""

    labels: Mapping[str, str]
    query: Query
    headers: Mapping[str, str]
    body: bytes


def parse(operation: OperationModel, parts: Parts) -> Params:
    """The members that the request gives; unknown ones are ignored, null ones are as good as absent.

    Raises ServiceError (SerializationException 400) for malformed JSON and for wrong types.
    """
    shape = operation.input_shape
    if shape is None:
        return {}
    headers = {name.lower(): value for name, value in parts.headers.items()}
    document = _document(shape, parts.body)
    params: Params = {}
    for name, member in shape.members.items():
        where, wire = member.serialization.get("location"), member.serialization.get("name", name)
        path = lower_camel(name)
        if name == shape.serialization.get("payload"):
            value: Any = _payload(member, parts.body, path)
        elif where == "uri":
            value = _from_text(member, parts.labels[wire], path)
        elif where == "querystring":
            value = _from_query(member, list(parts.query.get(wire, ())), path)
        elif where == "header":
            text = headers.get(wire.lower())
            value = None if text is None else _from_text(member, text, path)
        else:
            value = from_json(member, document.get(wire), path)
        if value is not None:
            params[name] = value
    return params


def lower_camel(name: str) -> str:
    """A member's name as error texts spell it: `MemorySize` → `memorySize`."""
    return name[:1].lower() + name[1:]


def from_json(shape: Shape, value: Any, path: str) -> Any:
    """A JSON value as its shape says; null stays None, in lists and maps as well. Raises ServiceError."""
    if value is None:
        return None
    kind = shape.type_name
    if kind == "structure":
        members = _expect(shape, value, dict, path)
        read = {
            name: from_json(member, members.get(member.serialization.get("name", name)), f"{path}.{lower_camel(name)}")
            for name, member in shape.members.items()
        }
        return {name: each for name, each in read.items() if each is not None}
    if kind == "list":
        return [from_json(shape.member, each, path) for each in _expect(shape, value, list, path)]
    if kind == "map":
        return {name: from_json(shape.value, each, path) for name, each in _expect(shape, value, dict, path).items()}
    return _scalar(shape, value, path)


def _document(shape: Shape, body: bytes) -> dict[str, Any]:
    """The JSON object that holds the members which stand nowhere else; {} if there are none, or no body."""
    in_body = [each for each in shape.members.values() if "location" not in each.serialization]
    if not in_body or shape.serialization.get("payload") or not body:
        return {}
    return dict(_expect(shape, _json(body), dict, "body"))


def _payload(shape: Shape, body: bytes, path: str) -> Any:
    """The member that is the whole body: raw bytes, or one JSON document."""
    if shape.type_name == "blob":
        return body
    return from_json(shape, _json(body), path) if body else None


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _unreadable(f"Could not parse request body into json: {error}") from error


def _from_query(shape: Shape, values: list[str], path: str) -> Any:
    if not values:
        return None
    if shape.type_name == "list":
        return [_from_text(shape.member, each, path) for each in values]
    return _from_text(shape, values[-1], path)


def _from_text(shape: Shape, text: str, path: str) -> Any:
    """A value from a label, the query or a header."""
    kind = shape.type_name
    if kind in ("string", "blob"):
        return _scalar(shape, text, path)
    try:
        value = _TEXT_READERS[kind](text)
    except (KeyError, ValueError) as error:
        raise _mismatch(shape, text, path) from error
    return _scalar(shape, value, path)


_TEXT_READERS: dict[str, Callable[[str], Any]] = {
    "integer": int,
    "long": int,
    "double": float,
    "boolean": {"true": True, "false": False}.__getitem__,
    "timestamp": str,
}


def _scalar(shape: Shape, value: Any, path: str) -> Any:
    kind = shape.type_name
    if kind == "string":
        return _expect(shape, value, str, path)
    if kind == "boolean":
        return _expect(shape, value, bool, path)
    if kind == "blob":
        return _blob(shape, _expect(shape, value, str, path), path)
    if kind == "timestamp":
        return _instant(shape, value, path)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _mismatch(shape, value, path)
    if kind == "double":
        return float(value)
    # The bound comes first: it also keeps infinity from int().
    if not abs(value) < 2 ** _INTEGER_BITS[kind] or value != int(value):
        raise _mismatch(shape, value, path)
    return int(value)


def _blob(shape: Shape, text: str, path: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pass  # the lines of `base64` and of MIME encoders are fine, as they are to the service's parser
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _mismatch(shape, text, path) from error


def _instant(shape: Shape, value: Any, path: str) -> datetime:
    """Epoch seconds, or ISO 8601."""
    try:
        if isinstance(value, bool):
            raise TypeError("a boolean is no instant")
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        instant = datetime.fromisoformat(value)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise _mismatch(shape, value, path) from error
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _expect(shape: Shape, value: Any, wanted: type, path: str) -> Any:
    if not isinstance(value, wanted):
        raise _mismatch(shape, value, path)
    return value


def _mismatch(shape: Shape, value: Any, path: str) -> ServiceError:
    kind = f"{value}_VALUE".upper() if isinstance(value, bool) else _KINDS.get(type(value), "NULL_VALUE")
    return _unreadable(f"{kind} can not be converted to {_NAMES[shape.type_name]} (at '{path}')")


def _unreadable(why: str) -> ServiceError:
    return ServiceError("SerializationException", why, status=400)
