"""Pages of other origins, in browsers, may call when they are let in, and not otherwise (service spec §9.6)."""

from __future__ import annotations

import pytest

from tests.protocol.emulator import Start

LOOP = [["loop"]]
INVOKE = "/2015-03-31/functions/fn/invocations"
PAGE = "http://localhost:3000"
PREFLIGHT = {
    "Origin": PAGE,
    "Access_Control_Request_Method": "POST",
    "Access_Control_Request_Headers": "x-amz-log-type,authorization",
}


@pytest.mark.parametrize("path", [INVOKE, "/orders/7"])
def test_a_preflight_is_answered_and_the_function_does_not_run(emulate: Start, path: str) -> None:
    emulator = emulate(LOOP, RIE_CORS="*", RIE_HTTP="1")
    answer = emulator.ask("OPTIONS", path, **PREFLIGHT)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "x-amz-log-type,authorization"
    assert answer.headers["access-control-max-age"] == "600"
    assert "START RequestId" not in emulator.log


def test_answers_and_refusals_can_be_read_by_the_page(emulate: Start) -> None:
    emulator = emulate(LOOP, RIE_CORS="*")
    for answer in (emulator.invoke({}, Origin=PAGE), emulator.invoke(b"no json", Origin=PAGE)):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "X-Amz-Function-Error" in answer.headers["access-control-expose-headers"]


def test_only_the_origins_that_are_named_are_let_in(emulate: Start) -> None:
    emulator = emulate(LOOP, RIE_CORS=f"https://a.example, {PAGE}/")
    answer = emulator.invoke({}, Origin=PAGE)
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["vary"] == "Origin"
    assert answer.headers["access-control-allow-credentials"] == "true"
    connection = emulator.connect()
    assert "access-control-allow-origin" in emulator.invoke({}, connection=connection, Origin=PAGE).headers
    for other in ({"Origin": "https://b.example"}, {}):
        answer = emulator.invoke({}, connection=connection, **other)
        assert not [name for name in answer.headers if name.startswith("access-control")]
    answer = emulator.ask("OPTIONS", INVOKE, **{**PREFLIGHT, "Origin": "https://b.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_ours_stand_instead_of_the_functions_and_without_the_variable_the_function_decides(emulate: Start) -> None:
    own = '{"statusCode":200,"headers":{"Access-Control-Allow-Origin":"https://mine.example"}}'
    script = [["next"], ["response", own], ["loop"]]
    emulator = emulate(script, RIE_CORS="*", RIE_HTTP="1")
    assert emulator.ask("GET", "/", Origin=PAGE).headers["access-control-allow-origin"] == "*"
    emulator = emulate(script, RIE_HTTP="1")
    answer = emulator.ask("OPTIONS", "/", **PREFLIGHT)
    assert answer.headers["access-control-allow-origin"] == "https://mine.example"


def test_a_streamed_answer_can_be_read_too(emulate: Start) -> None:
    emulator = emulate(LOOP, RIE_CORS="*")
    path = "/2021-11-15/functions/fn/response-streaming-invocations"
    assert emulator.ask("POST", path, b"{}", Origin=PAGE).headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("text", ["localhost:3000", "http://a/b"])
def test_what_is_no_origin_is_refused_at_start(emulate: Start, text: str) -> None:
    emulator = emulate(LOOP, RIE_CORS=text)
    assert emulator.process.wait(5) == 2
    assert "cannot read RIE_CORS" in emulator.log
