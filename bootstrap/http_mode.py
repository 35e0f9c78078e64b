"""Plain HTTP requests as events of function URLs, and functions' answers as HTTP (service spec §9.3 to §9.5)."""

import json
import time
from binascii import a2b_base64, b2a_base64

from .quoting import TOKEN, unquote
from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Asked(Protocol):
        """A request, as every HTTP layer here has it: path and query as sent, header names in lower case."""

        method: str
        path: str
        query: str
        headers: dict[str, str]

        @property
        def body(self) -> "bytes | None":
            """None, or empty, if there is none."""


INTEGRATION = "application/vnd.awslambda.http-integration-response"
SEPARATOR = b"\0" * 8  # between a prelude and its body
JSON_TYPE = "application/json"
# Of the connection, not of the request: no function sees them, and none may set them.
PROXYS = ("proxy-authenticate", "proxy-authorization", "proxy-connection")
HOP_BY_HOP = frozenset(("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", *PROXYS))
NOT_IN_EVENTS = HOP_BY_HOP | {"cookie", "expect"}
SET_BY_THE_SERVICE = HOP_BY_HOP | {"content-length", "date", "x-amzn-requestid", "x-amzn-trace-id"}
TEXTS = frozenset(("application/json", "application/xml", "application/javascript", "application/ecmascript"))
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class NotHttp(Exception):
    """What a function answered can't be made an HTTP response; says why."""


class Head(Record):
    """Status and headers of a response, the latter as they go on the wire."""

    status: int
    headers: "list[tuple[str, str]]"


class Origin(Record):
    """Where a request came from and came in: the caller's address, and the port of ours that it was sent to."""

    address: str
    port: int


def event_of(
    request: "Asked",
    origin: Origin,
    request_id: str,
    trace_id: str,
    now: float,
    caller: "dict[str, Any] | None" = None,
) -> bytes:
    """The event, payload format 2.0, as JSON; `now` in seconds since the epoch; `caller` if it has proved who it is."""
    headers = _headers(request, origin, trace_id)
    host = headers.get("host", "localhost")
    domain = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and ":" in host else host
    prefix = domain.partition(".")[0]
    document: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": request.path,
        "rawQueryString": request.query,
    }
    cookies = [cookie.strip() for cookie in request.headers.get("cookie", "").split(";")]
    if any(cookies):
        document["cookies"] = [cookie for cookie in cookies if cookie]
    document["headers"] = headers
    if request.query:
        document["queryStringParameters"] = _parameters(request.query)
    document["requestContext"] = {
        "accountId": "anonymous" if caller is None else caller["accountId"],
        "apiId": prefix,
        **({} if caller is None else {"authorizer": {"iam": caller}}),
        "domainName": domain,
        "domainPrefix": prefix,
        "http": {
            "method": request.method,
            "path": request.path,
            "protocol": "HTTP/1.1",
            "sourceIp": origin.address,
            "userAgent": headers.get("user-agent", ""),
        },
        "requestId": request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": _time(now),
        "timeEpoch": int(now * 1000),
    }
    document |= body_of(request)
    return json.dumps(document, separators=(",", ":")).encode()


def _headers(request: "Asked", origin: Origin, trace_id: str) -> "dict[str, str]":
    headers = {name: value for name, value in request.headers.items() if name not in NOT_IN_EVENTS}
    forwarded = headers.get("x-forwarded-for")
    headers["x-forwarded-for"] = f"{forwarded}, {origin.address}" if forwarded else origin.address
    headers.setdefault("x-forwarded-port", str(origin.port))
    headers.setdefault("x-forwarded-proto", "http")
    headers["x-amzn-trace-id"] = trace_id
    if request.body:
        headers["content-length"] = str(len(request.body))
    return headers


def _parameters(query: str) -> "dict[str, str]":
    """Decoded; the values of one name joined by commas."""
    parameters: dict[str, str] = {}
    for pair in query.split("&"):
        if pair:
            name, _, value = (unquote(part.replace("+", " ")) for part in pair.partition("="))
            parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    return parameters


def _time(now: float) -> str:
    at = time.gmtime(now)
    return f"{at.tm_mday:02}/{MONTHS[at.tm_mon - 1]}/{at.tm_year}:{time.strftime('%H:%M:%S', at)} +0000"


def body_of(request: "Asked") -> "dict[str, Any]":
    """Text as it is, everything else in base64; without a body there is no member of that name."""
    if not request.body:
        return {"isBase64Encoded": False}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("text/") or kind in TEXTS or kind.endswith(("+json", "+xml")):
        try:
            return {"body": request.body.decode(), "isBase64Encoded": False}
        except UnicodeDecodeError:
            pass
    return {"body": b2a_base64(request.body, newline=False).decode(), "isBase64Encoded": True}


def response_of(answer: bytes) -> "tuple[Head, bytes]":
    """The response that a function's whole answer stands for. Raises NotHttp."""
    try:
        document = json.loads(answer) if answer else None
    except (ValueError, RecursionError) as error:
        raise NotHttp(f"it is not JSON: {error}") from None
    if isinstance(document, dict) and "statusCode" in document:
        return _head(document), _whole_body(document)
    text = document if isinstance(document, str) else "" if not answer else _compact(document)
    return Head(200, [("Content-Type", JSON_TYPE)]), text.encode("utf-8", "replace")


def prelude_of(data: bytes) -> Head:
    """The head that a streaming function sent before its body. Raises NotHttp."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NotHttp(f"its prelude is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise NotHttp("its prelude is not a JSON object")
    return _head({"statusCode": 200, **document}, "application/octet-stream")


def _head(document: "dict[str, Any]", default_type: str = JSON_TYPE) -> Head:
    given, cookies = document.get("headers"), document.get("cookies")
    given = {} if given is None else given
    cookies = [] if cookies is None else cookies
    if not isinstance(given, dict) or not isinstance(cookies, list):
        raise NotHttp("headers is not an object, or cookies is not a list")
    headers = [(name, _text(value)) for name, value in given.items() if name.lower() not in SET_BY_THE_SERVICE]
    if all(name.lower() != "content-type" for name, _ in headers):
        headers.append(("Content-Type", default_type))
    headers += [("Set-Cookie", _text(cookie)) for cookie in cookies]
    for name, value in headers:
        if not name or not TOKEN.issuperset(name):
            raise NotHttp(f"{name!r} is not the name of a header")
        if any(character < " " and character != "\t" for character in value):
            raise NotHttp(f"the header {name} has a control character in it")
    return Head(_status(document["statusCode"]), headers)


def _status(value: "Any") -> int:
    try:
        status = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else 0
    except ValueError:
        status = 0
    if not 200 <= status <= 599:
        raise NotHttp(f"statusCode is {value!r}, not a number from 200 to 599")
    return status


def _whole_body(document: "dict[str, Any]") -> bytes:
    body = document.get("body")
    text = "" if body is None else _text(body)
    if not document.get("isBase64Encoded"):
        return text.encode("utf-8", "replace")
    try:
        return a2b_base64(text)
    except ValueError:
        raise NotHttp("isBase64Encoded is true, but the body is not base64") from None


def _text(value: "Any") -> str:
    return value if isinstance(value, str) else _compact(value)


def _compact(value: "Any") -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
