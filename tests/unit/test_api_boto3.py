"""The API as a real client sees it: boto3 over HTTP, waiters included."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from a2wsgi import WSGIMiddleware
from botocore.config import Config
from test_api_world import ACCOUNT, ARN, DIGEST, ROLE, World

IMAGE = {"PackageType": "Image", "Code": {"ImageUri": "reg/app:1"}, "Role": ROLE}


def client_of(url: str, region: str = "us-east-1") -> Any:
    return boto3.client(
        "lambda",
        endpoint_url=url,
        region_name=region,
        aws_access_key_id="AKID",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def client(world: World) -> Iterator[Any]:
    with world.served() as url:
        yield client_of(url)


def test_a_functions_whole_life(world: World, client: Any) -> None:
    created = client.create_function(FunctionName="f", Environment={"Variables": {"AB": "c"}}, **IMAGE)
    assert (created["ResponseMetadata"]["HTTPStatusCode"], created["State"]) == (201, "Pending")
    assert "LastUpdateStatus" not in created
    world.settle()
    client.get_waiter("function_active_v2").wait(FunctionName="f")
    client.get_waiter("function_updated").wait(FunctionName="f")
    found = client.get_function(FunctionName=f"{ARN}f")
    assert found["Configuration"]["CodeSha256"] == DIGEST
    assert found["Code"]["ResolvedImageUri"] == f"reg/app@sha256:{DIGEST}"
    assert client.update_function_configuration(FunctionName="f", Timeout=9)["LastUpdateStatus"] == "InProgress"
    world.settle()
    assert client.update_function_code(FunctionName="f", ImageUri="reg/app:2")["LastUpdateStatus"] == "InProgress"
    assert [item["Version"] for item in client.list_versions_by_function(FunctionName="f")["Versions"]] == ["$LATEST"]
    deleted = client.delete_function(FunctionName="f")
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == deleted["StatusCode"] == 204
    with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
        client.get_function(FunctionName="f")
    assert caught.value.response["Error"] == {
        "Code": "ResourceNotFoundException",
        "Message": f"Function not found: {ARN}f",
    }
    assert caught.value.response["Type"] == "User"


def test_errors_are_the_clients_own_classes(world: World, client: Any) -> None:
    client.create_function(FunctionName="f", **IMAGE)
    with pytest.raises(client.exceptions.ResourceConflictException, match="Function already exist: f"):
        client.create_function(FunctionName="f", **IMAGE)
    with pytest.raises(client.exceptions.ClientError, match=r"ValidationException.*at 'memorySize' failed"):
        client.create_function(FunctionName="g", MemorySize=50_000, **IMAGE)
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="Could not unzip uploaded file"):
        client.create_function(
            FunctionName="g", Role=ROLE, Code={"ZipFile": b"PK"}, Runtime="python3.13", Handler="a.b"
        )


def test_the_clients_paginator_sees_every_function_once(world: World, client: Any) -> None:
    for number in range(55):
        world.create(f"f{number:02}")
    pages = list(client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 20}))
    assert [len(page["Functions"]) for page in pages] == [20, 20, 15]
    assert [f["FunctionName"] for page in pages for f in page["Functions"]] == [f"f{n:02}" for n in range(55)]


def test_tags_by_arn(world: World, client: Any) -> None:
    world.create()
    client.tag_resource(Resource=f"{ARN}f", Tags={"a": "1", "b": "2"})
    client.untag_resource(Resource=f"{ARN}f", TagKeys=["a", "c"])
    assert client.list_tags(Resource=f"{ARN}f")["Tags"] == {"b": "2"}


def test_the_region_is_that_of_the_signature(world: World) -> None:
    with world.served() as url:
        made = client_of(url, "eu-central-1").create_function(FunctionName="f", **IMAGE)
        assert made["FunctionArn"] == f"arn:aws:lambda:eu-central-1:{ACCOUNT}:function:f"
        assert client_of(url).list_functions()["Functions"] == []


def test_mounted_in_an_asgi_application_labels_keep_their_slashes_and_chunked_bodies_are_read(world: World) -> None:
    app = WSGIMiddleware(world.app)  # type: ignore[arg-type]
    body = b'{"FunctionName":"f","Role":"%s","PackageType":"Image","Code":{"ImageUri":"reg/app:1"}}' % ROLE.encode()
    status, answer = asyncio.run(_asgi(app, "POST", b"/2015-03-31/functions", [body[:20], body[20:]]))
    assert (status, b'"State":"Pending"' in answer) == (201, True)
    status, answer = asyncio.run(_asgi(app, "GET", b"/2025-12-01/durable-executions/a%2Fb", [b""]))
    assert (status, b"Value 'a/b' at 'durableExecutionArn'" in answer) == (400, True)


async def _asgi(app: Any, method: str, raw_path: bytes, chunks: list[bytes]) -> tuple[int, bytes]:
    """One request without Content-Length to an ASGI application; (status, body)."""
    from urllib.parse import unquote

    coming = [{"type": "http.request", "body": c, "more_body": c is not chunks[-1]} for c in chunks]
    sent: list[Any] = []

    async def receive() -> Any:
        return coming.pop(0) if coming else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": unquote(raw_path.decode()),
        "raw_path": raw_path,
        "query_string": b"",
        "headers": [(b"transfer-encoding", b"chunked")],
        "server": ("h", 80),
    }
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def test_calls_in_parallel_do_not_disturb_each_other(world: World, client: Any) -> None:
    failures: list[BaseException] = []

    def live(name: str) -> None:
        try:
            client.create_function(FunctionName=name, **IMAGE)
            client.get_function(FunctionName=name)
            client.delete_function(FunctionName=name)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=live, args=(f"f{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert client.list_functions()["Functions"] == []
