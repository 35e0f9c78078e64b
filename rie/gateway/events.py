"""Requests as the events of proxy integrations, payload formats 1.0 and 2.0; pure (lambda.md §10.4, §10.5)."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import orjson

from bootstrap.http_mode import HOP_BY_HOP, JSON_TYPE, Origin, body_of, event_of
from rie.gateway.routes import REST, Api, Match

IDENTITY = (
    "accessKey",
    "accountId",
    "caller",
    "cognitoAuthenticationProvider",
    "cognitoAuthenticationType",
    "cognitoIdentityId",
    "cognitoIdentityPoolId",
    "principalOrgId",
)


@dataclass(slots=True)
class Asked:
    """A request: `path` and `query` as sent, `headers` in lower case, repeated ones joined by commas, and as they came.

    `body` is None when it passed the gateway's limit; `peer` the caller's address, `port` the one he came in by.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    fields: tuple[tuple[str, str], ...]
    body: bytes | None
    peer: str
    port: int


@dataclass(frozen=True, slots=True)
class Call:
    """What one request is known by."""

    request_id: str
    trace_id: str
    at: float


def payload_of(asked: Asked, api: Api, match: Match, call: Call) -> bytes:
    """The event, in the format that the route wants."""
    if api.kind == REST or match.route.payload == "1.0":
        return orjson.dumps(_first(asked, api, match, call))
    return orjson.dumps(_second(asked, api, match, call))


def _second(asked: Asked, api: Api, match: Match, call: Call) -> dict[str, Any]:
    """A function URL's event, with the API's names."""
    event: dict[str, Any] = json.loads(
        event_of(asked, Origin(asked.peer, asked.port), call.request_id, call.trace_id, call.at)
    )
    event["routeKey"] = match.route.key
    context = event["requestContext"]
    context |= {
        "accountId": api.account,
        "apiId": api.api_id,
        "domainName": domain_of(api),
        "domainPrefix": api.api_id,
        "routeKey": match.route.key,
        "stage": match.stage,
    }
    body: dict[str, Any] = {name: event.pop(name) for name in ("body", "isBase64Encoded") if name in event}
    if match.parameters:
        event["pathParameters"] = dict(match.parameters)
    variables = api.stages.get(match.stage)
    if variables:
        event["stageVariables"] = dict(variables)
    return {**event, **body}


def _first(asked: Asked, api: Api, match: Match, call: Call) -> dict[str, Any]:
    headers = _headers(asked, api, call)
    query = parse_qsl(asked.query, keep_blank_values=True)
    path = match.path if api.kind == REST else asked.path
    body, is_base64 = _body(asked, api)
    event = {
        "resource": match.route.path,
        "path": path,
        "httpMethod": asked.method,
        "headers": {name: values[-1] for name, values in headers.items()} or None,
        "multiValueHeaders": headers or None,
        "queryStringParameters": dict(query) or None,
        "multiValueQueryStringParameters": _gathered(query) or None,
        "pathParameters": dict(match.parameters) or None,
        "stageVariables": dict(api.stages.get(match.stage, {})) or None,
        "requestContext": _context(asked, api, match, call),
        "body": body,
        "isBase64Encoded": is_base64,
    }
    return event if api.kind == REST else {"version": "1.0", **event}


def _context(asked: Asked, api: Api, match: Match, call: Call) -> dict[str, Any]:
    at = datetime.fromtimestamp(call.at, UTC)
    return {
        "accountId": api.account,
        "apiId": api.api_id,
        "domainName": domain_of(api),
        "domainPrefix": api.api_id,
        "extendedRequestId": base64.b64encode(uuid.UUID(call.request_id).bytes[:11]).decode(),
        "httpMethod": asked.method,
        "identity": {
            **dict.fromkeys(IDENTITY),
            "sourceIp": asked.peer,
            "user": None,
            "userAgent": asked.headers.get("user-agent"),
            "userArn": None,
        },
        "path": f"/{match.stage}{match.path}" if api.kind == REST else asked.path,
        "protocol": "HTTP/1.1",
        "requestId": call.request_id,
        "requestTime": f"{at:%d/%b/%Y:%H:%M:%S} +0000",
        "requestTimeEpoch": int(call.at * 1000),
        "resourceId": match.route.resource_id or match.route.key,
        "resourcePath": match.route.path,
        "stage": match.stage,
    }


def domain_of(api: Api) -> str:
    """The API's name on the service."""
    return f"{api.api_id}.execute-api.{api.region}.amazonaws.com"


def _headers(asked: Asked, api: Api, call: Call) -> dict[str, list[str]]:
    """By their names as they were sent first, and those that the gateway sets."""
    names: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    for name, value in asked.fields:
        if name.lower() not in HOP_BY_HOP:
            found.setdefault(names.setdefault(name.lower(), name), []).append(value)
    forwarded = asked.headers.get("x-forwarded-for")
    own = {
        "Host": asked.headers.get("host", domain_of(api)),
        "X-Amzn-Trace-Id": call.trace_id,
        "X-Forwarded-For": f"{forwarded}, {asked.peer}" if forwarded else asked.peer,
        "X-Forwarded-Port": str(asked.port),
        "X-Forwarded-Proto": "http",
    }
    for name in own:
        found.pop(names.get(name.lower(), ""), None)
    return found | {name: [value] for name, value in own.items()}


def _gathered(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _body(asked: Asked, api: Api) -> tuple[str | None, bool]:
    """Of a REST API in base64 what its binaryMediaTypes say, all else as text, whatever it is."""
    if not asked.body:
        return None, False
    if api.kind != REST:
        told = body_of(asked)
        return told["body"], told["isBase64Encoded"]
    if api.is_binary(asked.headers.get("content-type", JSON_TYPE)):
        return base64.b64encode(asked.body).decode(), True
    return asked.body.decode("utf-8", "replace"), False
