"""Functions of the tests' image on both engines: what they see, how they fail, and that the next is served."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import docker
import pytest

from tests.e2e.world import Deployed, Manager, create, managing, wait_until

Deploy = Callable[..., Deployed]


def test_the_second_invocation_is_warm_and_has_no_init_duration(deploy: Deploy) -> None:
    function = deploy()
    cold, warm = function.invoke({"verb": "describe"}), function.invoke({"verb": "describe"})
    assert cold.payload["environment"] == warm.payload["environment"]
    assert (cold.payload["invocations"], warm.payload["invocations"]) == (1, 2)
    assert "Init Duration: " in cold.tail
    assert "Init Duration: " not in warm.tail
    assert cold.raw["ExecutedVersion"] == "$LATEST"
    assert "FunctionError" not in cold.raw


def test_a_function_sees_the_services_context_and_variables(deploy: Deploy) -> None:
    function = deploy(Environment={"Variables": {"MINE": "yes", "PATH": "/usr/bin:/bin"}}, MemorySize=192, Timeout=7)
    answer = function.invoke({"verb": "describe"})
    seen = answer.payload
    variables = seen["variables"]
    assert seen["requestId"] == answer.request_id
    assert seen["arn"] == f"arn:aws:lambda:us-east-1:123456789012:function:{function.name}"
    assert (seen["function"], seen["version"], seen["memory"]) == (function.name, "$LATEST", "192")
    assert seen["logGroup"] == f"/aws/lambda/{function.name}"
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", seen["logStream"])
    assert 5_000 < seen["remainingMs"] <= 7_000
    assert seen["cwd"] == "/var/task"
    assert variables["MINE"] == "yes"
    assert variables["PATH"] == "/usr/bin:/bin"
    assert variables["_HANDLER"] == "app.handler"
    assert variables["AWS_REGION"] == variables["AWS_DEFAULT_REGION"] == "us-east-1"
    assert variables["LAMBDA_TASK_ROOT"] == "/var/task"
    assert variables["TZ"] == ":UTC"
    assert not [name for name in variables if name.startswith("RIE_")]
    assert variables["AWS_ACCESS_KEY_ID"].startswith("ASIA")  # of its role


def test_the_sandbox_is_closed(deploy: Deploy) -> None:
    function = deploy()
    seen = function.invoke({"verb": "describe"}).payload
    assert (seen["uid"], seen["gid"]) == (993, 990)
    assert seen["capabilities"] == "0000000000000000"
    assert seen["noNewPrivileges"] == "1"
    assert seen["openFiles"] == 1024
    for path in ("/var/task/x", "/x", "/etc/passwd", "/opt/rie/x", "/run/rie/front", "/proc/sysrq-trigger", "/sys/x"):
        assert function.invoke({"verb": "write", "path": path}).payload != "written", path
    assert function.invoke({"verb": "write", "path": "/tmp/x"}).payload == "written"
    for path in ("/proc/1/environ", "/run/rie/log", "/var/run/docker.sock"):
        answer = function.invoke({"verb": "read", "path": path}).payload
        assert answer in ("Permission denied", "No such file or directory"), path


def test_a_handlers_exception_is_the_answer_and_the_next_call_is_served(deploy: Deploy) -> None:
    function = deploy()
    answer = function.invoke({"verb": "fail", "message": "boom"})
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "ValueError"
    assert answer.payload["errorMessage"] == "boom"
    assert answer.payload["requestId"] == answer.request_id
    assert "[ERROR] ValueError: boom" in answer.tail
    assert "Status:" not in answer.tail
    assert function.invoke({"a": 1}).payload == {"a": 1}


def test_a_timeout_kills_and_the_next_call_has_new_globals_and_the_old_tmp(deploy: Deploy) -> None:
    function = deploy(Timeout=1)
    function.invoke({"verb": "write", "path": "/tmp/kept"})
    before = function.invoke({"verb": "describe"}).payload
    answer = function.invoke({"verb": "sleep", "seconds": 30})
    assert answer.error == "Unhandled"
    message = f"RequestId: {answer.request_id} Error: Task timed out after 1.00 seconds"
    assert answer.payload == {"errorType": "Sandbox.Timedout", "errorMessage": message}
    assert f"{answer.request_id} Task timed out after 1.00 seconds\n\n" in answer.tail
    assert answer.tail.endswith("Status: timeout\n")
    after = function.invoke({"verb": "describe"}).payload
    assert after["invocations"] == 1
    assert after["environment"] != before["environment"]
    assert "kept" in after["tmp"]
    assert after["logStream"] == before["logStream"]


@pytest.mark.parametrize(
    ("status", "message"),
    [(0, "Runtime exited without providing a reason"), (3, "Runtime exited with error: exit status 3")],
)
def test_an_exit_is_told_and_the_next_call_is_served(deploy: Deploy, status: int, message: str) -> None:
    function = deploy()
    answer = function.invoke({"verb": "exit", "status": status})
    told = f"RequestId: {answer.request_id} Error: {message}"
    assert answer.payload == {"errorType": "Runtime.ExitError", "errorMessage": told}
    assert f"{told}\nRuntime.ExitError\n" in answer.tail
    assert "Status: error\tError Type: Runtime.ExitError" in answer.tail
    assert function.invoke({"a": 1}).payload == {"a": 1}


def test_too_much_memory_is_reported_as_that(deploy: Deploy) -> None:
    function = deploy(MemorySize=128, Timeout=60)
    function.invoke({"verb": "write", "path": "/tmp/kept"})
    answer = function.invoke({"verb": "allocate", "mb": 1000})
    told = f"RequestId: {answer.request_id} Error: Runtime exited with error: signal: killed"
    assert answer.payload == {"errorType": "Runtime.ExitError", "errorMessage": told}
    assert "Status: error\tError Type: Runtime.OutOfMemory" in answer.tail
    used = int(re.search(r"Max Memory Used: (\d+) MB", answer.tail)[1])  # type: ignore[index]
    assert used == 128
    assert "kept" in function.invoke({"verb": "describe"}).payload["tmp"]


def test_memory_in_use_is_measured(deploy: Deploy) -> None:
    function = deploy(MemorySize=256)
    first, second = function.invoke(), function.invoke({"verb": "allocate", "mb": 100})

    def used(answer: Any) -> int:
        return int(re.search(r"Max Memory Used: (\d+) MB", answer.tail)[1])  # type: ignore[index]

    assert 10 <= used(first) <= 60
    assert 100 <= used(second) - used(first) <= 110


def test_tmp_is_as_large_as_asked_and_filling_it_is_the_functions_own_error(deploy: Deploy) -> None:
    function = deploy(MemorySize=128, Timeout=60)
    answer = function.invoke({"verb": "fill", "mb": 500})
    assert answer.payload == 500 << 20, answer.tail
    answer = function.invoke({"verb": "fill", "mb": 100})
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "OSError"
    assert "No space left on device" in answer.payload["errorMessage"]
    assert function.invoke({"a": 1}).payload == {"a": 1}


def test_endless_forks_are_stopped_and_nothing_of_them_is_left(deploy: Deploy) -> None:
    function = deploy(MemorySize=512, Timeout=15)
    answer = function.invoke({"verb": "fork"})
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] in ("BlockingIOError", "Runtime.ExitError", "Sandbox.Timedout")
    function.invoke({"verb": "exit", "status": 1})
    assert len(function.invoke({"verb": "processes"}).payload) <= 3


def test_what_a_function_left_running_dies_with_its_runtime(deploy: Deploy) -> None:
    function = deploy()
    left = function.invoke({"verb": "spawn"}).payload
    assert left in function.invoke({"verb": "processes"}).payload
    function.invoke({"verb": "exit", "status": 1})
    assert left not in function.invoke({"verb": "processes"}).payload


def test_a_failing_init_is_told_each_time(deploy: Deploy) -> None:
    function = deploy(Environment={"Variables": {"INIT_FAIL": "1"}})
    for _ in range(2):
        answer = function.invoke()
        assert answer.error == "Unhandled"
        assert answer.payload["errorMessage"] == "this init fails"
        assert answer.payload["errorType"] == "RuntimeError"


def test_an_entrypoint_that_does_not_exist_is_told(deploy: Deploy) -> None:
    function = deploy(ImageConfig={"EntryPoint": ["/no/such/program"], "Command": ["app.handler"]})
    answer = function.invoke()
    assert answer.payload["errorType"] == "Runtime.InvalidEntrypoint"
    assert answer.payload["errorMessage"].endswith("fork/exec /no/such/program: no such file or directory")
    function = deploy(ImageConfig={"WorkingDirectory": "/no/such/place"})
    assert function.invoke().payload["errorType"] == "Runtime.InvalidWorkingDir"


def test_the_image_config_overrides_command_and_entrypoint(deploy: Deploy) -> None:
    function = deploy(ImageConfig={"Command": ["app.describe"]})
    assert function.invoke().payload["variables"]["_HANDLER"] == "app.describe"
    entry_point = ["/usr/bin/python3", "-m", "awslambdaric"]
    variables = {"PYTHONPATH": "/var/runtime"}
    function = deploy(
        ImageConfig={"EntryPoint": entry_point, "Command": ["app.describe"]}, Environment={"Variables": variables}
    )
    assert function.invoke().payload["variables"]["_HANDLER"] == "app.describe"


def test_fifty_invocations_run_at_once_each_in_an_environment_of_its_own(
    deploy: Deploy, manager: Manager, engine: docker.DockerClient
) -> None:
    function = deploy(MemorySize=128, Timeout=120)

    def places() -> list[Path]:
        """The /tmp of each of its sandboxes."""
        pids = _sandboxes(engine)
        names = [row["environment"] for row in _rows(manager, function)]
        return [Path(f"/proc/{pids[name]}/root/tmp") for name in names if name in pids]

    def waiting() -> list[Path]:
        return [place for place in places() if (place / "waiting").exists()]

    with ThreadPoolExecutor(50) as callers:
        answers = [callers.submit(function.invoke, {"verb": "wait"}) for _ in range(50)]
        together = wait_until(lambda: len(found := waiting()) == 50 and found, 110, "they do not run at once")
        for place in together:
            (place / "go").touch()
        runs = [answer.result().payload for answer in answers]
    assert len({run["environment"] for run in runs}) == 50
    assert [row["invocations"] for row in _rows(manager, function)] == [1] * 50


def test_environments_of_old_configurations_are_not_used_again(deploy: Deploy, client: Any) -> None:
    function = deploy(Environment={"Variables": {"WHICH": "old"}})
    old = function.invoke({"verb": "describe"}).payload
    client.update_function_configuration(FunctionName=function.name, Environment={"Variables": {"WHICH": "new"}})
    client.get_waiter("function_updated_v2").wait(FunctionName=function.name, WaiterConfig={"Delay": 0.1})
    new = function.invoke({"verb": "describe"}).payload
    assert new["variables"]["WHICH"] == "new"
    assert new["environment"] != old["environment"]


def test_logs_are_kept_in_order(deploy: Deploy, manager: Manager) -> None:
    function = deploy()
    answer = function.invoke({"verb": "log", "lines": 1000, "text": "number ", "rest": "and no newline"})
    end = f"REPORT RequestId: {answer.request_id}"
    log = wait_until(lambda: (text := function.log(manager)) and end in text and text, 10, "the log has no REPORT")
    lines = log.splitlines()
    start = lines.index(f"START RequestId: {answer.request_id} Version: $LATEST")
    assert lines[0].startswith("INIT_START")
    assert lines[start + 1 : start + 1001] == [f"number {number}" for number in range(1000)]
    assert lines[start + 1001] == "and no newline"
    assert lines[start + 1002] == f"END RequestId: {answer.request_id}"
    assert lines[start + 1003].startswith(end)


def test_a_large_event_and_a_large_answer_pass(deploy: Deploy, client: Any) -> None:
    function = deploy(Timeout=30)
    event = {"verb": "echo", "text": "x" * 6_000_000}
    assert function.invoke(event).payload == event
    assert len(function.invoke({"verb": "large", "bytes": 6_000_000}).payload) == 6_000_000
    answer = function.invoke({"verb": "large", "bytes": 6_300_000})
    assert answer.payload["errorType"] == "Function.ResponseSizeTooLarge"
    assert function.invoke({"a": 1}).payload == {"a": 1}


def test_a_sandbox_that_is_killed_from_outside_is_an_error_and_the_next_call_is_served(
    deploy: Deploy, manager: Manager, engine: docker.DockerClient
) -> None:
    function = deploy(Timeout=60)
    function.invoke()
    with ThreadPoolExecutor(1) as caller:
        started = time.monotonic()
        running = caller.submit(function.invoke, {"verb": "sleep", "seconds": 50})
        wait_until(lambda: _busy(manager, function), 10, "it does not run")
        _kill_sandbox(manager, engine, function)
        with pytest.raises(function.client.exceptions.ServiceException):
            running.result(30)
        assert time.monotonic() - started < 20
    assert function.invoke({"a": 1}).payload == {"a": 1}


def test_an_idle_sandbox_that_dies_is_replaced(deploy: Deploy, manager: Manager, engine: docker.DockerClient) -> None:
    function = deploy()
    function.invoke()
    _kill_sandbox(manager, engine, function)
    wait_until(lambda: not _rows(manager, function), 10, "the dead environment is still listed")
    assert function.invoke({"a": 1}).payload == {"a": 1}


def _rows(manager: Manager, function: Deployed) -> list[dict[str, Any]]:
    return [row for row in manager.get("/_rie/environments") if row["function"] == function.name]


def _busy(manager: Manager, function: Deployed) -> bool:
    return any(row["state"] == "busy" for row in _rows(manager, function))


def _kill_sandbox(manager: Manager, engine: docker.DockerClient, function: Deployed) -> None:
    """End the first process of the function's only sandbox, behind the manager's back."""
    (environment,) = [row["environment"] for row in _rows(manager, function)]
    os.kill(_sandboxes(engine)[environment], signal.SIGKILL)


def _sandboxes(engine: docker.DockerClient) -> dict[str, int]:
    """The first process of every sandbox that runs, by its environment."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (path / "cmdline").read_bytes().startswith(b"/opt/rie/bootstrap"):
                found[(path / "root" / "etc" / "hostname").read_text().strip()] = int(path.name)
    for container in engine.containers.list(ignore_removed=True, filters={"label": "rie.sandbox"}):
        if pid := container.attrs["State"]["Pid"]:
            found[container.labels["rie.sandbox"]] = pid
    return found


def test_a_function_has_credentials_of_its_role_and_nothing_of_the_managers(
    image: str, engine: docker.DockerClient, tmp_path: Path
) -> None:
    secrets = {"AWS_ACCESS_KEY_ID": "MANAGERKEY", "AWS_SECRET_ACCESS_KEY": "MANAGERSECRET"}
    with managing(tmp_path, **secrets) as manager:
        seen = create(manager.client(), image).invoke({"verb": "describe"}).payload["variables"]
        assert seen["AWS_ACCESS_KEY_ID"].startswith("ASIA")
        assert not [name for name, value in seen.items() if "MANAGER" in value]
        sts = boto3.client(
            "sts",
            endpoint_url=manager.endpoint,
            region_name="us-east-1",
            aws_access_key_id=seen["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=seen["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=seen["AWS_SESSION_TOKEN"],
        )
        assert sts.get_caller_identity()["Arn"].startswith("arn:aws:sts::123456789012:assumed-role/tests/f-")
