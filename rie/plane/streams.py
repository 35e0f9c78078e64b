"""Answers in pieces on their way to a caller: paced where that is set, framed as event streams where they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import orjson

from bootstrap import wire
from bootstrap.eventstream import CONTENT, invoke_complete, payload_chunk, stream_exception
from rie.errors import ServiceError
from rie.model.invocation import Outcome
from rie.plane.connection import Connection

BURST = 6_291_456  # AWS limit: bytes of a streamed answer that may go as fast as they can
MIB = 1_048_576


class Pace:
    """How fast pieces may go: at once, or, past the burst, at a rate (in MiB/s; the service has 2)."""

    def __init__(self, mib_per_s: float) -> None:
        self._per_s = mib_per_s * MIB
        self._sent = 0
        self._began_at = 0.0

    def wait_s(self, size: int, now: float) -> float:
        """How long to wait after a piece of `size` bytes was sent at `now`; 0 for not at all."""
        if not self._per_s:
            return 0.0
        self._sent += size
        if self._sent <= BURST:
            self._began_at = now
            return 0.0
        return max(0.0, (self._sent - BURST) / self._per_s - (now - self._began_at))


class Pieces:
    """A listener that passes pieces on to an exchange as they are."""

    def __init__(self, exchange: Connection, pace: Pace) -> None:
        self._exchange = exchange
        self._pace = pace
        self._wait_s = 0.0
        self.trace_id = ""

    @property
    def has_begun(self) -> bool:
        """Whether the status has been sent."""
        return self._exchange.has_begun

    def begin(self, content_type: str, version: str) -> None:
        """See `Listener.begin`."""
        self._exchange.begin(200, [("Content-Type", content_type)])

    def piece(self, data: bytes) -> bool:
        """See `Listener.piece`."""
        return self._pass_on(data)

    def on_drained(self, callback: Callable[[], None]) -> None:
        """See `Listener.on_drained`."""
        if self._wait_s:
            asyncio.get_running_loop().call_later(self._wait_s, self._exchange.on_drained, callback)
        else:
            self._exchange.on_drained(callback)

    def _pass_on(self, data: bytes) -> bool:
        is_ready = self._exchange.write(data)
        self._wait_s = self._pace.wait_s(len(data), asyncio.get_running_loop().time())
        return is_ready and not self._wait_s


class Frames(Pieces):
    """The answer of InvokeWithResponseStream (service specification §2.7)."""

    def __init__(self, exchange: Connection, pace: Pace, request_id: str) -> None:
        super().__init__(exchange, pace)
        self._request_id = request_id

    def begin(self, content_type: str, version: str) -> None:
        """See `Listener.begin`."""
        self._exchange.begin(
            200,
            [
                ("Content-Type", CONTENT),
                (wire.REQUEST_ID, self._request_id),
                (wire.EXECUTED_VERSION, version),
                (wire.TRACE_ID, self.trace_id),
            ],
        )

    def piece(self, data: bytes) -> bool:
        """See `Listener.piece`."""
        return self._pass_on(payload_chunk(data))

    def complete(self, outcome: Outcome) -> None:
        """Send what has not been sent, and the end."""
        had_begun = self.has_begun
        if not had_begun:
            self.begin("", outcome.executed_version)
            if outcome.payload and not outcome.is_heard:
                self._exchange.write(payload_chunk(outcome.payload))
        document = {}
        if outcome.function_error:
            document["ErrorCode"] = (had_begun and outcome.error_type) or outcome.function_error
            document["ErrorDetails"] = outcome.payload.decode("utf-8", "replace")
        if outcome.log_tail is not None:
            document["LogResult"] = outcome.log_tail
        self._exchange.write(invoke_complete(orjson.dumps(document)))
        self._exchange.end()

    def fail(self, error: ServiceError) -> None:
        """The manager failed after the head was sent."""
        self._exchange.write(stream_exception(error.code, orjson.dumps({"message": error.message})))
        self._exchange.end()
