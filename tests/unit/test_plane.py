"""The data plane's front: who is let in, and who holds what up; over a manager with the stub engine in one process."""

from __future__ import annotations

import contextlib
import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_api_world import encoded, zipped

from tests.stub_manager import ROLE, StubManager, stub_managing

FUNCTIONS = "/2015-03-31/functions"


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubManager]:
    with stub_managing(tmp_path_factory.mktemp("data")) as running:
        running.create("echo")
        yield running


@pytest.fixture(scope="module")
def port(manager: StubManager) -> int:
    return manager.port


def ask(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], Any]:
    answer = StubManager(Path(), port).ask(method, path, body, headers)
    return answer.status, answer.headers, json.loads(answer.body) if answer.body else None


def test_requests_of_web_pages_are_refused(port: int) -> None:
    for method, path in (("POST", f"{FUNCTIONS}/echo/invocations"), ("POST", FUNCTIONS), ("GET", "/_rie/health")):
        status, headers, _ = ask(port, method, path, b"{}", Origin="https://evil.example")
        assert (status, headers["x-amzn-errortype"]) == (403, "AccessDeniedException")


def test_slow_senders_hold_no_thread_of_the_control_plane(port: int) -> None:
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    for sock in slow:
        sock.sendall(b"POST /2015-03-31/functions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
    started = time.monotonic()
    assert ask(port, "GET", FUNCTIONS)[0] == 200
    assert time.monotonic() - started < 3
    for sock in slow:
        sock.close()


def test_a_body_past_every_limit_is_refused_as_the_service_does(port: int) -> None:
    status, headers, body = ask(port, "POST", FUNCTIONS, b"x" * 70_167_212)
    assert (status, headers["x-amzn-errortype"]) == (413, "RequestEntityTooLargeException")
    assert body == {"message": "Request must be smaller than 70167211 bytes for the CreateFunction operation"}


def test_a_zip_function_is_deployed_invoked_and_its_code_downloaded(port: int) -> None:
    code = {"ZipFile": encoded(zipped())}
    new = {"FunctionName": "zip", "Role": ROLE, "Code": code, "Runtime": "python3.11", "Handler": "app.handler"}
    assert ask(port, "POST", FUNCTIONS, json.dumps(new).encode())[0] == 201
    until = time.monotonic() + 30
    while (found := ask(port, "GET", f"{FUNCTIONS}/zip")[2])["Configuration"]["State"] == "Pending":
        assert time.monotonic() < until
        time.sleep(0.05)
    assert found["Configuration"]["State"] == "Active"
    assert ask(port, "POST", f"{FUNCTIONS}/zip/invocations", b'{"a":1}')[2] == {"a": 1}
    location = found["Code"]["Location"]
    assert location.startswith(f"http://127.0.0.1:{port}/_rie/code/")
    with urllib.request.urlopen(location, timeout=10) as response:
        assert response.read() == zipped()


@pytest.mark.parametrize("since", ["²", "-1", "x", "9" * 400, ""])
def test_a_log_position_that_makes_no_sense_is_the_beginning(port: int, since: str) -> None:
    from urllib.parse import quote

    assert ask(port, "GET", f"/_rie/logs?group=nobody&sinceMs={quote(since)}")[0] == 200


def test_an_invocation_and_its_answer(port: int) -> None:
    status, headers, body = ask(port, "POST", f"{FUNCTIONS}/echo/invocations", b'{"a":1}')
    assert (status, body) == (200, {"a": 1})
    assert headers["content-type"] == "application/json"
    assert headers["x-amz-executed-version"] == "$LATEST"
    assert len(headers["x-amzn-requestid"]) == 36
    assert headers["x-amzn-trace-id"].startswith("Root=1-")
    arn = "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Aecho"
    assert ask(port, "POST", f"{FUNCTIONS}/{arn}/invocations?Qualifier=%24LATEST", b"1")[2] == 1


@pytest.mark.parametrize(
    ("header", "value"),
    [("X-Amz-Invocation-Type", "Whenever"), ("X-Amz-Log-Type", "All")],
)
def test_a_header_outside_its_enumeration_is_a_validation_error(port: int, header: str, value: str) -> None:
    status, headers, body = ask(port, "POST", f"{FUNCTIONS}/echo/invocations", b"{}", **{header: value})
    assert (status, headers["x-amzn-errortype"]) == (400, "ValidationException")
    assert set(body) == {"message"}


def test_what_a_function_prints_cannot_take_a_terminal_over() -> None:
    from rie.cli.terminal import printable

    assert printable("\x1b[2J\x9b1mred\x07\ttab\nline é") == "\\x1b[2J\\x9b1mred\\x07\ttab\nline é"


def raw(port: int, *parts: bytes) -> bytes:
    """All that comes back for bytes that are sent in parts, until the other side hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        for part in parts:
            sock.sendall(part)
        with contextlib.suppress(OSError):  # the other side was quicker
            sock.shutdown(socket.SHUT_WR)
        received = b""
        while data := sock.recv(65_536):
            received += data
        return received


INVOKE = b"POST /2015-03-31/functions/echo/invocations HTTP/1.1\r\nHost: x\r\n"


def test_requests_in_one_go_are_answered_in_order(port: int) -> None:
    received = raw(port, b"".join(INVOKE + b"Content-Length: 1\r\n\r\n%d" % number for number in range(9)))
    bodies = [part.partition(b"\r\n\r\n")[2] for part in received.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert bodies == [b"%d" % number for number in range(9)]


def test_a_body_may_come_in_chunks_and_byte_by_byte(port: int) -> None:
    request = INVOKE + b"Transfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n"
    assert raw(port, *(request[at : at + 1] for at in range(len(request)))).endswith(b"\r\n\r\n[1,2]")


def test_a_caller_that_waits_for_leave_to_send_gets_it(port: int) -> None:
    received = raw(port, INVOKE + b"Content-Length: 1\r\nExpect: 100-continue\r\n\r\n", b"1")
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


CHUNKED = b'Transfer-Encoding: chunked\r\n\r\n3\r\n"he\r\n4\r\nllo"\r\n0\r\n\r\n'


@pytest.mark.parametrize(
    ("framing", "answer"),
    [(b'Content-Length: 7\r\n\r\n"hello"', b'"hello"'), (b"\r\n", b"{}"), (CHUNKED, b'"hello"')],
)
def test_an_offer_of_another_protocol_is_declined_and_the_request_answered(
    port: int, framing: bytes, answer: bytes
) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    received = raw(port, INVOKE + offer + framing, INVOKE + b"Content-Length: 1\r\n\r\n7")
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert received.partition(b"\r\n\r\n")[2].startswith(answer)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (INVOKE + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (INVOKE + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (INVOKE + b"X: " + b"y" * 200_000, b"431"),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", b"501"),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_closed(port: int, sent: bytes, status: bytes) -> None:
    received = raw(port, sent)
    assert received.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close\r\n" in received


def test_http_1_0_is_answered_and_its_connection_closed(port: int) -> None:
    received = raw(port, INVOKE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Content-Length: 1\r\n\r\n1")
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close\r\n" in received and received.endswith(b"\r\n\r\n1")


def test_a_request_to_a_proxy_is_answered_as_to_a_server(port: int) -> None:
    request = b"POST http://lambda/2015-03-31/functions/echo/invocations?Qualifier=$LATEST HTTP/1.1\r\nHost: lambda\r\n"
    assert raw(port, request + b"Content-Length: 1\r\n\r\n1").endswith(b"\r\n\r\n1")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"\x99", "Invalid UTF-8 start byte 0x99"),
        (b"hello", "Unexpected character ('h' (code 104)): expected a valid value (JSON String, Number, Array, "),
        (b'{"a":\x01}', "Unexpected character ((CTRL-CHAR, code 1)): expected a valid value"),
        (b"[1,", "Unexpected end-of-input"),
    ],
)
def test_an_event_that_is_no_json_is_refused_in_the_words_of_the_service(port: int, body: bytes, text: str) -> None:
    status, headers, document = ask(port, "POST", f"{FUNCTIONS}/echo/invocations", body)
    assert (status, headers["x-amzn-errortype"]) == (400, "InvalidRequestContentException")
    start = "Could not parse request body into json: Could not parse payload into json: "
    assert document["message"].startswith(start + text)
    assert "\n at [Source: REDACTED (" in document["message"]


@pytest.mark.parametrize("body", [rb'"cut \ud83d"', rb'{"\udc00":1}', b"1e400", b"-0.0", b'{"a":1,"a":2}'])
def test_an_event_that_only_our_parser_would_refuse_passes(port: int, body: bytes) -> None:
    answer = StubManager(Path(), port).ask("POST", f"{FUNCTIONS}/echo/invocations", body)
    assert (answer.status, answer.body) == (200, body)


@pytest.mark.parametrize("body", [b"NaN", b"-Infinity", b'"\n"', b"[" * 5000 + b"]" * 5000, b'"\xed\xa0\xbd"'])
def test_an_event_that_python_would_take_and_the_service_does_not_is_refused(port: int, body: bytes) -> None:
    status, headers, _ = ask(port, "POST", f"{FUNCTIONS}/echo/invocations", body)
    assert (status, headers["x-amzn-errortype"]) == (400, "InvalidRequestContentException")


@pytest.mark.parametrize("text", [b"%%%", b"hello", b"[1]", b"1", b"\xff", b"[" * 2600])
def test_a_client_context_is_a_json_object_in_base64(port: int, text: bytes) -> None:
    given = text.decode() if text == b"%%%" else encoded(text)
    path = f"{FUNCTIONS}/echo/invocations"
    status, headers, document = ask(port, "POST", path, b"{}", **{"X-Amz-Client-Context": given})
    assert (status, headers["x-amzn-errortype"]) == (400, "InvalidRequestContentException")
    assert document["message"] == "Client context must be a valid Base64-encoded JSON object."
    assert ask(port, "POST", path, b"{}", **{"X-Amz-Client-Context": encoded(b'{"custom":{}}')})[0] == 200


@pytest.mark.parametrize(("kind", "status"), [("Event", 202), ("DryRun", 204)])
def test_an_answer_without_a_body_has_the_headers_of_the_wire_and_no_version(port: int, kind: str, status: int) -> None:
    root = "Root=1-67891233-abcdef012345678912345678"
    told = {"X-Amz-Invocation-Type": kind, "X-Amz-Log-Type": "Tail", "X-Amzn-Trace-Id": root}
    got, headers, body = ask(port, "POST", f"{FUNCTIONS}/echo/invocations", b"{}", **told)
    assert (got, body) == (status, None)
    assert (headers["x-amzn-remapped-content-length"], headers["x-amzn-trace-id"]) == ("0", root)
    assert {"x-amz-executed-version", "x-amz-log-result", "content-type"}.isdisjoint(headers)


def test_a_client_of_http_1_0_is_told_that_its_connection_stays(port: int) -> None:
    request = b"GET /2015-03-31/functions/nobody HTTP/1.0\r\nConnection: %s\r\n\r\n"
    stays = raw(port, (request % b"keep-alive") + (request % b"close"))
    assert stays.count(b"HTTP/1.1 404") == 2
    assert [line for line in stays.split(b"\r\n") if line.startswith(b"Connection")] == [
        b"Connection: keep-alive",
        b"Connection: close",
    ]


def test_an_event_may_have_6_mb_and_not_a_byte_more(port: int) -> None:
    path = f"{FUNCTIONS}/echo/invocations"
    assert ask(port, "POST", path, b'"' + b"x" * (6_291_456 - 2) + b'"')[0] == 200
    status, headers, document = ask(port, "POST", path, b'"' + b"x" * (6_291_456 - 1) + b'"')
    assert (status, headers["x-amzn-errortype"]) == (413, "RequestEntityTooLargeException")
    assert document == {"message": "Request must be smaller than 6291456 bytes for the InvokeFunction operation"}


def test_the_refusal_of_a_stream_names_its_operation(port: int) -> None:
    path = "/2021-11-15/functions/echo/response-streaming-invocations"
    status, _, document = ask(port, "POST", path, b'"' + b"x" * 6_291_456 + b'"')
    assert status == 413
    assert document["message"] == (
        "Request must be smaller than 6291456 bytes for the InvokeWithResponseStream operation"
    )


def test_thousands_of_events_on_one_connection_at_once_are_answered_one_by_one(port: int) -> None:
    head = f"POST {FUNCTIONS}/echo/invocations HTTP/1.1\r\nHost: x\r\nX-Amz-Invocation-Type: Event\r\n"
    good, bad = (f"{head}Content-Length: 2\r\n\r\n{body}".encode() for body in ("{}", "{{"))
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(good + bad * 3_000 + good)
        got = b""
        while got.count(b"HTTP/1.1 ") < 3_002 or not got.endswith(b"\r\n\r\n"):
            more = sock.recv(65_536)
            assert more, got[-1_000:]
            got += more
    statuses = [line.split(b" ")[1] for line in got.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    statuses += [line.rpartition(b"HTTP/1.1 ")[2][:3] for line in got.split(b"\r\n") if b"}HTTP/1.1 " in line]
    assert len(statuses) == 3_002
    assert statuses.count(b"202") == 2
    assert statuses.count(b"400") == 3_000


def test_an_unknown_function_beats_a_bad_body(port: int) -> None:
    status, _, document = ask(port, "POST", f"{FUNCTIONS}/nobody/invocations", b"hello")
    assert status == 404
    assert document["Message"].endswith(":function:nobody:$LATEST")


def test_a_trace_header_is_passed_on_if_it_is_one(port: int) -> None:
    root = "Root=1-67891233-abcdef012345678912345678"
    path = f"{FUNCTIONS}/echo/invocations"
    passed_on = ask(port, "POST", path, b"{}", **{"X-Amzn-Trace-Id": root})[1]["x-amzn-trace-id"]
    assert passed_on.startswith(f"{root};Lineage=1:")
    assert ask(port, "POST", path, b"{}", **{"X-Amzn-Trace-Id": "x"})[1]["x-amzn-trace-id"].startswith("Root=1-")


def test_the_older_asynchronous_invocation_accepts_an_event(manager: StubManager, port: int) -> None:
    accepted = manager.client().invoke_async(FunctionName="echo", InvokeArgs=b'{"a":1}')
    assert accepted["Status"] == 202
    status, headers, _ = ask(port, "POST", "/2014-11-13/functions/echo/invoke-async/", b'"' + b"x" * 262_144 + b'"')
    assert (status, headers["x-amzn-errortype"]) == (413, "RequestEntityTooLargeException")
