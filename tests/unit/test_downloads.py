"""Downloads of code, as the node answers them, and code from an S3 that is real to boto3."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import NoCredentialsError
from test_api_world import World, zipped

from rie.aws import Clients
from rie.code.archive import TOO_LARGE
from rie.code.s3 import S3, S3Object
from rie.errors import ArchiveInvalid, HostFault
from rie.plane.app import NodeApp
from rie.plane.downloads import Downloads
from rie.plane.gate import Gate
from rie.plane.listener import Listener
from tests.cloud import Cloud, clouding


async def get(app: NodeApp, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """(status, headers with names in lower case, body), over a connection of TCP."""
    listener = Listener(app)
    sock = socket.create_server(("127.0.0.1", 0))
    await listener.open([sock])
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    listener.stop_accepting()
    listener.close()
    status, *lines = head.decode().split("\r\n")
    fields = (line.partition(": ") for line in lines)
    return int(status.split()[1]), {name.lower(): value for name, _, value in fields}, body


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def app(world: World) -> NodeApp:
    async def nothing(*_: Any) -> None:
        raise AssertionError("not for this application")

    others: dict[str, Any] = dict.fromkeys(("invocations", "urls", "admin", "control", "apis"), nothing)
    return NodeApp(cast(Gate, None), others=(), downloads=Downloads(world.links, world.code), **others)


def location(world: World) -> str:
    world.create_zip()
    return str(world.call("GET", "/2015-03-31/functions/f").json["Code"]["Location"]).removeprefix("http://localhost")


def test_the_bytes_are_those_that_were_uploaded(world: World, app: NodeApp) -> None:
    path = location(world)
    status, headers, body = asyncio.run(get(app, path))
    assert (status, body) == (200, zipped())
    assert (headers["content-type"], headers["content-length"]) == ("application/zip", str(len(zipped())))
    status, headers, body = asyncio.run(get(app, path, "HEAD"))
    assert (status, headers["content-length"], body) == (200, str(len(zipped())), b"")


def test_a_link_that_was_not_made_here_opens_nothing(world: World, app: NodeApp) -> None:
    path = location(world)
    raw = path.partition("?")[0]
    for wrong in (raw, f"{raw}?Expires=99999999999&Signature=0", path.replace("code/", "code/../code/"), "/_rie/code/"):
        assert asyncio.run(get(app, wrong))[0] == 403
    assert asyncio.run(get(app, path, "PUT"))[0] == 405
    world.clock.advance(601)
    assert asyncio.run(get(app, path))[0] == 403


def test_code_that_was_swept_is_not_found(world: World, app: NodeApp) -> None:
    path = location(world)
    world.call("DELETE", "/2015-03-31/functions/f")
    world.code.sweep(world.usage.uses(), at_once=True)
    assert asyncio.run(get(app, path))[0] == 404


# -- S3 ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with clouding(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def s3(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    client = cloud.client("s3")
    client.create_bucket(Bucket="my.bucket")
    return client


def told(place: S3Object, target: Path) -> str:
    with pytest.raises(ArchiveInvalid) as refused:
        S3(Clients()).fetch(place, "us-east-1", target)
    return refused.value.answer


def test_an_object_is_fetched_at_its_version(s3: Any, tmp_path: Path) -> None:
    s3.put_bucket_versioning(Bucket="my.bucket", VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket="my.bucket", Key="a/b c.zip", Body=b"one")["VersionId"]
    s3.put_object(Bucket="my.bucket", Key="a/b c.zip", Body=b"two")
    fetching = S3(Clients())
    fetching.fetch(S3Object("my.bucket", "a/b c.zip"), "us-east-1", tmp_path / "newest")
    fetching.fetch(S3Object("my.bucket", "a/b c.zip", first), "us-east-1", tmp_path / "first")
    assert ((tmp_path / "newest").read_bytes(), (tmp_path / "first").read_bytes()) == (b"two", b"one")


def test_what_s3_refuses_is_told_in_the_services_words(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = "Error occurred while GetObject. S3 Error Code: "
    assert told(S3Object("nowhere", "k"), tmp_path / "a") == (
        f"{start}NoSuchBucket. S3 Error Message: The specified bucket does not exist"
    )
    assert told(S3Object("my.bucket", "nothing"), tmp_path / "b") == (
        f"{start}NoSuchKey. S3 Error Message: The specified key does not exist."
    )
    s3.put_object(Bucket="my.bucket", Key="large", Body=b"x" * 100)
    monkeypatch.setattr("rie.code.s3.MAX_UNPACKED", 99)
    assert told(S3Object("my.bucket", "large"), tmp_path / "c") == TOO_LARGE


def test_an_s3_that_does_not_answer_is_a_fault_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with pytest.raises(HostFault, match="cannot fetch s3://bucket/key"):
        S3(Clients()).fetch(S3Object("bucket", "key"), "us-east-1", tmp_path / "x")


def test_without_credentials_the_manager_is_what_lacks_them(tmp_path: Path) -> None:
    class Nobody:
        def get_object(self, **_: Any) -> Any:
            raise NoCredentialsError

    clients = Clients()
    clients.client = lambda *_: Nobody()  # type: ignore[method-assign]
    with pytest.raises(ArchiveInvalid) as refused:
        S3(clients).fetch(S3Object("my.bucket", "k"), "us-east-1", tmp_path / "a")
    assert "Give the manager credentials for S3." in refused.value.answer
