"""Calls to the Docker daemon: each blocks, ends in time, and fails with a name; the only importer of docker."""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import docker
import requests
import urllib3
from docker import errors

from rie.engine.base import LOCAL, Progress
from rie.engine.docker import faults
from rie.engine.docker.container import LABEL_INSTANCE, LABEL_OWNER, LABEL_SANDBOX
from rie.errors import EngineUnavailable, ImageNotFound, SandboxFailed
from rie.limits.share import Quota
from rie.model.image import Image
from rie.rootfs import manifest
from rie.rootfs.credentials import Credentials
from rie.rootfs.reference import parse as parse_reference

PING_S = 3.0  # whoever asks has another engine to go on with
PING_VERSION = "1.24"  # every daemon's; without one the client would ask for it first
QUICK_S = 30.0  # what only looks; generous, because fifty starts at once keep the daemon busy
SLOW_S = 120.0  # what makes or removes a container
PULL_S = 600.0  # between two lines of progress: a layer of gigabytes is unpacked without any
POOL = 32  # connections kept
DEFAULT_HOST = "unix:///var/run/docker.sock"
MAX_OUTPUT = 2_000  # characters of a dead container's last words


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the daemon knows of an image: the paths declared as VOLUME, its platform, its size unpacked, and its id."""

    volumes: tuple[str, ...]
    platform: str
    size: int
    image_id: str = ""


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """A container of ours; `pid` is the host's number of its first process, 0 when it has ended."""

    container_id: str
    pid: int = 0
    exit_code: int = 0
    is_out_of_memory: bool = False
    instance: str = ""
    sandbox_id: str = ""


class _Timed(docker.APIClient):  # type: ignore[misc]
    """The SDK's client, whose `pull` asks for no timeout at all."""

    def request(self, method: str, url: str, **options: Any) -> Any:
        if options.get("timeout") is None:
            options["timeout"] = self.timeout
        return super().request(method, url, **options)


def answers(docker_host: str | None = None) -> bool:
    """Whether a daemon is there that lets this user ask."""
    try:
        base = docker_host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        with closing(docker.APIClient(base_url=base, version=PING_VERSION, timeout=PING_S)) as client:
            return bool(client.ping())
    except (errors.DockerException, requests.RequestException, OSError):
        return False


class Client:
    """The daemon's API as far as this engine needs it; safe to use from any thread."""

    def __init__(self, docker_host: str | None) -> None:
        self._host = docker_host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        self._lock = threading.Lock()
        self._clients: dict[float, Any] = {}

    def describe(self) -> str:
        """One line: "Docker 20.10.24, overlay2, cgroup v1". Raises EngineUnavailable."""
        with self._reaching("ask Docker for its version"):
            info = self._client(QUICK_S).info()
        return f"Docker {info['ServerVersion'].split('+')[0]}, {info['Driver']}, cgroup v{info['CgroupVersion']}"

    def gateway(self, network: str) -> str | None:
        """By which address containers of a network see this host; None where they don't. Raises EngineUnavailable."""
        with self._reaching(f"inspect network {network}"):
            try:
                found = self._client(QUICK_S).inspect_network(network)
            except errors.NotFound:
                return None
        return gateway_of(found)

    def image(self, reference: str) -> ImageFacts | None:
        """What is known of an image here, None if it is not here."""
        facts = self._inspect(reference)
        if facts is None:
            return None
        volumes = (facts.get("Config") or {}).get("Volumes") or {}
        return ImageFacts(tuple(volumes), f"{facts['Os']}/{facts['Architecture']}", facts["Size"], facts["Id"])

    def resolve(self, name: str, architecture: str) -> Image | None:
        """An image that is here, pinned by its id; None if there is none of that name. Raises ImageInvalid."""
        facts = self._inspect(name)
        if facts is None:
            return None
        layers = (facts.get("RootFS") or {}).get("Layers") or []
        described = {
            "os": facts["Os"],
            "architecture": facts["Architecture"],
            "rootfs": {"diff_ids": layers},
            "config": facts.get("Config") or {},
        }
        image = manifest.to_image(parse_reference(name), facts["Id"], described, len(layers), architecture)
        return replace(image, reference=f"{LOCAL}{name}@{facts['Id']}")

    def save(self, reference: str, path: Path) -> None:
        """Write an image as `docker save` does. Raises ImageNotFound, EngineUnavailable, OSError."""
        with self._reaching(f"save image {reference}"), path.open("wb") as file:
            try:
                for block in self._client(PULL_S).get_image(reference):
                    file.write(block)
            except errors.NotFound:
                raise ImageNotFound(reference, "Docker does not have it any more") from None

    def _inspect(self, reference: str) -> dict[str, Any] | None:
        with self._reaching(f"look for image {reference}"):
            try:
                return dict(self._client(QUICK_S).inspect_image(reference))
            except errors.NotFound:
                return None

    def pull(self, reference: str, credentials: Credentials | None, on_progress: Progress) -> None:
        """Pull by digest; the daemon verifies manifest and layers. Raises as `Engine.prepare` does."""
        login = {"username": credentials.user, "password": credentials.password} if credentials else {}
        name, _, digest = reference.partition("@")
        with self._reaching(f"pull image {reference}"):
            try:
                lines = self._client(PULL_S).pull(name, tag=digest, stream=True, decode=True, auth_config=login)
                _follow(reference, lines, on_progress)
            except errors.APIError as error:
                raise faults.of_pull(reference, _said(error)) from error

    def create(self, name: str, configuration: Mapping[str, Any]) -> str:
        """Make a container; answers its id. Raises ImageNotFound, SandboxFailed, DiskFull."""
        sandbox_id = configuration["Labels"][LABEL_SANDBOX]
        with self._reaching(f"start sandbox {sandbox_id}"):
            try:
                made = self._client(SLOW_S).create_container_from_config(dict(configuration), name)
            except errors.APIError as error:
                status = error.status_code or 0
                raise faults.of_start(sandbox_id, configuration["Image"], status, _said(error)) from error
        return str(made["Id"])

    def start(self, container_id: str, sandbox_id: str, reference: str) -> None:
        """Start a container. Raises SandboxFailed, DiskFull."""
        with self._reaching(f"start sandbox {sandbox_id}"):
            try:
                self._client(SLOW_S).start(container_id)
            except errors.APIError as error:
                raise faults.of_start(sandbox_id, reference, error.status_code or 0, _said(error)) from error

    def container(self, container_id: str) -> ContainerFacts | None:
        """How a container is, None if it is gone."""
        with self._reaching(f"look at container {container_id}"):
            try:
                state = self._client(QUICK_S).inspect_container(container_id)["State"]
            except errors.NotFound:
                return None
        pid = state["Pid"] if state["Running"] else 0
        return ContainerFacts(container_id, pid, state["ExitCode"], state["OOMKilled"])

    def output(self, container_id: str, lines: int) -> str:
        """The last lines that a container's first process printed itself; "" if there are none."""
        with self._reaching(f"read the output of container {container_id}"):
            try:
                text = self._client(QUICK_S).logs(container_id, tail=lines)
            except errors.APIError:
                return ""
        return bytes(text).decode(errors="replace").strip()[-MAX_OUTPUT:]

    def limit_cpu(self, container_id: str, sandbox_id: str, quota: Quota) -> None:
        """Apply a quota through the daemon. Raises SandboxFailed."""
        with self._reaching(f"limit the CPU time of sandbox {sandbox_id}"):
            try:
                client = self._client(QUICK_S)
                client.update_container(container_id, cpu_period=quota.period_us, cpu_quota=quota.quota_us)
            except errors.APIError as error:
                raise SandboxFailed(f"cannot limit the CPU time of sandbox {sandbox_id}: {_said(error)}") from error

    def remove(self, container: str) -> bool:
        """Kill and remove a container (id or name) and its anonymous volumes; whether there was one."""
        with self._reaching(f"remove container {container}"):
            try:
                self._client(SLOW_S).remove_container(container, force=True, v=True)
            except errors.NotFound:
                return False
            except errors.APIError as error:
                if error.status_code == requests.codes.conflict:  # "removal … is already in progress"
                    return True
                raise EngineUnavailable(f"cannot remove container {container}: {_said(error)}") from error
        return True

    def remove_volume(self, name: str) -> None:
        """Remove a volume, if there is one of that name."""
        with self._reaching(f"remove volume {name}"), suppress(errors.NotFound):
            self._client(SLOW_S).remove_volume(name)

    def unused_volumes(self, owner: str) -> list[str]:
        """Names of an owner's volumes that no container has."""
        with self._reaching("list volumes"):
            filters = {"label": f"{LABEL_OWNER}={owner}", "dangling": "true"}
            listed = self._client(QUICK_S).volumes(filters=filters)
        return [volume["Name"] for volume in listed.get("Volumes") or ()]

    def containers(self, owner: str, *, only_running: bool = False) -> list[ContainerFacts]:
        """Every container of an owner (or only the running ones), without pid."""
        with self._reaching("list containers"):
            filters = {"label": f"{LABEL_OWNER}={owner}"}
            listed = self._client(QUICK_S).containers(all=not only_running, filters=filters)
        return [
            ContainerFacts(
                container_id=entry["Id"],
                instance=entry["Labels"].get(LABEL_INSTANCE, ""),
                sandbox_id=entry["Labels"].get(LABEL_SANDBOX, ""),
            )
            for entry in listed
        ]

    def close(self) -> None:
        """Give the connections back."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _client(self, timeout_s: float) -> Any:
        """The SDK's client with that timeout; made at first use, because making it asks the daemon its version."""
        with self._lock:
            client = self._clients.get(timeout_s)
            if client is None:
                options = docker.utils.kwargs_from_env()
                options["base_url"] = self._host
                client = _Timed(version="auto", timeout=timeout_s, max_pool_size=POOL, **options)
                self._clients[timeout_s] = client
            return client

    @contextmanager
    def _reaching(self, doing: str) -> Iterator[None]:
        """Name the faults of the way to the daemon, and those of its own (5xx) that the caller has not named."""
        try:
            yield
        except errors.APIError as error:
            raise EngineUnavailable(f"cannot {doing}: Docker at {self._host}: {_said(error)}") from error
        # urllib3's own come out of streams.
        except (errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            remedy = faults.remedy(self._host, str(error))
            raise EngineUnavailable(f"cannot {doing}: Docker at {self._host}: {error}; {remedy}") from error


def _follow(reference: str, lines: Iterator[dict[str, Any]], on_progress: Progress) -> None:
    """Report each change of a layer's state once; raise what the daemon reports as an error."""
    states: dict[str, str] = {}
    for line in lines:
        if "error" in line:
            raise faults.of_pull(reference, str(line["error"]))
        layer, status = str(line.get("id", "")), str(line.get("status", ""))
        if status and states.get(layer) != status:
            states[layer] = status
            on_progress(f"{layer}: {status}" if layer else status)


def _said(error: errors.APIError) -> str:
    return str(error.explanation or error).strip()


def gateway_of(network: dict[str, Any]) -> str | None:
    """A bridge's own address; a daemon that has just made its first one leaves out the gateway and names the subnet."""
    configured = (network.get("IPAM") or {}).get("Config") or []
    if told := next((each["Gateway"] for each in configured if each.get("Gateway")), None):
        return str(told)
    if network.get("Driver") != "bridge":
        return None
    subnets = [ipaddress.ip_network(each["Subnet"]) for each in configured if each.get("Subnet")]
    return next((str(subnet[1]) for subnet in subnets), None)
