"""The manager as a process: restarts, kills, idle eviction, and the command line."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.e2e.world import Manager, create, managing, wait_until

RIE = [sys.executable, "-m", "rie"]


@pytest.fixture(scope="module", autouse=True)
def second(manager: Manager) -> Iterator[subprocess.Popen[str]]:
    """Another manager on the same data: it waits ten seconds for the first to go, beside the tests of this module."""
    command = [*RIE, "serve", "--port", "0", "--data", str(manager.data)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def rie(manager: Manager, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RIE_ENDPOINT": manager.endpoint, "AWS_REGION": "us-east-1"}
    return subprocess.run([*RIE, *arguments], input=stdin, capture_output=True, text=True, env=environment, timeout=60)


def test_functions_survive_a_restart_and_nothing_else_does(
    image: str, engine: docker.DockerClient, tmp_path: Path
) -> None:
    with managing(tmp_path) as manager:
        function = create(manager.client(), image, Description="kept", Environment={"Variables": {"MINE": "b"}})
        before = manager.client().get_function(FunctionName=function.name)["Configuration"]
        function.invoke()
        assert len(manager.sandboxes(engine)) == 1
        assert manager.stop() == 0
        assert manager.sandboxes(engine) == []
        assert manager.mounts() == []
        manager.start()
        after = manager.client().get_function(FunctionName=function.name)["Configuration"]
        assert after == before
        assert function.invoke({"a": 1}).payload == {"a": 1}


@pytest.mark.parametrize("name", ["oci", "docker"])
def test_a_killed_manager_leaves_nothing_behind_once_it_is_started_again(
    name: str, image: str, engine: docker.DockerClient, tmp_path: Path
) -> None:
    with managing(tmp_path, "--engine", name) as manager:
        names = [create(manager.client(), image, MemorySize=128).name for _ in range(2)]
        for _ in range(2):
            ends = [threading.Event() for _ in range(6)]
            callers = [threading.Thread(target=_call_until, args=(manager, names, end)) for end in ends]
            for caller in callers:
                caller.start()
            wait_until(lambda: len(manager.sandboxes(engine)) >= 4, 60, "there is no load")
            time.sleep(random.uniform(0, 0.5))
            manager.kill()
            for end in ends:
                end.set()
            left = set(manager.sandboxes(engine))
            assert left, "the kill came too late to test anything"
            manager.start()
            assert left.isdisjoint(manager.sandboxes(engine))
            assert [line for line in manager.mounts() if _is_of_no_environment(manager, line)] == []
            for caller in callers:
                caller.join()
            found = [f["FunctionName"] for f in manager.client().list_functions()["Functions"]]
            assert sorted(found) == sorted(names)
        assert manager.stop() == 0
        assert manager.sandboxes(engine) == []
        assert manager.mounts() == []
        left_over = [path.name for path in (tmp_path / "sandboxes").rglob("*") if path.is_socket() or path.is_fifo()]
        assert left_over == []


def _call_until(manager: Manager, names: list[str], end: threading.Event) -> None:
    client = manager.client()
    while not end.is_set():
        try:
            client.invoke(FunctionName=random.choice(names), Payload=b'{"verb":"sleep","seconds":0.2}')
        except Exception:  # the manager is killed under it
            time.sleep(0.05)


def _is_of_no_environment(manager: Manager, line: str) -> bool:
    return not any(row["environment"] in line for row in manager.get("/_rie/environments"))


def test_idle_environments_are_evicted_after_the_time_that_was_set(
    image: str, engine: docker.DockerClient, tmp_path: Path
) -> None:
    with managing(tmp_path, "--idle", "1") as manager:
        function = create(manager.client(), image)
        function.invoke()
        assert len(manager.sandboxes(engine)) == 1
        wait_until(lambda: manager.sandboxes(engine) == [], 15, "the idle sandbox is still there")
        assert "Init Duration" in function.invoke().tail


def test_without_a_word_the_daemonless_engine_runs_and_the_manager_says_why(manager: Manager, tmp_path: Path) -> None:
    with managing(tmp_path) as picked:
        assert "engine oci, without a daemon: Linux" in picked.log
        assert "(oci because: Linux with root)" in picked.log
    assert "because" not in manager.log


def test_a_second_manager_on_the_same_data_is_refused(second: subprocess.Popen[str], manager: Manager) -> None:
    _, errors = second.communicate(timeout=60)
    assert second.returncode != 0
    assert "another manager holds it" in errors
    assert manager.answers()


def test_running_invocations_are_waited_for_at_sigterm(image: str, tmp_path: Path) -> None:
    with managing(tmp_path) as manager:
        function = create(manager.client(), image)
        function.invoke()
        answers: list[Any] = []
        caller = threading.Thread(
            target=lambda: answers.append(function.invoke({"verb": "sleep", "seconds": 3}).payload)
        )
        caller.start()
        wait_until(lambda: manager.get("/_rie/environments")[0]["state"] == "busy", 10, "it does not run")
        assert manager.stop() == 0
        caller.join()
        assert answers[0]["ended"] - answers[0]["started"] >= 3


def test_the_command_line_invokes_lists_and_shows_logs(manager: Manager, client: Any, image: str) -> None:
    function = create(client, image)
    try:
        run = rie(manager, "invoke", function.name, '{"a": 1}', "--log")
        assert (run.returncode, json.loads(run.stdout)) == (0, {"a": 1})
        assert "REPORT RequestId" in run.stderr
        run = rie(manager, "invoke", function.name, "-", stdin='{"verb": "fail"}')
        assert run.returncode == 3
        assert json.loads(run.stdout)["errorType"] == "ValueError"
        rows = json.loads(rie(manager, "ps", "--json").stdout)
        (row,) = [row for row in rows if row["function"] == function.name]
        assert (row["state"], row["invocations"]) == ("idle", 2)
        table = rie(manager, "ps").stdout
        assert row["environment"][:12] in table
        assert "\x1b[" not in table
        wait_until(lambda: rie(manager, "logs", function.name).stdout.count("REPORT") == 2, 10, "no log")
        lines = [json.loads(line) for line in rie(manager, "logs", function.name, "--json").stdout.splitlines()]
        assert all(set(line) == {"atMs", "stream", "text"} for line in lines)
    finally:
        client.delete_function(FunctionName=function.name)


def test_the_log_can_be_followed(manager: Manager, client: Any, image: str) -> None:
    function = create(client, image)
    command = [*RIE, "logs", function.name, "--follow", "--endpoint", manager.endpoint]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        function.invoke({"verb": "log", "text": "seen live "})
        assert follower.stdout is not None
        for line in follower.stdout:
            if "seen live 0" in line:
                break
    finally:
        follower.kill()
        follower.wait()
        follower.stdout.close()  # type: ignore[union-attr]
        client.delete_function(FunctionName=function.name)


def test_mistakes_on_the_command_line_are_one_clear_line(manager: Manager) -> None:
    run = rie(manager, "invoke", "nobody")
    assert run.returncode == 1
    assert "Function not found" in run.stderr
    assert "Traceback" not in run.stderr
    run = subprocess.run([*RIE, "ps", "--endpoint", "http://127.0.0.1:1"], capture_output=True, text=True)
    assert run.returncode == 1
    assert "is `rie serve` running?" in run.stderr
    run = subprocess.run([*RIE, "serve", "--engine", "magic"], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith("rie: cannot use engine magic")
    assert rie(manager, "logs", "x", "--since", "yesterday").returncode == 2


def test_the_doctor_says_what_is_there_and_what_is_missing() -> None:
    healthy = subprocess.run([*RIE, "doctor", "--json"], capture_output=True, text=True)
    findings = {finding["subject"]: finding for finding in json.loads(healthy.stdout)}
    assert healthy.returncode == 0, healthy.stdout
    assert findings["docker engine"]["state"] == "ok"
    assert findings["oci engine"]["state"] == "ok"
    environment = {**os.environ, "DOCKER_HOST": "unix:///nowhere.sock"}
    ill = subprocess.run([*RIE, "doctor"], capture_output=True, text=True, env=environment)
    assert ill.returncode == 0  # the daemonless engine is enough
    assert "warning docker engine" in ill.stdout
    assert "→" in ill.stdout


def test_every_verb_has_help_with_an_example() -> None:
    for verb in ("serve", "invoke", "ps", "logs", "doctor"):
        run = subprocess.run([*RIE, verb, "--help"], capture_output=True, text=True)
        assert run.returncode == 0
        assert "Example: rie" in run.stdout
