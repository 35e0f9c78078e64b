"""A handler's answer into a response: status, headers and body, as the model says."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from botocore.model import OperationModel, Shape

from rie.clock import with_fraction, with_milliseconds, with_seconds

Rendered = tuple[int, dict[str, str], bytes]
"""(HTTP status, headers, body)"""

JSON = "application/json"
REQUEST_ID = "x-amzn-RequestId"

# `Timestamp` is a string in the model, spelled as its structure has it (lambda.md §0.1); others have a fraction and Z.
_SPELLINGS = {
    "FunctionConfiguration": with_milliseconds,
    "GetLayerVersionResponse": with_milliseconds,
    "LayerVersionsListItem": with_milliseconds,
    "PublishLayerVersionResponse": with_milliseconds,
    "GetProvisionedConcurrencyConfigResponse": with_seconds,
    "ProvisionedConcurrencyConfigListItem": with_seconds,
    "PutProvisionedConcurrencyConfigResponse": with_seconds,
}
_NO_CONTENT = 204


def render(operation: OperationModel, answer: Mapping[str, Any], request_id: str) -> Rendered:
    """The response to a call that went well; members that are None are left out.

    Raises ValueError for a member that the model doesn't have: a handler's mistake, which must not go out unseen.
    """
    status = int(operation.http.get("responseCode", 200))
    headers = {REQUEST_ID: request_id}
    shape = operation.output_shape
    unknown = answer.keys() - (shape.members.keys() if shape else set())
    if unknown:
        raise ValueError(f"cannot render {operation.name}: it has no members {sorted(unknown)}")
    body: dict[str, Any] = {}
    payload: bytes | None = None
    for name, value in answer.items():
        member = shape.members[name]
        where, wire = member.serialization.get("location"), member.serialization.get("name", name)
        if value is None:
            continue
        if where == "statusCode":
            status = value
        elif where == "header":
            headers[wire] = str(value)
        elif name == shape.serialization.get("payload"):
            payload = value if isinstance(value, bytes) else orjson.dumps(to_json(member, value))
        else:
            body[wire] = to_json(member, value, within=shape.name)
    headers["Content-Type"] = JSON  # of an empty answer as well, as the service has it
    if status == _NO_CONTENT:
        return status, headers, b""
    return status, headers, orjson.dumps(body) if payload is None else payload


def to_json(shape: Shape, value: Any, *, within: str = "") -> Any:
    """A member's value as JSON has it; `within` names the structure that it is a member of."""
    kind = shape.type_name
    if kind == "structure":
        unknown = value.keys() - shape.members.keys()
        if unknown:
            raise ValueError(f"cannot render {shape.name}: it has no members {sorted(unknown)}")
        return {
            shape.members[name].serialization.get("name", name): to_json(shape.members[name], each, within=shape.name)
            for name, each in value.items()
            if each is not None
        }
    if kind == "list":
        return [to_json(shape.member, each, within=within) for each in value]
    if kind == "map":
        return {name: to_json(shape.value, each, within=within) for name, each in value.items()}
    if kind == "blob":
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.timestamp() if kind == "timestamp" else _SPELLINGS.get(within, with_fraction)(value)
    return value
