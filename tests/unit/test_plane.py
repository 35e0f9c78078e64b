"""The data plane's front: who is let in, and who holds what up; over a manager with the stub engine in one process."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_api_world import encoded, zipped

FUNCTIONS = "/2015-03-31/functions"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        number = int(sock.getsockname()[1])
    data = tmp_path_factory.mktemp("data")
    command = [sys.executable, "-m", "rie", "serve", "--engine", "stub", "--port", str(number), "--data", str(data)]
    with (data / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "RIE_BUNDLE": _no_bundle(data)})
    try:
        until = time.monotonic() + 30
        while not _answers(number):
            assert process.poll() is None, (data / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        status, _, _ = ask(number, "POST", FUNCTIONS, json.dumps(NEW).encode())
        assert status == 201
        yield number
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


NEW = {
    "FunctionName": "echo",
    "Role": "arn:aws:iam::123456789012:role/r",
    "PackageType": "Image",
    "Code": {"ImageUri": "stub/echo:1"},
}


def _no_bundle(data: Path) -> str:
    """The stub engine needs none."""
    (data / "bundle").mkdir(exist_ok=True)
    return str(data / "bundle")


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        return ask(port, "GET", "/_rie/health")[0] == 200
    return False


def ask(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    raw = response.read()
    connection.close()
    return response.status, {k.lower(): v for k, v in response.getheaders()}, json.loads(raw) if raw else None


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
    new = {"FunctionName": "zip", "Role": NEW["Role"], "Code": code, "Runtime": "python3.11", "Handler": "app.handler"}
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
