"""Malformed HTTP at both doors of a real bootstrap: whatever comes, it answers or closes, and goes on serving."""

from __future__ import annotations

import itertools
import os
import re
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.protocol.acting import Extension, acting_as_runtime
from tests.protocol.emulator import Emulator, Start

# Each a batch of connections; with this many a door takes about 4 s.
EXAMPLES = int(os.environ.get("RIE_EXAMPLES", "300"))
PATIENCE_S = 5.0  # for an answer, or the end, of a connection that sends no more
LINGER_OFF = struct.pack("ii", 1, 0)  # close() sends a reset
INVOKE = "/2015-03-31/functions/function/invocations"
API = "/2018-06-01/runtime"
REQUEST_ID = "11111111-2222-4333-8444-555555555555"
# What may be answered to a request that is none. 500 is not among it: that would be our own mistake.
STATUSES = {100, 200, 202, 204, 400, 403, 404, 405, 408, 413, 417, 429, 431, 501, 505}
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z ]+\r\n")

noise = st.binary(max_size=40)
word = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=20)
number = st.one_of(st.integers(-2, 30), st.integers(0, 1 << 70)).map(str)
# Where a request goes; what is refused is here beside what is served.
routes = st.sampled_from(
    [
        *[("POST", INVOKE)] * 4,
        *(("POST", f"{INVOKE}?Qualifier=%00"), ("POST", INVOKE.replace("function/", "a%2fb/")), ("GET", "/")),
        *(("POST", INVOKE.replace("function/", f"{name}/")) for name in ("", "%0d%0a", "arn%3Aaws", "x" * 5_000, "%")),
        *(("GET", f"{API}/invocation/next"), ("POST", f"{API}/init/error"), ("GET", "/2018-06-01/ping")),
        *(("POST", f"{API}/invocation/{name}/response") for name in ("", "x", REQUEST_ID, "..", "%00")),
        *(("POST", f"{API}/invocation/{name}/error") for name in ("x", REQUEST_ID)),
        *(("GET", f"{API}/restore/next"), ("GET", "/_rie/init")),
        *(("PUT", "/2022-07-01/telemetry"), ("PUT", "/2020-08-15/logs")),
        *(("POST", "/2020-01-01/extension/register"), ("GET", "/2020-01-01/extension/event/next")),
    ]
)
methods = st.one_of(st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "post", "CONNECT", "PRI", ""]), word)
versions = st.one_of(st.sampled_from(["HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "HTTP/1.1 ", "http/1.1", ""]), word)
paths = st.one_of(st.sampled_from(["*", "//", "http://x/", "http://", "x", "/é", "/%", "/" * 9_000]), word)
names = st.sampled_from(
    [
        *("Connection", "Expect", "Host", "Trailer", "Content-Type", "X-Amz-Invocation-Type", "X-Amz-Log-Type"),
        *("X-Amz-Client-Context", "X-Amzn-RequestId", "X-Amzn-Trace-Id", "X-Rie-Function-Arn"),
        *("Lambda-Runtime-Function-Error-Type", "Lambda-Runtime-Function-Response-Mode"),
        *("Lambda-Extension-Name", "Lambda-Extension-Identifier", "Lambda-Extension-Identifier"),
    ]
)
wrong_names = st.one_of(st.sampled_from(["Content-Length", "Transfer-Encoding", "Content Length", "", " Folded"]), word)
values = st.one_of(
    st.sampled_from(
        [
            *("chunked", "Chunked, chunked", "gzip", "close", "keep-alive", "100-continue", "0", "+2", "2, 2", "0x2"),
            *("Event", "DryRun", "Tail", "streaming", "fast", "e30=", "/w==", "a\0b", "x" * 70_000, REQUEST_ID),
            *("application/vnd.aws.lambda.error.cause+json", "Lambda-Runtime-Function-Error-Type", "Runtime.X"),
        ]
    ),
    *(word, number),
)
bodies = st.sampled_from(
    [b"", b"{}", b"{}", b"[1]", b'"\\ud800"', b'{"events":null}', b"[" * 2_000, b"[0]" + b" " * 9_000]
)
wrong_bodies = st.one_of(st.sampled_from([b"NaN", b"\xff\xfe", b"{", b'{"a":1}x']), noise)
wrong_sizes = st.sampled_from([b"f" * 16, b"f" * 17, b"-1", b"", b"2;x=y", b"2 ", b"0x2", b"g", b"9" * 5_000, b"1"])
trailers = st.sampled_from([b"", b"", b"Lambda-Runtime-Function-Error-Type: X\r\n", b"no colon\r\n", b": x\r\n"])
FLAWS = ("method", "path", "version", "name", "framing", "separator", "line end", "body")


@st.composite
def chunked(draw: Any, body: bytes, is_wrong: bool) -> bytes:
    """A body in chunks, the last of them of a wrong size if it `is_wrong`."""
    cut = draw(st.integers(0, len(body)))
    parts = [part for part in (body[:cut], body[cut:]) if part]
    sizes = [b"%x" % len(part) for part in parts]
    if is_wrong and sizes:
        sizes[-1] = draw(wrong_sizes)
    chunks = b"".join(size + b"\r\n" + part + b"\r\n" for size, part in zip(sizes, parts, strict=True))
    return chunks + b"0\r\n" + draw(trailers) + b"\r\n"


@st.composite
def requests(draw: Any) -> bytes:
    """A request with at most two flaws; more would only ever find the first refusal."""
    flaws = draw(st.sets(st.sampled_from(FLAWS), max_size=2))
    method, path = draw(routes)
    line = (
        draw(methods) if "method" in flaws else method,
        draw(paths) if "path" in flaws else path,
        draw(versions) if "version" in flaws else "HTTP/1.1",
    )
    headers = draw(st.lists(st.tuples(wrong_names if "name" in flaws else names, values), max_size=2))
    body = draw(wrong_bodies if "body" in flaws else bodies)
    if draw(st.booleans()):
        headers.append(("Transfer-Encoding", "chunked"))
        body = draw(chunked(body, "framing" in flaws))
    else:
        headers.append(("Content-Length", draw(number) if "framing" in flaws else str(len(body))))
    separator = draw(st.sampled_from([":", " : ", "\t", ""])) if "separator" in flaws else ": "
    end = draw(st.sampled_from(["\n", "\r", ""])) if "line end" in flaws else "\r\n"
    lines = [" ".join(line), *(name + separator + value for name, value in headers)]
    return (end.join(lines) + end + end).encode("latin-1") + body


@st.composite
def streams(draw: Any) -> bytes:
    """Requests back to back; some streams are cut off, or have noise put in."""
    data: bytes = b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))
    spoiling = draw(st.sampled_from(["", "", "", "cut", "insert"]))
    at = draw(st.integers(0, len(data))) if spoiling else 0
    if spoiling == "cut":
        return data[:at]
    return data[:at] + draw(noise) + data[at:] if spoiling else data


@dataclass(frozen=True, slots=True)
class Visit:
    """One connection: what it sends, where it pauses, and how it leaves."""

    data: bytes
    pause_at: int
    leaving: str


visits = st.builds(
    Visit, streams(), st.integers(0, 200), st.sampled_from(["half-close", "half-close", "close", "reset", "stay"])
)


def visit(port: int, visit: Visit, staying: list[socket.socket]) -> None:
    """Carry it out. A half-closed connection is read to its end, which must come, and hold nothing but answers."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    try:
        sock.sendall(visit.data[: visit.pause_at])
        sock.sendall(visit.data[visit.pause_at :])
        if visit.leaving == "half-close":
            sock.shutdown(socket.SHUT_WR)
            check_answers(read_all(sock))
    except (BrokenPipeError, ConnectionResetError, OSError) as error:
        assert not isinstance(error, TimeoutError), "neither an answer nor an end came"
    # A second poll that stays is a second runtime: it gets every other event, as it should, and answers none.
    if visit.leaving == "stay" and b"invocation/next" not in visit.data:
        staying.append(sock)
        return
    if visit.leaving == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
    sock.close()


def read_all(sock: socket.socket) -> bytes:
    parts = []
    while data := sock.recv(65_536):
        parts.append(data)
    return b"".join(parts)


def check_answers(data: bytes) -> None:
    assert not data or STATUS_LINE.match(data), data[:200]
    statuses = {int(status) for status in STATUS_LINE.findall(data)}
    assert statuses <= STATUSES, data[:2_000]


def fuzz(emulator: Emulator, port: int) -> None:
    """Batches of visits to a port; after each the function must answer."""
    staying: list[socket.socket] = []
    connection = emulator.connect()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(st.lists(visits, min_size=1, max_size=5))
    def batch(some: list[Visit]) -> None:
        for one in some:
            visit(port, one, staying)
        assert emulator.process.poll() is None, emulator.log
        assert emulator.invoke({"batch": len(some)}, connection=connection).document == {"batch": len(some)}

    try:
        batch()
    finally:
        for sock in staying:
            sock.close()
    assert emulator.invoke({"after": "all"}).document == {"after": "all"}
    assert "Traceback" not in emulator.log
    assert emulator.stop() == 0


def test_nothing_sent_to_the_front_door_keeps_it_from_serving(emulate: Start) -> None:
    emulator = emulate([["loop"]])
    fuzz(emulator, emulator.port)


def test_nothing_sent_to_the_runtime_api_keeps_the_function_from_answering(emulate: Start) -> None:
    emulator = emulate([["loop"]])
    emulator.invoke({})  # the runtime is up: what comes now comes beside it
    fuzz(emulator, emulator.runtime_port)


destinations = st.sampled_from(
    [
        *({"protocol": "HTTP", "URI": f"http://{host}"} for host in ("sandbox:1/x", "sandbox", "\r\nX: y", "x:1")),
        *({"protocol": "HTTP", "URI": uri} for uri in ("http://sandbox:1\r\nHost: x/", 7, None, "", "x" * 9_000)),
        *({"protocol": "TCP", "port": port} for port in (1, 0, -1, 1 << 70, "1", None, 1.5)),
        *(None, [], "x", {}),
    ]
)
subscriptions = st.fixed_dictionaries(
    {
        "schemaVersion": st.sampled_from(["2022-12-13", "2021-03-18", None, 7, "\ud800"]),
        "types": st.sampled_from([["platform"], ["function", "extension"], [], None, [[]], {"a": 1}]),
        "destination": destinations,
        "buffering": st.sampled_from([None, {}, {"timeoutMs": 25}, {"maxItems": 1 << 70}, {"maxBytes": []}, 7]),
    }
)


def test_no_subscription_keeps_the_function_from_answering(emulate: Start) -> None:
    with acting_as_runtime(emulate) as runtime:
        extension = Extension(runtime, [])

        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
        @given(subscriptions, st.sampled_from(["/2022-07-01/telemetry", "/2020-08-15/logs"]), noise)
        def subscribe(document: dict[str, Any], path: str, spoiling: bytes) -> None:
            status, _, _ = extension.ask("PUT", path, document, api="")
            assert status in {200, 400, 403}
            status, _, _ = extension.ask("PUT", path, raw=spoiling, api="")
            assert status in {200, 400, 403}

        subscribe()
        extension.wait()
        answer = runtime.invoke({})
        assert runtime.post(f"{runtime.next()}/response", b"1") == 202
        assert answer.result(10).body == b"1"
        assert "Traceback" not in runtime.emulator.log


def hostile(server: socket.socket, answers: list[bytes]) -> None:
    """A subscriber's server that says anything, and sometimes hangs up in the middle."""
    for number in itertools.count():
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection, suppress(OSError):
            connection.settimeout(0.2)
            if number % 3:
                connection.recv(100)
            connection.sendall(answers[number % len(answers)])


def test_no_answer_of_a_subscriber_keeps_the_function_from_answering(emulate: Start) -> None:
    answers = [
        *(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"),
        *(b"", b"\r\n\r\n", b"\0" * 70_000, b"HTTP/1.1 2", b"HTTP/9 abc \r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        *(b"HTTP/1.1 500 x\r\n\r\n", b"HTTP/1.1 200\r\nContent-Length: -1\r\n\r\nxx", b"HTTP/1.1 204 \r\n\r\n" * 100),
    ]
    with socket.create_server(("127.0.0.1", 0)) as server, acting_as_runtime(emulate) as runtime:
        threading.Thread(target=hostile, args=(server, answers), daemon=True).start()
        for number in range(3):
            extension = Extension(runtime, ["INVOKE"], f"internal-{number}")
            destination = {"protocol": "HTTP", "URI": f"http://sandbox:{server.getsockname()[1]}"}
            document = {"schemaVersion": "2022-12-13", "types": ["platform"], "destination": destination}
            document["buffering"] = {"timeoutMs": 25}
            assert extension.ask("PUT", "/2022-07-01/telemetry", document, api="")[0] == 200
            threading.Thread(target=extension.keep_up, daemon=True).start()
        for _ in range(40):
            answer = runtime.invoke({})
            assert runtime.post(f"{runtime.next()}/response", b"1") == 202
            assert answer.result(10).body == b"1"
        assert "Traceback" not in runtime.emulator.log
