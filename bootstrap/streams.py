"""Answers in pieces, as callers of InvokeWithResponseStream get them (service spec §2.7)."""

from .commands import BeginStream, EndStream, Piece
from .eventstream import CONTENT, invoke_complete, payload_chunk
from .wire import EXECUTED_VERSION, REQUEST_ID, TRACE_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .events import Invocation
    from .loop import Loop

UNHANDLED = "Unhandled"


class Streams:
    """Frames the pieces, and keeps a fast runtime from running away from a slow caller."""

    def __init__(self, loop: "Loop") -> None:
        self._loop = loop
        loop.performers[BeginStream] = lambda command: self._begin(command.invocation)
        loop.performers[Piece] = self._piece
        loop.performers[EndStream] = self._end

    def answer(self, invocation: "Invocation", body: bytes, is_error: bool) -> None:
        """The whole answer of a runtime that does not stream, or an error before the first piece."""
        self._begin(invocation)
        invocation.caller.send_piece(payload_chunk(body))
        self._complete(invocation, UNHANDLED if is_error else "", body)

    def _begin(self, invocation: "Invocation") -> None:
        headers = [
            ("Content-Type", CONTENT),
            (REQUEST_ID, invocation.request_id),
            (EXECUTED_VERSION, self._loop.settings.function_version),
            (TRACE_ID, invocation.trace_id),
        ]
        invocation.caller.begin(200, headers)

    def _piece(self, command: Piece) -> None:
        caller = command.invocation.caller
        if not caller.send_piece(payload_chunk(command.data)):
            command.source.pause()
            caller.on_drained(command.source.resume)

    def _end(self, command: EndStream) -> None:
        self._complete(command.invocation, command.error_type, command.error_body)

    def _complete(self, invocation: "Invocation", error_code: str, details: bytes) -> None:
        document = {}
        if error_code:
            document = {"ErrorCode": error_code, "ErrorDetails": details.decode("utf-8", "replace")}
        if invocation.wants_log:
            from binascii import b2a_base64

            document["LogResult"] = b2a_base64(self._loop.log.tail(), newline=False).decode()
        import json

        invocation.caller.send_piece(invoke_complete(json.dumps(document).encode()))
        invocation.caller.end()
