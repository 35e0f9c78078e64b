"""What AWS's emulator fakes or gets wrong, each by its number: a fact that ours gets right.

That theirs gets it wrong is asserted in test_against_rie.py, where a script can show it.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bootstrap.commands import Deliver, KillRuntime, ReportRuntimeDone, SpawnRuntime
from bootstrap.events import Booted, Invocation, InvokeReceived, NextPolled, RuntimeExited, TimerFired
from bootstrap.hosting import INIT_TIMER
from bootstrap.lifecycle import INVOKE_TIMER, Machine
from tests.protocol.acting import Extension, acting_as_runtime
from tests.protocol.emulator import RUNTIME, Start, failing_once, wait_until

NEXT, ONE = ["next"], ["response", "1"]
LOOP = [["loop"]]
# An external extension that says why it was shut down.
SUBSCRIBER = """#!{python}
import http.client, json, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
name = {{"Lambda-Extension-Name": "watcher"}}
api.request("POST", "/2020-01-01/extension/register", '{{"events":["SHUTDOWN"]}}', name)
answer = api.getresponse()
answer.read()
api.request("GET", "/2020-01-01/extension/event/next", headers={{
    "Lambda-Extension-Identifier": answer.headers["Lambda-Extension-Identifier"]}})
print("ended for", json.loads(api.getresponse().read())["shutdownReason"], flush=True)
"""


def report_of(log: str) -> dict[str, str]:
    """The fields of the last REPORT line, in their order."""
    line = [line for line in log.splitlines() if line.startswith("REPORT")][-1]
    return dict(field.split(": ", 1) for field in line.split("\t") if field)


def test_01_two_callers_at_once_are_both_answered(emulate: Start) -> None:
    with acting_as_runtime(emulate) as runtime:
        answers = [runtime.invoke(0), runtime.invoke(1)]
        for body in (b"1", b"2"):
            assert runtime.post(f"{runtime.next()}/response", body) == 202
        assert {answer.result(10).body for answer in answers} == {b"1", b"2"}


def test_02_an_error_of_the_function_is_marked_and_the_answer_carries_the_services_headers(emulate: Start) -> None:
    answer = emulate([NEXT, ["error", '{"errorType":"E"}'], NEXT]).invoke({})
    assert answer.headers["x-amz-function-error"] == "Unhandled"
    assert {"x-amzn-requestid", "x-amz-executed-version", "x-amzn-trace-id"} <= set(answer.headers)


@pytest.mark.parametrize("body", ['{"a": 1}', "<html>", ""])
def test_03_the_content_type_is_not_guessed_from_the_body(emulate: Start, body: str) -> None:
    answer = emulate([NEXT, ["response", body], NEXT]).invoke({})
    assert (answer.body, answer.headers["content-type"]) == (body.encode(), "application/json")


def test_04_a_timeout_is_an_error_of_the_function_in_json(emulate: Start) -> None:
    answer = emulate([NEXT, ["sleep", 30]], AWS_LAMBDA_FUNCTION_TIMEOUT="1").invoke({})
    assert (answer.status, answer.headers["x-amz-function-error"]) == (200, "Unhandled")
    assert answer.document["errorType"] == "Sandbox.Timedout"


@pytest.mark.parametrize("script", [[["exit", 3]], [NEXT, ["exit", 3]]], ids=["in init", "in an invocation"])
def test_05_a_runtime_that_ends_is_an_error_of_the_function_that_says_why(emulate: Start, script: list) -> None:
    answer = emulate(script).invoke({})
    assert (answer.status, answer.headers["x-amz-function-error"]) == (200, "Unhandled")
    assert answer.document["errorMessage"].endswith("Error: Runtime exited with error: exit status 3")


def test_06_the_error_of_an_init_that_is_over_is_told_to_no_later_caller(emulate: Start, tmp_path: Path) -> None:
    emulator = emulate(command=failing_once(tmp_path, [NEXT, ONE, NEXT, ["exit", 3]]))
    emulator.wait_for("INIT_REPORT")
    assert emulator.invoke({}).body == b"1"
    assert emulator.invoke({}).document["errorMessage"].endswith("exit status 3")


def test_07_an_init_that_failed_is_repeated_in_the_next_invocation(emulate: Start, tmp_path: Path) -> None:
    emulator = emulate(command=failing_once(tmp_path, [["print", "init again"], *LOOP]))
    emulator.wait_for("Phase: init\tStatus: error")
    assert "init again" not in emulator.log
    assert emulator.invoke({"a": 1}).document == {"a": 1}
    assert emulator.log.index("START RequestId") < emulator.log.index("init again")


def test_08_max_memory_used_is_what_the_function_has_used(emulate: Start) -> None:
    code = f"import sys; held = bytearray(100 << 20); sys.argv[1:] = ['{json.dumps(LOOP)}']; "
    command = [sys.executable, "-c", f"{code}exec(open('{RUNTIME}').read())"]
    emulator = emulate(command=command, AWS_LAMBDA_FUNCTION_MEMORY_SIZE="512")
    emulator.invoke({})
    assert 100 <= int(report_of(emulator.log)["Max Memory Used"].removesuffix(" MB")) < 200


def test_09_init_duration_is_inits_own_and_stands_last(emulate: Start) -> None:
    emulator = emulate([["sleep", 0.4], NEXT, ONE, NEXT])
    emulator.invoke({})
    report = report_of(emulator.log)
    assert list(report)[1:] == ["Duration", "Billed Duration", "Memory Size", "Max Memory Used", "Init Duration"]
    assert float(report["Init Duration"].removesuffix(" ms")) > 400 > float(report["Duration"].removesuffix(" ms"))


def test_10_the_log_of_a_crash_ends_with_end_and_report(emulate: Start) -> None:
    emulator = emulate([NEXT, ["exit", 3]])
    request_id = emulator.invoke({}).headers["x-amzn-requestid"]
    assert re.search(
        rf"END RequestId: {request_id}\nREPORT RequestId: {request_id}\t.*Runtime.ExitError\n", emulator.log
    )


def test_11_an_event_past_the_limit_is_refused_whole(emulate: Start) -> None:
    emulator = emulate(LOOP)
    assert emulator.invoke(b'"' + b"x" * 6_291_456 + b'"').status == 413
    assert "START RequestId" not in emulator.log


def test_12_a_trace_id_reaches_the_runtime_and_is_made_where_there_is_none(emulate: Start) -> None:
    emulator = emulate([NEXT, ONE, NEXT, ONE, NEXT])
    emulator.invoke({}, X_Amzn_Trace_Id="Root=1-2-3;Sampled=1")
    emulator.invoke({})
    wait_until(lambda: len(emulator.steps()) == 4, 10, lambda: emulator.log)
    given, made = (emulator.steps()[number]["headers"]["Lambda-Runtime-Trace-Id"] for number in (0, 2))
    assert given == "Root=1-2-3;Sampled=1"
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=[01]", made)


def test_12_extensions_are_told_of_a_trace_though_the_caller_sent_none(emulate: Start) -> None:
    with acting_as_runtime(emulate) as runtime:
        extension = Extension(runtime, ["INVOKE"])
        polling = ThreadPoolExecutor(1).submit(extension.next)
        answer = runtime.invoke({})
        runtime.post(f"{runtime.next()}/response", b"1")
        tracing = polling.result(10)["tracing"]
        assert tracing == {"type": "X-Amzn-Trace-Id", "value": answer.result(10).headers["x-amzn-trace-id"]}


def test_13_any_name_answers_and_region_and_account_are_as_set(emulate: Start) -> None:
    emulator = emulate([NEXT, ONE, NEXT], AWS_REGION="eu-west-3", AWS_ACCOUNT_ID="111122223333")
    assert emulator.invoke({}, name="orders").status == 200
    arn = emulator.steps(1)[0]["headers"]["Lambda-Runtime-Invoked-Function-Arn"]
    assert arn == "arn:aws:lambda:eu-west-3:111122223333:function:orders"


def test_14_invocation_types_the_logs_tail_and_the_qualifier_are_heeded(emulate: Start) -> None:
    emulator = emulate([NEXT, ["print", "to the log"], ONE, NEXT, ONE, NEXT])
    assert emulator.invoke({}, X_Amz_Invocation_Type="DryRun").status == 204
    path = "/2015-03-31/functions/fn/invocations?Qualifier=PROD"
    answer = emulator.ask("POST", path, b"{}", X_Amz_Log_Type="Tail")
    assert b"to the log" in base64.b64decode(answer.headers["x-amz-log-result"])
    assert emulator.steps(1)[0]["headers"]["Lambda-Runtime-Invoked-Function-Arn"].endswith(":function:fn:PROD")
    assert emulator.invoke({}, X_Amz_Invocation_Type="Event").status == 202
    wait_until(lambda: emulator.log.count("REPORT ") == 2, 10, lambda: emulator.log)


def test_15_a_streamed_answer_comes_as_it_is_made_and_its_error_is_told(emulate: Start) -> None:
    trailers = {"Lambda-Runtime-Function-Error-Type": "Function.Mid", "Lambda-Runtime-Function-Error-Body": "e30="}
    emulator = emulate([NEXT, ["begin", "first"], ["sleep", 30]], AWS_LAMBDA_FUNCTION_TIMEOUT="60")
    path = "/2021-11-15/functions/fn/response-streaming-invocations"
    connection = emulator.connect()
    connection.request("POST", path, b"{}")
    assert b"first" in connection.getresponse().read1(1_000)  # though the runtime is far from its end
    emulator = emulate([NEXT, ["chunked", ["part"], trailers], NEXT])
    body = emulator.ask("POST", path, b"{}").body
    assert b"part" in body
    assert b'"ErrorCode": "Function.Mid"' in body


@pytest.mark.parametrize(
    ("path", "schema"), [("/2022-07-01/telemetry", "2022-07-01"), ("/2020-08-15/logs", "2020-08-15")]
)
def test_16_telemetry_and_logs_can_be_subscribed_to_and_come(emulate: Start, path: str, schema: str) -> None:
    with acting_as_runtime(emulate) as runtime, socket.create_server(("127.0.0.1", 0)) as server:
        destination = {"protocol": "TCP", "port": server.getsockname()[1]}
        document = {"schemaVersion": schema, "types": ["platform"], "destination": destination}
        extension = Extension(runtime, [])
        assert extension.ask("PUT", path, document, api="")[::2] == (200, b'"OK"')
        extension.wait()
        answer = runtime.invoke({})
        runtime.post(f"{runtime.next()}/response", b"1")
        assert answer.result(10).body == b"1"
        server.settimeout(10)
        connection, _ = server.accept()
        with connection, connection.makefile() as lines:
            connection.settimeout(10)
            assert any(json.loads(line)["type"] == "platform.report" for line in lines)


@pytest.mark.parametrize(
    ("events", "status"),
    [([TimerFired(INVOKE_TIMER)], "timeout"), ([RuntimeExited(3)], "failure")],
    ids=["timeout", "failure"],
)
def test_17_the_runtimes_end_is_told_when_the_environment_is_reset(events: list[Any], status: str) -> None:
    machine = Machine(3.0)
    for event in (Booted(), NextPolled("poll"), InvokeReceived(Invocation("id", b"{}"))):
        machine.accept(event, 0.0)
    commands = [command for event in events for command in machine.accept(event, 3.0)]
    assert [command.status for command in commands if isinstance(command, ReportRuntimeDone)] == [status]


@pytest.mark.parametrize(
    ("script", "reason"),
    [([NEXT, ["sleep", 30]], "timeout"), ([NEXT, ["exit", 3]], "failure"), (LOOP, "spindown")],
    ids=["timeout", "failure", "spindown"],
)
def test_17_extensions_are_told_why_they_end_in_the_services_words(
    emulate: Start, tmp_path: Path, script: list[Any], reason: str
) -> None:
    directory = tmp_path / "extensions"
    directory.mkdir()
    program = directory / "watcher"
    program.write_text(SUBSCRIBER.format(python=sys.executable))
    program.chmod(0o755)
    emulator = emulate(script, RIE_EXTENSIONS=str(directory), AWS_LAMBDA_FUNCTION_TIMEOUT="1")
    emulator.invoke({})
    if reason == "spindown":
        emulator.stop()
    emulator.wait_for(f"ended for {reason}\n")


def test_18_the_caller_does_not_wait_for_slow_extensions(emulate: Start) -> None:
    with acting_as_runtime(emulate) as runtime:
        extension = Extension(runtime, ["INVOKE"])
        polling = ThreadPoolExecutor(1).submit(extension.next)
        answer = runtime.invoke({})
        assert runtime.post(f"{runtime.next()}/response", b"1") == 202
        assert polling.result(10)["eventType"] == "INVOKE"
        assert answer.result(5).body == b"1"  # though the extension has not asked for its next event, and never will


def test_19_a_cold_start_costs_the_invocation_none_of_its_time(emulate: Start) -> None:
    emulator = emulate([["sleep", 1.5], *LOOP], AWS_LAMBDA_FUNCTION_TIMEOUT="1")
    assert emulator.invoke({"a": 1}).document == {"a": 1}


def test_19_init_has_ten_seconds_and_is_then_repeated_within_the_invocation() -> None:
    machine = Machine(3.0)
    machine.accept(Booted(), 0.0)
    machine.accept(InvokeReceived(Invocation("id", b"{}")), 1.0)
    assert any(isinstance(command, KillRuntime) for command in machine.accept(TimerFired(INIT_TIMER), 10.0))
    assert any(isinstance(command, SpawnRuntime) for command in machine.accept(RuntimeExited(None, 9), 10.1))


def test_19_the_deadline_counts_from_after_init() -> None:
    machine = Machine(3.0)
    machine.accept(Booted(), 0.0)
    machine.accept(InvokeReceived(Invocation("id", b"{}")), 1.0)
    commands = machine.accept(NextPolled("poll"), 9.0)
    assert [command.deadline_at for command in commands if isinstance(command, Deliver)] == [12.0]


def test_20_a_function_is_no_root_and_its_open_files_are_bounded(emulate: Start) -> None:
    emulator = emulate(
        command=["/bin/sh", "-c", "echo is $(id -u) $(id -g) $(ulimit -n); exit 1"],
        RIE_USER="",
        RIE_WORKING_DIRECTORY="/",
    )
    emulator.wait_for("is 993 990 1024\n")


def test_20_more_memory_than_was_given_is_told_as_that(emulate: Start) -> None:
    code = "import time; held = b'x' * (200 << 20); time.sleep(30)"
    emulator = emulate(command=[sys.executable, "-c", code], AWS_LAMBDA_FUNCTION_MEMORY_SIZE="64")
    assert emulator.invoke({}).document["errorMessage"].endswith("Error: Runtime exited with error: signal: killed")
    emulator.wait_for("Status: error\tError Type: Runtime.OutOfMemory\n")


def test_20_a_home_that_the_functions_user_cannot_read_is_none(emulate: Start) -> None:
    """Container engines set it, for the user that the image names."""
    log = emulate(command=["/usr/bin/env"], HOME="/root", PLACE="/srv").wait_for("INIT_REPORT")
    assert "\nPLACE=/srv\n" in log
    assert "\nHOME=" not in log


def test_21_empty_credentials_are_none_and_the_services_variables_are_there(emulate: Start) -> None:
    emulator = emulate(
        command=["/usr/bin/env"], AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="", AWS_SESSION_TOKEN="", AWS_REGION="x-1"
    )
    log = emulator.wait_for("INIT_REPORT")
    variables = dict(line.split("=", 1) for line in log.splitlines() if "=" in line)
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} & set(variables)
    assert variables["AWS_REGION"] == variables["AWS_DEFAULT_REGION"] == "x-1"
    assert variables["LAMBDA_TASK_ROOT"] == "/var/task"
    assert variables["LAMBDA_RUNTIME_DIR"] == "/var/runtime"
    assert variables["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
    assert variables["TZ"] == ":UTC"
    assert {"PATH", "LANG", "LD_LIBRARY_PATH", "AWS_LAMBDA_LOG_STREAM_NAME"} <= set(variables)


def test_22_a_runtime_that_waits_for_its_snapshot_is_restored(emulate: Start) -> None:
    restore = ["get", "/2018-06-01/runtime/restore/next"]
    emulator = emulate([restore, *LOOP], AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
    for number in range(2):
        assert emulator.invoke(number).document == number


def test_23_after_an_invalid_response_mode_the_runtime_may_still_answer(emulate: Start) -> None:
    with acting_as_runtime(emulate) as runtime:
        answer = runtime.invoke({})
        request_id = runtime.next()
        assert runtime.post(f"{request_id}/response", b"1", Lambda_Runtime_Function_Response_Mode="fast") == 400
        assert runtime.post(f"{request_id}/response", b"2") == 202
        assert answer.result(10).body == b"2"


def test_23_an_error_past_the_limit_is_refused_and_the_next_invocation_runs(emulate: Start) -> None:
    with acting_as_runtime(emulate) as runtime:
        first = runtime.invoke({})
        assert runtime.post(f"{runtime.next()}/error", b"x" * 7_000_000) == 413
        assert first.result(10).headers["x-amz-function-error"] == "Unhandled"
        second = runtime.invoke({})
        assert runtime.post(f"{runtime.next()}/response", b"2") == 202
        assert second.result(10).body == b"2"


def test_24_init_begins_before_anyone_has_called(emulate: Start) -> None:
    emulate([["print", "in init"], *LOOP]).wait_for("in init")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_25_only_a_post_runs_the_function(emulate: Start, method: str) -> None:
    emulator = emulate(LOOP)
    answer = emulator.ask(method, "/2015-03-31/functions/function/invocations")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert "START RequestId" not in emulator.log


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_26_a_timeout_that_is_none_ends_the_process_and_says_so(emulate: Start, text: str) -> None:
    emulator = emulate(LOOP, AWS_LAMBDA_FUNCTION_TIMEOUT=text)
    assert emulator.process.wait(5) == 2
    assert f"cannot read AWS_LAMBDA_FUNCTION_TIMEOUT: '{text}' is not a number" in emulator.log


def test_26_a_timeout_may_have_a_fraction(emulate: Start) -> None:
    emulator = emulate([NEXT, ["sleep", 30]], AWS_LAMBDA_FUNCTION_TIMEOUT="0.5")
    assert emulator.invoke({}).document["errorMessage"].endswith("Task timed out after 0.50 seconds")


# -- and what users ask for besides -----------------------------------------------------------------------------------


def test_what_a_function_prints_is_logged_byte_for_byte(emulate: Start) -> None:
    """Carriage returns and what is no UTF-8, too."""
    text = b"10 %\r20 %\r\n\xff\x1b[31mred\n\tlast"
    code = f"import os, time; os.write(1, {text!r}); time.sleep(0.5)"
    emulator = emulate(command=[sys.executable, "-c", code])
    wait_until(lambda: text + b"\n" in emulator.log_path.read_bytes(), 10, lambda: repr(emulator.log_path.read_bytes()))
