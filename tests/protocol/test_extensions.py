"""Extensions as real processes against the real bootstrap (service spec §3.6, §3.7)."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.protocol.emulator import Emulator, Start, wait_until
from tests.protocol.programs import Install

LOOP = [["loop"]]
BOTH = ["INVOKE", "SHUTDOWN"]


def said(emulator: Emulator, name: str) -> list[Any]:
    """What the API has answered to an extension so far."""
    prefix = f"ext {name} "
    return [json.loads(line[len(prefix) :]) for line in emulator.log.splitlines() if line.startswith(prefix)]


def heard(emulator: Emulator, name: str, count: int) -> list[Any]:
    wait_until(lambda: len(said(emulator, name)) >= count, 10, lambda: emulator.log)
    return said(emulator, name)


def test_an_extension_registers_before_the_runtime_starts_and_hears_of_invocations(
    emulate: Start, install: Install
) -> None:
    emulator = emulate(LOOP, **install(one=[["sleep", 0.3], ["register", BOTH], ["loop"]]))
    answer = emulator.invoke({"a": 1}, X_Amzn_Trace_Id="Root=1-2-3")
    assert answer.document == {"a": 1}
    registered, invoked = heard(emulator, "one", 2)
    document = json.loads(registered["body"])
    assert document["functionName"] == "function"
    assert document["functionVersion"] == "$LATEST"
    assert document["accountId"] == "123456789012"
    assert len(registered["headers"]["Lambda-Extension-Identifier"]) == 36
    event = json.loads(invoked["body"])
    assert event["eventType"] == "INVOKE"
    assert event["requestId"] == answer.headers["x-amzn-requestid"]
    assert event["invokedFunctionArn"].endswith(":function:fn")
    assert event["tracing"] == {"type": "X-Amzn-Trace-Id", "value": "Root=1-2-3"}
    assert 0 < event["deadlineMs"] / 1e3 - time.time() <= 3
    assert len(invoked["headers"]["Lambda-Extension-Event-Identifier"]) == 36
    assert "EXTENSION\tName: one\tState: Ready\tEvents: [INVOKE,SHUTDOWN]\n" in emulator.log
    init_ms = float(emulator.wait_for("Init Duration: ").partition("Init Duration: ")[2].split()[0])
    assert init_ms > 300


def test_the_answer_does_not_wait_for_a_slow_extension_but_the_next_invocation_does(
    emulate: Start, install: Install
) -> None:
    script = [["register", ["INVOKE"]], ["next"], ["sleep", 0.7], ["next"], ["loop"]]
    emulator = emulate([["print", "has begun"], *LOOP], **install(slow=script))
    emulator.wait_for("EXTENSION")
    emulator.wait_for("has begun\n")  # whose init may take longer than the extension's
    started = time.monotonic()
    emulator.invoke({})
    assert time.monotonic() - started < 0.5
    emulator.invoke({})
    assert time.monotonic() - started > 0.65
    duration = float(emulator.wait_for("Duration: ").partition("\tDuration: ")[2].split()[0])
    assert duration > 650


def test_extensions_hear_why_they_end_and_have_their_time(emulate: Start, install: Install) -> None:
    script = [["register", BOTH], ["next"], ["next"], ["exit", 0]]
    # Enough for the second life, whose init is on the invocation's time.
    emulator = emulate([["next"], ["sleep", 60]], **install(one=script), AWS_LAMBDA_FUNCTION_TIMEOUT="4")
    assert emulator.invoke({}).document["errorType"] == "Sandbox.Timedout"
    event = json.loads(heard(emulator, "one", 3)[2]["body"])
    assert (event["eventType"], event["shutdownReason"]) == ("SHUTDOWN", "timeout")
    assert emulator.invoke({}).document["errorType"] == "Sandbox.Timedout"
    assert len(heard(emulator, "one", 6)) == 6


def test_sigterm_is_a_spindown_and_an_extension_that_stays_is_killed_after_two_seconds(
    emulate: Start, install: Install
) -> None:
    script = [["ignore-sigterm"], ["register", BOTH], ["next"], ["sleep", 60]]
    emulator = emulate(LOOP, **install(stays=script))
    emulator.wait_for("EXTENSION")
    started = time.monotonic()
    assert emulator.stop() == 0
    assert 1.8 < time.monotonic() - started < 3.5
    event = json.loads(said(emulator, "stays")[1]["body"])
    assert (event["eventType"], event["shutdownReason"]) == ("SHUTDOWN", "spindown")


def test_the_runtime_has_a_third_of_the_time_after_sigterm_only_if_there_are_extensions(
    emulate: Start, install: Install
) -> None:
    quick = [["register", ["SHUTDOWN"]], ["loop"]]
    emulator = emulate([["ignore-sigterm"], ["print", "deaf"], ["next"]], **install(one=quick))
    emulator.wait_for("EXTENSION")
    emulator.wait_for("\ndeaf\n")
    started = time.monotonic()
    assert emulator.stop() == 0
    assert 0.55 < time.monotonic() - started < 1.8


def test_an_extension_that_crashes_fails_the_invocation_and_the_next_is_served_anew(
    emulate: Start, install: Install
) -> None:
    script = [["register", ["INVOKE"]], ["next"], ["exit", 3]]
    emulator = emulate([["next"], ["sleep", 60]], **install(crashes=script))
    for _ in range(2):
        answer = emulator.invoke({})
        assert answer.document["errorType"] == "Extension.Crash"
        assert answer.document["errorMessage"].endswith("Error: exit status 3")
    assert "Status: error\tError Type: Extension.Crash" in emulator.log


@pytest.mark.parametrize(
    ("step", "kind"), [("init-error", "Extension.InitError"), ("exit-error", "Extension.ExitError")]
)
def test_an_extension_that_cannot_go_on_says_so(emulate: Start, install: Install, step: str, kind: str) -> None:
    script = [["register", []], [step, "Extension.Mine"], ["exit", 1]]
    emulator = emulate(LOOP, **install(ill=script))
    answer = emulator.invoke({})
    assert answer.document["errorType"] == kind
    assert f"Phase: init\tStatus: error\tError Type: {kind}" in emulator.log
    assert f"EXTENSION\tName: ill\tState: {kind[10:]}\tEvents: []\tError Type: Extension.Mine\n" in emulator.log


def test_an_extension_that_ends_in_init_is_told_of(emulate: Start, install: Install) -> None:
    """Service spec §11.2."""
    emulator = emulate(LOOP, **install(gone=[["register", ["INVOKE"]], ["exit", 2]]))
    assert emulator.invoke({}).document["errorType"] == "Extension.Crash"
    assert "EXTENSION\tName: gone\tState: Exited\tEvents: [INVOKE]\tError Type: Extension.Crash\n" in emulator.log


def test_an_extension_that_cannot_be_started_is_named(emulate: Start, install: Install, tmp_path: Path) -> None:
    variables = install()
    program = tmp_path / "extensions" / "broken"
    program.write_text("not a program")
    program.chmod(0o644)
    answer = emulate(LOOP, **variables).invoke({})
    assert answer.document["errorType"] == "Extension.LaunchError"
    assert "permission denied" in answer.document["errorMessage"]


def test_extensions_do_not_see_what_is_about_the_runtime(emulate: Start, install: Install) -> None:
    own = {"MINE": "seen", "_HIDDEN": "x", "AWS_EXECUTION_ENV": "AWS_Lambda_image"}
    emulator = emulate(LOOP, **install(one=[["environment"], ["register", []], ["loop"]]), **own)
    seen = heard(emulator, "one", 1)[0]
    assert seen["MINE"] == "seen"
    assert seen["AWS_LAMBDA_FUNCTION_NAME"] == "function"
    hidden = {"AWS_EXECUTION_ENV", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "AWS_LAMBDA_LOG_GROUP_NAME"}
    hidden |= {"AWS_LAMBDA_LOG_STREAM_NAME", "AWS_XRAY_CONTEXT_MISSING", "AWS_XRAY_DAEMON_ADDRESS"}
    assert hidden.isdisjoint(seen)
    assert [name for name in seen if name.startswith("_")] == []


def test_the_runtime_may_register_extensions_of_its_own_before_its_first_poll(emulate: Start) -> None:
    register = "/2020-01-01/extension/register"
    emulator = emulate(
        [
            ["extension", "POST", register, {"Lambda-Extension-Name": "in"}, '{"events": null}'],
            ["extension-waits"],
            ["loop"],
        ]
    )
    assert emulator.invoke({"a": 1}).document == {"a": 1}
    assert emulator.steps()[0]["status"] == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "error_type"),
    [
        ("POST", "register", {}, '{"events":[]}', 403, "Extension.InvalidExtensionName"),
        ("POST", "register", {"Lambda-Extension-Name": "x"}, "{", 403, "InvalidRequestFormat"),
        ("POST", "register", {"Lambda-Extension-Name": "x"}, '{"events":7}', 403, "InvalidRequestFormat"),
        (
            "POST",
            "register",
            {"Lambda-Extension-Name": "x"},
            '{"configurationKeys":["a"]}',
            403,
            "InvalidRequestFormat",
        ),
        ("POST", "register", {"Lambda-Extension-Name": "x"}, '{"events":["A"]}', 403, "Extension.InvalidEventType"),
        ("GET", "event/next", {}, "", 403, "Extension.MissingExtensionIdentifier"),
        ("GET", "event/next", {"Lambda-Extension-Identifier": "x"}, "", 403, "Extension.InvalidExtensionIdentifier"),
        (
            "GET",
            "event/next",
            {"Lambda-Extension-Identifier": "00000000-0000-4000-8000-000000000000"},
            "",
            403,
            "Extension.UnknownExtensionIdentifier",
        ),
        (
            "POST",
            "init/error",
            {"Lambda-Extension-Identifier": "00000000-0000-4000-8000-000000000000"},
            "",
            403,
            "Extension.MissingHeader",
        ),
        ("GET", "register", {}, "", 405, None),
        ("GET", "nothing", {}, "", 404, None),
    ],
)
def test_refusals(
    emulate: Start, method: str, path: str, headers: dict, body: str, status: int, error_type: str | None
) -> None:
    emulator = emulate([["extension", method, f"/2020-01-01/extension/{path}", headers, body], ["loop"]])
    assert emulator.invoke({"a": 1}).document == {"a": 1}
    step = emulator.steps()[0]
    assert step["status"] == status
    if error_type:
        assert json.loads(step["body"])["errorType"] == error_type


def test_an_extension_that_the_environment_outlives_is_gone(emulate: Start, install: Install) -> None:
    emulator = emulate(LOOP, **install(one=[["register", []], ["loop"]]))
    emulator.invoke({})
    children = Path(f"/proc/{emulator.process.pid}/task/{emulator.process.pid}/children").read_text().split()
    assert len(children) == 2
    emulator.process.send_signal(signal.SIGTERM)
    emulator.process.wait(10)
    wait_until(lambda: not any(os.path.exists(f"/proc/{child}") for child in children), 5, lambda: "it lives on")


def test_a_file_in_the_image_turns_extensions_off_and_their_paths_are_none(emulate: Start, install: Install) -> None:
    """In a mount namespace of its own, since the file has one place only; needs root."""
    register = ["post", "/2020-01-01/extension/register", '{"events":[]}']
    subscribe = ["get", "/2022-07-01/telemetry"]
    variables = install(one=[["register", []], ["loop"]])
    emulator = emulate([register, subscribe, *LOOP], before_exec=_turn_extensions_off, **variables)
    assert emulator.invoke({"a": 1}).document == {"a": 1}  # though nobody has registered
    assert [(step["status"], step["body"]) for step in emulator.steps(2)] == [(404, "404 page not found\n")] * 2


def _turn_extensions_off() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    new_mounts, private, recursive = 0x20000, 1 << 18, 1 << 14
    for result in (
        libc.unshare(new_mounts),
        libc.mount(b"none", b"/", None, private | recursive, None),
        libc.mount(b"none", b"/opt", b"tmpfs", 0, None),
    ):
        if result:
            raise OSError(ctypes.get_errno(), "cannot have an /opt of one's own")
    Path("/opt/disable-extensions-jwigqn8j").touch()
