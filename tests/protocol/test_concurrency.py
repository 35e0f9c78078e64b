"""One runtime, many invocations (AWS_LAMBDA_MAX_CONCURRENCY), with the client that the service's Python images use."""

from __future__ import annotations

import json
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.protocol.emulator import Emulator, Start, wait_until
from tests.protocol.programs import Install

FUNCTIONS = Path(__file__).parents[1] / "functions"


@pytest.fixture
def python(emulate: Start) -> Start:
    def start(concurrency: int = 4, **variables: str) -> Emulator:
        command = [sys.executable, "-m", "awslambdaric", "app.handler"]
        return emulate(
            command=command,
            AWS_LAMBDA_MAX_CONCURRENCY=str(concurrency),
            RIE_WORKING_DIRECTORY=str(FUNCTIONS),
            **{"AWS_LAMBDA_FUNCTION_TIMEOUT": "10", **variables},
        )

    return start


def test_as_many_run_at_once_as_were_allowed_and_the_others_wait(python: Start) -> None:
    emulator = python(4)
    emulator.invoke({})
    started = time.monotonic()
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda _: emulator.invoke({"verb": "sleep", "seconds": 0.5}).document, range(8)))
    assert 0.95 < time.monotonic() - started < 2.5
    moments = sorted([(a["started"], 1) for a in answers] + [(a["ended"], -1) for a in answers])
    running = most = 0
    for _, change in moments:
        running += change
        most = max(most, running)
    assert most == 4


def test_each_caller_gets_its_own_answer(python: Start) -> None:
    emulator = python(4)
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda n: emulator.invoke({"n": n}).document, range(200)))
    assert answers == [{"n": number} for number in range(200)]
    assert emulator.log.count("REPORT") == 200


def test_a_timeout_answers_its_caller_and_disturbs_nobody_else(python: Start) -> None:
    emulator = python(4, AWS_LAMBDA_FUNCTION_TIMEOUT="1")
    emulator.invoke({})
    with ThreadPoolExecutor(2) as callers:
        slow = callers.submit(emulator.invoke, {"verb": "sleep", "seconds": 1.5})
        quick = callers.submit(emulator.invoke, {"verb": "sleep", "seconds": 0.7})
        assert "started" in quick.result().document
        answer = slow.result()
    assert answer.document["errorType"] == "Sandbox.Timedout"
    time.sleep(0.8)  # its late answer is refused meanwhile
    assert emulator.invoke({"a": 1}).document == {"a": 1}
    assert emulator.log.count("Status: timeout") == 1


def test_the_end_of_the_runtime_fails_what_it_worked_on_and_the_next_call_starts_another(emulate: Start) -> None:
    emulator = emulate([["next"], ["sleep", 0.3], ["exit", 3]], AWS_LAMBDA_MAX_CONCURRENCY="2")
    for _ in range(2):
        answer = emulator.invoke({})
        assert answer.document["errorType"] == "Runtime.ExitError"
        assert answer.document["errorMessage"].endswith("exit status 3")


def test_an_init_that_fails_is_told_to_all_who_wait(emulate: Start) -> None:
    script = [["sleep", 0.3], ["init-error", '{"errorType":"Mine"}', "Runtime.Mine"], ["exit", 1]]
    emulator = emulate(script, AWS_LAMBDA_MAX_CONCURRENCY="2")
    with ThreadPoolExecutor(5) as callers:
        answers = list(callers.map(lambda _: emulator.invoke({}).body, range(5)))
    assert set(answers) == {b'{"errorType":"Mine"}'}


def test_a_late_answer_is_gone(emulate: Start) -> None:
    script = [["next"], ["sleep", 1.3], ["response", "late"], ["loop"]]
    emulator = emulate(script, AWS_LAMBDA_MAX_CONCURRENCY="1", AWS_LAMBDA_FUNCTION_TIMEOUT="1")
    assert emulator.invoke({}).document["errorType"] == "Sandbox.Timedout"
    assert emulator.invoke({"a": 1}).document == {"a": 1}
    assert emulator.steps()[1]["status"] == 410


def test_sigterm_turns_everyone_away_and_ends(python: Start) -> None:
    emulator = python(2)
    emulator.invoke({})
    with ThreadPoolExecutor(3) as callers:
        calls = [callers.submit(emulator.invoke, {"verb": "sleep", "seconds": 5}) for _ in range(3)]
        emulator.wait_for("\nSTART ")
        time.sleep(0.3)
        assert emulator.stop() == 0
        assert {call.result().status for call in calls} == {503}


@pytest.mark.parametrize("value", ["none", "0", "-1"])
def test_a_limit_that_makes_no_sense_is_named(emulate: Start, value: str) -> None:
    emulator = emulate([["loop"]], AWS_LAMBDA_MAX_CONCURRENCY=value)
    assert emulator.process.wait(5) == 2
    assert re.search("cannot read AWS_LAMBDA_MAX_CONCURRENCY", emulator.log)


def heard(emulator: Emulator, name: str, count: int) -> list[Any]:
    """What the API has answered to an extension."""

    def said() -> list[str]:
        return [line for line in emulator.log.splitlines() if line.startswith(f"ext {name} ")]

    wait_until(lambda: len(said()) >= count, 10, lambda: emulator.log)
    return [json.loads(line.removeprefix(f"ext {name} ")) for line in said()]


def test_extensions_run_beside_it_and_hear_of_the_end_but_of_no_invocation(emulate: Start, install: Install) -> None:
    """Service facts: the refusals as AWS's emulator words them in this mode."""
    script = [["sleep", 0.3], ["register", ["INVOKE"]], ["register", ["SHUTDOWN"]], ["next"], ["exit", 0]]
    emulator = emulate([["loop"]], **install(one=script), AWS_LAMBDA_MAX_CONCURRENCY="2")
    assert [emulator.invoke({"n": n}).document for n in range(3)] == [{"n": 0}, {"n": 1}, {"n": 2}]
    refused, registered = heard(emulator, "one", 2)
    assert refused["status"] == 403
    refusal = '{"errorMessage":"INVOKE: ErrorInvalidEventType","errorType":"Extension.InvalidEventType"}\n'
    assert refused["body"] == refusal
    assert json.loads(registered["body"])["accountId"] == "123456789012"
    assert "EXTENSION\tName: one\tState: Ready\tEvents: [SHUTDOWN]\n" in emulator.log
    assert float(emulator.log.partition("Init Duration: ")[2].split()[0]) > 300
    assert emulator.stop() == 0
    event = json.loads(heard(emulator, "one", 3)[2]["body"])
    assert (event["eventType"], event["shutdownReason"]) == ("SHUTDOWN", "spindown")


def test_extensions_of_the_runtimes_own_may_subscribe_to_nothing(emulate: Start) -> None:
    register = "/2020-01-01/extension/register"
    steps = [
        ["extension", "POST", register, {"Lambda-Extension-Name": "in"}, f'{{"events":{events}}}']
        for events in ('["INVOKE"]', '["SHUTDOWN"]', "null")
    ]
    emulator = emulate([*steps, ["extension-waits"], ["loop"]], AWS_LAMBDA_MAX_CONCURRENCY="2")
    assert emulator.invoke({"a": 1}).document == {"a": 1}
    assert [step["status"] for step in emulator.steps(3)[:3]] == [403, 403, 200]
    refusal = {"errorMessage": "No events allowed for internal extensions", "errorType": "Extension.InvalidEventType"}
    assert json.loads(emulator.steps(3)[0]["body"]) == refusal


def test_an_extension_that_crashes_ends_what_runs_and_the_next_call_begins_anew(
    emulate: Start, install: Install
) -> None:
    script = [["register", []], ["sleep", 0.4], ["exit", 3]]
    emulator = emulate([["next"], ["sleep", 5]], **install(one=script), AWS_LAMBDA_MAX_CONCURRENCY="2")
    for _ in range(2):
        answer = emulator.invoke({})
        assert answer.document["errorType"] == "Extension.Crash"
        assert answer.document["errorMessage"].endswith("Error: exit status 3")


def test_an_extension_that_cannot_begin_fails_init(emulate: Start, install: Install) -> None:
    script = [["register", []], ["init-error", "Extension.Mine"], ["exit", 1]]
    emulator = emulate([["loop"]], **install(ill=script), AWS_LAMBDA_MAX_CONCURRENCY="2")
    assert emulator.invoke({}).document["errorType"] == "Extension.InitError"
    emulator.wait_for("Phase: init\tStatus: error\tError Type: Extension.InitError")


def test_the_runtime_is_told_what_kind_of_environment_it_is_in(emulate: Start) -> None:
    command = ["/bin/sh", "-c", "echo kind $AWS_LAMBDA_INITIALIZATION_TYPE of $AWS_LAMBDA_MAX_CONCURRENCY; sleep 60"]
    emulator = emulate(command=command, AWS_LAMBDA_MAX_CONCURRENCY="3")
    emulator.wait_for("kind lambda-managed-instances of 3\n")
