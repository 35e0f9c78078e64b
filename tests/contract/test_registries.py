"""Images on real registries: resolved, pulled and verified, or refused with the right name."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from rie.errors import ImageAccessDenied, ImageInvalid, ImageNotFound, RegistryUnavailable
from rie.rootfs import repository as registry_module
from rie.rootfs.registry import resolve
from tests.contract.conftest import Case, connect, docker, forget_images, image_of, run
from tests.registry import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, Built, Registry, build, digest_of, serving

NOBODY: dict[str, str] = {"HOME": "/nonexistent"}
USER, PASSWORD = "alice", "correct:horse"
LOGIN = {**NOBODY, "RIE_REGISTRY_USER": USER, "RIE_REGISTRY_PASSWORD": PASSWORD}


def small(**config: Any) -> Built:
    """Some image."""
    return build([{"a": b"one"}, {"b": b"two"}], **config)


@pytest.fixture(scope="module")
def locked() -> Iterator[Registry]:
    """A registry with a password, and an image in it."""
    with serving(USER, PASSWORD) as registry:
        registry.push("team/app", "1", small())
        registry.push("echo", "1", image_of("echo"))
        yield registry
        forget_images(registry.host)


# -- resolve -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("docker_types", [False, True])
def test_a_tag_resolves_to_what_the_configuration_says(registry: Registry, docker_types: bool) -> None:
    config = {
        "Entrypoint": ["/lambda-entrypoint.sh"],
        "Cmd": ["app.handler"],
        "Env": ["A=b=c", "EMPTY="],
        "WorkingDir": "/var/task",
        "User": "1000:1000",
    }
    pushed = registry.push("team/plain", "1.0", small(docker_types=docker_types, **config))
    image = resolve(registry.reference("team/plain", "1.0"), "x86_64", environ=NOBODY)
    assert image.reference == f"{registry.host}/team/plain@{pushed}"
    assert (image.digest, image.architecture) == (pushed, "x86_64")
    assert (image.entrypoint, image.command) == (("/lambda-entrypoint.sh",), ("app.handler",))
    assert image.environment == {"A": "b=c", "EMPTY": ""}
    assert (image.working_directory, image.user) == ("/var/task", "1000:1000")
    assert resolve(image.reference, "x86_64", environ=NOBODY) == image


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_an_index_resolves_to_the_manifest_of_the_architecture(registry: Registry, media_type: str) -> None:
    images = {name: small(architecture=name, Cmd=[name]) for name in ("arm64", "amd64")}
    index = registry.push_index("team/multi", "1", images, media_type)
    for architecture, name in (("x86_64", "amd64"), ("arm64", "arm64")):
        for selector in ("1", index):
            image = resolve(registry.reference("team/multi", selector), architecture, environ=NOBODY)
            assert (image.digest, image.command) == (images[name].digest, (name,))


def test_a_moved_tag_leaves_a_pinned_reference_alone(registry: Registry) -> None:
    registry.push("team/moving", "1", small(Cmd=["old"]))
    old = resolve(registry.reference("team/moving", "1"), "x86_64", environ=NOBODY)
    registry.push("team/moving", "1", small(Cmd=["new"]))
    assert resolve(registry.reference("team/moving", "1"), "x86_64", environ=NOBODY).command == ("new",)
    assert resolve(old.reference, "x86_64", environ=NOBODY) == old


@pytest.mark.parametrize("selector", ["2", digest_of(b"nothing")])
def test_an_unknown_tag_or_digest_is_not_found(registry: Registry, selector: str) -> None:
    for repository in ("echo", "no/such"):
        with pytest.raises(ImageNotFound, match="does not have it"):
            resolve(registry.reference(repository, selector), "x86_64", environ=NOBODY)


def test_another_architecture_is_invalid(registry: Registry) -> None:
    with pytest.raises(ImageInvalid, match="it is for linux/amd64, not linux/arm64"):
        resolve(registry.reference("echo", "1"), "arm64", environ=NOBODY)
    registry.push_index("team/one", "1", {"amd64": small()})
    with pytest.raises(ImageInvalid, match="no manifest for linux/arm64, only linux/amd64"):
        resolve(registry.reference("team/one", "1"), "arm64", environ=NOBODY)


def test_an_artifact_is_no_image(registry: Registry) -> None:
    config = registry.put_blob("team/artifact", b"{}")
    layer = registry.put_blob("team/artifact", b"anything")
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.example+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "text/plain", "digest": layer, "size": 8}],
    }
    registry.put_manifest("team/artifact", "1", json.dumps(manifest).encode(), OCI_MANIFEST)
    with pytest.raises(ImageInvalid, match="which is no image"):
        resolve(registry.reference("team/artifact", "1"), "x86_64", environ=NOBODY)


@pytest.mark.parametrize("what", ["manifest", "configuration"])
def test_content_without_its_digest_is_invalid(what: str) -> None:
    image = small(Cmd=["a"])
    other = small(Cmd=["b"])

    class Liar(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_manifest = "/manifests/" in self.path
            teller = other if is_manifest == (what == "manifest") else image
            self.send_response(200)
            self.send_header("Docker-Content-Digest", image.digest)
            self.send_header("Content-Type", OCI_MANIFEST if is_manifest else "application/octet-stream")
            self.end_headers()
            self.wfile.write(teller.manifest if is_manifest else teller.blobs[0])

        def log_message(self, *arguments: object) -> None:
            pass

    with http(Liar) as host:
        for selector in (":1", f"@{image.digest}"):
            with pytest.raises(ImageInvalid, match=f"its {what} has digest sha256:.*, not sha256:"):
                resolve(f"{host}/a{selector}", "x86_64", environ=NOBODY)


def test_a_manifest_that_was_tampered_with_on_the_registry_is_invalid(registry: Registry) -> None:
    image = small(Cmd=["tampered"])
    digest = registry.push("team/tampered", "1", image)
    path = registry.blob_path(digest)
    path.write_bytes(path.read_bytes().replace(b"layers", b"Layers"))
    for selector in ("1", digest):
        with pytest.raises(ImageInvalid, match="its manifest has digest"):
            resolve(registry.reference("team/tampered", selector), "x86_64", environ=NOBODY)


# -- credentials -------------------------------------------------------------------------------------------------------


def test_a_registry_with_a_password_answers_those_who_know_it(locked: Registry, tmp_path: Path) -> None:
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {locked.host: {"auth": auth}}}))
    for environ in (LOGIN, {"DOCKER_CONFIG": str(tmp_path)}):
        began_at = time.monotonic()
        assert resolve(locked.reference("team/app", "1"), "x86_64", environ=environ).digest == small().digest
        assert time.monotonic() - began_at < 3


@pytest.mark.parametrize("environ", [NOBODY, {**LOGIN, "RIE_REGISTRY_PASSWORD": "wrong"}])
def test_without_the_password_access_is_denied_at_once(locked: Registry, environ: dict[str, str]) -> None:
    began_at = time.monotonic()
    for tag in ("1", "2"):
        with pytest.raises(ImageAccessDenied, match=f"registry {locked.host} refuses"):
            resolve(locked.reference("team/app", tag), "x86_64", environ=environ)
    assert time.monotonic() - began_at < 3


class TokenDoor(BaseHTTPRequestHandler):
    """A registry that wants tokens, in front of a real one that does not."""

    protocol_version = "HTTP/1.1"
    upstream: Registry
    asked: list[str | None]

    def do_GET(self) -> None:
        """Tokens at /token for whoever knows the password; all else with a token only."""
        address = urlsplit(self.path)
        authorization = self.headers.get("Authorization")
        if address.path == "/token":
            self.asked.append(authorization)
            expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            scope = parse_qs(address.query)["scope"][0]
            known = authorization == expected or (authorization is None and ":public:" in scope)
            self._answer(200 if known else 401, json.dumps({"token": "t0ken"} if known else {}).encode())
        elif authorization != "Bearer t0ken":
            scope = f"repository:{address.path.split('/')[2]}:pull"
            realm = f"http://{self.headers['Host']}/token"
            challenge = f'Bearer realm="{realm}",service="registry",scope="{scope}"'
            self._answer(401, b"{}", ("WWW-Authenticate", challenge))
        else:
            path = self.path.replace("/public/", "/echo/")
            answer = self.upstream.session.get(f"http://{self.upstream.host}{path}", headers={**self.headers})
            self._answer(answer.status_code, answer.content, ("Content-Type", answer.headers["Content-Type"]))

    def _answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@contextmanager
def http(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server in threads; its host."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_tokens_are_fetched_where_the_registry_says(registry: Registry) -> None:
    handler = type("Handler", (TokenDoor,), {"upstream": registry, "asked": []})
    with http(handler) as host:
        expected = image_of("echo").digest
        assert resolve(f"{host}/echo:1", "x86_64", environ=LOGIN).digest == expected
        assert resolve(f"{host}/public:1", "x86_64", environ=NOBODY).digest == expected
        for environ in (NOBODY, {**LOGIN, "RIE_REGISTRY_PASSWORD": "wrong"}):
            with pytest.raises(ImageAccessDenied):
                resolve(f"{host}/echo:1", "x86_64", environ=environ)


# -- registries that fail ----------------------------------------------------------------------------------------------


def test_a_registry_that_is_down_is_named_with_the_reason() -> None:
    with serving() as registry:
        reference = registry.reference("a", "1")
    began_at = time.monotonic()
    with pytest.raises(RegistryUnavailable, match=rf"registry {registry.host}: .*Connection refused"):
        resolve(reference, "x86_64", environ=NOBODY)
    with pytest.raises(RegistryUnavailable, match=r"registry registry\.invalid: "):
        resolve("registry.invalid/a:1", "x86_64", environ=NOBODY)
    assert time.monotonic() - began_at < 10


def test_a_registry_that_does_not_answer_is_an_error_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "READ_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        host = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(RegistryUnavailable, match="timed out"):
            resolve(f"{host}/a:1", "x86_64", environ=NOBODY)


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (500, b'{"errors":[{"code":"UNKNOWN","message":"disk"}]}', RegistryUnavailable, "answers 500 UNKNOWN: disk"),
        (429, b"slow down", RegistryUnavailable, "answers 429 slow down"),
        (403, b"", ImageAccessDenied, "status 403"),
        (200, b"<html>", ImageInvalid, "not JSON"),
        (200, b"[]", ImageInvalid, "not a JSON object"),
        (200, b"x" * (4 * 1024 * 1024 + 1), ImageInvalid, "more than 4194304 bytes"),
    ],
)
def test_strange_answers_have_a_name(status: int, body: bytes, error: type[Exception], words: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with http(Handler) as host, pytest.raises(error, match=words):
        resolve(f"{host}/a:1", "x86_64", environ=NOBODY)


# -- prepare: what Docker pulls ----------------------------------------------------------------------------------------


def test_prepare_pulls_with_the_credentials_of_resolve(
    docker_case: Case, locked: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker_case.host = locked.host

    async def test() -> None:
        async with docker_case.engine() as engine:
            for name, value in LOGIN.items():
                monkeypatch.setenv(name, value)
            spec_image = await engine.resolve(locked.reference("echo", "1"), "x86_64")
            monkeypatch.setenv("RIE_REGISTRY_PASSWORD", "wrong")
            with pytest.raises(ImageAccessDenied):
                await engine.prepare(spec_image)
            monkeypatch.setenv("RIE_REGISTRY_PASSWORD", PASSWORD)
            lines: list[str] = []
            await engine.prepare(spec_image, lines.append)
            assert lines
            sandbox = await docker_case.start(engine, "echo")
            assert (await (await connect(sandbox)).invoke("hello")).json() == "hello"

    run(test())


def test_a_tampered_layer_is_never_run(docker_case: Case, registry: Registry) -> None:
    image = build([{"tampered": b"with " * 1000}], Cmd=["/tampered"])
    registry.push("tampered", "1", image)
    path = registry.blob_path(image.layer_digests[0])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)

    async def test() -> None:
        async with docker_case.engine() as engine:
            resolved = await engine.resolve(registry.reference("tampered", "1"), "x86_64")
            for _ in range(2):
                with pytest.raises(ImageInvalid):
                    await engine.prepare(resolved)

    run(test())
    assert "tampered" not in docker("images", "--digests")


def test_what_the_registry_lost_is_not_found_by_prepare(docker_case: Case, registry: Registry) -> None:
    async def test() -> None:
        async with docker_case.engine() as engine:
            image = await engine.resolve(registry.reference("echo", "1"), "x86_64")
            with pytest.raises(ImageNotFound):
                await engine.prepare(replace(image, reference=f"{registry.host}/echo@{digest_of(b'lost')}"))

    run(test())


def test_prepare_names_a_registry_that_is_down_but_needs_none_for_what_is_there(docker_case: Case) -> None:
    async def test() -> None:
        async with docker_case.engine() as engine:
            with serving() as gone:
                for name in ("echo", "sleep"):
                    gone.push(name, "1", image_of(name))
                docker_case.host = gone.host
                there = await engine.resolve(gone.reference("echo", "1"), "x86_64")
                not_there = await engine.resolve(gone.reference("sleep", "1"), "x86_64")
                await engine.prepare(there)
            await engine.prepare(there)
            with pytest.raises(RegistryUnavailable, match=f"from registry {gone.host}"):
                await engine.prepare(not_there)
            forget_images(gone.host)

    run(test())


def test_many_can_prepare_the_same_image_at_once(docker_case: Case, registry: Registry) -> None:
    registry.push("popular", "1", build([{"x": b"popular" * 100_000}]))

    async def test() -> None:
        async with docker_case.engine() as engine:
            image = await engine.resolve(registry.reference("popular", "1"), "x86_64")
            lines: list[list[str]] = [[] for _ in range(5)]
            await asyncio.gather(*(engine.prepare(image, heard.append) for heard in lines))
            assert sum(bool(heard) for heard in lines) == 1

    run(test())
