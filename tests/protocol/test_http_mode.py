"""Plain HTTP requests run the function as those of a function URL do (service spec §9.3 to §9.5)."""

from __future__ import annotations

import http.client
import json
import re
import time
from typing import Any

import pytest

from tests.protocol.emulator import Emulator, Start

INTEGRATION = "application/vnd.awslambda.http-integration-response"
LOOP = [["loop"]]


def http_mode(emulate: Start, script: list[Any], **variables: str) -> Emulator:
    return emulate(script, RIE_HTTP="1", **variables)


def event_of(emulator: Emulator, method: str, path: str, body: bytes = b"", **headers: str) -> dict[str, Any]:
    """The event that the function got, from one that answers it."""
    answer = emulator.ask(method, path, body, **headers)
    assert answer.status == 200, answer
    return answer.document


def test_a_request_is_the_event_of_a_function_url(emulate: Start) -> None:
    emulator = http_mode(emulate, LOOP, AWS_LAMBDA_FUNCTION_NAME="shop")
    sent = {"User_Agent": "me", "Cookie": "c1=v1; c2=v2", "X_Two": "A"}
    event = event_of(emulator, "GET", "/orders%2F7?a=1&a=2&b=x%20y+z", **sent)
    context = event["requestContext"]
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", context.pop("time"))
    assert abs(context.pop("timeEpoch") - time.time() * 1000) < 5000
    assert len(context.pop("requestId")) == 36
    assert event["headers"].pop("x-amzn-trace-id").startswith("Root=1-")
    assert event == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/orders%2F7",
        "rawQueryString": "a=1&a=2&b=x%20y+z",
        "cookies": ["c1=v1", "c2=v2"],
        "headers": {
            "host": f"127.0.0.1:{emulator.port}",
            "accept-encoding": "identity",
            "content-length": "0",
            "user-agent": "me",
            "x-two": "A",
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-port": str(emulator.port),
            "x-forwarded-proto": "http",
        },
        "queryStringParameters": {"a": "1,2", "b": "x y z"},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "127",
            "domainName": "127.0.0.1",
            "domainPrefix": "127",
            "http": {
                "method": "GET",
                "path": "/orders%2F7",
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "me",
            },
            "routeKey": "$default",
            "stage": "$default",
        },
        "isBase64Encoded": False,
    }


def test_repeated_headers_are_joined_with_commas(emulate: Start) -> None:
    emulator = http_mode(emulate, LOOP)
    connection = emulator.connect()
    connection.putrequest("GET", "/")
    for value in ("1", "2"):
        connection.putheader("X-Many", value)
        connection.putheader("Cookie", f"c={value}")
    connection.endheaders()
    event = json.loads(connection.getresponse().read())
    assert event["headers"]["x-many"] == "1,2"
    assert event["cookies"] == ["c=1", "c=2"]


@pytest.mark.parametrize(
    ("content_type", "body", "expected", "is_base64"),
    [
        ("application/json", b'{"a": 1}', '{"a": 1}', False),
        ("text/plain; charset=utf-8", "\u00e9".encode(), "\u00e9", False),
        ("application/problem+json", b"{}", "{}", False),
        ("text/plain", b"\xff", "/w==", True),
        ("application/x-www-form-urlencoded", b"a=1", "YT0x", True),
        ("image/png", b"\x89PNG", "iVBORw==", True),
    ],
)
def test_text_comes_as_it_is_and_the_rest_in_base64(
    emulate: Start, content_type: str, body: bytes, expected: str, is_base64: bool
) -> None:
    event = event_of(http_mode(emulate, LOOP), "POST", "/", body, Content_Type=content_type)
    assert (event["body"], event["isBase64Encoded"]) == (expected, is_base64)


def answered(emulate: Start, document: Any, method: str = "GET") -> Any:
    text = document if isinstance(document, str) else json.dumps(document)
    return http_mode(emulate, [["next"], ["response", text], ["loop"]]).ask(method, "/x")


@pytest.mark.parametrize(
    ("document", "body"),
    [
        ('"hello"', b"hello"),
        ("3.1", b"3.1"),
        ("true", b"true"),
        ('["hello", 3, true]', b'["hello",3,true]'),
        ('{"hello": "world"}', b'{"hello":"world"}'),
        ("null", b"null"),
    ],
)
def test_an_answer_without_a_status_is_200_and_json(emulate: Start, document: str, body: bytes) -> None:
    answer = answered(emulate, document)
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["content-type"] == "application/json"


def test_an_answer_with_a_status_is_the_response(emulate: Start) -> None:
    emulator = http_mode(
        emulate,
        [
            ["next"],
            [
                "response",
                json.dumps(
                    {
                        "statusCode": "418",
                        "headers": {"X-Number": 7, "Connection": "close", "content-type": "text/html"},
                        "cookies": ["a=1; Path=/", "b=2"],
                        "body": "PGI+",
                        "isBase64Encoded": True,
                    }
                ),
            ],
            ["loop"],
        ],
    )
    connection = emulator.connect()
    connection.request("GET", "/")
    response = connection.getresponse()
    assert (response.status, response.read()) == (418, b"<b>")
    assert response.headers.get_all("Set-Cookie") == ["a=1; Path=/", "b=2"]
    assert response.headers["X-Number"] == "7"
    assert response.headers["Content-Type"] == "text/html"
    assert len(response.headers["X-Amzn-RequestId"]) == 36
    connection.request("GET", "/again")
    assert json.loads(connection.getresponse().read())["rawPath"] == "/again"


@pytest.mark.parametrize(
    "document",
    [
        "<html>",
        {"statusCode": "abc"},
        {"statusCode": 99},
        {"statusCode": True},
        {"statusCode": 200, "headers": []},
        {"statusCode": 200, "headers": {"a b": "1"}},
        {"statusCode": 200, "headers": {"a": "1\r\nb: 2"}},
        {"statusCode": 200, "cookies": ["a=1\r\nb: 2"]},
        {"statusCode": 200, "body": "\u00e9!", "isBase64Encoded": True},
        '{"statusCode": 200, "body": ' + "[" * 100_000,
    ],
)
def test_an_answer_that_is_no_response_is_502_and_the_log_says_why(emulate: Start, document: Any) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    emulator = http_mode(emulate, [["next"], ["response", text], ["loop"]])
    answer = emulator.ask("GET", "/")
    assert (answer.status, answer.body) == (502, b"Internal Server Error")
    emulator.wait_for("rie: what the function answered is no HTTP response: ")
    assert emulator.ask("GET", "/").status == 200


def test_an_error_of_the_function_is_502(emulate: Start) -> None:
    emulator = http_mode(emulate, [["next"], ["error", '{"errorType":"E"}'], ["exit", 1]])
    assert emulator.ask("GET", "/").status == 502


def test_head_and_204_have_no_body_and_keep_the_connection(emulate: Start) -> None:
    prelude = json.dumps({"statusCode": 204}) + "\0" * 8
    script = [["next"], ["chunked", [prelude, "unread"], {}, INTEGRATION], ["loop"]]
    emulator = http_mode(emulate, script)
    connection = emulator.connect()
    for method, status in (("GET", 204), ("HEAD", 200), ("GET", 200)):
        connection.request(method, "/")
        response = connection.getresponse()
        assert response.status == status
        assert bool(response.read()) == (method == "GET" and status == 200)


def test_invokes_are_still_invokes(emulate: Start) -> None:
    emulator = http_mode(emulate, LOOP)
    assert emulator.invoke({"a": 1}).document == {"a": 1}
    assert emulator.ask("GET", "/2015-03-31/functions/fn/invocations").status == 405


def test_a_request_past_the_limit_is_413(emulate: Start) -> None:
    emulator = http_mode(emulate, LOOP)
    assert emulator.ask("POST", "/", b"x" * 6_291_457).status == 413
    assert emulator.ask("POST", "/", b"x" * 5_000_000).status == 413, "in base64 it is larger"
    assert emulator.ask("POST", "/", b"x").status == 200


def test_a_streamed_answer_begins_with_its_prelude_and_comes_as_it_is_made(emulate: Start) -> None:
    prelude = json.dumps({"statusCode": 201, "headers": {"X-A": "b"}, "cookies": ["c=d"]})
    parts = [prelude[:9], prelude[9:] + "\0\0\0", "\0\0\0\0\0first", "second"]
    emulator = http_mode(emulate, [["next"], ["slowly", parts, 0.2, INTEGRATION], ["loop"]])
    connection = emulator.connect()
    connection.request("GET", "/")
    response = connection.getresponse()
    assert (response.status, response.headers["X-A"], response.headers["Set-Cookie"]) == (201, "b", "c=d")
    assert response.headers["Content-Type"] == "application/octet-stream"
    at = time.monotonic()
    assert response.read1(100) == b"first"
    assert response.read() == b"second"
    assert time.monotonic() - at > 0.1
    connection.request("GET", "/next")
    assert json.loads(connection.getresponse().read())["rawPath"] == "/next"


def test_a_stream_without_a_prelude_is_its_body(emulate: Start) -> None:
    answer = http_mode(emulate, [["next"], ["chunked", ["a", "b"], {}, "text/html"], ["loop"]]).ask("GET", "/")
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "text/html", b"ab")


@pytest.mark.parametrize("parts", [["no json" + "\0" * 8 + "x", "y"], ["[]" + "\0" * 8], ['{"statusCode":200}']])
def test_a_prelude_that_is_none_is_502(emulate: Start, parts: list[str]) -> None:
    emulator = http_mode(emulate, [["next"], ["chunked", parts, {}, INTEGRATION], ["loop"]])
    assert emulator.ask("GET", "/").status == 502
    emulator.wait_for("no HTTP response")
    assert emulator.ask("GET", "/").status == 200


def test_an_error_on_the_way_cuts_the_answer(emulate: Start) -> None:
    trailers = {"Lambda-Runtime-Function-Error-Type": "Runtime.Midway"}
    emulator = http_mode(emulate, [["next"], ["chunked", ["{}" + "\0" * 8 + "part"], trailers, INTEGRATION], ["loop"]])
    connection = emulator.connect()
    connection.request("GET", "/")
    response = connection.getresponse()
    assert response.status == 200
    with pytest.raises(http.client.IncompleteRead):
        response.read()
    assert emulator.ask("GET", "/").status == 200


def test_without_the_variable_other_paths_are_nobodys(emulate: Start) -> None:
    assert emulate(LOOP).ask("GET", "/orders/7").status == 404
