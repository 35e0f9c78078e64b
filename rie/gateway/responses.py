"""Functions' answers as HTTP responses, and the gateway's own; pure (lambda.md §10.4, §10.5)."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from bootstrap.http_mode import JSON_TYPE, SET_BY_THE_SERVICE, NotHttp, response_of
from bootstrap.quoting import TOKEN
from rie.gateway.routes import REST, Api, Match


@dataclass(frozen=True, slots=True)
class Response:
    """Status, headers in their order, body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def plain(status: int, message: str) -> Response:
    """The gateway's own."""
    return Response(status, (("Content-Type", JSON_TYPE),), json.dumps({"message": message}).encode())


def failed(api: Api) -> Response:
    """The function failed, or what it answered is no response."""
    return plain(502, "Internal server error") if api.kind == REST else plain(500, "Internal Server Error")


def refused(api: Api) -> Response:
    """The function was not run: it does not let this API in, or there is none."""
    return plain(500, "Internal server error") if api.kind == REST else plain(500, "Internal Server Error")


def throttled(api: Api) -> Response:
    """The function has no room."""
    return plain(500, "Internal server error") if api.kind == REST else unavailable()


def unavailable() -> Response:
    """An HTTP API's for whatever passes."""
    return plain(503, "Service Unavailable")


def timed_out(api: Api) -> Response:
    """The integration took too long."""
    return plain(504, "Endpoint request timed out") if api.kind == REST else unavailable()


def not_found(api: Api) -> Response:
    """No route takes the request."""
    return plain(403, "Missing Authentication Token") if api.kind == REST else plain(404, "Not Found")


FORBIDDEN = plain(403, "Forbidden")


def of_answer(answer: bytes, api: Api, match: Match, accept: str = JSON_TYPE) -> Response:
    """The function's; `accept` is the request's header. Raises NotHttp.

    A REST API decodes a body in base64 for those only who accept a binary media type of its own first.
    """
    if api.kind == REST or match.route.payload == "1.0":
        return _first(answer, decodes=api.kind != REST or api.is_binary(accept))
    head, body = response_of(answer)
    return Response(head.status, tuple(head.headers), body)


def _first(answer: bytes, *, decodes: bool) -> Response:
    """Format 1.0 infers nothing: an object with a numeric statusCode, or it is none."""
    try:
        document = json.loads(answer)
    except ValueError as error:
        raise NotHttp(f"it is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise NotHttp("it is not an object")
    return Response(_status(document.get("statusCode")), _headers(document), _body(document, decodes=decodes))


def _status(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 100 <= value <= 599:
        raise NotHttp(f"statusCode is {value!r}")
    return value


def _headers(document: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Those with several values win over those with one; the two are merged."""
    single, multiple = document.get("headers") or {}, document.get("multiValueHeaders") or {}
    if not isinstance(single, dict) or not isinstance(multiple, dict):
        raise NotHttp("headers or multiValueHeaders is no object")
    found: list[tuple[str, str]] = []
    several = {name.lower() for name in multiple}
    for name, value in single.items():
        if name.lower() not in several:
            found.append((name, _text(value)))
    for name, values in multiple.items():
        if not isinstance(values, list):
            raise NotHttp(f"multiValueHeaders.{name} is no list")
        found += [(name, _text(value)) for value in values]
    kept = [(name, value) for name, value in found if name.lower() not in SET_BY_THE_SERVICE]
    for name, value in kept:
        if not name or not TOKEN.issuperset(name) or any(sign < " " and sign != "\t" for sign in value):
            raise NotHttp(f"the header {name!r} can't be sent")
    if all(name.lower() != "content-type" for name, _ in kept):
        kept.append(("Content-Type", JSON_TYPE))
    return tuple(kept)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise NotHttp(f"a header's value is {type(value).__name__}")
    return str(value)


def _body(document: dict[str, Any], *, decodes: bool) -> bytes:
    body = document.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise NotHttp("body is no string")
    if not decodes or document.get("isBase64Encoded") is not True:
        return body.encode("utf-8", "replace")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise NotHttp("isBase64Encoded is true, but the body is not base64") from None
