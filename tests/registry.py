"""A real registry (docker-registry) on a free port of 127.0.0.1, with or without passwords, and images to put in it.

with serving() as registry:
    digest = registry.push("team/app", "1", build(layers=[{"var/task/app.py": b"..."}], command=["/bin/app"]))
    registry.reference("team/app", "1")     # "127.0.0.1:34567/team/app:1"
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.ports import free_port as _free_port

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
READY_S = 120.0  # under software emulation; elsewhere a fraction of a second


@dataclass(frozen=True)
class Built:
    """An image's blobs and manifest, ready to be pushed."""

    manifest: bytes
    media_type: str
    blobs: tuple[bytes, ...]

    @property
    def digest(self) -> str:
        """Of the manifest."""
        return digest_of(self.manifest)

    @property
    def layer_digests(self) -> list[str]:
        """Of the compressed layers, lowest first."""
        return [layer["digest"] for layer in json.loads(self.manifest)["layers"]]


@dataclass
class Registry:
    """A running registry; `directory` holds its files."""

    host: str
    directory: Path
    process: subprocess.Popen[bytes]
    auth: tuple[str, str] | None = None
    session: requests.Session = field(default_factory=requests.Session)

    def reference(self, repository: str, selector: str) -> str:
        """ "host/repository:tag", or "@digest"."""
        return f"{self.host}/{repository}{'@' if ':' in selector else ':'}{selector}"

    def blob_path(self, digest: str) -> Path:
        """The file in which the registry keeps a blob or manifest: for tampering."""
        name = digest.partition(":")[2]
        return self.directory / "data/docker/registry/v2/blobs/sha256" / name[:2] / name / "data"

    def push(self, repository: str, tag: str, image: Built) -> str:
        """Push an image; answers its digest."""
        for blob in image.blobs:
            self.put_blob(repository, blob)
        return self.put_manifest(repository, tag, image.manifest, image.media_type)

    def push_index(self, repository: str, tag: str, images: Mapping[str, Built], media_type: str = OCI_INDEX) -> str:
        """Push images by architecture ("amd64") under one tag; answers the index's digest."""
        entries = []
        for architecture, image in images.items():
            self.push(repository, image.digest, image)
            platform = {"os": "linux", "architecture": architecture}
            entry = {"mediaType": image.media_type, "digest": image.digest, "size": len(image.manifest)}
            entries.append({**entry, "platform": platform})
        index = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
        return self.put_manifest(repository, tag, json.dumps(index).encode(), media_type)

    def put_blob(self, repository: str, blob: bytes) -> str:
        """Upload a blob; answers its digest."""
        digest = digest_of(blob)
        opened = self._call("POST", f"{repository}/blobs/uploads/")
        location = opened.headers["Location"]
        separator = "&" if "?" in location else "?"
        answer = self.session.put(f"{location}{separator}digest={digest}", data=blob, auth=self.auth, timeout=30)
        answer.raise_for_status()
        return digest

    def put_manifest(self, repository: str, tag: str, manifest: bytes, media_type: str) -> str:
        """Upload a manifest or index under a tag or its digest; answers its digest."""
        self._call("PUT", f"{repository}/manifests/{tag}", data=manifest, headers={"Content-Type": media_type})
        return digest_of(manifest)

    def stop(self) -> None:
        """End the process, so that the port refuses connections."""
        self.session.close()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _call(self, method: str, path: str, **options: Any) -> requests.Response:
        url = f"http://{self.host}/v2/{path}"
        answer = self.session.request(method, url, auth=self.auth, timeout=30, **options)
        answer.raise_for_status()
        return answer


@contextmanager
def serving(user: str | None = None, password: str = "") -> Iterator[Registry]:
    """A registry for as long as the block lasts; with `user`, only they may read and write."""
    directory = Path(tempfile.mkdtemp(prefix="registry-"))
    registry: Registry | None = None
    try:
        registry = _start(directory, user, password)
        yield registry
    finally:
        if registry is not None:
            registry.stop()
        shutil.rmtree(directory)


def build(
    layers: Sequence[Mapping[str, bytes | None]],
    *,
    architecture: str = "amd64",
    docker_types: bool = False,
    **config: Any,
) -> Built:
    """An image from layers of {path: content, or None for a directory}; `config` are members of its configuration.

    build([{"app": b"#!..."}], Cmd=["/app"], Env=["A=b"]); the same input gives the same digests.
    """
    archives = [_archive(layer) for layer in layers]
    return assemble(archives, architecture=architecture, docker_types=docker_types, **config)


def gzipped(archive: bytes) -> bytes:
    """The same bytes each time."""
    return gzip.compress(archive, mtime=0)


def assemble(
    archives: Sequence[bytes],
    *,
    architecture: str = "amd64",
    docker_types: bool = False,
    compress: Callable[[bytes], bytes] = gzipped,
    **config: Any,
) -> Built:
    """An image from the archives of its layers, whatever is in them."""
    blobs = [compress(archive) for archive in archives]
    document = {
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest_of(archive) for archive in archives]},
        "history": [{"created_by": "test"} for _ in archives],
    }
    configuration = json.dumps(document).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST if docker_types else OCI_MANIFEST,
        "config": _descriptor(DOCKER_CONFIG if docker_types else OCI_CONFIG, configuration),
        "layers": [_descriptor(DOCKER_LAYER if docker_types else OCI_LAYER, blob) for blob in blobs],
    }
    return Built(json.dumps(manifest).encode(), str(manifest["mediaType"]), (configuration, *blobs))


def digest_of(content: bytes) -> str:
    """ "sha256:…"."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def _archive(files: Mapping[str, bytes | None]) -> bytes:
    """Everything belongs to root; files are executable for all."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if content is None:
                entry.type = tarfile.DIRTYPE
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def _start(directory: Path, user: str | None, password: str) -> Registry:
    program = shutil.which("docker-registry", path="/usr/bin:/usr/local/bin")
    assert program, "docker-registry is not installed (apt-get install docker-registry)"
    host = f"127.0.0.1:{_free_port()}"
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": host},
    }
    if user is not None:
        passwords = directory / "htpasswd"
        made = subprocess.run(["htpasswd", "-Bbn", user, password], capture_output=True, check=True)
        passwords.write_bytes(made.stdout)
        config["auth"] = {"htpasswd": {"realm": "registry", "path": str(passwords)}}
    settings = directory / "config.yml"
    settings.write_text(json.dumps(config))  # JSON is YAML too
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(settings)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    registry = Registry(host, directory, process, (user, password) if user is not None else None)
    gives_up_at = time.monotonic() + READY_S
    while not _answers(host):
        if process.poll() is not None or time.monotonic() > gives_up_at:
            registry.stop()
            raise AssertionError(f"docker-registry did not start: {(directory / 'log').read_text()}")
        time.sleep(0.01)
    return registry


def _answers(host: str) -> bool:
    try:
        return requests.get(f"http://{host}/v2/", timeout=5).status_code in (200, 401)
    except requests.ConnectionError:
        return False
