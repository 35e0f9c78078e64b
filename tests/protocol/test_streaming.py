"""Answers in pieces, from the runtime to the caller (service spec §2.7, §3.4)."""

from __future__ import annotations

import base64
import http.client
import json
import time
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer

from tests.protocol.emulator import Emulator, Start, wait_until

PATH = "/2021-11-15/functions/fn/response-streaming-invocations"


def stream(emulator: Emulator, event: Any = None, **headers: str) -> list[tuple[float, str, bytes]]:
    """(seconds after the call, event type, payload) of every frame, decoded by botocore."""
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=30)
    started = time.monotonic()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", PATH, json.dumps(event or {}).encode(), names)
    response = connection.getresponse()
    assert response.status == 200
    assert response.getheader("Content-Type") == "application/vnd.amazon.eventstream"
    assert response.getheader("X-Amz-Executed-Version") == "$LATEST"
    frames = []
    buffer = EventStreamBuffer()
    while data := response.read1(65_536):
        buffer.add_data(data)
        frames += [(time.monotonic() - started, frame.headers[":event-type"], frame.payload) for frame in buffer]
    connection.close()
    return frames


def test_pieces_reach_the_caller_as_they_are_made(emulate: Start) -> None:
    emulator = emulate([["next"], ["slowly", ["one", "two", "three"], 0.3], ["loop"]])
    frames = stream(emulator)
    assert [(kind, payload) for _, kind, payload in frames] == [
        ("PayloadChunk", b"one"),
        ("PayloadChunk", b"two"),
        ("PayloadChunk", b"three"),
        ("InvokeComplete", b"{}"),
    ]
    times = [at for at, _, _ in frames]
    assert times[1] - times[0] > 0.2
    assert times[2] - times[1] > 0.2
    assert emulator.invoke({"a": 1}).document == {"a": 1}
    wait_until(lambda: emulator.log.count("REPORT") == 2, 10, lambda: emulator.log)


def test_the_log_comes_with_the_end(emulate: Start) -> None:
    emulator = emulate([["next"], ["print", "mine"], ["chunked", ["x"], {}], ["next"]])
    *_, (_, _, complete) = stream(emulator, X_Amz_Log_Type="Tail")
    tail = base64.b64decode(json.loads(complete)["LogResult"]).decode()
    assert tail.startswith("START")
    assert "mine" in tail
    assert "REPORT" in tail


def test_an_error_on_the_way_keeps_what_was_sent_and_is_told_at_the_end(emulate: Start) -> None:
    trailers = {
        "Lambda-Runtime-Function-Error-Type": "Runtime.Midway",
        "Lambda-Runtime-Function-Error-Body": base64.b64encode(b'{"errorMessage":"m"}').decode(),
    }
    emulator = emulate([["next"], ["chunked", ["par", "tial"], trailers], ["loop"]])
    frames = stream(emulator)
    assert b"".join(payload for _, kind, payload in frames if kind == "PayloadChunk") == b"partial"
    assert json.loads(frames[-1][2]) == {"ErrorCode": "Runtime.Midway", "ErrorDetails": '{"errorMessage":"m"}'}
    assert emulator.invoke({"a": 1}).document == {"a": 1}


def test_a_runtime_that_does_not_stream_answers_in_one_piece(emulate: Start) -> None:
    emulator = emulate([["next"], ["response", '{"whole":1}'], ["next"]])
    frames = stream(emulator)
    assert [(kind, payload) for _, kind, payload in frames] == [
        ("PayloadChunk", b'{"whole":1}'),
        ("InvokeComplete", b"{}"),
    ]


def test_an_error_before_the_first_piece_is_a_piece_and_the_end_says_so(emulate: Start) -> None:
    emulator = emulate([["next"], ["error", '{"errorType":"E"}'], ["next"]])
    frames = stream(emulator)
    assert frames[0][2] == b'{"errorType":"E"}'
    assert json.loads(frames[-1][2]) == {"ErrorCode": "Unhandled", "ErrorDetails": '{"errorType":"E"}'}


@pytest.mark.parametrize(("ending", "code"), [(["sleep", 30], "Sandbox.Timedout"), (["exit", 3], "Runtime.ExitError")])
def test_a_timeout_and_an_exit_end_the_stream_with_an_error(emulate: Start, ending: list, code: str) -> None:
    emulator = emulate([["next"], ["begin", "part"], ending], AWS_LAMBDA_FUNCTION_TIMEOUT="1")
    frames = stream(emulator)
    assert frames[0][1:] == ("PayloadChunk", b"part")
    complete = json.loads(frames[-1][2])
    assert complete["ErrorCode"] in (code, "Runtime.TruncatedResponse")
    assert emulator.wait_for("REPORT").count("REPORT") == 1


def test_a_runtime_that_hangs_up_midway_has_cut_its_answer(emulate: Start) -> None:
    emulator = emulate([["next"], ["begin", "part"], ["hang-up"], ["loop"]])
    frames = stream(emulator)
    assert json.loads(frames[-1][2])["ErrorCode"] == "Runtime.TruncatedResponse"
    assert emulator.invoke({"a": 1}).document == {"a": 1}


def test_a_fast_runtime_waits_for_a_slow_caller(emulate: Start) -> None:
    emulator = emulate([["next"], ["large-stream", 50], ["loop"]], AWS_LAMBDA_FUNCTION_TIMEOUT="60")
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=30)
    connection.request("POST", PATH, b"{}")
    response = connection.getresponse()
    time.sleep(1)
    resident = int(open(f"/proc/{emulator.process.pid}/status").read().partition("VmRSS:")[2].split()[0]) // 1024
    assert resident < 40, f"{resident} MB"
    buffer, octets = EventStreamBuffer(), 0
    while data := response.read1(1 << 20):
        buffer.add_data(data)
        octets += sum(len(frame.payload) for frame in buffer if frame.headers[":event-type"] == "PayloadChunk")
    connection.close()
    assert octets == 50 << 20


def test_a_caller_that_goes_away_midway_does_not_stop_the_function(emulate: Start) -> None:
    emulator = emulate([["next"], ["slowly", ["a"] * 5, 0.1], ["print", "went on"], ["loop"]])
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=30)
    connection.request("POST", PATH, b"{}")
    connection.getresponse()
    connection.close()
    emulator.wait_for("went on")
    assert emulator.invoke({"a": 1}).document == {"a": 1}


def test_an_event_cannot_be_streamed(emulate: Start) -> None:
    emulator = emulate([["loop"]])
    assert emulator.ask("POST", PATH, b"{}", X_Amz_Invocation_Type="Event").status == 400
    assert emulator.ask("POST", PATH, b"{}", X_Amz_Invocation_Type="DryRun").status == 204


def test_a_caller_who_wants_it_whole_gets_a_streamed_answer_whole(emulate: Start) -> None:
    emulator = emulate([["next"], ["slowly", ["one", "two"], 0.1], ["next"]])
    assert emulator.invoke({}).body == b"onetwo"
