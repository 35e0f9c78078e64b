"""Streamed answers of function URLs: a head that may come first, then the body as the runtime makes it (spec §9.5)."""

from __future__ import annotations

import logging

from bootstrap.http_mode import INTEGRATION, SEPARATOR, Head, NotHttp, prelude_of
from bootstrap.wire import MAX_HEADERS, TRACE_ID
from rie.model.invocation import Outcome
from rie.plane.connection import Connection
from rie.plane.cors import overridden
from rie.plane.streams import Pace, Pieces

log = logging.getLogger(__name__)

TEXT = [("Content-Type", "text/plain; charset=utf-8")]
OCTETS = "application/octet-stream"
FAILED = Head(502, TEXT), b"Internal Server Error"


class Answer(Pieces):
    """A listener; `complete` follows when the invocation has ended."""

    def __init__(self, exchange: Connection, pace: Pace, extra: list[tuple[str, str]], function: str) -> None:
        """`extra`: headers of ours, besides the trace."""
        super().__init__(exchange, pace)
        self._extra = extra
        self._function = function
        self._prelude: bytes | None = None  # what has come of it, while it comes
        self._is_broken = False

    def begin(self, content_type: str, version: str) -> None:
        """See `Listener.begin`."""
        if content_type.partition(";")[0].strip().lower() == INTEGRATION:
            self._prelude = b""
        else:
            self._send(Head(200, [("Content-Type", content_type or OCTETS)]))

    def piece(self, data: bytes) -> bool:
        """See `Listener.piece`."""
        if self._is_broken:
            return True
        if self._prelude is not None:
            data = self._read_prelude(self._prelude + data)
        return self._pass_on(data)

    def complete(self, outcome: Outcome) -> None:
        """Send what has not been sent, and the end."""
        if self.has_begun:
            if outcome.function_error:
                self._exchange.abort()  # the status has been sent; that the body is not whole can be seen
            else:
                self._exchange.end()
            return
        head, body = FAILED
        if not outcome.is_heard and not outcome.function_error:
            head, body = Head(200, [("Content-Type", OCTETS)]), outcome.payload
        elif outcome.is_heard and not outcome.function_error and not self._is_broken:
            self._explain("it ended within its prelude")
        self._exchange.respond(head.status, self._headers(head), body)

    def _send(self, head: Head) -> None:
        self._exchange.begin(head.status, self._headers(head))

    def _headers(self, head: Head) -> list[tuple[str, str]]:
        return overridden(head.headers, [*self._extra, (TRACE_ID, self.trace_id)])

    def _read_prelude(self, data: bytes) -> bytes:
        """Send the head once it is whole; what there is of the body."""
        prelude, separator, body = data.partition(SEPARATOR)
        if not separator and len(data) <= MAX_HEADERS:
            self._prelude = data
            return b""
        self._prelude = None
        try:
            if not separator:
                raise NotHttp(f"its prelude has not ended after {MAX_HEADERS} bytes")
            self._send(prelude_of(prelude))
        except NotHttp as error:
            self._is_broken = True
            self._explain(str(error))
            return b""
        return body

    def _explain(self, why: str) -> None:
        log.warning("the answer of %s is no HTTP response: %s", self._function, why)
