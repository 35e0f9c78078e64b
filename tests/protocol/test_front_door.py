"""What a caller may ask and gets, against the real bootstrap process (service spec §2.1 to §2.3)."""

from __future__ import annotations

import base64
import os
import random
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.protocol.emulator import Start, wait_until

LOOP = [["loop"]]
REQUEST_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def test_a_call_carries_the_services_headers(emulate: Start) -> None:
    answer = emulate(LOOP).invoke({"a": 1})
    assert answer.document == {"a": 1}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-amz-executed-version"] == "$LATEST"
    assert REQUEST_ID.fullmatch(answer.headers["x-amzn-requestid"])
    assert "x-amz-function-error" not in answer.headers
    assert "x-amz-log-result" not in answer.headers


def test_a_request_id_of_the_caller_is_kept_if_it_is_one(emulate: Start) -> None:
    emulator = emulate(LOOP)
    mine = "11111111-2222-4333-8444-555555555555"
    assert emulator.invoke({}, X_Amzn_RequestId=mine).headers["x-amzn-requestid"] == mine
    assert emulator.invoke({}, X_Amzn_RequestId="a/../b c").headers["x-amzn-requestid"] != "a/../b c"


def test_an_empty_body_is_an_empty_event(emulate: Start) -> None:
    assert emulate(LOOP).invoke(b"").body == b"{}"


@pytest.mark.parametrize("body", [b"x", b"{", b'{"a":1}x', b"\xff\xfe", b"NaN", b"[" * 100_000])
def test_what_is_no_json_is_refused(emulate: Start, body: bytes) -> None:
    answer = emulate(LOOP).invoke(body)
    assert answer.status == 400
    assert answer.headers["x-amzn-errortype"] == "InvalidRequestContentException"
    assert answer.document["message"].startswith("Could not parse request body into json")


def test_the_largest_event_passes_and_one_byte_more_does_not(emulate: Start) -> None:
    emulator = emulate(LOOP)
    event = b'"' + b"x" * (6_291_456 - 2) + b'"'
    assert emulator.invoke(event).body == event
    answer = emulator.invoke(event + b" ")
    assert answer.status == 413
    assert answer.headers["x-amzn-errortype"] == "RequestEntityTooLargeException"
    assert answer.document == {"message": "Request must be smaller than 6291456 bytes for the InvokeFunction operation"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/2015-03-31/functions/fn/invocations", 405),
        ("OPTIONS", "/2015-03-31/functions/fn/invocations", 405),
        ("POST", "/2015-03-31/functions//invocations", 404),
        ("POST", "/2015-03-31/functions/a/b/invocations", 404),
        ("GET", "/", 404),
        ("GET", "/_rie/init", 404),
    ],
)
def test_other_requests_are_refused_with_json(emulate: Start, method: str, path: str, status: int) -> None:
    answer = emulate(LOOP).ask(method, path)
    assert answer.status == status
    assert "message" in answer.document


@pytest.mark.parametrize(
    ("name", "arn"),
    [
        ("any-name", "arn:aws:lambda:us-east-1:123456789012:function:any-name"),
        ("fn:PROD", "arn:aws:lambda:us-east-1:123456789012:function:fn:PROD"),
        ("arn%3Aaws%3Alambda%3Aeu-west-1%3A1%3Afunction%3Af", "arn:aws:lambda:eu-west-1:1:function:f"),
    ],
)
def test_any_function_name_answers_and_is_the_arn_that_the_function_sees(emulate: Start, name: str, arn: str) -> None:
    emulator = emulate([["next"], ["response", "1"], ["next"]])
    emulator.invoke({}, name=name)
    assert emulator.steps()[0]["headers"]["Lambda-Runtime-Invoked-Function-Arn"] == arn


def test_dry_run_and_event_answer_at_once_and_only_the_event_runs(emulate: Start) -> None:
    emulator = emulate([["next"], ["print", "it ran"], ["response", "1"], ["next"]])
    assert emulator.invoke({}, X_Amz_Invocation_Type="DryRun").status == 204
    answer = emulator.invoke({}, X_Amz_Invocation_Type="Event")
    assert (answer.status, answer.body) == (202, b"")
    emulator.wait_for("REPORT")
    assert emulator.log.count("it ran") == 1
    assert emulator.invoke({}, X_Amz_Invocation_Type="Whenever").status == 400


def test_the_operation_for_events_that_was_there_first_answers_too(emulate: Start) -> None:
    """Service spec §2.8."""
    emulator = emulate([["next"], ["print", "it ran"], ["response", "1"], ["next"]])
    path = "/2014-11-13/functions/fn/invoke-async/"
    answer = emulator.ask("POST", path, b'{"a":1}', X_Amz_Invocation_Type="DryRun")
    assert (answer.status, answer.body) == (202, b"")
    emulator.wait_for("REPORT")
    assert emulator.log.count("it ran") == 1
    refused = emulator.ask("POST", path, b'"%s"' % (b"x" * 262_143))
    message = "Request must be smaller than 262144 bytes for the InvokeFunction operation"
    assert (refused.status, refused.document) == (413, {"message": message})


def test_an_event_may_have_a_mebibyte_and_no_more(emulate: Start) -> None:
    """Service spec §2.2."""
    emulator = emulate(LOOP)
    assert emulator.invoke(b'"%s"' % (b"x" * 1_048_574), X_Amz_Invocation_Type="Event").status == 202
    refused = emulator.invoke(b'"%s"' % (b"x" * 1_048_575), X_Amz_Invocation_Type="Event")
    message = "Request must be smaller than 1048576 bytes for the InvokeFunction operation"
    assert (refused.status, refused.document) == (413, {"message": message})
    assert refused.headers["x-amzn-errortype"] == "RequestEntityTooLargeException"


def test_a_client_context_is_for_those_whose_answer_is_awaited(emulate: Start) -> None:
    """Service spec §2.2."""
    emulator = emulate([["next"], ["response", "1"], ["next"], ["response", "1"], ["next"]])
    context = base64.b64encode(b'{"a":1}').decode()
    emulator.invoke({}, X_Amz_Client_Context=context, X_Amz_Invocation_Type="Event")
    emulator.invoke({}, X_Amz_Client_Context=context)
    first, _, second = (step["headers"] for step in emulator.steps(3)[:3])
    assert "Lambda-Runtime-Client-Context" not in first
    assert second["Lambda-Runtime-Client-Context"] == '{"a":1}'


@pytest.mark.parametrize(
    ("header", "name", "values"),
    [
        ("X_Amz_Invocation_Type", "invocationType", "Event, RequestResponse, DryRun"),
        ("X_Amz_Log_Type", "logType", "None, Tail"),
    ],
)
def test_a_word_that_is_none_of_those_is_refused(emulate: Start, header: str, name: str, values: str) -> None:
    answer = emulate(LOOP).invoke({}, **{header: "Other"})
    said = f"1 validation error detected: Value 'Other' at '{name}' failed to satisfy constraint: "
    assert answer.document == {"message": f"{said}Member must satisfy enum value set: [{values}]"}
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "ValidationException")


@pytest.mark.parametrize("context", ["%%%", "a", "/w==", "x" * 3_584])
def test_a_client_context_that_cannot_be_read_is_refused(emulate: Start, context: str) -> None:
    answer = emulate(LOOP).invoke({}, X_Amz_Client_Context=context)
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "InvalidRequestContentException")


def test_the_tail_holds_this_invocations_lines_in_order(emulate: Start) -> None:
    emulator = emulate([["next"], ["print", "mine"], ["response", "1"], ["next"]])
    answer = emulator.invoke({}, X_Amz_Log_Type="Tail")
    request_id = answer.headers["x-amzn-requestid"]
    tail = base64.b64decode(answer.headers["x-amz-log-result"]).decode()
    lines = [line for line in tail.splitlines() if not line.startswith("step ")]
    assert lines[0] == f"START RequestId: {request_id} Version: $LATEST"
    assert lines[1] == "mine"
    assert lines[2] == f"END RequestId: {request_id}"
    assert re.fullmatch(
        rf"REPORT RequestId: {request_id}\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\t"
        r"Max Memory Used: \d+ MB\tInit Duration: \d+\.\d\d ms\t",
        lines[3],
    )


def test_the_timeout_kills_the_runtime_and_the_next_call_gets_a_new_one(emulate: Start) -> None:
    emulator = emulate([["ignore-sigterm"], ["next"], ["sleep", 30]], AWS_LAMBDA_FUNCTION_TIMEOUT="1")
    started = time.monotonic()
    answer = emulator.invoke({})
    assert 0.95 < time.monotonic() - started < 3
    request_id = answer.headers["x-amzn-requestid"]
    assert answer.status == 200
    assert answer.document == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {request_id} Error: Task timed out after 1.00 seconds",
    }
    log = emulator.wait_for("REPORT")
    assert re.search(rf"^\d{{4}}-\d\d-\d\dT[\d:.]+Z {request_id} Task timed out after 1.00 seconds\n\n", log, re.M)
    assert "Duration: 1000.00 ms\tBilled Duration: 1" in log
    assert log.rstrip("\n").endswith("Status: timeout")
    assert emulator.invoke({}).document["errorType"] == "Sandbox.Timedout"
    children = f"/proc/{emulator.process.pid}/task/{emulator.process.pid}/children"
    wait_until(lambda: open(children).read() == "", 5, lambda: "the runtime is still there")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (["exit", 0], "Runtime exited without providing a reason"),
        (["exit", 7], "Runtime exited with error: exit status 7"),
        (["signal", 9], "Runtime exited with error: signal: killed"),
        (["signal", 11], "Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_a_runtime_that_ends_is_told_and_replaced(emulate: Start, step: list, message: str) -> None:
    emulator = emulate([["next"], step])
    for _ in range(2):
        answer = emulator.invoke({})
        request_id = answer.headers["x-amzn-requestid"]
        assert answer.document == {
            "errorType": "Runtime.ExitError",
            "errorMessage": f"RequestId: {request_id} Error: {message}",
        }
        log = emulator.wait_for(f"REPORT RequestId: {request_id}")
        assert f"RequestId: {request_id} Error: {message}\nRuntime.ExitError\n" in log
        assert f"END RequestId: {request_id}\n" in log
        assert re.search(rf"REPORT RequestId: {request_id}\t.*Status: error\tError Type: Runtime.ExitError", log)


def test_a_runtime_that_ends_after_its_answer_fails_nobody(emulate: Start) -> None:
    emulator = emulate([["next"], ["response", '"good"'], ["exit", 1]])
    for _ in range(3):
        answer = emulator.invoke({})
        assert answer.body == b'"good"'
        assert "x-amz-function-error" not in answer.headers


def test_concurrent_callers_are_all_answered_in_turn(emulate: Start) -> None:
    emulator = emulate(LOOP)
    with ThreadPoolExecutor(8) as clients:

        def call(client: int) -> list[bytes]:
            connection = emulator.connect()
            return [emulator.invoke({"n": [client, call]}, connection=connection).body for call in range(100)]

        answers = list(clients.map(call, range(8)))
    assert answers == [[b'{"n": [%d, %d]}' % (client, call) for call in range(100)] for client in range(8)]
    assert emulator.log.count("REPORT") == 800


def test_a_caller_that_goes_away_does_not_stop_its_function_nor_the_next(emulate: Start) -> None:
    emulator = emulate([["next"], ["sleep", 0.3], ["print", "ended"], ["response", "1"], ["loop"]])
    with socket.create_connection(("127.0.0.1", emulator.port)) as sock:
        sock.sendall(b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        emulator.wait_for("\nSTART ")
    assert emulator.invoke({"next": 1}).document == {"next": 1}
    assert "ended" in emulator.log


def test_nothing_that_callers_send_takes_the_process_down(emulate: Start) -> None:
    emulator = emulate(LOOP)
    random.seed(7)
    requests = [
        b"\r\n" * 1000,
        b"GET",
        b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n",
        b"POST /2015-03-31/functions/%00%0d%0a/invocations HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nContent-Length: 2\r\nX-Amzn-Trace-Id: a\x01b\r\n\r\n{}",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        *[random.randbytes(random.randrange(1, 5000)) for _ in range(200)],
    ]
    for number, data in enumerate(requests):
        for port in (emulator.port, emulator.runtime_port):
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.sendall(data)
                if number % 3:
                    sock.shutdown(socket.SHUT_WR)
    assert emulator.process.poll() is None
    assert emulator.invoke({"alive": 1}).document == {"alive": 1}


def test_hundreds_of_idle_connections_do_not_keep_others_out(emulate: Start) -> None:
    emulator = emulate(LOOP)
    idle = [socket.create_connection(("127.0.0.1", emulator.port)) for _ in range(500)]
    assert emulator.invoke({"a": 1}).document == {"a": 1}
    for sock in idle:
        sock.close()


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(emulate: Start) -> None:
    emulator = emulate(LOOP)
    with socket.create_connection(("127.0.0.1", emulator.port)) as sock:
        sock.sendall(
            b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"{}")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_sigterm_stops_the_runtime_first_softly_and_turns_callers_away(emulate: Start) -> None:
    emulator = emulate([["ignore-sigterm"], ["next"], ["sleep", 60]], AWS_LAMBDA_FUNCTION_TIMEOUT="60")
    answers = []
    caller = threading.Thread(target=lambda: answers.append(emulator.invoke({})))
    caller.start()
    emulator.wait_for("\nSTART ")
    children = f"/proc/{emulator.process.pid}/task/{emulator.process.pid}/children"
    runtime = int(open(children).read())
    started = time.monotonic()
    assert emulator.stop() == 0
    assert 0.45 < time.monotonic() - started < 3
    caller.join()
    assert answers[0].status == 503
    assert answers[0].headers["x-amzn-errortype"] == "ServiceException"
    assert not os.path.exists(f"/proc/{runtime}")


def test_sigterm_to_an_idle_environment_ends_it_at_once(emulate: Start) -> None:
    emulator = emulate(LOOP)
    emulator.invoke({})
    started = time.monotonic()
    assert emulator.stop() == 0
    assert time.monotonic() - started < 0.45


def test_processes_that_the_runtime_started_die_with_it(emulate: Start) -> None:
    emulator = emulate(
        command=["/bin/sh", "-c", "sleep 300 & echo child $!; exit 3"],
    )
    child = int(re.search(r"child (\d+)", emulator.wait_for("child "))[1])  # type: ignore[index]
    wait_until(lambda: not os.path.exists(f"/proc/{child}") or _is_zombie(child), 5, lambda: "it lives on")


def _is_zombie(pid: int) -> bool:
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_provisioned_environments_init_is_reported_when_it_ends_and_in_no_invocation(emulate: Start) -> None:
    script = [["next"], ["response", "1"], ["next"]]
    emulator = emulate(script, AWS_LAMBDA_INITIALIZATION_TYPE="provisioned-concurrency")
    log = emulator.wait_for("Status: success")
    assert re.search(r"^INIT_REPORT Init Duration: \d+\.\d\d ms\tPhase: init\tStatus: success$", log, re.M)
    assert emulator.invoke({}).status == 200
    report = emulator.wait_for("REPORT RequestId").partition("REPORT RequestId")[2]
    assert "Init Duration" not in report.splitlines()[0]


def test_a_stopped_process_is_told_from_a_killed_one(emulate: Start) -> None:
    emulator = emulate([["next"], ["signal", int(signal.SIGTERM)]])
    assert emulator.invoke({}).document["errorMessage"].endswith("Runtime exited with error: signal: terminated")


def test_init_may_wait_for_the_first_call(emulate: Start) -> None:
    emulator = emulate([["print", "runtime is here"], ["loop"]], RIE_INIT="lazy")
    time.sleep(0.5)
    assert "runtime is here" not in emulator.log
    assert emulator.invoke({"a": 1}).document == {"a": 1}
    emulator.wait_for("runtime is here")
    assert "Init Duration" in emulator.log


def test_the_managers_door_is_not_open_to_callers(emulate: Start) -> None:
    emulator = emulate(LOOP)
    forged = "arn:aws:lambda:us-east-1:123456789012:function:other"
    answer = emulator.invoke({}, X_Rie_Function_Arn=forged)
    assert "x-rie-report" not in answer.headers
