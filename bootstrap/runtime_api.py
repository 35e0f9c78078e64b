"""The Runtime API: what the runtime in the environment asks of us (service spec §3.2 to §3.5)."""

import time

from .commands import Accept, Deliver, Refuse
from .events import ErrorPosted, InitErrorPosted, NextPolled, ResponsePosted
from .wire import (
    PING_PATH,
    RUNTIME_CLIENT_CONTEXT,
    RUNTIME_COGNITO_IDENTITY,
    RUNTIME_DEADLINE_MS,
    RUNTIME_ERROR_BODY,
    RUNTIME_ERROR_TYPE,
    RUNTIME_FUNCTION_ARN,
    RUNTIME_PREFIX,
    RUNTIME_REQUEST_ID,
    RUNTIME_TRACE_ID,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .connection import Connection
    from .http1 import Request
    from .loop import Loop

JSON = [("Content-Type", "application/json")]
TEXT = [("Content-Type", "text/plain; charset=utf-8")]
STATUS_OK = b'{"status":"OK"}\n'
CAUSE_TYPE = "application/vnd.aws.lambda.error.cause+json"
ERROR_TYPE_HEADER = RUNTIME_ERROR_TYPE.lower()
ERROR_BODY_HEADER = RUNTIME_ERROR_BODY.lower()


class RuntimeApi:
    """Routes, and how the machine's commands to the runtime look on the wire."""

    def __init__(self, loop: "Loop") -> None:
        self._loop = loop
        loop.performers[Deliver] = self._deliver
        loop.performers[Accept] = lambda command: command.exchange.respond(202, JSON, STATUS_OK)
        loop.performers[Refuse] = self._refuse

    def handle(self, request: "Request", connection: "Connection") -> bool:
        """Route one request; False if the path is nobody's here."""
        path = request.path
        if path.startswith(RUNTIME_PREFIX):
            parts = path[len(RUNTIME_PREFIX) :].split("/")
            if parts == ["invocation", "next"]:
                if self._is(request, connection, "GET"):
                    connection.is_poll = True
                    self._loop.tell(NextPolled(connection))
                return True
            if len(parts) == 3 and parts[0] == "invocation" and parts[2] in ("response", "error"):
                if self._is(request, connection, "POST"):
                    self._posted(request, connection, parts[1], parts[2] == "error")
                return True
            if parts == ["init", "error"]:
                if self._is(request, connection, "POST"):
                    error_type = request.headers.get(ERROR_TYPE_HEADER, "")
                    self._loop.tell(InitErrorPosted(connection, _error_document(request), error_type))
                return True
        elif path == PING_PATH:
            if self._is(request, connection, "GET"):
                connection.respond(200, TEXT, b"pong")
            return True
        return False

    def _is(self, request: "Request", connection: "Connection", method: str) -> bool:
        if request.method == method:
            return True
        connection.respond(405, [("Allow", method), *TEXT], b"Method Not Allowed\n")
        return False

    def _posted(self, request: "Request", connection: "Connection", request_id: str, is_error: bool) -> None:
        headers = request.headers
        mode = headers.get("lambda-runtime-function-response-mode")
        if mode is not None and mode.lower() != "streaming":
            self._refuse(Refuse(connection, 400, "InvalidFunctionResponseMode", "Invalid function response mode"))
        elif request.too_large:
            self._loop.tell(ResponsePosted(connection, request_id, b"", too_large=True))
        elif is_error:
            error_type = headers.get(ERROR_TYPE_HEADER, "")
            self._loop.tell(ErrorPosted(connection, request_id, _error_document(request), error_type))
        elif request.trailers.get(ERROR_TYPE_HEADER):
            body = _decoded(request.trailers.get(ERROR_BODY_HEADER, "")) or request.body
            self._loop.tell(ErrorPosted(connection, request_id, body, request.trailers[ERROR_TYPE_HEADER]))
        else:
            self._loop.tell(ResponsePosted(connection, request_id, request.body))

    def _deliver(self, command: Deliver) -> None:
        invocation = command.invocation
        deadline_ms = int((time.time() + command.deadline_at - time.monotonic()) * 1e3)
        headers = [
            ("Content-Type", "application/json"),
            (RUNTIME_REQUEST_ID, invocation.request_id),
            (RUNTIME_DEADLINE_MS, str(deadline_ms)),
            (RUNTIME_FUNCTION_ARN, invocation.function_arn),
            (RUNTIME_TRACE_ID, invocation.trace_id),
        ]
        if invocation.client_context:
            headers.append((RUNTIME_CLIENT_CONTEXT, invocation.client_context))
        if invocation.cognito_identity:
            headers.append((RUNTIME_COGNITO_IDENTITY, invocation.cognito_identity))
        command.exchange.respond(200, headers, invocation.body)

    def _refuse(self, command: Refuse) -> None:
        import json

        body = json.dumps({"errorMessage": command.message, "errorType": command.error_type}) + "\n"
        command.exchange.respond(command.status, JSON, body.encode())


def _decoded(text: str) -> bytes:
    """A base64 trailer's bytes; empty when it isn't base64."""
    import binascii

    try:
        return binascii.a2b_base64(text)
    except binascii.Error:
        return b""


def _error_document(request: "Request") -> bytes:
    """The error as the caller may see it: the cause that some clients wrap it in is for tracing only."""
    if request.headers.get("content-type") != CAUSE_TYPE:
        return request.body
    import json

    try:
        document = json.loads(request.body)
        kept = {name: document[name] for name in ("errorMessage", "errorType", "stackTrace") if name in document}
    except (ValueError, TypeError, RecursionError):
        return b'"Invalid error body"'
    return json.dumps(kept).encode()
