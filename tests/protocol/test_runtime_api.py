"""What a runtime may ask and say, against the real bootstrap process (service spec §3.2 to §3.6)."""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.protocol.emulator import Emulator, Start, wait_until

DONE = '{"done":true}'
STATUS_OK = {"status": "OK"}


def steps(emulator: Emulator, count: int) -> list[dict]:
    wait_until(lambda: len(emulator.steps()) >= count, 10, lambda: emulator.log)
    return emulator.steps()


def test_an_event_is_delivered_with_its_headers_and_answered(emulate: Start) -> None:
    emulator = emulate([["next"], ["response", DONE], ["next"]])
    before = time.time()
    answer = emulator.invoke({"a": 1}, X_Amz_Client_Context="eyJjIjogMX0=", X_Amzn_Trace_Id="Root=1-2-3")
    assert (answer.status, answer.body) == (200, DONE.encode())
    delivered, posted = steps(emulator, 2)
    headers = delivered["headers"]
    assert delivered["body"] == '{"a": 1}'
    assert headers["Content-Type"] == "application/json"
    assert headers["Lambda-Runtime-Aws-Request-Id"] == answer.headers["x-amzn-requestid"]
    assert headers["Lambda-Runtime-Invoked-Function-Arn"] == "arn:aws:lambda:us-east-1:123456789012:function:fn"
    assert headers["Lambda-Runtime-Trace-Id"] == "Root=1-2-3" == answer.headers["x-amzn-trace-id"]
    assert headers["Lambda-Runtime-Client-Context"] == '{"c": 1}'
    assert before * 1e3 < int(headers["Lambda-Runtime-Deadline-Ms"]) - 3_000 < time.time() * 1e3
    assert (posted["status"], json.loads(posted["body"])) == (202, STATUS_OK)


def test_what_nobody_sent_is_no_header_and_a_trace_id_is_made(emulate: Start) -> None:
    emulator = emulate([["next"], ["response", DONE], ["next"]])
    emulator.invoke({})
    headers = steps(emulator, 1)[0]["headers"]
    assert "Lambda-Runtime-Client-Context" not in headers
    assert "Lambda-Runtime-Cognito-Identity" not in headers
    assert headers["Lambda-Runtime-Trace-Id"].startswith("Root=1-")


def test_a_second_answer_and_a_wrong_id_are_refused_and_do_no_harm(emulate: Start) -> None:
    answer_path = "/2018-06-01/runtime/invocation/{id}/response"
    emulator = emulate(
        [
            ["post", "/2018-06-01/runtime/invocation/early/response", "x"],
            ["next"],
            ["post", answer_path + "x", "x"],
            ["post", "/2018-06-01/runtime/invocation/other/response", "x"],
            ["response", DONE],
            ["post", answer_path, "twice"],
            ["next"],
            ["response", '"second"'],
            ["next"],
        ]
    )
    assert emulator.invoke({}).body == DONE.encode()
    assert emulator.invoke({}).body == b'"second"'
    statuses = [step["status"] for step in steps(emulator, 8)]
    assert statuses == [400, 200, 404, 400, 202, 400, 200, 202]
    refusal = json.loads(emulator.steps()[3]["body"])
    assert refusal == {"errorMessage": "Invalid request ID", "errorType": "InvalidRequestID"}


def test_asking_for_the_next_event_before_answering_is_refused(emulate: Start) -> None:
    emulator = emulate([["next"], ["next"], ["response", DONE], ["next"]])
    assert emulator.invoke({}).body == DONE.encode()
    refused = steps(emulator, 3)[1]
    assert refused["status"] == 403
    assert json.loads(refused["body"])["errorType"] == "InvalidStateTransition"


def test_an_error_reaches_the_caller_byte_for_byte(emulate: Start) -> None:
    error = '{"errorMessage": "boom", "errorType": "ValueError", "extra": [1]}'
    emulator = emulate([["next"], ["error", error, "Runtime.Boom"], ["next"]])
    answer = emulator.invoke({})
    assert (answer.status, answer.body) == (200, error.encode())
    assert answer.headers["x-amz-function-error"] == "Unhandled"
    assert steps(emulator, 2)[1]["status"] == 202


def test_the_cause_that_is_for_tracing_is_not_told_to_the_caller(emulate: Start) -> None:
    cause = '{"errorMessage":"m","errorType":"t","stackTrace":["s"],"errorCause":{"secret":1}}'
    content_type = "application/vnd.aws.lambda.error.cause+json"
    emulator = emulate([["next"], ["error", cause, "Function.X", content_type], ["next"]])
    assert emulator.invoke({}).document == {"errorMessage": "m", "errorType": "t", "stackTrace": ["s"]}


def test_a_chunked_answer_is_whole_and_a_trailer_makes_it_an_error(emulate: Start) -> None:
    trailers = {
        "Lambda-Runtime-Function-Error-Type": "Runtime.StreamError",
        "Lambda-Runtime-Function-Error-Body": "eyJlcnJvclR5cGUiOiJFIn0=",
    }
    emulator = emulate([["next"], ["chunked", ["ab", "cd"], {}], ["next"], ["chunked", ["par"], trailers], ["next"]])
    assert emulator.invoke({}).body == b"abcd"
    answer = emulator.invoke({})
    assert answer.document == {"errorType": "E"}
    assert answer.headers["x-amz-function-error"] == "Unhandled"


def test_a_response_of_the_largest_size_passes_and_one_byte_more_does_not(emulate: Start) -> None:
    emulator = emulate(
        [["next"], ["large", 6_291_556], ["next"], ["large", 6_291_557], ["next"], ["response", DONE], ["next"]]
    )
    assert len(emulator.invoke({}).body) == 6_291_556
    answer = emulator.invoke({})
    assert answer.document == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    assert steps(emulator, 4)[3]["status"] == 413
    assert emulator.invoke({}).body == DONE.encode()


def test_the_python_client_ends_after_an_answer_that_is_too_large_and_the_next_invocation_is_served(
    emulate: Start, tmp_path: Path
) -> None:
    """AWS's client takes the 413 for the end of everything, there as here; nobody but its next init notices."""
    (tmp_path / "app.py").write_text(
        "import os\ndef handler(event, context):\n    return 'x' * event['bytes'] if event else os.getpid()\n"
    )
    emulator = emulate(command=[sys.executable, "-m", "awslambdaric", "app.handler"], LAMBDA_TASK_ROOT=str(tmp_path))
    connection = emulator.connect()
    process = emulator.invoke({}, connection=connection).document
    for _ in range(3):
        answer = emulator.invoke({"bytes": 6_300_000}, connection=connection)
        assert (answer.status, answer.headers["x-amz-function-error"]) == (200, "Unhandled")
        assert answer.document["errorType"] == "Function.ResponseSizeTooLarge"
        following = emulator.invoke({}, connection=connection)
        assert (following.status, following.headers.get("x-amz-function-error")) == (200, None)
        assert following.document != process
        process = following.document
    assert emulator.log.count("LAMBDA_RUNTIME Failed to post handler success response. Http response code: 413.") == 3


def test_an_invalid_response_mode_is_refused_and_the_runtime_may_answer_again(emulate: Start) -> None:
    emulator = emulate([["next"], ["sleep", 0.5], ["response", DONE], ["next"]])
    with socket.create_connection(("127.0.0.1", emulator.runtime_port)) as sock:
        head = "POST /2018-06-01/runtime/invocation/x/response HTTP/1.1\r\nContent-Length: 1\r\n"
        sock.sendall((head + "Lambda-Runtime-Function-Response-Mode: fast\r\n\r\nx").encode())
        assert b"InvalidFunctionResponseMode" in sock.recv(65_536)
    assert emulator.invoke({}).body == DONE.encode()


@pytest.mark.parametrize(
    ("script", "status", "allow"),
    [
        (["get", "/2018-06-01/ping"], 200, None),
        (["get", "/2018-06-01/runtime/invocation/x/response"], 405, "POST"),
        (["post", "/2018-06-01/runtime/invocation/next", ""], 405, "GET"),
        (["get", "/2018-06-01/runtime/init/error"], 405, "POST"),
        (["get", "/nowhere"], 404, None),
        (["get", "/2018-06-01/runtime/invocation/../next"], 404, None),
    ],
)
def test_routes(emulate: Start, script: list, status: int, allow: str | None) -> None:
    emulator = emulate([script, ["loop"]])
    step = steps(emulator, 1)[0]
    assert step["status"] == status
    assert step["headers"].get("Allow") == allow
    assert emulator.invoke({"still": "served"}).document == {"still": "served"}


def test_a_header_line_of_a_mebibyte_is_taken(emulate: Start) -> None:
    emulator = emulate([["loop"]])
    with socket.create_connection(("127.0.0.1", emulator.runtime_port)) as sock:
        cause = "x" * 1_000_000
        sock.sendall(f"GET /2018-06-01/ping HTTP/1.1\r\nX-Cause: {cause}\r\n\r\n".encode())
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200")


def test_an_init_error_is_told_after_init_was_repeated(emulate: Start) -> None:
    error = '{"errorType":"Runtime.ImportModuleError","errorMessage":"no module","requestId":""}'
    emulator = emulate([["init-error", error, "Runtime.ImportModuleError"], ["exit", 1]])
    emulator.wait_for("INIT_REPORT")
    for _ in range(2):
        answer = emulator.invoke({})
        assert answer.status == 200
        assert answer.body == error.encode()
        assert answer.headers["x-amz-function-error"] == "Unhandled"
    log = emulator.log
    assert log.count("Phase: init\tStatus: error\tError Type: Runtime.ImportModuleError") == 1
    assert log.count("Phase: invoke\tStatus: error\tError Type: Runtime.ImportModuleError") == 2


def test_a_missing_program_and_a_missing_directory_are_told(emulate: Start) -> None:
    emulator = emulate(command=["/no/such/program", "app.handler"])
    answer = emulator.invoke({})
    assert answer.document["errorType"] == "Runtime.InvalidEntrypoint"
    assert answer.document["errorMessage"].endswith("Error: fork/exec /no/such/program: no such file or directory")
    emulator = emulate([["loop"]], RIE_WORKING_DIRECTORY="/no/such/place")
    answer = emulator.invoke({})
    assert answer.document["errorType"] == "Runtime.InvalidWorkingDir"


def test_a_bad_setting_ends_the_process_with_a_clear_line(emulate: Start) -> None:
    emulator = emulate([["loop"]], AWS_LAMBDA_FUNCTION_TIMEOUT="soon")
    assert emulator.process.wait(5) == 2
    assert "cannot read AWS_LAMBDA_FUNCTION_TIMEOUT: 'soon' is not a number" in emulator.log
