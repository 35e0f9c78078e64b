"""The real bootstrap as a process of this machine, with a scripted runtime below it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "tests" / "functions" / "runtime.py"


@dataclass
class Answer:
    """What a caller got; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class Emulator:
    """A running bootstrap."""

    process: subprocess.Popen[bytes]
    port: int
    runtime_port: int
    log_path: Path
    socket_path: str = ""
    connections: list[http.client.HTTPConnection] = field(default_factory=list)

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.connections.append(connection)
        return connection

    def invoke(self, event: Any = None, name: str = "fn", connection: Any = None, **headers: str) -> Answer:
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        path = f"/2015-03-31/functions/{name}/invocations"
        return self.ask("POST", path, body, connection, **headers)

    def ask(self, method: str, path: str, body: bytes = b"", connection: Any = None, **headers: str) -> Answer:
        own = connection is None
        connection = connection or self.connect()
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        if own:
            connection.close()
        return answer

    @property
    def log(self) -> str:
        """What has been logged until now; lines wait up to 10 ms to be written."""
        time.sleep(0.02)
        return self.log_path.read_text()

    def steps(self, count: int = 0) -> list[dict[str, Any]]:
        """What the Runtime API has answered to the script's steps so far, which are `count` at least."""
        wait_until(lambda: self.log.count("step ") >= count, 10, lambda: self.log)
        return [json.loads(line[5:]) for line in self.log.splitlines() if line.startswith("step ")]

    def wait_for(self, text: str, within_s: float = 10.0) -> str:
        """The log, once it holds `text`."""
        wait_until(lambda: text in self.log, within_s, lambda: f"{text!r} not in:\n{self.log}")
        return self.log

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


def wait_until(condition: Callable[[], bool], within_s: float, otherwise: Callable[[], str]) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, otherwise()
        time.sleep(0.01)


def failing_once(directory: Path, script: list[object]) -> list[str]:
    """A command that ends with status 1 in its first init, and runs the script from then on."""
    flag = directory / "has-failed"
    runtime = f"exec {sys.executable} {RUNTIME} '{json.dumps(script)}'"
    return ["/bin/sh", "-c", f"if [ -e {flag} ]; then {runtime}; fi; touch {flag}; exit 1"]


Start = Callable[..., Emulator]


@pytest.fixture
def emulate(tmp_path: Path) -> Iterator[Start]:
    """Start a bootstrap over a script of steps (or another command); variables as keyword arguments."""
    started: list[Emulator] = []

    def start(
        script: list[Any] | None = None,
        command: list[str] | None = None,
        before_exec: Callable[[], None] | None = None,
        **variables: str,
    ) -> Emulator:
        port, runtime_port = free_port(), free_port()
        argv = command or [sys.executable, str(RUNTIME), json.dumps(script)]
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "RIE_ADDRESS": f"127.0.0.1:{port}",
            "RIE_RUNTIME_API": f"127.0.0.1:{runtime_port}",
            "RIE_USER": "root",
            **variables,
        }
        log_path = tmp_path / f"log-{len(started)}"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-S", "-m", "bootstrap", *argv],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=tmp_path,
                preexec_fn=before_exec,
            )
        emulator = Emulator(process, port, runtime_port, log_path, variables.get("RIE_SOCKET", ""))
        started.append(emulator)
        wait_until(lambda: _listens(emulator), 10, lambda: f"it does not listen:\n{emulator.log}")
        return emulator

    yield start
    for emulator in started:
        for connection in emulator.connections:
            connection.close()
        if emulator.process.poll() is None:
            children = Path(f"/proc/{emulator.process.pid}/task/{emulator.process.pid}/children").read_text().split()
            emulator.process.kill()
            emulator.process.wait()
            for child in children:  # who does not notice that nobody is there any more; each leads a group of its own
                with suppress(ProcessLookupError):
                    os.killpg(int(child), signal.SIGKILL)


def _listens(emulator: Emulator) -> bool:
    if emulator.process.poll() is not None:
        return True
    if emulator.socket_path:
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(emulator.socket_path) == 0
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", emulator.port)) == 0
