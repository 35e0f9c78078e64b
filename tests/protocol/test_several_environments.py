"""Several environments behind one port (RIE_ENVIRONMENTS): they serve at once, and each fails alone."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.protocol.emulator import RUNTIME, Answer, Emulator, Start, wait_until

# A runtime that does what its event says. It meets others in a directory: only who runs beside them sees them there.
OBEDIENT = """
import http.client, json, os, sys, time
from pathlib import Path
API, INVOCATION = os.environ["AWS_LAMBDA_RUNTIME_API"], "/2018-06-01/runtime/invocation/"
connection = http.client.HTTPConnection(API)

def ask(method, path, body=None, headers={}):
    connection.request(method, INVOCATION + path, body, headers)
    response = connection.getresponse()
    return response.headers.get("Lambda-Runtime-Aws-Request-Id"), response.read()

count = 0
while True:
    request_id, event = ask("GET", "next")
    count += 1
    event = json.loads(event)
    answer = {"api": API, "stream": os.environ["AWS_LAMBDA_LOG_STREAM_NAME"], "pid": os.getpid(), "count": count}
    if "meet" in event:
        place, others = Path(event["meet"]), event["others"]
        (place / request_id).touch()
        until = time.monotonic() + 20
        while len(list(place.iterdir())) < others and time.monotonic() < until:
            time.sleep(0.01)
        answer["met"] = len(list(place.iterdir()))
    if "stray" in event:
        import subprocess
        stray = subprocess.Popen(["sleep", "300"], start_new_session=True)
        print(f"{event['stray']} is {stray.pid}", flush=True)
    if "wait" in event:
        Path(event["wait"] + ".here").touch()
        while not Path(event["wait"]).exists():
            time.sleep(0.01)
    if "hang" in event:
        time.sleep(60)
    if "print" in event:
        print(event["print"], flush=True)
    if "exit" in event:
        os._exit(event["exit"])
    if "allocate" in event:
        kept = [bytearray(os.urandom(1 << 20)) for _ in range(event["allocate"])]
        time.sleep(60)
    if "pieces" in event:
        connection.putrequest("POST", INVOCATION + request_id + "/response")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
        connection.endheaders()
        for piece in event["pieces"]:
            connection.send(b"%x\\r\\n%s\\r\\n" % (len(piece), piece.encode()))
        connection.send(b"0\\r\\n\\r\\n")
        connection.getresponse().read()
    else:
        ask("POST", request_id + "/response", json.dumps(answer).encode())
"""


@pytest.fixture
def several(emulate: Start) -> Callable[..., Emulator]:
    def start(count: int = 3, before_exec: Callable[[], None] | None = None, **variables: str) -> Emulator:
        command = [sys.executable, "-c", OBEDIENT]
        all_variables = {"AWS_LAMBDA_FUNCTION_TIMEOUT": "30", "RIE_ENVIRONMENTS": str(count), **variables}
        return emulate(None, command, before_exec, **all_variables)

    return start


def at_once(emulator: Emulator, *events: object) -> list[Answer]:
    with ThreadPoolExecutor(len(events)) as callers:
        return list(callers.map(emulator.invoke, events))


def meet(emulator: Emulator, place: Path, count: int) -> list[dict[str, object]]:
    """That many invocations that all run before the first ends."""
    place.mkdir()
    answers = at_once(emulator, *[{"meet": str(place), "others": count}] * count)
    return [answer.document for answer in answers]


def test_as_many_run_at_once_as_there_are_environments(several: Start, tmp_path: Path) -> None:
    answers = meet(several(3), tmp_path / "place", 3)
    assert [answer["met"] for answer in answers] == [3, 3, 3]
    for name in ("api", "stream", "pid"):
        assert len({answer[name] for answer in answers}) == 3


def test_more_callers_than_environments_wait_for_the_first_that_is_free(several: Start, tmp_path: Path) -> None:
    emulator = several(2)
    meet(emulator, tmp_path / "place", 2)
    with ThreadPoolExecutor(9) as callers:
        slow = callers.submit(emulator.invoke, {"wait": str(tmp_path / "go")})
        wait_until((tmp_path / "go.here").exists, 10, lambda: emulator.log)
        others = list(callers.map(lambda _: emulator.invoke({}).document["pid"], range(8)))
        assert len(set(others)) == 1
        (tmp_path / "go").touch()
        assert slow.result().document["pid"] not in others


def test_only_one_environment_begins_until_more_are_needed(several: Start) -> None:
    emulator = several(4)
    pids = {emulator.invoke({}).document["pid"] for _ in range(5)}
    assert len(pids) == 1
    assert emulator.log.count("INIT_START") == 1


def test_one_that_ends_disturbs_no_other(several: Start, tmp_path: Path) -> None:
    emulator = several(2)
    before = {answer["pid"] for answer in meet(emulator, tmp_path / "first", 2)}
    with ThreadPoolExecutor(2) as callers:
        lasting = callers.submit(emulator.invoke, {"wait": str(tmp_path / "go")})
        wait_until((tmp_path / "go.here").exists, 10, lambda: emulator.log)
        assert emulator.invoke({"exit": 3}).document["errorMessage"].endswith("exit status 3")
        assert emulator.invoke({}).document["count"] == 1  # by a new process, while the other is at work
        (tmp_path / "go").touch()
        assert lasting.result().document["count"] == 2
    after = {answer["pid"] for answer in meet(emulator, tmp_path / "second", 2)}
    assert len(before & after) == 1


def test_one_that_takes_too_long_is_reset_alone(several: Start, tmp_path: Path) -> None:
    emulator = several(2, AWS_LAMBDA_FUNCTION_TIMEOUT="2")
    before = {answer["pid"] for answer in meet(emulator, tmp_path / "first", 2)}
    with ThreadPoolExecutor(1) as callers:
        late = callers.submit(emulator.invoke, {"wait": str(tmp_path / "never")})
        wait_until((tmp_path / "never.here").exists, 10, lambda: emulator.log)
        pids = {emulator.invoke({}).document["pid"]}  # by the other, meanwhile
        assert pids < before
        assert late.result().document["errorType"] == "Sandbox.Timedout"
    after = {answer["pid"] for answer in meet(emulator, tmp_path / "second", 2)}
    assert after & before == pids


def test_processes_that_got_away_from_one_end_with_it_and_no_others(several: Start, tmp_path: Path) -> None:
    emulator = several(2, before_exec=adopt_orphans)
    with ThreadPoolExecutor(1) as callers:
        lasting = callers.submit(emulator.invoke, {"stray": "ann", "wait": str(tmp_path / "go")})
        wait_until((tmp_path / "go.here").exists, 10, lambda: emulator.log)
        assert "errorType" in emulator.invoke({"stray": "bob", "exit": 1}).document
        pids = {name: int(pid) for name, pid in re.findall(r"(ann|bob) is (\d+)", emulator.log)}
        wait_until(lambda: not _lives(pids["bob"]), 10, lambda: "it lives")
        assert _lives(pids["ann"])
        (tmp_path / "go").touch()
        assert lasting.result().document["count"] == 1
    assert emulator.stop() == 0
    wait_until(lambda: not _lives(pids["ann"]), 10, lambda: "it lives")


def adopt_orphans() -> None:
    """As the first process of a container does."""
    import ctypes

    pr_set_child_subreaper = 36
    assert ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0) == 0


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_memory_is_each_ones_own(several: Start, tmp_path: Path) -> None:
    emulator = several(2, AWS_LAMBDA_FUNCTION_MEMORY_SIZE="100")
    meet(emulator, tmp_path / "place", 2)
    with ThreadPoolExecutor(1) as callers:
        lasting = callers.submit(emulator.invoke, {"wait": str(tmp_path / "go")})
        wait_until((tmp_path / "go.here").exists, 10, lambda: emulator.log)
        greedy = emulator.invoke({"allocate": 150})
        assert greedy.document["errorMessage"].endswith("signal: killed")
        assert "[2] rie: the function held more than its 100 MB and was killed\n" in emulator.log
        assert "Error Type: Runtime.OutOfMemory" in emulator.log
        (tmp_path / "go").touch()
        assert lasting.result().document["count"] == 2


def test_every_line_says_whose_it_is_and_a_callers_tail_has_its_own_alone(several: Start, tmp_path: Path) -> None:
    emulator = several(2)
    events: list[object] = [
        {"meet": str(tmp_path / "place"), "others": 2, "print": f"{name}-1\n{name}-2"} for name in ("ann", "bob")
    ]
    (tmp_path / "place").mkdir()
    with ThreadPoolExecutor(2) as callers:
        answers = list(callers.map(lambda event: emulator.invoke(event, X_Amz_Log_Type="Tail"), events))
    import base64

    tails = [base64.b64decode(answer.headers["x-amz-log-result"]).decode() for answer in answers]
    for tail, own, other in zip(tails, ("ann", "bob"), ("bob", "ann"), strict=True):
        assert f"{own}-1\n{own}-2\n" in tail
        assert other not in tail
    lines = emulator.log.splitlines()
    assert all(re.match(r"\[[12]\] ", line) for line in lines), lines
    by_name = {name: {line[:4] for line in lines if name in line} for name in ("ann", "bob")}
    assert sorted(mark for marks in by_name.values() for mark in marks) == ["[1] ", "[2] "]


def test_lines_that_are_json_stay_json(several: Start) -> None:
    emulator = several(2, AWS_LAMBDA_LOG_FORMAT="JSON")
    line = '{"message": "hello", "timestamp": "2026-01-01T00:00:00Z"}'
    emulator.invoke({"print": line})
    emulator.wait_for(f"\n{line}\n")


def test_streams_come_from_each(several: Start, tmp_path: Path) -> None:
    emulator = several(2)
    meet(emulator, tmp_path / "place", 2)
    path = "/2021-11-15/functions/fn/response-streaming-invocations"
    (tmp_path / "second").mkdir()

    def stream(name: str) -> bytes:
        event = {"meet": str(tmp_path / "second"), "others": 2, "pieces": [f"<{name}", f"{name}>"]}
        return emulator.ask("POST", path, json.dumps(event).encode()).body

    with ThreadPoolExecutor(2) as callers:
        one, two = callers.map(stream, ("a", "b"))
    assert b"<a" in one and b"a>" in one and b"b>" not in one
    assert b"<b" in two and b"b>" in two


def test_http_requests_go_to_whoever_is_free(emulate: Start) -> None:
    script = [["next"], ["sleep", 0.2], ["response", '{"statusCode": 201, "body": "made"}']] * 9
    command = [sys.executable, str(RUNTIME), json.dumps(script)]
    emulator = emulate(None, command, RIE_ENVIRONMENTS="3", RIE_HTTP="1", AWS_LAMBDA_FUNCTION_TIMEOUT="30")
    with ThreadPoolExecutor(9) as callers:
        answers = list(callers.map(lambda n: emulator.ask("GET", f"/orders/{n}"), range(9)))
    assert {(answer.status, answer.body) for answer in answers} == {(201, b"made")}
    log = emulator.log
    assert {mark for mark in ("[1] START", "[2] START", "[3] START") if mark in log} > {"[1] START"}


def test_when_files_change_every_environment_begins_anew(several: Start, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    emulator = several(2, RIE_WATCH=str(tmp_path / "code"))
    before = {answer["pid"] for answer in meet(emulator, tmp_path / "first", 2)}
    (tmp_path / "code" / "app.py").touch()
    emulator.wait_for("has changed")
    after = {answer["pid"] for answer in meet(emulator, tmp_path / "second", 2)}
    assert not before & after


def test_many_environments_may_have_runtimes_that_take_many(emulate: Start, tmp_path: Path) -> None:
    functions = Path(__file__).parents[1] / "functions"
    emulator = emulate(
        command=[sys.executable, "-m", "awslambdaric", "app.handler"],
        AWS_LAMBDA_MAX_CONCURRENCY="2",
        RIE_ENVIRONMENTS="2",
        RIE_WORKING_DIRECTORY=str(functions),
        AWS_LAMBDA_FUNCTION_TIMEOUT="30",
    )
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda n: emulator.invoke({"n": n}).document, range(60)))
    assert answers == [{"n": number} for number in range(60)]


def test_a_call_that_is_refused_leaves_its_place_in_the_environment_to_others(emulate: Start) -> None:
    """Else the next call would begin a second environment."""
    script = [["next"], ["sleep", 1], ["response", "1"], ["loop"]]
    emulator = emulate(script, AWS_LAMBDA_MAX_CONCURRENCY="2", RIE_ENVIRONMENTS="2", AWS_LAMBDA_FUNCTION_TIMEOUT="20")
    name = {"X_Amzn_RequestId": "11111111-2222-4333-8444-555555555555"}
    with ThreadPoolExecutor(2) as callers:
        first = callers.submit(emulator.invoke, {}, **name)
        emulator.wait_for("[1] START")
        assert emulator.invoke({}, **name).status == 400
        second = callers.submit(emulator.invoke, {})
        assert [first.result(10).status, second.result(10).status] == [200, 200]
    assert "[2] " not in emulator.log


def test_sigterm_ends_all_of_them(several: Start, tmp_path: Path) -> None:
    emulator = several(2)
    pids = {int(str(answer["pid"])) for answer in meet(emulator, tmp_path / "place", 2)}
    with ThreadPoolExecutor(3) as callers:
        calls = [callers.submit(emulator.invoke, {"hang": True}) for _ in range(3)]
        wait_until(lambda: emulator.log.count("START RequestId") >= 4, 10, lambda: emulator.log)
        assert emulator.stop() == 0
        assert {call.result().status for call in calls} == {503}
    assert not any(_lives(pid) for pid in pids)


def test_lazily_the_first_environment_begins_with_the_first_call(several: Start) -> None:
    emulator = several(2, RIE_INIT="lazy")
    assert "INIT_START" not in emulator.log
    assert emulator.invoke({}).document["count"] == 1
    assert emulator.invoke({}).document["count"] == 2


@pytest.mark.parametrize("value", ["0", "x", "1.5", "65"])
def test_a_number_that_makes_no_sense_is_named(emulate: Start, value: str) -> None:
    emulator = emulate([["loop"]], RIE_ENVIRONMENTS=value)
    assert emulator.process.wait(5) == 2
    assert "cannot read RIE_ENVIRONMENTS" in emulator.log


def test_the_variable_is_not_the_functions(several: Start) -> None:
    emulator = several(2)
    pid = emulator.invoke({}).document["pid"]
    assert b"RIE_ENVIRONMENTS" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert os.path.exists(f"/proc/{pid}")
