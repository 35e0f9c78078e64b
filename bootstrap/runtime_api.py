"""The Runtime API: what the runtime in the environment asks of us (service spec §3.2 to §3.5)."""

import time

from .commands import Accept, BeginStream, Deliver, Piece, Refuse, Restore
from .events import (
    ErrorPosted,
    InitErrorPosted,
    NextPolled,
    ResponseBegun,
    ResponseEnded,
    ResponsePosted,
    RestorePolled,
)
from .faults import error_body
from .ids import new_id
from .responses import date_line, response
from .wire import (
    MAX_STREAM,
    PING_PATH,
    RESPONSE_MODE,
    RUNTIME_CLIENT_CONTEXT,
    RUNTIME_COGNITO_IDENTITY,
    RUNTIME_DEADLINE_MS,
    RUNTIME_ERROR_BODY,
    RUNTIME_ERROR_TYPE,
    RUNTIME_FUNCTION_ARN,
    RUNTIME_INVOCATION_ID,
    RUNTIME_PREFIX,
    RUNTIME_REQUEST_ID,
    RUNTIME_TENANT_ID,
    RUNTIME_TRACE_ID,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .connection import Connection
    from .http1 import Request
    from .loop import Loop

JSON = [("Content-Type", "application/json")]
TEXT = [("Content-Type", "text/plain; charset=utf-8")]
OK = b'{"status":"OK"}\n'
STREAMING = "streaming"
NEXT_PATH = f"{RUNTIME_PREFIX}invocation/next"
OCTETS = "application/octet-stream"
CAUSE_TYPE = "application/vnd.aws.lambda.error.cause+json"
ERROR_TYPE_HEADER = RUNTIME_ERROR_TYPE.lower()
ERROR_BODY_HEADER = RUNTIME_ERROR_BODY.lower()


class RuntimeApi:
    """Routes, and how the machine's commands to the runtime look on the wire."""

    def __init__(self, loop: "Loop") -> None:
        self._loop = loop
        self._is_restored = loop.settings.is_from_snapshot
        self._streams: dict[Connection, list[Any]] = {}  # the invocation, and how much of its answer has come
        self._begin_answer = loop.performers[BeginStream]
        loop.performers[BeginStream] = self._begin_stream
        loop.performers[Deliver] = self._deliver
        self._date, self._accepted = "", b""  # and the response that has it
        loop.performers[Accept] = self._accept
        loop.performers[Restore] = lambda command: command.exchange.respond(200, JSON)
        loop.performers[Refuse] = self._refuse

    def handle(self, request: "Request", connection: "Connection") -> bool:
        """Route one request; False if the path is nobody's here."""
        path = request.path
        if path == NEXT_PATH:
            if self._is(request, connection, "GET"):
                connection.is_poll = True
                if self._loop.timekeeper is not None:
                    self._loop.timekeeper.runtime_polls()
                self._loop.tell(NextPolled(connection))
            return True
        if path.startswith(RUNTIME_PREFIX):
            parts = path[len(RUNTIME_PREFIX) :].split("/")
            if len(parts) == 3 and parts[0] == "invocation" and parts[2] in ("response", "error"):
                if self._is(request, connection, "POST"):
                    self._posted(request, connection, parts[1], parts[2] == "error")
                return True
            if self._is_restored and parts == ["restore", "next"]:
                if self._is(request, connection, "GET"):
                    self._loop.tell(RestorePolled(connection))
                return True
            if parts == ["init", "error"] or (self._is_restored and parts == ["restore", "error"]):
                if self._is(request, connection, "POST"):
                    error_type = request.headers.get(ERROR_TYPE_HEADER, "")
                    self._loop.tell(InitErrorPosted(connection, _error_document(request), error_type))
                return True
        elif path == PING_PATH:
            if self._is(request, connection, "GET"):
                connection.respond(200, TEXT, b"pong")
            return True
        return False

    # -- answers in pieces ----------------------------------------------------------------------------------------

    def wants_pieces(self, request: "Request", connection: "Connection") -> bool:
        """Whether the caller of this answer wants it as it comes."""
        is_streaming = request.headers.get(RESPONSE_MODE) == STREAMING
        if request.method != "POST" or not (is_streaming or self._loop.timekeeper is not None):
            return False
        parts = request.path.split("/")
        if len(parts) != 6 or parts[3] != "invocation" or parts[5] != "response":
            return False
        if self._loop.timekeeper is not None:
            self._loop.timekeeper.answer_begins(parts[4])
        if not is_streaming:
            return False
        content_type = request.headers.get("content-type", OCTETS)
        self._loop.tell(ResponseBegun(connection, parts[4], content_type))
        return connection in self._streams

    def _begin_stream(self, command: BeginStream) -> None:
        self._streams[command.exchange] = [command.invocation, 0]
        self._begin_answer(command)

    def take_pieces(self, connection: "Connection", pieces: "list[bytes]") -> None:
        """Pass them on, and wait for a slow caller."""
        stream = self._streams.get(connection)
        if stream is not None:
            data = b"".join(pieces)
            stream[1] += len(data)
            if stream[1] <= MAX_STREAM:
                self._loop.performers[Piece](Piece(stream[0], data, connection))

    def cut(self, connection: "Connection") -> None:
        """The runtime hung up in the middle of its answer."""
        stream = self._streams.pop(connection, None)
        if stream is not None:
            body = error_body("Runtime.TruncatedResponse", "Response payload is truncated")
            self._loop.tell(ResponseEnded(connection, stream[1], "Runtime.TruncatedResponse", body))

    def truncated(self, connection: "Connection") -> None:
        """The runtime may answer again."""
        self._refuse(Refuse(connection, 400, "TruncatedHTTPRequest", "HTTP request detected as truncated"))

    def _stream_ended(self, request: "Request", connection: "Connection") -> None:
        _, produced = self._streams.pop(connection)
        error_type = request.trailers.get(ERROR_TYPE_HEADER, "")
        body = _decoded(request.trailers.get(ERROR_BODY_HEADER, "")) if error_type else b""
        if produced > MAX_STREAM:
            error_type = "Function.ResponseSizeTooLarge"
            message = f"Response payload size exceeded maximum allowed payload size ({MAX_STREAM} bytes)."
            body = error_body(error_type, message)
        self._loop.tell(ResponseEnded(connection, produced, error_type, body))

    def _is(self, request: "Request", connection: "Connection", method: str) -> bool:
        if request.method == method:
            return True
        connection.respond(405, [("Allow", method), *TEXT], b"Method Not Allowed\n")
        return False

    def _posted(self, request: "Request", connection: "Connection", request_id: str, is_error: bool) -> None:
        headers = request.headers
        mode = headers.get(RESPONSE_MODE)
        if connection in self._streams:
            self._stream_ended(request, connection)
        elif mode is not None and mode != STREAMING:
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
        lines = (
            f"Content-Type: application/json\r\n{RUNTIME_REQUEST_ID}: {invocation.request_id}\r\n"
            f"{RUNTIME_DEADLINE_MS}: {deadline_ms}\r\n{RUNTIME_FUNCTION_ARN}: {invocation.function_arn}\r\n"
            f"{RUNTIME_TRACE_ID}: {invocation.trace_id}\r\n{RUNTIME_INVOCATION_ID}: {new_id()}\r\n"
        )
        if invocation.client_context:
            lines += f"{RUNTIME_CLIENT_CONTEXT}: {invocation.client_context}\r\n"
        if invocation.cognito_identity:
            lines += f"{RUNTIME_COGNITO_IDENTITY}: {invocation.cognito_identity}\r\n"
        if invocation.tenant_id:
            lines += f"{RUNTIME_TENANT_ID}: {invocation.tenant_id}\r\n"
        command.exchange.succeed(lines, invocation.body)

    def _accept(self, command: Accept) -> None:
        date = date_line()
        if date is not self._date:
            self._date, self._accepted = date, response(202, JSON, OK, date)
        command.exchange.respond_with(self._accepted)

    def _refuse(self, command: Refuse) -> None:
        import json

        document = {"errorMessage": command.message, "errorType": command.error_type}
        body = json.dumps(document, separators=(",", ":")) + "\n"
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
    return json.dumps(kept, separators=(",", ":")).encode()
