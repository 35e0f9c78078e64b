"""Function URLs as their callers see them (lambda.md §9)."""

from __future__ import annotations

import base64
import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.stub_manager import Answer, StubManager, stub_managing

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubManager]:
    with stub_managing(tmp_path_factory.mktemp("data")) as running:
        for name in ("http", "stream", "fail"):
            running.create(name, name)
        yield running


@pytest.fixture(scope="module")
def client(manager: StubManager) -> Any:
    return manager.client()


def opened(client: Any, function: str, **more: Any) -> str:
    """The new URL of a function, which everybody may call unless `more` says otherwise."""
    made = client.create_function_url_config(FunctionName=function, **{"AuthType": "NONE", **more})
    client.add_permission(
        FunctionName=function,
        StatementId="public",
        Action="lambda:InvokeFunctionUrl",
        Principal="*",
        FunctionUrlAuthType="NONE",
    )
    return str(made["FunctionUrl"])


class Url:
    """A function's URL, and requests to it."""

    def __init__(self, manager: StubManager, name: str, **more: Any) -> None:
        client = manager.client()
        function = f"{name}-{len(client.list_functions()['Functions'])}"
        manager.create(function, name)
        self.manager = manager
        self.function = function
        self.url = opened(client, function, **more)
        self.host = urlsplit(self.url).netloc
        self.url_id = self.host.partition(".")[0]

    def ask(self, method: str = "GET", path: str = "/", body: Any = b"", **headers: str) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Host": self.host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.manager.ask(method, path, raw, sent)

    def answered(self, answer: Any) -> Answer:
        """The response that a function's answer becomes."""
        return self.ask("POST", body=json.dumps(answer).encode(), Content_Type="application/json")

    def invocations(self) -> int:
        found = self.manager.ask("GET", "/_rie/environments").document
        return sum(environment["invocations"] for environment in found if environment["function"] == self.function)


@pytest.fixture(scope="module")
def url(manager: StubManager) -> Url:
    return Url(manager, "http")


def test_a_request_is_an_event_of_payload_format_2_0(manager: StubManager, url: Url) -> None:
    answer = url.ask("GET", "/my/pa2%Fth/%20x?a=1&a=2&b=%20y+z&c", Cookie="c1=v1; c2=v2", X_Two="A")
    event = answer.document
    context = event["requestContext"]
    assert context["requestId"] == answer.headers["x-amzn-requestid"]
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", context["time"])
    trace = event["headers"].pop("x-amzn-trace-id")
    assert answer.headers["x-amzn-trace-id"].startswith(f"{trace};Lineage=1:")
    domain = f"{url.url_id}.lambda-url.us-east-1.localhost"
    assert event == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/my/pa2%Fth/%20x",
        "rawQueryString": "a=1&a=2&b=%20y+z&c",
        "cookies": ["c1=v1", "c2=v2"],
        "headers": {
            "host": url.host,
            "accept-encoding": "identity",
            "content-length": "0",
            "x-two": "A",
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-port": str(manager.port),
            "x-forwarded-proto": "http",
        },
        "queryStringParameters": {"a": "1,2", "b": " y z", "c": ""},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": url.url_id,
            "domainName": domain,
            "domainPrefix": url.url_id,
            "http": {
                "method": "GET",
                "path": "/my/pa2%Fth/%20x",
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "",
            },
            "requestId": context["requestId"],
            "routeKey": "$default",
            "stage": "$default",
            "time": context["time"],
            "timeEpoch": context["timeEpoch"],
        },
        "isBase64Encoded": False,
    }


def test_repeated_headers_are_joined_by_commas_and_cookie_lines_split(manager: StubManager, url: Url) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", manager.port, timeout=30)
    connection.putrequest("GET", "/", skip_host=True)
    for name, value in (("Host", url.host), ("X-A", "1"), ("x-a", "2"), ("Cookie", "a=1"), ("Cookie", "b=2; c=3")):
        connection.putheader(name, value)
    connection.endheaders()
    event = json.loads(connection.getresponse().read())
    connection.close()
    assert event["headers"]["x-a"] == "1,2"
    assert event["cookies"] == ["a=1", "b=2", "c=3"]
    assert "cookie" not in event["headers"]


@pytest.mark.parametrize("kind", ["text/plain", "application/json; charset=utf-8", "application/xml"])
def test_text_is_passed_as_it_is(manager: StubManager, kind: str) -> None:
    event = _event(manager, "grüße".encode(), kind)
    assert (event["body"], event["isBase64Encoded"]) == ("grüße", False)


@pytest.mark.parametrize("kind", ["application/octet-stream", "multipart/form-data; boundary=x", "image/png", ""])
def test_other_bodies_are_passed_in_base64(manager: StubManager, kind: str) -> None:
    event = _event(manager, b"\x00\xff", kind)
    assert (base64.b64decode(event["body"]), event["isBase64Encoded"]) == (b"\x00\xff", True)


def _event(manager: StubManager, body: bytes, kind: str) -> Any:
    client = manager.client()
    names = [function["FunctionName"] for function in client.list_functions()["Functions"]]
    if "events" not in names:
        manager.create("events", "echo")
        opened(client, "events")
    host = urlsplit(client.get_function_url_config(FunctionName="events")["FunctionUrl"]).netloc
    return manager.ask("POST", "/", body, {"Host": host, "Content-Type": kind}).document


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        ("hello", b"hello"),
        (3, b"3"),
        (3.1, b"3.1"),
        (True, b"true"),
        (["hello", 3, True], b'["hello",3,true]'),
        ({"hello": "world"}, b'{"hello":"world"}'),
        (None, b"null"),
    ],
)
def test_an_answer_without_a_status_is_the_body(url: Url, answer: Any, body: bytes) -> None:
    got = url.answered(answer)
    assert (got.status, got.headers["content-type"], got.body) == (200, "application/json", body)


def test_an_answer_with_a_status_is_a_response(url: Url) -> None:
    headers = {"X-Number": 7, "Connection": "close", "Date": "never", "Content-Type": "text/css"}
    got = url.answered({"statusCode": "418", "headers": headers, "cookies": ["a=1", "b=2"], "body": "tea"})
    assert (got.status, got.body, got.headers["content-type"]) == (418, b"tea", "text/css")
    assert got.headers["x-number"] == "7"
    assert got.headers["date"] != "never" and "connection" not in got.headers
    assert url.answered({"statusCode": 200, "body": {"a": [1]}}).body == b'{"a":[1]}'
    assert url.answered({"statusCode": 204}).body == b""


def test_a_body_in_base64_is_decoded(url: Url) -> None:
    body = base64.b64encode(b"\x00\xff").decode()
    assert url.answered({"statusCode": 200, "isBase64Encoded": True, "body": body}).body == b"\x00\xff"


@pytest.mark.parametrize(
    "answer",
    [
        {"statusCode": "ok"},
        {"statusCode": 99},
        {"statusCode": 200, "headers": {"a b": "c"}},
        {"statusCode": 200, "headers": {"a": "b\r\nSet-Cookie: c=d"}},
        {"statusCode": 200, "body": "abc", "isBase64Encoded": True},
    ],
)
def test_an_answer_that_is_no_response_is_a_bad_gateway(url: Url, answer: Any) -> None:
    got = url.answered(answer)
    assert (got.status, got.body) == (502, b"Internal Server Error")
    assert "set-cookie" not in got.headers


def test_an_error_of_the_function_is_a_bad_gateway_that_tells_nothing(manager: StubManager) -> None:
    for mode in ("BUFFERED", "RESPONSE_STREAM"):
        got = Url(manager, "fail", InvokeMode=mode).ask()
        assert (got.status, got.body) == (502, b"Internal Server Error")


def test_a_head_request_gets_the_headers_alone(url: Url) -> None:
    got = url.ask("HEAD", "/")
    assert (got.status, got.body) == (200, b"")
    assert int(got.headers["content-length"]) > 0


def test_a_request_past_6_mb_is_too_large(url: Url) -> None:
    assert url.ask("POST", body=b"x" * 6_291_457, Content_Type="text/plain").status == 413
    assert url.ask("POST", body=b"x" * 6_000_000).status == 413  # in base64 it is


def test_pages_of_other_origins_may_ask(url: Url) -> None:
    got = url.ask(Origin="https://a.example")
    assert got.status == 200
    assert "access-control-allow-origin" not in got.headers


def test_a_preflight_is_answered_without_an_invocation(manager: StubManager) -> None:
    cors = {
        "AllowOrigins": ["https://*.example"],
        "AllowMethods": ["GET", "PUT"],
        "AllowHeaders": ["x-a"],
        "ExposeHeaders": ["x-b"],
        "MaxAge": 60,
        "AllowCredentials": True,
    }
    url = Url(manager, "http", Cors=cors, AuthType="AWS_IAM")
    asked = {"Origin": "https://a.example", "Access_Control_Request_Method": "PUT"}
    got = url.ask("OPTIONS", "/", **asked)
    assert (got.status, got.body) == (200, b"")
    ours = {name: value for name, value in got.headers.items() if name.startswith("access-control-")}
    assert ours == {
        "access-control-allow-origin": "https://a.example",
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "GET, PUT",
        "access-control-allow-headers": "x-a",
        "access-control-max-age": "60",
    }
    assert got.headers["vary"] == "Origin"
    refused = url.ask("OPTIONS", "/", **{**asked, "Origin": "https://b.test"})
    assert not any(name.startswith("access-control-") for name in refused.headers)
    assert url.invocations() == 0


def test_cors_of_the_url_replaces_that_of_the_function(manager: StubManager) -> None:
    url = Url(manager, "http", Cors={"AllowOrigins": ["*"], "ExposeHeaders": ["x-b"]})
    theirs = {"statusCode": 200, "headers": {"access-control-allow-origin": "https://evil.example"}}
    got = url.ask("POST", body=theirs, Origin="https://a.example", Content_Type="application/json")
    assert got.headers["access-control-allow-origin"] == "*"
    assert got.headers["access-control-expose-headers"] == "x-b"


def test_without_cors_options_go_to_the_function(url: Url) -> None:
    event = url.ask("OPTIONS", "/", Origin="https://a.example", Access_Control_Request_Method="PUT").document
    assert event["requestContext"]["http"]["method"] == "OPTIONS"


def test_an_unknown_host_and_a_deleted_url_are_forbidden_each_in_its_words(manager: StubManager, client: Any) -> None:
    unknown = manager.ask("GET", "/", headers={"Host": "nobody.lambda-url.us-east-1.localhost:1"})
    assert (unknown.status, unknown.document) == (403, {"Message": None})
    assert unknown.headers["x-amzn-errortype"] == "AccessDeniedException"
    url = Url(manager, "http")
    client.delete_function_url_config(FunctionName=url.function)
    deleted = url.ask()
    assert (deleted.status, deleted.headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
    assert deleted.document["Message"].startswith("Forbidden. For troubleshooting Function URL authorization issues")


def test_the_id_never_changes(manager: StubManager, client: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    url = Url(manager, "http")
    assert re.fullmatch(r"[a-z0-9]{32}", url.url_id)
    client.delete_function(FunctionName=url.function)
    assert url.ask().status == 403
    manager.create(url.function, "http")
    assert opened(client, url.function) == url.url
    assert url.ask().status == 200
    data = tmp_path_factory.mktemp("again")
    urls = []
    for _ in range(2):
        with stub_managing(data, RIE_URLS="https://example.com") as again:
            if not urls:
                again.create("http", "http")
                opened(again.client(), "http")
            urls.append(again.client().get_function_url_config(FunctionName="http")["FunctionUrl"])
            assert again.ask("GET", "/", headers={"Host": urlsplit(urls[-1]).netloc.upper()}).status == 200
    assert urls[0] == urls[1]
    assert re.fullmatch(r"https://[a-z0-9]{32}\.lambda-url\.us-east-1\.example\.com/", urls[0])


def test_a_url_can_be_a_path_for_clients_that_do_not_find_its_host(manager: StubManager, url: Url) -> None:
    event = manager.ask("GET", f"/_lambda-url/{url.url_id}/orders/7?a=b").document
    assert (event["rawPath"], event["rawQueryString"]) == ("/orders/7", "a=b")
    assert event["requestContext"]["domainPrefix"] == url.url_id


def test_curl_finds_a_url_below_localhost(url: Url) -> None:
    command = ["curl", "-sS", "--max-time", "20", "-d", '"hi"', "-H", "Content-Type: application/json", url.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "hi"


def test_the_command_line_makes_a_url_that_everybody_may_call(manager: StubManager, client: Any) -> None:
    manager.create("by-hand", "http")

    def run(*more: str) -> str:
        command = [sys.executable, "-m", "rie", "url", "by-hand", "--endpoint", manager.endpoint, *more]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    url = run()
    host = {"Host": urlsplit(url).netloc}
    assert manager.ask("GET", "/", headers=host).status == 200
    assert run("--stream") == url
    assert client.get_function_url_config(FunctionName="by-hand")["InvokeMode"] == "RESPONSE_STREAM"
    assert run("--iam") == url
    assert manager.ask("GET", "/", headers=host).status == 403
    assert url.endswith("/")


def test_with_iam_a_signature_is_needed_and_the_caller_told_to_the_function(manager: StubManager) -> None:
    url = Url(manager, "http", AuthType="AWS_IAM")
    assert url.ask().status == 403
    request = AWSRequest("GET", url.url, headers={"Host": url.host})
    SigV4Auth(Credentials("AKIDEXAMPLE", "secret"), "lambda", "us-east-1").add_auth(request)
    event = manager.ask("GET", "/", headers=dict(request.headers)).document
    assert event["requestContext"]["accountId"] == "123456789012"
    assert event["requestContext"]["authorizer"]["iam"]["accessKey"] == "AKIDEXAMPLE"
    assert "authorization" not in event["headers"]


@pytest.fixture(scope="module")
def streamed(manager: StubManager) -> Url:
    return Url(manager, "stream", InvokeMode="RESPONSE_STREAM", Cors={"AllowOrigins": ["*"]})


def test_a_stream_may_begin_with_its_status_and_headers(streamed: Url) -> None:
    prelude = {"statusCode": 201, "headers": {"X-A": "b"}, "cookies": ["c=d"]}
    got = streamed.ask("POST", body={"prelude": prelude, "pieces": ["a", "b"]}, Origin="x", **_JSON)
    assert (got.status, got.body) == (201, b"ab")
    assert (got.headers["x-a"], got.headers["set-cookie"]) == ("b", "c=d")
    assert got.headers["transfer-encoding"] == "chunked"
    assert got.headers["access-control-allow-origin"] == "*"


_JSON = {"Content_Type": "application/json"}


def test_a_stream_without_them_is_bytes(streamed: Url) -> None:
    got = streamed.ask("POST", body={"pieces": ["a", "b"]}, **_JSON)
    assert (got.status, got.headers["content-type"], got.body) == (200, "application/octet-stream", b"ab")


def test_the_first_byte_arrives_before_the_function_has_ended(manager: StubManager, streamed: Url) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", manager.port, timeout=30)
    body = json.dumps({"pieces": ["a", "b"], "seconds": 0.5})
    connection.request("POST", "/", body, {"Host": streamed.host, **JSON})
    response = connection.getresponse()
    assert response.read(1) == b"a"
    found = manager.ask("GET", "/_rie/environments").document
    assert [e["state"] for e in found if e["function"] == streamed.function] == ["busy"]
    assert response.read() == b"b"
    connection.close()


def test_an_error_in_the_middle_cuts_the_connection(streamed: Url) -> None:
    with pytest.raises(http.client.IncompleteRead):
        streamed.ask("POST", body={"pieces": ["a"], "fails": True}, **_JSON)


@pytest.mark.parametrize("prelude", [[], {"statusCode": 1}, {"headers": {"a b": "c"}}])
def test_a_prelude_that_is_none_is_a_bad_gateway(streamed: Url, prelude: Any) -> None:
    got = streamed.ask("POST", body={"prelude": prelude, "pieces": ["a"]}, **_JSON)
    assert (got.status, got.body) == (502, b"Internal Server Error")


def test_a_whole_answer_is_not_interpreted_in_a_stream(manager: StubManager) -> None:
    url = Url(manager, "http", InvokeMode="RESPONSE_STREAM")
    got = url.answered({"statusCode": 418, "body": "tea"})
    assert (got.status, got.document) == (200, {"statusCode": 418, "body": "tea"})


def test_a_buffered_url_waits_for_the_whole_of_a_stream(manager: StubManager) -> None:
    url = Url(manager, "stream")
    assert url.ask("POST", body={"pieces": ['{"statusCode":', "202}"]}, **_JSON).status == 202
