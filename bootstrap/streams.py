"""Answers in pieces, as callers of InvokeWithResponseStream get them (service spec §2.7).

The manager gets the pieces bare, because it may have other callers than those: of function URLs.
"""

from .commands import BeginStream, EndStream, Piece
from .eventstream import CONTENT, invoke_complete, payload_chunk
from .wire import (
    EXECUTED_VERSION,
    LOG_RESULT,
    REPORT,
    REQUEST_ID,
    STREAM_ERROR,
    STREAM_ERROR_BODY,
    STREAM_TYPE,
    TRACE_ID,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .events import Invocation
    from .loop import Loop

UNHANDLED = "Unhandled"


class Streams:
    """Frames the pieces, and keeps a fast runtime from running away from a slow caller."""

    def __init__(self, loop: "Loop", report: "Callable[[], str]") -> None:
        """`report` gives the last invocation's figures, as the manager reads them."""
        self._loop = loop
        self._report = report
        self._is_bare = loop.settings.is_managed
        loop.performers[BeginStream] = lambda command: self._begin(command.invocation, command.content_type)
        loop.performers[Piece] = self._piece
        loop.performers[EndStream] = self._end

    def answer(self, invocation: "Invocation", body: bytes, is_error: bool) -> None:
        """The whole answer of a runtime that does not stream, or an error before the first piece."""
        self._begin(invocation, "")
        invocation.caller.send_piece(payload_chunk(body))
        self._complete(invocation, UNHANDLED if is_error else "", body)

    def _begin(self, invocation: "Invocation", content_type: str) -> None:
        headers = [
            ("Content-Type", CONTENT),
            (REQUEST_ID, invocation.request_id),
            (EXECUTED_VERSION, self._loop.settings.function_version),
            (TRACE_ID, invocation.trace_id),
        ]
        if self._is_bare:
            headers.append((STREAM_TYPE, content_type))
        invocation.caller.begin(200, headers)

    def _piece(self, command: Piece) -> None:
        caller = command.invocation.caller
        if not caller.send_piece(command.data if self._is_bare else payload_chunk(command.data)):
            command.source.pause()
            caller.on_drained(command.source.resume)

    def _end(self, command: EndStream) -> None:
        self._complete(command.invocation, command.error_type, command.error_body)

    def _complete(self, invocation: "Invocation", error_code: str, details: bytes) -> None:
        if self._is_bare:
            invocation.caller.end(self._trailers(invocation, error_code, details))
            return
        document = {}
        if error_code:
            document = {"ErrorCode": error_code, "ErrorDetails": details.decode("utf-8", "replace")}
        if invocation.wants_log:
            document["LogResult"] = _base64(self._loop.log.tail())
        import json

        invocation.caller.send_piece(invoke_complete(json.dumps(document).encode()))
        invocation.caller.end()

    def _trailers(self, invocation: "Invocation", error_code: str, details: bytes) -> "tuple[tuple[str, str], ...]":
        trailers = [(REPORT, self._report())]
        if invocation.wants_log:
            trailers.append((LOG_RESULT, _base64(self._loop.log.tail())))
        if error_code:
            trailers += [(STREAM_ERROR, error_code), (STREAM_ERROR_BODY, _base64(details))]
        return tuple(trailers)


def _base64(data: bytes) -> str:
    from binascii import b2a_base64

    return b2a_base64(data, newline=False).decode()
