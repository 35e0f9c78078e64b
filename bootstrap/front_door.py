"""The front door: what callers ask of the environment, by the service's Invoke API (service spec §2.1 to §2.3)."""

from .commands import Answer, ReportIdle, ReportInit, TurnAway
from .events import Invocation, InvokeReceived
from .ids import new_id, new_request, new_trace_id
from .invoke_request import (
    BadRequest,
    check_choice,
    check_json,
    check_size,
    client_context,
    cognito_identity,
    is_request_id,
    patience,
    tenant_id,
)
from .output import billed_ms
from .streams import Streams
from .wire import (
    CLIENT_CONTEXT,
    COGNITO_IDENTITY,
    ERROR_TYPE,
    EXECUTED_VERSION,
    FUNCTION_ARN,
    FUNCTION_ERROR,
    IDLE_PATH,
    INIT_PATH,
    INVOCATION_TYPE,
    INVOKE_PREFIX,
    INVOKE_SUFFIX,
    LOG_RESULT,
    LOG_TYPE,
    MAX_EVENT,
    OLD_ASYNC_PREFIX,
    OLD_ASYNC_SUFFIX,
    PATIENCE,
    REPORT,
    REQUEST_ID,
    RESTORE_PATH,
    STREAM_PREFIX,
    STREAM_SUFFIX,
    TENANT_ID,
    TRACE_ID,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .commands import ReportRestore
    from .connection import Connection
    from .http1 import Request
    from .http_door import HttpDoor
    from .loop import Loop
    from .restoring import Restoring

# Codes that the service's front end answers with, before any operation: their body has no "Type".
FRONT_END_CODES = ("ValidationException", "RequestEntityTooLargeException")
MAX_ARNS = 64  # kept, since callers ask for the same ones
DUPLICATED = "Client.DuplicatedInvokeId"  # no caller of the service can name a request, so this is the emulator's
JSON = [("Content-Type", "application/json")]
KINDS, STREAM_KINDS = ("Event", "RequestResponse", "DryRun"), ("RequestResponse", "DryRun")
LOG_TYPES = ("None", "Tail")
_REQUEST_ID, _TRACE_ID, _TYPE, _LOG_TYPE, _CONTEXT, _ARN, _PATIENCE, _TENANT = (
    name.lower()
    for name in (REQUEST_ID, TRACE_ID, INVOCATION_TYPE, LOG_TYPE, CLIENT_CONTEXT, FUNCTION_ARN, PATIENCE, TENANT_ID)
)
_IDENTITY = COGNITO_IDENTITY.lower()
SAID = frozenset((_REQUEST_ID, _TRACE_ID, _TYPE, _LOG_TYPE, _CONTEXT, _ARN, _PATIENCE, _TENANT, _IDENTITY))


class FrontDoor:
    """Requests in, answers out."""

    max_body = MAX_EVENT

    def __init__(self, loop: "Loop", submit: "Callable[[InvokeReceived], None] | None" = None) -> None:
        """`submit` takes the invocations, by default `loop`; `loop`'s answers come out here."""
        self._loop = loop
        self._submit = submit or loop.tell
        self._settings = loop.settings
        self._is_managed = loop.settings.is_managed
        self._streams = Streams(loop, self._report)
        self._arns: dict[tuple[str, str], str] = {}  # by name and query, as sent
        self._init_waiters: list[Connection] = []
        self._idle_waiters: list[Connection] = []
        loop.performers[ReportIdle] = self._is_idle
        loop.performers[Answer] = self._answer
        loop.performers[TurnAway] = self._turn_away
        self._log_init = loop.performers[ReportInit]
        loop.performers[ReportInit] = self._report_init
        self._restoring: Restoring | None = None
        if self._settings.is_template:
            from . import restoring

            self._restoring = restoring.Restoring(loop)
        self._http: HttpDoor | None = None
        if self._settings.has_http_mode:
            from . import http_door  # only who wants it pays for its import

            self._http = http_door.HttpDoor(loop, self._submit)

    def handle(self, request: "Request", connection: "Connection") -> None:
        """Route one request."""
        path = request.path
        if self._settings.origins and self._is_preflight(request, connection):
            return
        name = _named(path, INVOKE_PREFIX, INVOKE_SUFFIX)
        streamed = "" if name else _named(path, STREAM_PREFIX, STREAM_SUFFIX)
        old = "" if name else _named(path, OLD_ASYNC_PREFIX, OLD_ASYNC_SUFFIX)
        if name or streamed or old:
            if request.method != "POST":
                refuse(connection, 405, "MethodNotAllowedException", "Invoke is a POST request", ("Allow", "POST"))
                return
            try:
                self._invoke(request, connection, name or streamed or old, bool(streamed), bool(old))
            except BadRequest as error:
                refuse(connection, error.status, error.code, str(error))
            return
        if self._is_managed and path in (INIT_PATH, IDLE_PATH):
            self._wait(path, connection)
            return
        if self._restoring is not None and path == RESTORE_PATH:
            self._restoring.handle(request, connection)
            return
        if self._http is not None:
            self._http.handle(request, connection)
            return
        usage = f"functions are invoked at POST {INVOKE_PREFIX}<name>{INVOKE_SUFFIX}"
        message = f"no operation at {request.method} {path}; {usage}"
        refuse(connection, 404, "UnknownOperationException", message)

    def _is_preflight(self, request: "Request", connection: "Connection") -> bool:
        """Let other origins read the answer; True if that was the question, which is answered then."""
        from . import cors

        connection.extra = cors.headers_for(request, self._settings.origins)
        if not cors.is_preflight(request):
            return False
        connection.respond(200, [])
        return True

    def _wait(self, path: str, connection: "Connection") -> None:
        """The manager asks to be told of the end of init, or of an invocation."""
        machine = self._loop.machine
        if path == INIT_PATH:
            self._init_waiters.append(connection)
            if machine.init_result is not None:
                self._init_ended(machine.init_result)
        else:
            self._idle_waiters.append(connection)
            if machine.is_free:
                self._is_idle(ReportIdle())

    def wants_pieces(self, request: "Request", connection: "Connection") -> bool:
        """Events are taken whole."""
        return False

    def take_pieces(self, connection: "Connection", pieces: "list[bytes]") -> None:
        """Never called, since none are wanted."""

    def cut(self, connection: "Connection") -> None:
        """Likewise."""

    def truncated(self, connection: "Connection") -> None:
        """Half an event is none."""
        connection.close()

    def _invoke(
        self, request: "Request", connection: "Connection", name: str, wants_stream: bool, is_old: bool
    ) -> None:
        """`is_old`: by InvokeAsync, which is an event whatever else is said."""
        headers = request.headers
        if not (wants_stream or is_old) and SAID.isdisjoint(headers):
            self._invoke_plainly(request, connection, name)
            return
        kind = "Event" if is_old else headers.get(_TYPE, "RequestResponse")
        check_choice(kind, "invocationType", STREAM_KINDS if wants_stream else KINDS)
        log_type = headers.get(_LOG_TYPE, "None")
        check_choice(log_type, "logType", LOG_TYPES)
        check_size(request, kind == "Event", is_old)
        if not self._is_managed:
            check_json(request.body)
        context = client_context(headers.get(_CONTEXT, ""))
        request_id = headers.get(_REQUEST_ID, "")
        if not is_request_id(request_id):
            request_id = new_id()
        invocation = Invocation(
            request_id=request_id,
            body=request.body or b"{}",
            caller=connection if kind == "RequestResponse" else None,
            function_arn=self._arn(request, name),
            trace_id=headers.get(_TRACE_ID) or new_trace_id(),
            client_context="" if kind == "Event" else context,  # the service passes it to who is waited for
            cognito_identity=cognito_identity(headers.get(_IDENTITY, "")),
            wants_log=log_type == "Tail",
            wants_stream=wants_stream,
            tenant_id=tenant_id(headers.get(_TENANT)),
            patience_s=patience(headers.get(_PATIENCE)) if self._is_managed else None,
        )
        if kind != "RequestResponse":
            connection.respond(202 if kind == "Event" else 204, [(REQUEST_ID, request_id)])
            if kind == "DryRun":
                return
        self._submit(InvokeReceived(invocation))

    def _invoke_plainly(self, request: "Request", connection: "Connection", name: str) -> None:
        """As `_invoke`, where the caller says nothing but the event: a tenth less of a short invocation's time."""
        check_size(request, is_event=False, is_old=False)
        if not self._is_managed:
            check_json(request.body)
        request_id, trace_id = new_request()
        arn = self._arn(request, name)
        self._submit(InvokeReceived(Invocation(request_id, request.body or b"{}", connection, arn, trace_id)))

    def _arn(self, request: "Request", name: str) -> str:
        """As the manager says; else as the path says it: any name, `name:qualifier` or ARN."""
        if self._is_managed:
            return request.headers.get(_ARN, "")
        known = self._arns.get((name, request.query))
        if known is not None:
            return known
        from .quoting import query_value, unquote

        arn = self._arn_of(unquote(name), query_value(request.query, "Qualifier"))
        if len(self._arns) >= MAX_ARNS:
            self._arns.clear()
        self._arns[name, request.query] = arn
        return arn

    def _arn_of(self, name: str, qualifier: str) -> str:
        if not name.isprintable():
            raise BadRequest(400, "ValidationException", "the function's name has control characters in it")
        arn = name if name.startswith("arn:") else self._settings.arn_for(name.rpartition("function:")[2])
        return f"{arn}:{qualifier}" if qualifier and qualifier.isprintable() and arn.count(":") == 6 else arn

    def _answer(self, command: Answer) -> None:
        invocation = command.invocation
        if invocation.caller is None:
            return
        if invocation.wants_stream and not self._is_managed:
            self._streams.answer(invocation, command.body, command.is_error)
            return
        lines = (
            f"Content-Type: application/json\r\n{REQUEST_ID}: {invocation.request_id}\r\n"
            f"x-amzn-Remapped-Content-Length: 0\r\n{EXECUTED_VERSION}: {self._settings.function_version}\r\n"
            f"{TRACE_ID}: {invocation.trace_id}\r\n"
        )
        if command.is_error:
            lines += f"{FUNCTION_ERROR}: Unhandled\r\n"
        if invocation.wants_log:
            from binascii import b2a_base64

            lines += f"{LOG_RESULT}: {b2a_base64(self._loop.log.tail(), newline=False).decode()}\r\n"
        if self._is_managed:
            lines += f"{REPORT}: {self._report()}\r\n"
        invocation.caller.succeed(lines, command.body)

    def _report(self) -> str:
        report = self._loop.last_report
        if report is None:
            return "0.00;0;0;;success"  # extensions work on, and the first report is not there yet
        init = "" if report.init_ms is None else f"{report.init_ms:.2f}"
        return f"{report.duration_ms:.2f};{billed_ms(report)};{self._loop.used_mb};{init};{report.status}"

    def _turn_away(self, command: TurnAway) -> None:
        caller = command.invocation.caller
        if caller is None:
            return
        if command.reason == TurnAway.FULL:
            document = b'{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}'
            caller.respond(429, [*JSON, (ERROR_TYPE, "TooManyRequestsException")], document)
        elif command.reason == TurnAway.BUSY:
            refuse(caller, 409, "ResourceConflictException", command.reason)
        elif command.reason == TurnAway.DUPLICATE:
            refuse(caller, 400, DUPLICATED, command.reason)
        else:
            refuse(caller, 503, "ServiceException", command.reason)

    def _is_idle(self, _: ReportIdle) -> None:
        waiters, self._idle_waiters = self._idle_waiters, []
        for connection in waiters:
            connection.respond(200, JSON, b"{}")

    def _report_init(self, report: ReportInit) -> None:
        self._log_init(report)
        if report.phase == "init":
            self._init_ended(report)

    def _init_ended(self, report: ReportInit) -> None:
        waiters, self._init_waiters = self._init_waiters, []
        for connection in waiters:
            connection.respond(200, JSON, ended(report))


def _named(path: str, prefix: str, suffix: str) -> str:
    """The function's name in a path, as sent; empty if it is another path."""
    if not path.startswith(prefix) or not path.endswith(suffix):
        return ""
    name = path[len(prefix) : -len(suffix)]
    return "" if "/" in name else name


def ended(report: "ReportInit | ReportRestore") -> bytes:
    """How a phase that the manager waits for has ended."""
    return (
        f'{{"status":"{report.status}","durationMs":{report.duration_ms:.2f},"errorType":"{report.error_type}"}}'
    ).encode()


def refuse(connection: "Connection", status: int, code: str, message: str, *headers: "tuple[str, str]") -> None:
    import json

    document = {} if code in FRONT_END_CODES else {"Type": "User" if status < 500 else "Service"}
    document["message"] = message
    wire = [("Content-Type", "application/json"), (REQUEST_ID, new_id()), (ERROR_TYPE, code), *headers]
    connection.respond(status, wire, json.dumps(document).encode())
