"""A manager as a process, over the stub engine: started, killed and started again in a second."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.ports import free_port

START_S = 60.0
ROLE = "arn:aws:iam::123456789012:role/tests"


@dataclass
class Answer:
    """Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)


@dataclass
class StubManager:
    """`rie serve --engine stub`."""

    directory: Path
    port: int = 0
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    secret: str = "testing"  # what its clients sign with; the key is "testing"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> StubManager:
        self.port = self.port or free_port()
        (self.directory / "bundle").mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "rie", "serve", "--engine", "stub", "--port", str(self.port)]
        command += ["--data", str(self.directory / "data"), *self.arguments]
        environment = {**os.environ, "RIE_BUNDLE": str(self.directory / "bundle"), **self.environment}
        with (self.directory / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        until = time.monotonic() + START_S
        while not self._answers():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < until, self.log
            time.sleep(0.02)
        return self

    def kill(self) -> None:
        """SIGKILL, to the worker as well as to the process that watches it."""
        assert self.process is not None
        import psutil

        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for each in family:
            each.kill()
        self.process.wait()
        psutil.wait_procs(family, timeout=20)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    @property
    def log(self) -> str:
        return (self.directory / "serve.log").read_text()

    def get(self, path: str) -> Any:
        """What the manager itself answers there, below /_rie/."""
        with urllib.request.urlopen(f"{self.endpoint}{path}", timeout=10) as answer:
            return json.loads(answer.read())

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """One request, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            raw = response.read()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, raw)

    @property
    def worker_pid(self) -> int:
        """The process that does the work."""
        assert self.process is not None
        import psutil

        return int(psutil.Process(self.process.pid).children()[0].pid)

    def client(self, **more: Any) -> Any:
        return self.client_of("lambda", **more)

    def client_of(self, service: str, **more: Any) -> Any:
        """A boto3 client of one of the services that the manager answers for."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key=self.secret,
            config=Config(retries={"total_max_attempts": 1}, **more),
        )

    def create(self, name: str, behaviour: str = "echo", **more: Any) -> str:
        """A function that does what one of the stub engine's does; its ARN, once it is active."""
        client = self.client()
        image = {"PackageType": "Image", "Code": {"ImageUri": f"stub/{behaviour}:1"}, "Role": ROLE}
        arn = client.create_function(FunctionName=name, **image, **more)["FunctionArn"]
        client.get_waiter("function_active_v2").wait(
            FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400}
        )
        return str(arn)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/_rie/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def stub_managing(directory: Path, *arguments: str, port: int = 0, **environment: str) -> Iterator[StubManager]:
    """A running one, at any port unless one is given; stopped in the end."""
    directory.mkdir(parents=True, exist_ok=True)
    manager = StubManager(directory, port, arguments, environment).start()
    try:
        yield manager
    finally:
        if manager.process is not None and manager.process.poll() is None:
            assert manager.stop() == 0
