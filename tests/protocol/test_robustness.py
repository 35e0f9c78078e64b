"""What must not bring the bootstrap down, nor make it wait or spin for ever."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import struct
import sys
import threading
import time
from pathlib import Path

import pytest

from bootstrap.packing import pack
from tests.protocol.emulator import Emulator, Start, wait_until

LOOP = [["loop"]]


@pytest.mark.parametrize("command", [["/bin/false"], ["/bin/true"], ["/bin/sh", "-c", "exit 3"]])
def test_a_runtime_that_ends_before_anything_else_happens_is_noticed(emulate: Start, command: list[str]) -> None:
    for _ in range(5):
        emulator = emulate(command=[*command])
        started = time.monotonic()
        assert emulator.invoke({}).document["errorType"] == "Runtime.ExitError"
        assert time.monotonic() - started < 3
        assert emulator.stop() == 0


def test_a_function_that_takes_every_connection_of_the_runtime_api_harms_itself_only(emulate: Start) -> None:
    emulator = emulate([["next"], ["sleep", 0.5], ["response", "1"], ["loop"]])
    greedy = [socket.create_connection(("127.0.0.1", emulator.runtime_port)) for _ in range(300)]
    assert emulator.invoke({}).body == b"1"
    assert emulator.invoke({"a": 1}).document == {"a": 1}
    assert len(os.listdir(f"/proc/{emulator.process.pid}/fd")) < 250
    for sock in greedy:
        sock.close()
    assert emulator.invoke({"a": 2}).document == {"a": 2}


def test_idle_callers_make_room_for_others_and_both_doors_stay_open(emulate: Start) -> None:
    emulator = emulate([["next"], ["response", "1"], ["exit", 0]])
    idle = []
    for _ in range(900):
        idle.append(socket.create_connection(("127.0.0.1", emulator.port)))
    for _ in range(3):
        assert emulator.invoke({}).body == b"1"  # each needs a new runtime, and so its connection
    for sock in idle:
        sock.close()
    assert emulator.invoke({}).body == b"1"


def test_a_process_may_be_named_anything(emulate: Start) -> None:
    name = "import ctypes; ctypes.CDLL(None).prctl(15, b'VmHWM:evilkB', 0, 0, 0); "
    runtime = Path(__file__).parents[1] / "functions" / "runtime.py"
    script = f"{name} import sys; sys.argv = ['x', '[[\"loop\"]]']; exec(open('{runtime}').read())"
    emulator = emulate(command=[sys.executable, "-c", script])
    assert emulator.invoke({"a": 1}).document == {"a": 1}
    used = int(emulator.wait_for("Max Memory Used: ").partition("Max Memory Used: ")[2].split()[0])
    assert 5 < used < 200


def test_a_client_context_is_passed_on_byte_for_byte(emulate: Start) -> None:
    emulator = emulate([["next"], ["response", "1"], ["next"]])
    context = '{"custom":{"n":"é 漢"}}'
    emulator.invoke({}, X_Amz_Client_Context=base64.b64encode(context.encode()).decode())
    got = emulator.steps()[0]["headers"]["Lambda-Runtime-Client-Context"]
    assert got.encode("latin-1").decode() == context


def test_requests_that_come_together_are_all_answered_in_order(emulate: Start) -> None:
    emulator = emulate(LOOP)
    ping = b"GET /2018-06-01/ping HTTP/1.1\r\n\r\n"
    with socket.create_connection(("127.0.0.1", emulator.runtime_port)) as sock:
        sock.sendall(ping * 50)
        wait_until(lambda: sock.recv(1 << 20, socket.MSG_PEEK).count(b"pong") == 50, 5, lambda: "some are lost")
    call = b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nContent-Length: 1\r\n\r\n%d"
    with socket.create_connection(("127.0.0.1", emulator.port)) as sock:
        sock.sendall(b"".join(call % number for number in range(10)))
        wait_until(lambda: sock.recv(1 << 20, socket.MSG_PEEK).count(b"HTTP/1.1 200") == 10, 5, lambda: "lost")
        bodies = [part[-1:] for part in sock.recv(1 << 20).split(b"HTTP/1.1 200")[1:]]
    assert bodies == [b"%d" % number for number in range(10)]


def test_a_caller_that_resets_its_connection_does_not_make_the_process_spin(emulate: Start) -> None:
    emulator = emulate([["next"], ["sleep", 1.5], ["response", "1"], ["loop"]])
    sock = socket.create_connection(("127.0.0.1", emulator.port))
    sock.sendall(b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
    emulator.wait_for("\nSTART ")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    before = _cpu_ticks(emulator)
    sock.close()
    emulator.wait_for("REPORT")
    assert _cpu_ticks(emulator) - before < 50
    assert emulator.invoke({"a": 1}).document == {"a": 1}


def _cpu_ticks(emulator: Emulator) -> int:
    fields = Path(f"/proc/{emulator.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.parametrize("where", ["process", "child"])
def test_too_much_memory_is_an_oom_where_the_container_has_no_limit(emulate: Start, where: str) -> None:
    step = ["allocate", 400] if where == "process" else ["allocate-in-child", 400]
    variables = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "200", "AWS_LAMBDA_FUNCTION_TIMEOUT": "60"}
    emulator = emulate([["next"], step, ["response", "1"], ["loop"]], **variables)
    answer = emulator.invoke({})
    assert answer.document["errorType"] == "Runtime.ExitError"
    assert answer.document["errorMessage"].endswith("signal: killed")
    log = emulator.wait_for("REPORT")
    assert "rie: the function held more than its 200 MB and was killed\n" in log
    assert "Status: error\tError Type: Runtime.OutOfMemory" in log


def test_memory_is_no_limit_unless_somebody_asked_for_it(emulate: Start) -> None:
    script = [["next"], ["allocate", 300], ["response", "1"], ["next"]]
    emulator = emulate(script, AWS_LAMBDA_FUNCTION_TIMEOUT="60")  # what it allocates it fills
    assert emulator.invoke({}).body == b"1"
    used = int(emulator.wait_for("Max Memory Used: ").partition("Max Memory Used: ")[2].split()[0])
    assert used > 300


# -- under a manager ---------------------------------------------------------------------------------------------------


class Managed:
    """A bootstrap that listens on a UNIX socket and logs into a file, as the manager has it."""

    def __init__(self, emulate: Start, directory: Path, script: list, **variables: str) -> None:
        self.socket = str(directory / "front")
        self._log = directory / "log"
        self._log.touch()
        seen = {"AWS_LAMBDA_FUNCTION_TIMEOUT": "3", "LD_PRELOAD": "/no/such/library.so", **variables}
        self.emulator = emulate(
            script, RIE_SOCKET=self.socket, RIE_LOG=str(self._log), RIE_VARIABLES=pack(seen), UNSEEN="1"
        )

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("sandbox", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self.socket)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        answer = response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        connection.close()
        return answer

    @property
    def log(self) -> str:
        time.sleep(0.02)  # lines wait up to 10 ms to be written
        return self._log.read_text()

    def invoke(self, **headers: str) -> tuple[int, dict[str, str], bytes]:
        return self.ask("POST", "/2015-03-31/functions/fn/invocations", b"{}", **headers)


def test_the_manager_hears_of_the_end_of_init_and_of_each_invocation(emulate: Start, tmp_path: Path) -> None:
    script = [["sleep", 0.3], ["next"], ["response", "1"], ["sleep", 0.5], ["next"], ["response", "2"], ["next"]]
    managed = Managed(emulate, tmp_path, script)
    status, _, body = managed.ask("GET", "/_rie/init")
    assert status == 200
    assert json.loads(body)["status"] == "success"
    assert json.loads(body)["durationMs"] > 300
    status, headers, body = managed.invoke(X_Rie_Function_Arn="arn:given")
    assert (status, body) == (200, b"1")
    assert headers["x-rie-report"].split(";")[3] != ""
    started = time.monotonic()
    assert managed.ask("GET", "/_rie/idle")[0] == 200
    assert time.monotonic() - started > 0.3
    assert managed.invoke()[2] == b"2"


def test_an_invocation_that_may_not_wait_is_turned_away_and_has_not_run(emulate: Start, tmp_path: Path) -> None:
    managed = Managed(emulate, tmp_path, [["next"], ["response", "1"], ["sleep", 0.5], ["loop"]])
    managed.ask("GET", "/_rie/init")
    assert managed.invoke(X_Rie_Patience="0.05")[0] == 200
    status, headers, _ = managed.invoke(X_Rie_Patience="0.05")
    assert (status, headers["x-amzn-errortype"]) == (409, "ResourceConflictException")
    assert managed.invoke(X_Rie_Patience="5")[0] == 200
    wait_until(lambda: "START" in managed.log and managed.log.count("REPORT") == 2, 10, lambda: managed.log)


def test_the_functions_variables_reach_the_function_and_not_the_bootstrap(emulate: Start, tmp_path: Path) -> None:
    managed = Managed(emulate, tmp_path, [["environment"], ["loop"]], MINE="a=b\nc")
    managed.ask("GET", "/_rie/init")
    line = next(line for line in managed.log.splitlines() if line.startswith("environment "))
    seen = json.loads(line.partition(" ")[2])
    assert seen["MINE"] == "a=b\nc"
    assert seen["LD_PRELOAD"] == "/no/such/library.so"
    assert "UNSEEN" not in seen
    assert not [name for name in seen if name.startswith("RIE_")]
    own = Path(f"/proc/{managed.emulator.process.pid}/environ").read_bytes()
    assert b"LD_PRELOAD" not in own


def test_many_at_once_are_each_told(emulate: Start, tmp_path: Path) -> None:
    managed = Managed(emulate, tmp_path, LOOP)
    answers: list[int] = []
    callers = [threading.Thread(target=lambda: answers.append(managed.invoke()[0])) for _ in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert answers == [200] * 20
