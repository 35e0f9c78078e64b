"""Real clients against a real manager, real engines and a real registry."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import docker
import pytest
from botocore.config import Config

from tests.ports import free_port
from tests.registry import Registry, serving

ROOT = Path(__file__).parents[2]
DOCKER = "/usr/bin/docker" if os.path.exists("/usr/bin/docker") else "docker"
ROLE = "arn:aws:iam::123456789012:role/tests"
DOCKERFILE = "FROM {base}\nCOPY app.py /var/task/\n"


def wait_until(condition: Callable[[], Any], within_s: float, otherwise: str) -> Any:
    until = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < until, otherwise
        time.sleep(0.05)
    return value


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env(timeout=60)
    client.ping()  # without an engine these tests fail; they are never skipped
    yield client
    client.close()


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    with serving() as running:
        yield running


def build_and_push(base: str, reference: str, directory: Path) -> str:
    """Build the test function on a base image and push it; returns the reference."""
    shutil.copy(ROOT / "tests" / "functions" / "app.py", directory)
    (directory / "Dockerfile").write_text(DOCKERFILE.format(base=base))
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    for command in (["build", "-q", "-t", reference, str(directory)], ["push", "-q", reference]):
        subprocess.run([DOCKER, *command], check=True, capture_output=True, env=environment)
    return reference


@pytest.fixture(scope="session")
def image(registry: Registry, engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The test function on rie/python, in the registry."""
    reference = registry.reference("tests/function", "1")
    build_and_push("rie/python:3.11", reference, tmp_path_factory.mktemp("image"))
    yield reference
    _remove_images(engine, registry.host)


def _remove_images(engine: docker.DockerClient, host: str) -> None:
    for image in engine.images.list():
        names = [*image.tags, *(image.attrs.get("RepoDigests") or [])]
        for name in names:
            if name.startswith(host):
                with contextlib.suppress(docker.errors.APIError):
                    engine.images.remove(name, force=True)


@dataclass
class Manager:
    """A running `rie serve`."""

    data: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def owner(self) -> str:
        return (self.data / "owner").read_text().strip()

    def start(self) -> Manager:
        with (self.data / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "rie",
                    "serve",
                    "--port",
                    str(self.port),
                    "--data",
                    str(self.data),
                    *self.arguments,
                ],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self.answers, 60, f"the manager does not answer:\n{self.log}")
        return self

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the manager ended:\n{self.log}"
        with contextlib.suppress(OSError):
            self.get("/_rie/health")
            return True
        return False

    def get(self, path: str) -> Any:
        import urllib.request

        with urllib.request.urlopen(f"{self.endpoint}{path}", timeout=10) as response:
            return json.loads(response.read())

    @property
    def log(self) -> str:
        return (self.data / "serve.log").read_text()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        """SIGKILL to all of its processes at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def client(self, key: str = "test", secret: str = "test", **options: Any) -> Any:
        return boto3.client(
            "lambda",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 1}, max_pool_connections=100, read_timeout=120, **options),
        )

    def sandboxes(self, engine: docker.DockerClient) -> list[str]:
        """This manager's containers, whatever their state, and the directories of its other sandboxes."""
        containers = [
            container.id
            for container in engine.containers.list(all=True, ignore_removed=True)
            if self.owner in json.dumps(container.labels)
        ]
        places = (self.data / "sandboxes" / self.owner).glob("engine-*/*")
        return containers + [str(path) for path in places if path.is_dir() and path.name != "stage"]

    def mounts(self) -> list[str]:
        return [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(self.data) in line]


@contextlib.contextmanager
def managing(data: Path, *arguments: str, **environment: str) -> Iterator[Manager]:
    manager = Manager(data, free_port(), environment=environment, arguments=arguments)
    try:
        yield manager.start()
    finally:
        if manager.process is not None and manager.process.poll() is None:
            manager.stop()


@pytest.fixture(scope="session")
def engine_name() -> str:
    """The engine that the manager runs on; what a module is run over is said in conftest.py."""
    return "oci"


@pytest.fixture(scope="session")
def manager(
    engine_name: str, engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Manager]:
    with managing(tmp_path_factory.mktemp("data"), "--engine", engine_name) as running:
        yield running
        assert running.stop() == 0
        assert running.sandboxes(engine) == []
        assert running.mounts() == []


@pytest.fixture(scope="session")
def client(manager: Manager) -> Any:
    return manager.client()


@dataclass
class Deployed:
    """A function that is there."""

    client: Any
    name: str

    def invoke(self, event: Any = None, **options: Any) -> Answer:
        answer = self.client.invoke(
            FunctionName=self.name, Payload=json.dumps(event or {}).encode(), LogType="Tail", **options
        )
        import base64

        tail = base64.b64decode(answer.get("LogResult", "")).decode("utf-8", "replace")
        return Answer(json.loads(answer["Payload"].read()), answer.get("FunctionError"), tail, answer)

    def log(self, manager: Manager) -> str:
        """Everything that the function has logged."""
        import urllib.request

        url = f"{manager.endpoint}/_rie/logs?group=/aws/lambda/{self.name}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return "\n".join(json.loads(line)["text"] for line in response)


@dataclass
class Answer:
    payload: Any
    error: str | None
    tail: str
    raw: dict[str, Any]

    @property
    def request_id(self) -> str:
        return str(self.raw["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"])


def create(client: Any, image: str, **options: Any) -> Deployed:
    name = options.pop("FunctionName", f"f-{uuid.uuid4().hex[:10]}")
    client.create_function(
        FunctionName=name,
        Role=ROLE,
        PackageType="Image",
        Code={"ImageUri": image},
        **{"Timeout": 10, "MemorySize": 256, **options},
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.1})
    return Deployed(client, name)


@pytest.fixture
def deploy(client: Any, image: str) -> Iterator[Callable[..., Deployed]]:
    """Create functions of the test image; they are deleted after the test."""
    made: list[Deployed] = []

    def make(**options: Any) -> Deployed:
        made.append(create(options.pop("client", client), options.pop("image", image), **options))
        return made[-1]

    yield make
    for function in made:
        with contextlib.suppress(client.exceptions.ResourceNotFoundException):
            function.client.delete_function(FunctionName=function.name)
