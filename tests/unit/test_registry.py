"""Manifests, indexes and configurations as texts, and where credentials come from."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from rie.errors import ImageInvalid, RegistryUnavailable
from rie.rootfs import credentials, manifest
from rie.rootfs.credentials import Credentials
from rie.rootfs.reference import parse
from rie.rootfs.registry import is_plain

APP = parse("host.example/app:1")
DIGEST = "sha256:" + "a" * 64


def descriptor(**changes: Any) -> dict[str, Any]:
    """A configuration's descriptor."""
    return {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 2, **changes}


def configuration(**changes: Any) -> dict[str, Any]:
    """A configuration of an image with one layer."""
    return {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [DIGEST]}, "config": {}, **changes}


def read_configuration(**changes: Any) -> manifest.Contents:
    """What a manifest with one layer and that configuration says."""
    body = {"layers": [{"digest": DIGEST, "size": 1}]}
    return manifest.contents(APP, DIGEST, body, json.dumps(configuration(**changes)).encode(), "x86_64")


# -- manifests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (manifest.OCI_MANIFEST, {"mediaType": manifest.OCI_INDEX, "manifests": []}),
        (manifest.OCI_MANIFEST, {"manifests": [], "layers": []}),
        (manifest.OCI_INDEX, {"manifests": [], "config": {}}),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", {}),
        ("text/html", {}),
        ("", {}),
    ],
)
def test_a_manifest_of_two_kinds_or_none_is_invalid(content_type: str, body: dict[str, Any]) -> None:
    with pytest.raises(ImageInvalid):
        manifest.kind(APP, content_type, body)


@pytest.mark.parametrize(
    ("content_type", "body", "kind"),
    [
        (manifest.OCI_MANIFEST, {}, manifest.OCI_MANIFEST),
        (f"{manifest.DOCKER_LIST}; charset=utf-8", {}, manifest.DOCKER_LIST),
        ("application/json", {"mediaType": manifest.OCI_INDEX}, manifest.OCI_INDEX),
        (manifest.DOCKER_MANIFEST, {"mediaType": manifest.DOCKER_MANIFEST}, manifest.DOCKER_MANIFEST),
    ],
)
def test_a_manifests_kind_is_what_it_or_its_registry_says(content_type: str, body: dict[str, Any], kind: str) -> None:
    assert manifest.kind(APP, content_type, body) == kind


def test_an_index_offers_one_manifest_per_platform_and_skips_what_is_none() -> None:
    attestation = {"digest": "sha256:" + "b" * 64, "size": 1, "platform": {"os": "unknown", "architecture": "unknown"}}
    windows = {"digest": "sha256:" + "c" * 64, "size": 1, "platform": {"os": "windows", "architecture": "amd64"}}
    linux = {"digest": DIGEST, "size": 1, "platform": {"os": "linux", "architecture": "amd64"}}
    assert manifest.choose(APP, {"manifests": [attestation, windows, linux]}, "x86_64").digest == DIGEST
    with pytest.raises(ImageInvalid, match="only unknown/unknown, windows/amd64"):
        manifest.choose(APP, {"manifests": [attestation, windows]}, "x86_64")
    with pytest.raises(ImageInvalid, match="only none"):
        manifest.choose(APP, {"manifests": None}, "x86_64")


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "sha512:" + "a" * 128},
        {"digest": "../../etc/passwd"},
        {"digest": None},
        {"size": -1},
        {"size": "2"},
        {"size": True},
        {"size": manifest.MAX_CONFIG + 1},
        {"mediaType": "application/vnd.example"},
    ],
)
def test_a_bad_descriptor_is_invalid(changes: dict[str, Any]) -> None:
    with pytest.raises(ImageInvalid):
        manifest.config_of(APP, {"config": descriptor(**changes), "layers": []})


def test_a_layer_that_cannot_be_verified_is_invalid() -> None:
    with pytest.raises(ImageInvalid, match="layer"):
        manifest.config_of(APP, {"config": descriptor(), "layers": [{"digest": "md5:abc", "size": 1}]})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_invalid(content: bytes) -> None:
    with pytest.raises(ImageInvalid):
        manifest.parse(APP, "manifest", content)


@pytest.mark.parametrize(
    "changes",
    [
        {"os": "windows"},
        {"architecture": "arm64"},
        {"rootfs": {"diff_ids": []}},
        {"rootfs": None},
        {"rootfs": {"diff_ids": ["sha256:../../etc"]}},
        {"config": {"Entrypoint": "text"}},
        {"config": {"Cmd": [1]}},
        {"config": {"WorkingDir": 1}},
    ],
)
def test_a_configuration_for_elsewhere_or_malformed_is_invalid(changes: dict[str, Any]) -> None:
    with pytest.raises(ImageInvalid):
        read_configuration(**changes)


def test_a_configuration_may_say_nothing() -> None:
    for config in ({}, None, {"Entrypoint": None, "Cmd": None, "Env": None, "WorkingDir": None, "User": None}):
        image = read_configuration(config=config).image
        assert (image.entrypoint, image.command, image.working_directory, image.environment) == ((), (), "", {})
        assert image.reference == f"host.example/app@{DIGEST}"


def test_plain_http_is_for_this_machine_and_what_the_settings_name() -> None:
    assert is_plain(parse("127.0.0.1:5000/a"), ())
    assert is_plain(parse("registry:5000/a"), ("registry:5000",))
    assert not is_plain(parse("registry:5001/a"), ("registry:5000",))


# -- credentials -------------------------------------------------------------------------------------------------------


def write(directory: Path, config: Any) -> dict[str, str]:
    """A configuration of Docker's; the environment that points to it."""
    (directory / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return {"DOCKER_CONFIG": str(directory)}


def auth(text: str) -> dict[str, str]:
    """An entry of `auths`."""
    return {"auth": base64.b64encode(text.encode()).decode()}


def test_without_any_there_are_none(tmp_path: Path) -> None:
    assert credentials.find("host.example", {"HOME": str(tmp_path)}) is None
    assert credentials.find("host.example", write(tmp_path, {})) is None
    assert credentials.find("host.example", write(tmp_path, {"auths": {"host.example": {}}})) is None


def test_dockers_file_is_read_from_home(tmp_path: Path) -> None:
    (tmp_path / ".docker").mkdir()
    write(tmp_path / ".docker", {"auths": {"host.example": auth("u:p:q")}})
    assert credentials.find("host.example", {"HOME": str(tmp_path)}) == Credentials("u", "p:q")
    assert credentials.find("host.example:443", {"HOME": str(tmp_path)}) is None


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io"])
def test_docker_hub_has_several_names(tmp_path: Path, key: str) -> None:
    assert credentials.find("docker.io", write(tmp_path, {"auths": {key: auth("u:p")}})) == Credentials("u", "p")


def test_the_environment_comes_first_but_only_for_its_host(tmp_path: Path) -> None:
    environ = write(tmp_path, {"auths": {"host.example": auth("file:f"), "other.example": auth("file:f")}})
    environ |= {"RIE_REGISTRY_USER": "env", "RIE_REGISTRY_PASSWORD": "e"}
    assert credentials.find("host.example", environ) == Credentials("env", "e")
    environ["RIE_REGISTRY_HOST"] = "other.example"
    assert credentials.find("host.example", environ) == Credentials("file", "f")
    assert credentials.find("other.example", environ) == Credentials("env", "e")


def test_a_helper_is_asked_for_its_hosts(tmp_path: Path) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text('#!/bin/sh\nread host\n[ "$host" = known.example ] || { echo credentials not found; exit 1; }\n')
    with helper.open("a") as file:
        file.write('echo \'{"ServerURL":"known.example","Username":"u","Secret":"s"}\'\n')
    helper.chmod(0o755)
    environ = write(tmp_path, {"credHelpers": {"known.example": "test", "unknown.example": "test"}})
    environ["PATH"] = f"{tmp_path}:/usr/bin:/bin"
    assert credentials.find("known.example", environ) == Credentials("u", "s")
    assert credentials.find("unknown.example", environ) is None
    environ |= write(tmp_path, {"credsStore": "test", "auths": {"known.example": {}}})
    assert credentials.find("known.example", environ) == Credentials("u", "s")


@pytest.mark.parametrize(
    "config", ["{", {"auths": {"host.example": {"auth": "!"}}}, {"credHelpers": {"host.example": "none"}}]
)
def test_what_cannot_be_read_is_an_error_not_a_denial(tmp_path: Path, config: Any) -> None:
    environ = write(tmp_path, config) | {"PATH": str(tmp_path)}
    with pytest.raises(RegistryUnavailable, match="cannot find credentials for registry host"):
        credentials.find("host.example", environ)


def test_a_password_does_not_show() -> None:
    assert "secret" not in repr(Credentials("u", "secret"))
