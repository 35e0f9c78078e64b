"""The stub engine's front door: one HTTP connection that is answered as the bootstrap answers it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import uuid
from typing import TYPE_CHECKING, cast

import httptools

from bootstrap import wire
from rie.engine.stub_functions import Call, Crashed, Failed, content_type, linger, pieces_of, stream, whole

if TYPE_CHECKING:
    from rie.engine.stub import StubSandbox

REASONS = {200: "OK", 202: "Accepted", 204: "No Content", 404: "Not Found", 409: "Conflict", 429: "Too Many Requests"}
MAX_MEMORY_USED_MB = 10  # what REPORT says; nothing is measured


class Door(asyncio.Protocol):
    """Server side of a connection; keep-alive, one request at a time."""

    def __init__(self, sandbox: StubSandbox) -> None:
        self._sandbox = sandbox
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._path = ""
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wants_pieces = False
        self._has_begun = False  # some pieces have been sent
        self._is_ready = asyncio.Event()  # the caller takes more
        self._is_ready.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: there is a caller."""
        self._transport = cast(asyncio.Transport, transport)
        self._sandbox.doors.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio: the caller has gone; what runs goes on, as in a real sandbox."""
        self._transport = None
        self._is_ready.set()
        self._leave()

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes of a request."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def pause_writing(self) -> None:
        """asyncio: the caller is slow."""
        self._is_ready.clear()

    def resume_writing(self) -> None:
        """asyncio: it has caught up."""
        self._is_ready.set()

    def close(self) -> None:
        """Hang up, whatever is being sent."""
        if self._transport is not None:
            self._transport.abort()

    def cancel(self) -> None:
        """Stop what runs: the sandbox is destroyed."""
        for task in self._tasks:
            task.cancel()

    # -- httptools' callbacks

    def on_message_begin(self) -> None:
        """A request begins."""
        self._path = ""
        self._headers = {}
        self._body.clear()

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """The request is whole."""
        path = self._path.partition("?")[0]
        method = self._parser.get_method()
        task: asyncio.Task[None]
        if method == b"GET" and path == wire.INIT_PATH:
            task = asyncio.ensure_future(self._init())
        elif method == b"GET" and path == wire.IDLE_PATH:
            task = asyncio.ensure_future(self._idle())
        elif method == b"POST" and path.endswith((wire.INVOKE_SUFFIX, wire.STREAM_SUFFIX)):
            self._wants_pieces = path.endswith(wire.STREAM_SUFFIX) and self._sandbox.function is stream
            task = asyncio.ensure_future(self._invoke(self._headers, bytes(self._body)))
        else:
            message = f"no operation at {method.decode()} {path}"
            self._send(404, {wire.ERROR_TYPE: "UnknownOperationException"}, json.dumps({"message": message}).encode())
            return
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._leave()

    def _leave(self) -> None:
        """Be forgotten by the sandbox once there is neither a caller nor anything that runs."""
        if self._transport is None and not self._tasks:
            self._sandbox.doors.discard(self)

    async def _init(self) -> None:
        await self._sandbox.initialised()
        status, error_type = ("success", "") if self._sandbox.has_initialised else ("error", "Runtime.Unknown")
        answer = {"status": status, "durationMs": self._sandbox.init_ms, "errorType": error_type}
        self._send(200, {}, json.dumps(answer).encode())

    async def _idle(self) -> None:
        await self._sandbox.finished()
        self._send(200, {}, b"{}")

    async def _has_patience(self, headers: dict[str, str]) -> bool:
        """Whether the last invocation's phase ends before the caller wants to go elsewhere."""
        patience = headers.get(wire.PATIENCE.lower())
        try:
            await asyncio.wait_for(self._sandbox.finished(), float(patience) if patience else None)
        except TimeoutError:
            return False
        return True

    async def _invoke(self, headers: dict[str, str], body: bytes) -> None:
        request_id = headers.get(wire.REQUEST_ID.lower()) or str(uuid.uuid4())
        if self._sandbox.is_busy:
            answer = b'{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}'
            self._send(429, {wire.ERROR_TYPE: "TooManyRequestsException"}, answer)
            return
        if not await self._has_patience(headers):
            self._send(409, {wire.ERROR_TYPE: "ResourceConflictException"}, b"{}")
            return
        kind = headers.get(wire.INVOCATION_TYPE.lower(), "RequestResponse")
        if kind != "RequestResponse":
            self._send(202 if kind == "Event" else 204, {wire.REQUEST_ID: request_id}, b"")
        if kind == "DryRun":
            return
        with contextlib.suppress(Crashed):
            outcome = await self._run(request_id, body)
            if kind == "RequestResponse":
                answer, error, lines, report = outcome
                more = {wire.REQUEST_ID: request_id, wire.EXECUTED_VERSION: self._sandbox.version, wire.REPORT: report}
                if error:
                    more[wire.FUNCTION_ERROR] = "Unhandled"
                if headers.get(wire.LOG_TYPE.lower()) == "Tail":
                    more[wire.LOG_RESULT] = base64.b64encode(lines.encode()[-wire.MAX_LOG_TAIL :]).decode()
                if self._has_begun:
                    self._end_pieces(more, answer if error else b"")
                    return
                self._send(200, more, answer)

    async def _run(self, request_id: str, body: bytes) -> tuple[bytes, bool, str, str]:
        """Run the function; answers (body, is it an error, log lines, X-Rie-Report). Raises Crashed."""
        sandbox = self._sandbox
        sandbox.is_busy = True
        self._has_begun = False
        call = Call(body or b"{}", sandbox.spec.environment, sandbox.sandbox_id, sandbox.log)
        try:
            await sandbox.initialised()
            loop = asyncio.get_running_loop()
            began_at = loop.time()
            lines = f"START RequestId: {request_id} Version: {sandbox.version}\n"
            sandbox.log(lines)
            status, answer = "success", b""
            try:
                answer = await asyncio.wait_for(self._answer(call), sandbox.timeout_s)
            except Failed as failed:
                # A handler's own error leaves the report's status alone, as with the bootstrap.
                return self._end(request_id, lines, str(failed).encode(), True, loop.time() - began_at, status)
            except TimeoutError:
                status = "timeout"
                message = f"RequestId: {request_id} Error: Task timed out after {sandbox.timeout_s:.2f} seconds"
                answer = json.dumps({"errorType": "Sandbox.Timedout", "errorMessage": message}).encode()
            except Crashed:
                sandbox.crash()
                raise
            return self._end(request_id, lines, answer, status != "success", loop.time() - began_at, status)
        finally:
            sandbox.is_busy = False
            if sandbox.function is linger:
                sandbox.work_on(call.seconds())

    async def _answer(self, call: Call) -> bytes:
        """The function's answer, if it is not sent in pieces."""
        function = self._sandbox.function
        if not self._wants_pieces:
            return await whole(function, call)
        async for piece in pieces_of(function, call):
            if not self._has_begun:
                self._has_begun = True
                kind, version = content_type(call), self._sandbox.version
                lines = (
                    f"{wire.STREAM_TYPE}: {kind}\r\n{wire.EXECUTED_VERSION}: {version}\r\nTransfer-Encoding: chunked"
                )
                self._write(f"HTTP/1.1 200 OK\r\n{lines}\r\n\r\n".encode())
            if piece:
                self._write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await self._is_ready.wait()
        return b""

    def _end_pieces(self, trailers: dict[str, str], error: bytes) -> None:
        if error:
            trailers[wire.STREAM_ERROR] = str(json.loads(error)["errorType"])
            trailers[wire.STREAM_ERROR_BODY] = base64.b64encode(error).decode()
        lines = "".join(f"{name}: {value}\r\n" for name, value in trailers.items())
        self._write(f"0\r\n{lines}\r\n".encode())

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _end(
        self, request_id: str, lines: str, answer: bytes, is_error: bool, took_s: float, status: str
    ) -> tuple[bytes, bool, str, str]:
        """Write END and REPORT."""
        sandbox = self._sandbox
        init_ms = sandbox.take_init_ms()
        total_ms = took_s * 1000 + (init_ms or 0.0)
        billed_ms = max(1, int(total_ms) + (total_ms > int(total_ms)))
        end = (
            f"END RequestId: {request_id}\nREPORT RequestId: {request_id}\tDuration: {took_s * 1000:.2f} ms\t"
            f"Billed Duration: {billed_ms} ms\tMemory Size: {sandbox.spec.memory_mb} MB\t"
            f"Max Memory Used: {MAX_MEMORY_USED_MB} MB\t"
        )
        if init_ms is not None:
            end += f"Init Duration: {init_ms:.2f} ms\t"
        if status == "timeout":
            end += "Status: timeout"
        sandbox.log(f"{end}\n")
        init = "" if init_ms is None else f"{init_ms:.2f}"
        report = f"{took_s * 1000:.2f};{billed_ms};{MAX_MEMORY_USED_MB};{init};{status}"
        return answer, is_error, f"{lines}{end}\n", report

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        if self._transport is None:
            return
        whole = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in whole.items())
        self._transport.write(f"HTTP/1.1 {status} {REASONS[status]}\r\n{head}\r\n".encode("latin-1") + body)
