"""The front door of profile `compat`: byte for byte what AWS's own emulator answers, for suites that pin its quirks."""

from . import compat
from .commands import Answer, TurnAway
from .events import Invocation, InvokeReceived
from .front_door import DUPLICATED, FrontDoor, refuse
from .ids import new_id, new_trace_id
from .invoke_request import is_request_id
from .wire import CLIENT_CONTEXT, MAX_EVENT, REQUEST_ID, TRACE_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .connection import Connection
    from .http1 import Request
    from .loop import Loop

_REQUEST_ID, _TRACE_ID, _CONTEXT = REQUEST_ID.lower(), TRACE_ID.lower(), CLIENT_CONTEXT.lower()


class CompatDoor(FrontDoor):
    """One path, any method, every call waits for its answer."""

    def __init__(self, loop: "Loop", submit: "Callable[[InvokeReceived], None] | None" = None) -> None:
        super().__init__(loop, submit)
        loop.performers[Answer] = self._answer_compat

    def handle(self, request: "Request", connection: "Connection") -> None:
        """Route one request."""
        if request.path != compat.INVOKE_PATH:
            self._reply(connection, compat.NOT_FOUND)
            return
        context = compat.client_context(request.headers.get(_CONTEXT, ""))
        if context is None:
            self._reply(connection, compat.BAD_CONTEXT)
            return
        if request.too_large:  # the emulator cuts the event short without a word, which nobody can want
            message = f"Request must be smaller than {MAX_EVENT} bytes for the InvokeFunction operation"
            refuse(connection, 413, "RequestEntityTooLargeException", message)
            return
        request_id = request.headers.get(_REQUEST_ID, "")
        invocation = Invocation(
            request_id=request_id if is_request_id(request_id) else new_id(),
            body=request.body,
            caller=connection,
            function_arn=self._settings.arn_for(""),
            trace_id=request.headers.get(_TRACE_ID) or new_trace_id(),
            client_context=context,
        )
        self._submit(InvokeReceived(invocation))

    def _answer_compat(self, command: Answer) -> None:
        if command.invocation.caller is not None:
            self._reply(command.invocation.caller, command.kind, command.body)

    def _turn_away(self, command: TurnAway) -> None:
        if command.reason != TurnAway.DUPLICATE:
            super()._turn_away(command)
        elif command.invocation.caller is not None:
            headers = [("Content-Type", "application/json"), ("Error-Type", DUPLICATED)]
            command.invocation.caller.respond(400, headers, f'{{"errorType":"{DUPLICATED}"}}'.encode())

    def _reply(self, connection: "Connection", kind: str, body: bytes = b"") -> None:
        reply = compat.answer(kind, body, self._settings.timeout_s)
        connection.respond(reply.status, reply.headers, reply.body)
