"""The Extensions API: how extensions register, wait for events and report errors (service spec §3.7)."""

import time

from .commands import DeliverInvoke, DeliverShutdown, LetIn
from .events import ExtensionErrorPosted, ExtensionPolled, ExtensionRegistered
from .extension_requests import JSON, dump, identifier_of, refuse
from .ids import new_id
from .wire import EXTENSION_PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .connection import Connection
    from .http1 import Request
    from .loop import Loop

NAME = "lambda-extension-name"
ERROR_TYPE, FEATURES = "lambda-extension-function-error-type", "lambda-extension-accept-feature"


class ExtensionsApi:
    """Routes, and how the machine's commands to extensions look on the wire."""

    def __init__(self, loop: "Loop") -> None:
        self._loop = loop
        self._routes = {
            ("POST", "register"): self._register,
            ("GET", "event/next"): self._next,
            ("POST", "init/error"): self._init_error,
            ("POST", "exit/error"): self._exit_error,
        }
        loop.performers[LetIn] = self._let_in
        loop.performers[DeliverInvoke] = self._deliver_invoke
        loop.performers[DeliverShutdown] = self._deliver_shutdown

    def handle(self, request: "Request", connection: "Connection") -> bool:
        """Route one request; False if the path is nobody's here."""
        path = request.path[len(EXTENSION_PREFIX) :]
        route = self._routes.get((request.method, path))
        if route is not None:
            route(request, connection)
            return True
        for method, known in self._routes:
            if known == path:
                text = [("Allow", method), ("Content-Type", "text/plain; charset=utf-8")]
                connection.respond(405, text, b"Method Not Allowed\n")
                return True
        return False

    def _register(self, request: "Request", connection: "Connection") -> None:
        try:
            events = _events(request.body)
        except ValueError as error:
            refuse(connection, "InvalidRequestFormat", str(error))
            return
        features = [feature.strip() for feature in request.headers.get(FEATURES, "").split(",")]
        name = request.headers.get(NAME, "")
        self._loop.tell(ExtensionRegistered(connection, name, events, new_id(), "accountId" in features))

    def _next(self, request: "Request", connection: "Connection") -> None:
        identifier = identifier_of(request, connection)
        if identifier:
            connection.is_poll = True
            self._loop.tell(ExtensionPolled(connection, identifier))

    def _init_error(self, request: "Request", connection: "Connection") -> None:
        self._error(request, connection, at_init=True)

    def _exit_error(self, request: "Request", connection: "Connection") -> None:
        self._error(request, connection, at_init=False)

    def _error(self, request: "Request", connection: "Connection", at_init: bool) -> None:
        identifier = identifier_of(request, connection)
        if not identifier:
            return
        error_type = request.headers.get(ERROR_TYPE, "")
        if not error_type:
            refuse(connection, "Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found")
            return
        self._loop.tell(ExtensionErrorPosted(connection, identifier, error_type, at_init))

    def _let_in(self, command: LetIn) -> None:
        settings = self._loop.settings
        document = {
            "functionName": settings.function_name,
            "functionVersion": settings.function_version,
            "handler": settings.variables["_HANDLER"],
        }
        if command.wants_account:
            document = {"accountId": settings.account, **document}
        headers = [*JSON, ("Lambda-Extension-Identifier", command.identifier)]
        command.exchange.respond(200, headers, dump(document))

    def _deliver_invoke(self, command: DeliverInvoke) -> None:
        invocation = command.invocation
        event = {
            "eventType": "INVOKE",
            "deadlineMs": _wall_ms(command.deadline_at),
            "requestId": invocation.request_id,
            "invokedFunctionArn": invocation.function_arn,
            "tracing": {"type": "X-Amzn-Trace-Id", "value": invocation.trace_id},
        }
        headers = [*JSON, ("Lambda-Extension-Event-Identifier", new_id())]
        command.exchange.respond(200, headers, dump(event))

    def _deliver_shutdown(self, command: DeliverShutdown) -> None:
        deadline_ms = _wall_ms(command.deadline_at)
        event = {"eventType": "SHUTDOWN", "shutdownReason": command.reason, "deadlineMs": deadline_ms}
        headers = [*JSON, ("Lambda-Extension-Event-Identifier", new_id())]
        command.exchange.respond(200, headers, dump(event))


def _events(body: bytes) -> "tuple[str, ...]":
    """The events of a registration; null and nothing mean none. Raises ValueError with the refusal's text."""
    import json

    try:
        document = json.loads(body)
    except RecursionError:
        raise ValueError("the body is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("the body is not an object")
    if document.get("configurationKeys"):
        raise ValueError("configurationKeys are deprecated; use environment variables instead")
    events = document.get("events") or []
    if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
        raise ValueError("events is not a list of strings")
    return tuple(events)


def _wall_ms(at: float) -> int:
    return int((time.time() + at - time.monotonic()) * 1e3)
