"""API Gateway's proxy integrations: APIs defined through boto3 at an endpoint, or in a file, called over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import ACCOUNT, REGION, Cloud, clouding
from tests.stub_manager import StubManager, stub_managing

ROUTES = """
[[api]]
id = "shop"
routes = { "GET /pets/{id}" = "web", "ANY /{proxy+}" = "web", "POST /broken" = "broken", "GET /full" = "full" }
[[api]]
id = "first"
payload = "1.0"
routes = { "ANY /{proxy+}" = "web" }
[[api]]
id = "old"
kind = "rest"
stage = "prod"
routes = { "ANY /{proxy+}" = "web", "GET /null" = "nothing", "GET /full" = "full" }
[[api]]
id = "shop1"
payload = "1.0"
routes = { "$default" = "web" }
[[api]]
id = "pictures"
kind = "rest"
binary = ["image~1*"]
routes = { "ANY /{proxy+}" = "web" }
[[api]]
id = "files"
kind = "rest"
binary = ["*/*"]
routes = { "ANY /{proxy+}" = "web" }
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with clouding(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def manager(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubManager]:
    directory = tmp_path_factory.mktemp("manager")
    routes = directory / "routes.toml"
    routes.write_text(ROUTES)
    with stub_managing(directory, "--routes", str(routes), **cloud.environment) as running:
        running.create("web", "proxy")
        running.create("broken", "fail")
        running.create("nothing", "record")
        running.create("full", "proxy")
        running.client().put_function_concurrency(FunctionName="full", ReservedConcurrentExecutions=0)
        running.create("slow", "stream")
        yield running


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(manager: StubManager, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    """Header names with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{manager.endpoint}{path}", body, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Answer(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, dict(error.headers), error.read())


def test_a_route_of_an_http_api_gives_the_function_payload_2(manager: StubManager) -> None:
    answer = ask(manager, "/pets/7?a=1&a=2&b=%20", Host=f"shop.execute-api.{REGION}.localhost", cookie="x=1; y=2")
    assert (answer.status, answer.headers["X-Stub"]) == (200, "proxy")
    event = answer.json
    assert (event["version"], event["routeKey"]) == ("2.0", "GET /pets/{id}")
    assert (event["rawPath"], event["rawQueryString"]) == ("/pets/7", "a=1&a=2&b=%20")
    assert event["queryStringParameters"] == {"a": "1,2", "b": " "}
    assert event["pathParameters"] == {"id": "7"}
    assert event["cookies"] == ["x=1", "y=2"]
    context = event["requestContext"]
    assert (context["accountId"], context["apiId"], context["stage"]) == (ACCOUNT, "shop", "$default")
    assert (context["routeKey"], context["http"]["method"]) == ("GET /pets/{id}", "GET")
    assert event["isBase64Encoded"] is False


def test_a_route_of_a_rest_api_gives_the_function_payload_1(manager: StubManager) -> None:
    answer = ask(manager, "/_execute-api/old/prod/hello/world?a=1&a=2", x_one="1", User_Agent="tests")
    event = answer.json
    assert "version" not in event
    assert (event["resource"], event["path"], event["httpMethod"]) == ("/{proxy+}", "/hello/world", "GET")
    assert event["pathParameters"] == {"proxy": "hello/world"}
    assert event["queryStringParameters"] == {"a": "2"}
    assert event["multiValueQueryStringParameters"] == {"a": ["1", "2"]}
    assert event["headers"]["X-One"] == "1"
    assert event["multiValueHeaders"]["User-Agent"] == ["tests"]
    assert (event["body"], event["isBase64Encoded"], event["stageVariables"]) == (None, False, None)
    context = event["requestContext"]
    assert (context["path"], context["resourcePath"], context["stage"]) == ("/prod/hello/world", "/{proxy+}", "prod")
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", context["requestTime"])
    assert context["identity"]["sourceIp"] == "127.0.0.1"
    assert context["identity"]["userAgent"] == "tests"
    assert context["identity"]["accessKey"] is None


@pytest.mark.parametrize(("path", "version"), [("/_execute-api/old/prod/x", None), ("/_execute-api/first/x", "1.0")])
def test_headers_of_payload_1_keep_their_spelling_and_all_their_values(
    manager: StubManager, path: str, version: str | None
) -> None:
    """Single ones have the last of several values (lambda.md §10.4)."""
    connection = http.client.HTTPConnection("127.0.0.1", manager.port, timeout=30)
    with contextlib.closing(connection):
        connection.putrequest("GET", path)
        for header in ("x-Some: 1", "X-SOME: 2, 3", "Connection: close", "x-forwarded-FOR: 1.2.3.4"):
            connection.putheader(*header.split(": "))
        connection.endheaders()
        event = json.loads(connection.getresponse().read())
    assert event.get("version") == version
    assert event["multiValueHeaders"]["x-Some"] == ["1", "2, 3"]
    assert event["headers"]["x-Some"] == "2, 3"
    assert event["multiValueHeaders"]["X-Forwarded-For"] == ["1.2.3.4, 127.0.0.1"]
    names = [name.lower() for name in event["headers"]]
    assert sorted(names) == sorted({*names} - {"connection"})
    assert {"Host", "X-Amzn-Trace-Id", "X-Forwarded-Port", "X-Forwarded-Proto"} <= set(event["headers"])


def test_what_the_function_answers_is_the_response(manager: StubManager) -> None:
    said = {"statusCode": 418, "headers": {"X-A": "1"}, "multiValueHeaders": {"X-B": ["2"]}, "body": "short"}
    for path in ("/_execute-api/old/prod/x", "/_execute-api/shop/x"):
        answer = ask(manager, path, "POST", json.dumps(said).encode(), content_type="application/json")
        assert (answer.status, answer.body, answer.headers["X-A"]) == (418, b"short", "1")
        assert answer.headers["Content-Type"] == "application/json"
    inferred = ask(manager, "/_execute-api/shop/x", "POST", b'{"hello": "world"}', content_type="text/plain")
    assert (inferred.status, inferred.body) == (200, b'{"hello":"world"}')


BINARY = b"\x00\xff\xfe"
TYPES = ("image/png; q=1", "application/json", "", "text/plain", "application/x-www-form-urlencoded")


def bodies(manager: StubManager, path: str) -> list[tuple[str, bool]]:
    """What a function gets of a body in each of the types."""
    asked = [ask(manager, f"{path}?event", "POST", b"a=1", content_type=each).json for each in TYPES]
    return [(event["body"], event["isBase64Encoded"]) for event in asked]


def test_a_rest_api_encodes_what_its_binary_media_types_say_and_nothing_else(manager: StubManager) -> None:
    plain, encoded = ("a=1", False), ("YT0x", True)
    assert bodies(manager, "/_execute-api/old/prod/x") == [plain] * 5
    assert bodies(manager, "/_execute-api/pictures/prod/x") == [encoded, plain, plain, plain, plain]
    assert bodies(manager, "/_execute-api/files/prod/x") == [encoded] * 5
    damaged = ask(manager, "/_execute-api/old/prod/x?event", "POST", BINARY, content_type="image/png").json
    assert (damaged["body"], damaged["isBase64Encoded"]) == ("\x00\ufffd\ufffd", False)


def test_an_http_api_encodes_by_content_type_in_both_formats(manager: StubManager) -> None:
    plain, encoded = ("a=1", False), ("YT0x", True)
    for path in ("/_execute-api/shop/x", "/_execute-api/shop1/x"):
        assert bodies(manager, path) == [encoded, plain, encoded, plain, encoded]
        damaged = ask(manager, f"{path}?event", "POST", BINARY, content_type="text/plain").json
        assert damaged["isBase64Encoded"] is True


@pytest.mark.parametrize(
    ("api", "accept", "is_decoded"),
    [
        ("old/prod", "image/png", False),
        ("old/prod", "*/*", False),
        ("pictures/prod", "image/png", True),
        ("pictures/prod", "image/png;q=0.8, text/html", True),
        ("pictures/prod", "text/html, image/png", False),
        ("pictures/prod", None, False),
        ("files/prod", None, True),
        ("files/prod", "text/html", True),
        ("shop", "text/html", True),
        ("shop1", None, True),
    ],
)
def test_who_accepts_binary_media_gets_the_bytes(
    manager: StubManager, api: str, accept: str | None, is_decoded: bool
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", manager.port, timeout=30)
    headers = {"Content-Type": "text/plain"} | ({"Accept": accept} if accept else {})
    with contextlib.closing(connection):
        binary = {"statusCode": 200, "isBase64Encoded": True, "body": "AP/+"}
        connection.request("POST", f"/_execute-api/{api}/x", json.dumps(binary), headers)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, BINARY if is_decoded else b"AP/+")


def test_what_goes_wrong_has_the_gateway_answers(manager: StubManager) -> None:
    def told(path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, Any]:
        answer = ask(manager, path, method, body, content_type="text/plain")
        return answer.status, answer.json

    assert told("/_execute-api/old/prod/null") == (502, {"message": "Internal server error"})
    for wrong in ('{"statusCode":"x"}', '{"body":"no status"}', '"text"', '{"statusCode":200,"body":{}}'):
        assert told("/_execute-api/old/prod/x", "POST", wrong.encode()) == (502, {"message": "Internal server error"})
    assert told("/_execute-api/shop/broken", "POST", b"") == (500, {"message": "Internal Server Error"})
    assert told("/_execute-api/old/prod") == (403, {"message": "Missing Authentication Token"})
    assert told("/_execute-api/old/stage/x") == (403, {"message": "Forbidden"})
    assert told("/_execute-api/nobody/x") == (403, {"message": "Forbidden"})
    assert told("/_execute-api/shop/") == (404, {"message": "Not Found"})


def test_an_http_api_of_the_endpoint_needs_the_permission_of_its_function(manager: StubManager, cloud: Cloud) -> None:
    client = cloud.client("apigatewayv2")
    arn = manager.client().get_function(FunctionName="web")["Configuration"]["FunctionArn"]
    api = client.create_api(Name="web", ProtocolType="HTTP")["ApiId"]
    integration = client.create_integration(
        ApiId=api, IntegrationType="AWS_PROXY", IntegrationUri=arn, PayloadFormatVersion="2.0"
    )["IntegrationId"]
    client.create_route(ApiId=api, RouteKey="GET /hello", Target=f"integrations/{integration}")
    client.create_stage(ApiId=api, StageName="dev", AutoDeploy=True, StageVariables={"v": "1"})
    assert ask(manager, f"/_execute-api/{api}/dev/hello").status == 500
    source = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api}/*/GET/hello"
    manager.client().add_permission(
        FunctionName="web",
        StatementId="v2",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
        SourceArn=source,
    )
    answer = ask(manager, "/dev/hello", Host=f"{api}.execute-api.{REGION}.localhost:9000")
    assert answer.status == 200, answer.body
    event = answer.json
    assert (event["rawPath"], event["requestContext"]["stage"]) == ("/dev/hello", "dev")
    assert event["stageVariables"] == {"v": "1"}
    assert event["requestContext"]["domainPrefix"] == api


def test_a_rest_api_of_the_endpoint_calls_its_function(manager: StubManager, cloud: Cloud) -> None:
    client = cloud.client("apigateway")
    arn = manager.client().get_function(FunctionName="web")["Configuration"]["FunctionArn"]
    api = client.create_rest_api(name="web")["id"]
    add = {"op": "add", "path": "/binaryMediaTypes/image~1png", "value": "image/png"}  # moto wants the value, too
    client.update_rest_api(restApiId=api, patchOperations=[add])
    root = client.get_resources(restApiId=api)["items"][0]["id"]
    resource = client.create_resource(restApiId=api, parentId=root, pathPart="{name}")["id"]
    client.put_method(restApiId=api, resourceId=resource, httpMethod="ANY", authorizationType="NONE")
    client.put_integration(
        restApiId=api,
        resourceId=resource,
        httpMethod="ANY",
        type="AWS_PROXY",
        integrationHttpMethod="POST",
        uri=f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{arn}/invocations",
    )
    client.create_deployment(restApiId=api, stageName="prod")
    manager.client().add_permission(
        FunctionName="web",
        StatementId="v1",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
        SourceArn=f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api}/*/*/*",
    )
    answer = ask(manager, f"/_execute-api/{api}/prod/ada", "DELETE")
    assert answer.status == 200, answer.body
    event = answer.json
    assert (event["resource"], event["pathParameters"]) == ("/{name}", {"name": "ada"})
    assert event["requestContext"]["resourceId"] == resource
    event = ask(manager, f"/_execute-api/{api}/prod/ada?event", "PUT", BINARY, content_type="image/png").json
    assert (event["body"], event["isBase64Encoded"]) == ("AP/+", True)


def test_a_function_without_room_has_the_gateway_answers(manager: StubManager) -> None:
    for path, status, message in (
        ("/_execute-api/old/prod/full", 500, "Internal server error"),
        ("/_execute-api/shop/full", 503, "Service Unavailable"),
    ):
        answer = ask(manager, path)
        assert (answer.status, answer.json) == (status, {"message": message})


SLOW = json.dumps({"pieces": ['{"statusCode":201}'], "seconds": 3.0}).encode()  # past the limits below
QUICK = json.dumps({"pieces": ['{"statusCode":201}']}).encode()


def test_a_rest_api_waits_for_its_function_only_as_long_as_its_integration_says(
    manager: StubManager, cloud: Cloud
) -> None:
    client = cloud.client("apigateway")
    arn = manager.client().get_function(FunctionName="slow")["Configuration"]["FunctionArn"]
    api = client.create_rest_api(name="slow")["id"]
    root = client.get_resources(restApiId=api)["items"][0]["id"]
    client.put_method(restApiId=api, resourceId=root, httpMethod="POST", authorizationType="NONE")
    client.put_integration(
        restApiId=api,
        resourceId=root,
        httpMethod="POST",
        type="AWS_PROXY",
        integrationHttpMethod="POST",
        timeoutInMillis=2_000,
        uri=f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{arn}/invocations",
    )
    client.create_deployment(restApiId=api, stageName="prod")
    allow_api(manager, "slow", api)
    quick = ask(manager, f"/_execute-api/{api}/prod", "POST", QUICK, content_type="application/json")
    assert quick.status == 201, quick.body
    slow = ask(manager, f"/_execute-api/{api}/prod", "POST", SLOW, content_type="application/json")
    assert (slow.status, slow.json) == (504, {"message": "Endpoint request timed out"})


def test_an_http_api_waits_for_its_function_only_as_long_as_its_integration_says(
    manager: StubManager, cloud: Cloud
) -> None:
    client = cloud.client("apigatewayv2")
    arn = manager.client().get_function(FunctionName="slow")["Configuration"]["FunctionArn"]
    api = client.create_api(Name="slow", ProtocolType="HTTP")["ApiId"]
    integration = client.create_integration(
        ApiId=api,
        IntegrationType="AWS_PROXY",
        IntegrationUri=arn,
        PayloadFormatVersion="2.0",
        TimeoutInMillis=2_000,
    )["IntegrationId"]
    client.create_route(ApiId=api, RouteKey="POST /slow", Target=f"integrations/{integration}")
    client.create_stage(ApiId=api, StageName="$default", AutoDeploy=True)
    allow_api(manager, "slow", api)
    quick = ask(manager, f"/_execute-api/{api}/slow", "POST", QUICK, content_type="application/json")
    assert quick.status == 201, quick.body
    slow = ask(manager, f"/_execute-api/{api}/slow", "POST", SLOW, content_type="application/json")
    assert (slow.status, slow.json) == (503, {"message": "Service Unavailable"})


def allow_api(manager: StubManager, function: str, api: str) -> None:
    manager.client().add_permission(
        FunctionName=function,
        StatementId=f"api-{api}",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
        SourceArn=f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api}/*/*/*",
    )


def test_a_changed_file_of_routes_is_read_again(manager: StubManager) -> None:
    path = manager.directory / "routes.toml"
    path.write_text(ROUTES + '[[api]]\nid = "new"\nroutes = { "$default" = "web" }\n')
    answer = ask(manager, "/_execute-api/new/any/thing")
    assert (answer.status, answer.json["routeKey"]) == (200, "$default")
    path.write_text("no toml")
    assert ask(manager, "/_execute-api/new/any/thing").status == 200


def test_a_file_of_routes_that_cannot_be_read_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "routes.toml").write_text('[[api]]\nid = "x"\nroutes = { "GET" = "f" }\n')
    manager = StubManager(tmp_path, arguments=("--routes", str(tmp_path / "routes.toml")))
    with pytest.raises(AssertionError):
        manager.start()
    assert "route 'GET' is neither a method and a path nor $default" in manager.log
