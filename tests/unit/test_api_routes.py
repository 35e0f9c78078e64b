"""Routes of every operation of the model (lambda.md §0.1, §14)."""

from __future__ import annotations

import io
from urllib.parse import parse_qs, quote

import pytest
from test_api_world import FUNCTIONS, World

from rie.api.model import operation_model
from rie.api.routes import match, operations
from rie.api.service import raw_path
from rie.errors import ServiceError


@pytest.mark.parametrize("operation", operations())
@pytest.mark.parametrize("end", ["", "/"])
def test_every_operation_is_found_at_its_path_with_and_without_a_slash_at_the_end(operation: str, end: str) -> None:
    http = operation_model(operation).http
    path, _, query = http["requestUri"].partition("?")
    labels = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
    for label in labels:
        path = path.replace(f"{{{label}}}", quote(f"{label}:$/%", safe=""))
    found = match(http["method"], path + end, parse_qs(query))
    assert found.operation == operation
    assert found.labels == {label: f"{label}:$/%" for label in labels}


def test_the_model_has_at_least_the_85_operations_of_the_specification() -> None:
    assert len(operations()) >= 85


def test_twins_are_told_apart_by_their_query() -> None:
    provisioned = "/2019-09-30/functions/f/provisioned-concurrency"
    assert match("GET", provisioned, {"List": ["ALL"]}).operation == "ListProvisionedConcurrencyConfigs"
    assert match("GET", provisioned, {"Qualifier": ["1"]}).operation == "GetProvisionedConcurrencyConfig"
    assert match("GET", "/2018-10-31/layers", {"find": ["LayerVersion"]}).operation == "GetLayerVersionByArn"
    assert match("GET", "/2018-10-31/layers/", {"find": ["x"]}).operation == "ListLayers"


@pytest.mark.parametrize("written", ["f%3A%24LATEST", "f:$LATEST", "f%3a$LATEST"])
def test_labels_are_the_same_encoded_and_raw(written: str) -> None:
    assert match("GET", f"{FUNCTIONS}/{written}", {}).labels == {"FunctionName": "f:$LATEST"}


def test_labels_are_decoded_once() -> None:
    assert match("GET", f"{FUNCTIONS}/f%2525+", {}).labels == {"FunctionName": "f%25+"}


def test_a_durable_execution_is_one_segment() -> None:
    arn = "arn:aws:lambda:us-east-1:123456789012:function:f:1/durable-execution/a/b"
    found = match("GET", f"/2025-12-01/durable-executions/{quote(arn, safe='')}", {})
    assert (found.operation, found.labels) == ("GetDurableExecution", {"DurableExecutionArn": arn})


def test_an_empty_label_is_none() -> None:
    with pytest.raises(ServiceError) as caught:
        match("GET", f"{FUNCTIONS}//configuration", {})
    assert caught.value.status == 404


def test_the_raw_path_is_found_in_every_kind_of_server() -> None:
    assert raw_path({"asgi.scope": {"raw_path": b"/a%2Fb?c"}, "PATH_INFO": "/a/b"}) == "/a%2Fb"
    assert raw_path({"RAW_URI": "/a%2Fb?c=/d", "PATH_INFO": "/a/b"}) == "/a%2Fb"
    assert raw_path({"RAW_URI": "http://host:1/a%2Fb?c", "PATH_INFO": "/a/b"}) == "/a%2Fb"
    assert raw_path({"RAW_URI": "http://host", "PATH_INFO": "/"}) == "/"
    assert raw_path({"PATH_INFO": "/a\u00c3\u00bc:$"}) == "/a%C3%BC%3A%24"


def test_a_server_that_knows_no_raw_path_will_do_for_ordinary_names() -> None:
    world = World()
    world.create()
    started: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": f"{FUNCTIONS}/f:$LATEST",
        "QUERY_STRING": "",
        "SERVER_NAME": "h",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
    }
    list(world.app.wsgi_app(environ, lambda status, headers, _=None: started.append(status)))  # type: ignore[arg-type,return-value]
    assert started == ["200 OK"]
