"""InvokeWithResponseStream through a manager (lambda.md §2.7), as boto3 decodes it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from tests.stub_manager import StubManager, stub_managing

MB = 1 << 20


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubManager]:
    with stub_managing(tmp_path_factory.mktemp("data")) as running:
        for name in ("stream", "echo", "fail"):
            running.create(name, name)
        yield running


@pytest.fixture(scope="module")
def client(manager: StubManager) -> Any:
    return manager.client()


def stream(client: Any, name: str = "stream", event: Any = None, **more: Any) -> dict[str, Any]:
    return dict(client.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(event), **more))


def frames(client: Any, name: str = "stream", event: Any = None, **more: Any) -> list[Any]:
    return list(stream(client, name, event, **more)["EventStream"])


def environments(manager: StubManager, name: str) -> list[dict[str, Any]]:
    found = manager.ask("GET", "/_rie/environments").document
    return [environment for environment in found if environment["function"] == name]


def until(condition: Callable[[], Any], within_s: float = 30) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def test_the_pieces_are_frames_and_the_last_one_has_the_log(client: Any) -> None:
    answer = stream(client, event={"pieces": ["a", "b", ""]}, LogType="Tail")
    assert answer["ExecutedVersion"] == "$LATEST"
    assert answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
    *chunks, complete = answer["EventStream"]
    assert b"".join(chunk["PayloadChunk"]["Payload"] for chunk in chunks) == b"ab"
    assert set(complete["InvokeComplete"]) == {"LogResult"}


def test_the_first_piece_arrives_while_the_function_still_runs(manager: StubManager, client: Any) -> None:
    events = iter(stream(client, event={"pieces": ["a", "b"], "seconds": 0.5})["EventStream"])
    assert next(events) == {"PayloadChunk": {"Payload": b"a"}}
    assert "busy" in {environment["state"] for environment in environments(manager, "stream")}
    assert [*events] == [{"PayloadChunk": {"Payload": b"b"}}, {"InvokeComplete": {}}]


def test_an_answer_that_is_whole_comes_in_one_piece(client: Any) -> None:
    assert frames(client, "echo", {"a": 1}) == [{"PayloadChunk": {"Payload": b'{"a": 1}'}}, {"InvokeComplete": {}}]


def test_an_error_before_the_first_piece_is_the_answer_and_named_at_the_end(client: Any) -> None:
    chunk, end = frames(client, "fail")
    assert json.loads(chunk["PayloadChunk"]["Payload"])["errorType"] == "ValueError"
    assert end["InvokeComplete"]["ErrorCode"] == "Unhandled"
    assert json.loads(end["InvokeComplete"]["ErrorDetails"])["errorMessage"] == "told to fail"


def test_an_error_after_it_is_told_at_the_end(client: Any) -> None:
    chunk, end = frames(client, event={"pieces": ["a"], "fails": True})
    assert chunk == {"PayloadChunk": {"Payload": b"a"}}
    assert end["InvokeComplete"]["ErrorCode"] == "Error"
    assert json.loads(end["InvokeComplete"]["ErrorDetails"])["errorMessage"] == "told to fail"


def test_a_dry_run_calls_nothing(manager: StubManager) -> None:
    path = "/2021-11-15/functions/echo/response-streaming-invocations"
    answer = manager.ask("POST", path, b"{}", {"X-Amz-Invocation-Type": "DryRun"})
    assert (answer.status, answer.body) == (204, b"")
    assert "x-amz-executed-version" not in answer.headers


def test_an_event_is_no_type_of_a_streamed_invocation(manager: StubManager) -> None:
    path = "/2021-11-15/functions/echo/response-streaming-invocations"
    answer = manager.ask("POST", path, b"{}", {"X-Amz-Invocation-Type": "Event"})
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "ValidationException")
    assert "enum value set: [RequestResponse, DryRun]" in answer.document["message"]


def test_what_is_wrong_before_the_stream_is_an_ordinary_error(client: Any) -> None:
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        stream(client, "nobody")
    with pytest.raises(ClientError) as caught:
        client.invoke_with_response_stream(FunctionName="stream", Payload=b"hello")
    assert caught.value.response["Error"]["Code"] == "InvalidRequestContentException"


def call(manager: StubManager, name: str, event: Any) -> socket.socket:
    """A caller who has sent its request and has read the first of the answer."""
    body = json.dumps(event).encode()
    sock = socket.create_connection(("127.0.0.1", manager.port), timeout=20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    path = f"/2021-11-15/functions/{name}/response-streaming-invocations"
    sock.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    assert sock.recv(17) == b"HTTP/1.1 200 OK\r\n"
    return sock


def test_a_caller_that_goes_away_does_not_stop_the_function(manager: StubManager) -> None:
    manager.create("left", "stream")
    call(manager, "left", {"pieces": ["a"] * 10, "seconds": 0.05}).close()
    until(lambda: [e["state"] for e in environments(manager, "left")] == ["idle"])
    assert environments(manager, "left")[0]["invocations"] == 1
    lines = manager.ask("GET", "/_rie/logs?group=/aws/lambda/left").body.decode()
    assert "END RequestId" in lines


def test_a_caller_that_reads_nothing_holds_up_nobody_and_no_memory(manager: StubManager, client: Any) -> None:
    manager.create("slow", "stream", Timeout=2)
    worker = psutil.Process(manager.worker_pid)
    before = worker.memory_info().rss
    with call(manager, "slow", {"pieces": ["x" * 100_000], "times": 2_000}):
        for _ in range(20):
            assert json.loads(client.invoke(FunctionName="echo", Payload=b"1")["Payload"].read()) == 1
        assert [e["state"] for e in environments(manager, "slow")] == ["busy"]
        assert worker.memory_info().rss - before < 32 * MB
        # The function's time passes, whoever reads: its environment is free again.
        until(lambda: [e["state"] for e in environments(manager, "slow")] == ["idle"])
        assert worker.memory_info().rss - before < 32 * MB


def test_a_caller_that_reads_late_gets_every_byte(manager: StubManager) -> None:
    with call(manager, "stream", {"pieces": ["y" * 100_000], "times": 100}) as sock:
        received = 0
        sock.sendall(b"GET /_rie/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while data := sock.recv(1 << 16):
            received += data.count(b"y")
        assert received >= 100 * 100_000


def test_past_6_mb_a_stream_is_paced_where_that_is_set(tmp_path_factory: pytest.TempPathFactory) -> None:
    from rie.plane.streams import BURST, Pace

    pace = Pace(2.0)
    assert pace.wait_s(BURST, 10.0) == 0
    assert pace.wait_s(2 * MB, 10.0) == pytest.approx(1.0)
    assert pace.wait_s(2 * MB, 11.5) == pytest.approx(0.5)
    assert pace.wait_s(MB, 20.0) == 0
    assert Pace(0).wait_s(200 * MB, 0.0) == 0
    with stub_managing(tmp_path_factory.mktemp("paced"), RIE_STREAM_MIB_PER_S="1000") as manager:
        manager.create("stream", "stream")
        found = frames(manager.client(), event={"pieces": ["z" * 100_000], "times": 80})
        assert sum(len(frame["PayloadChunk"]["Payload"]) for frame in found[:-1]) == 8_000_000
