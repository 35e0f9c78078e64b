"""A web application behind an adapter that is an extension: the image's command never calls us (emulator spec §4.7)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.protocol.emulator import ROOT, Emulator, Start

FUNCTIONS = ROOT / "tests" / "functions"
REQUEST = {
    "version": "2.0",
    "rawPath": "/orders",
    "rawQueryString": "a=1",
    "headers": {"accept": "*/*"},
    "requestContext": {"http": {"method": "GET"}},
    "isBase64Encoded": False,
}


@pytest.fixture
def web(emulate: Start, tmp_path: Path) -> Callable[..., Emulator]:
    def start(**variables: str) -> Emulator:
        adapter = tmp_path / "extensions" / "web-adapter"
        adapter.parent.mkdir()
        adapter.write_text(f"#!{sys.executable}\n" + (FUNCTIONS / "adapter.py").read_text())
        adapter.chmod(0o755)
        return emulate(
            None,
            [sys.executable, str(FUNCTIONS / "webapp.py")],
            RIE_EXTENSIONS=str(adapter.parent),
            PORT=str(free_port()),
            **{"RIE_HTTP": "1", "AWS_LAMBDA_FUNCTION_TIMEOUT": "20", **variables},
        )

    return start


def test_the_application_answers_invocations(web: Start) -> None:
    emulator = web()
    answer = emulator.invoke(REQUEST).document
    assert answer["statusCode"] == 200
    assert answer["headers"]["X-Made-By"] == "webapp"
    log = emulator.wait_for("REPORT RequestId")
    assert "EXTENSION\tName: web-adapter\tState: Ready\tEvents: []\n" in log
    assert "Init Duration" in log


@pytest.mark.parametrize("streams", ["", "1"])
def test_the_application_answers_plain_requests(web: Start, streams: str) -> None:
    emulator = web(ADAPTER_STREAMS=streams)
    first = emulator.ask("GET", "/orders/7?b=2")
    assert (first.status, first.headers["x-made-by"]) == (200, "webapp")
    assert first.body.startswith(b"GET /orders/7?b=2 by ")
    posted = emulator.ask("POST", "/orders", b"abc\xff\x00")
    assert (posted.status, posted.body) == (201, b"\x00\xffcba")
    assert emulator.ask("GET", "/orders/7?b=2").body == first.body  # by the same process


def test_when_the_application_ends_its_caller_is_told_and_all_begins_anew(web: Start) -> None:
    emulator = web()
    before = emulator.ask("GET", "/").body
    crashed = emulator.invoke({**REQUEST, "rawPath": "/crash", "rawQueryString": ""}).document
    assert crashed["errorType"] == "Runtime.ExitError"
    assert crashed["errorMessage"].endswith("exit status 7")
    after = emulator.ask("GET", "/")
    assert after.status == 200 and after.body != before
    assert emulator.log.count("webapp starts") == 2


def test_an_application_that_takes_too_long_is_begun_anew_with_its_adapter(web: Start) -> None:
    emulator = web(AWS_LAMBDA_FUNCTION_TIMEOUT="3")
    before = emulator.ask("GET", "/").body
    assert emulator.ask("GET", "/slow").status == 502
    after = emulator.ask("GET", "/")
    assert after.status == 200 and after.body != before
    assert emulator.log.count("State: Ready") == 2


def test_the_end_of_the_environment_ends_both(web: Start) -> None:
    emulator = web()
    assert emulator.ask("GET", "/").status == 200
    assert emulator.stop() == 0
