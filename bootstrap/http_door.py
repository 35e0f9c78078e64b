"""HTTP mode: requests that are no Invoke run the function as those of a function URL do (service spec §9.3 to §9.5)."""

import time

from .commands import Answer, BeginStream, EndStream, Piece, TurnAway
from .events import Invocation, InvokeReceived
from .http_mode import INTEGRATION, SEPARATOR, Head, NotHttp, Origin, event_of, prelude_of, response_of
from .ids import new_id, new_trace_id
from .wire import MAX_EVENT, MAX_HEADERS, REQUEST_ID, TRACE_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .connection import Connection
    from .http1 import Request
    from .loop import Loop

TEXT = [("Content-Type", "text/plain; charset=utf-8")]
BODILESS = (204, 205, 304)


class Response:
    """One answer on its way: first its prelude, if it has one, then its body."""

    __slots__ = ("head", "is_broken", "is_headless", "is_silent", "prelude")

    def __init__(self, is_silent: bool) -> None:
        self.is_silent = is_silent  # HEAD, or a status without a body: the caller reads none
        self.head: Head | None = None
        self.is_headless = True  # the status has not been sent
        self.is_broken = False  # the caller has been told that it is none
        self.prelude = b""


class HttpDoor:
    """What the front door passes on, and the machine's answers to it."""

    def __init__(self, loop: "Loop", submit: "Callable[[InvokeReceived], None]") -> None:
        """As those of the front door."""
        self._loop = loop
        self._submit = submit
        self._take_over(Answer, self._answer)
        self._take_over(BeginStream, self._begin)
        self._take_over(Piece, self._piece)
        self._take_over(EndStream, self._end)
        self._take_over(TurnAway, self._turn_away)

    def _take_over(self, kind: type, perform: "Callable[[Any], None]") -> None:
        """What is about an HTTP request is ours; the rest is whose it was."""
        before = self._loop.performers[kind]
        self._loop.performers[kind] = lambda command: (
            before(command) if command.invocation.http is None else perform(command)
        )

    def handle(self, request: "Request", connection: "Connection") -> None:
        """Run the function for one request."""
        request_id = new_id()
        trace_id = request.headers.get("x-amzn-trace-id") or new_trace_id()
        settings = self._loop.settings
        origin = Origin(connection.peer, settings.front_door[1])
        event = b"" if request.too_large else event_of(request, origin, request_id, trace_id, time.time())
        if request.too_large or len(event) > MAX_EVENT:
            connection.respond(413, TEXT, f"the request makes an event of more than {MAX_EVENT} bytes\n".encode())
            return
        arn = settings.arn_for(settings.function_name)
        response = Response(request.method == "HEAD")
        invocation = Invocation(request_id, event, connection, arn, trace_id, wants_stream=True, http=response)
        self._submit(InvokeReceived(invocation))

    def _turn_away(self, command: TurnAway) -> None:
        if command.reason == TurnAway.FULL:
            command.invocation.caller.respond(429, TEXT, b"Rate exceeded")
        else:
            command.invocation.caller.respond(503, TEXT, b"Service Unavailable")

    def _answer(self, command: Answer) -> None:
        invocation = command.invocation
        response = invocation.http
        if command.is_error:
            self._fail(invocation)
            return
        try:
            head, body = response_of(command.body)
        except NotHttp as error:
            self._fail(invocation, error)
            return
        silent = response.is_silent or head.status in BODILESS
        invocation.caller.respond(head.status, _headers(head, invocation), b"" if silent else body)

    def _fail(self, invocation: Invocation, error: "NotHttp | None" = None) -> None:
        """The caller learns no more of it than on the service; the log does."""
        if error is not None:
            self._explain(error)
        invocation.caller.respond(502, [*TEXT, *_ids(invocation)], b"Internal Server Error")

    def _explain(self, error: NotHttp) -> None:
        self._loop.log.write(f"rie: what the function answered is no HTTP response: {error}\n".encode())

    # -- answers in pieces ----------------------------------------------------------------------------------------

    def _begin(self, command: BeginStream) -> None:
        kind = command.content_type.partition(";")[0].strip().lower()
        if kind != INTEGRATION:
            self._send_head(command.invocation, Head(200, [("Content-Type", command.content_type)]))

    def _send_head(self, invocation: Invocation, head: Head) -> None:
        response = invocation.http
        response.head = head
        response.is_headless = False
        response.is_silent = response.is_silent or head.status in BODILESS
        if not response.is_silent:
            invocation.caller.begin(head.status, _headers(head, invocation))

    def _piece(self, command: Piece) -> None:
        response = command.invocation.http
        data = command.data
        if response.is_headless:
            data = self._read_prelude(response, command)
        if response.is_silent or response.is_headless:
            return
        caller = command.invocation.caller
        if not caller.send_piece(data):
            command.source.pause()
            caller.on_drained(command.source.resume)

    def _read_prelude(self, response: Response, command: Piece) -> bytes:
        """Send the head once it is whole; what there is of the body."""
        if response.is_broken:
            return b""
        response.prelude += command.data
        prelude, separator, body = response.prelude.partition(SEPARATOR)
        if not separator and len(response.prelude) <= MAX_HEADERS:
            return b""
        try:
            if not separator:
                raise NotHttp(f"its prelude has not ended after {MAX_HEADERS} bytes")
            self._send_head(command.invocation, prelude_of(prelude))
        except NotHttp as error:
            response.is_broken = True
            self._explain(error)
        response.prelude = b""
        return body

    def _end(self, command: EndStream) -> None:
        invocation = command.invocation
        response = invocation.http
        if response.is_headless:
            ended = not (response.is_broken or command.error_type)
            self._fail(invocation, NotHttp("it ended within its prelude") if ended else None)
        elif response.is_silent and response.head is not None:
            invocation.caller.respond(response.head.status, _headers(response.head, invocation))
        elif command.error_type:
            invocation.caller.break_off()
        else:
            invocation.caller.end()


def _ids(invocation: Invocation) -> "list[tuple[str, str]]":
    return [(REQUEST_ID, invocation.request_id), (TRACE_ID, invocation.trace_id)]


def _headers(head: Head, invocation: Invocation) -> "list[tuple[str, str]]":
    return [*head.headers, *_ids(invocation)]
