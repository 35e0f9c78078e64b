"""Telemetry and Logs API of the real bootstrap: what subscribers get, and what they cannot do (service spec §3.10)."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.protocol.acting import Extension, acting_as_runtime
from tests.protocol.emulator import Emulator, Start, failing_once, wait_until
from tests.protocol.programs import Install

TELEMETRY, LOGS = "/2022-07-01/telemetry", "/2020-08-15/logs"
REGISTER = "/2020-01-01/extension/register"
ALL = ["platform", "function", "extension"]
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
TRACE = "Root=1-2-3;Sampled=1"


class Receiver:
    """An extension's server, which notes what it is sent and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, list[dict[str, Any]]]] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if receiver.status == 200:
                    receiver.requests.append((self.command, self.path, json.loads(body)))
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_PUT = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for _, _, events in list(self.requests) for event in events]

    def records(self, kind: str) -> list[Any]:
        return [event["record"] for event in self.events if event["type"] == kind]

    def wait_for(self, kind: str, count: int = 1) -> list[Any]:
        wait_until(lambda: len(self.records(kind)) >= count, 10, lambda: f"no {kind} in {self.events}")
        return self.records(kind)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def wanted(
    port: int, types: list[str] = ALL, schema: str = "2022-12-13", path: str = "", **more: Any
) -> dict[str, Any]:
    """A subscription that is sent on as soon as may be."""
    return {
        "schemaVersion": schema,
        "types": types,
        "buffering": {"timeoutMs": 25},
        "destination": {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{port}{path}"},
        **more,
    }


def subscribing(document: dict[str, Any], path: str = TELEMETRY, events: tuple[str, ...] = ("SHUTDOWN",)) -> list[Any]:
    """The script of an external extension."""
    return [["register", list(events)], ["subscribe", path, document], ["loop"]]


def internally(document: dict[str, Any], path: str = TELEMETRY) -> list[Any]:
    """The first steps of a runtime that subscribes by itself."""
    register = ["extension", "POST", REGISTER, {"Lambda-Extension-Name": "in"}, '{"events":[]}']
    return [register, ["subscribe", path, document], ["extension-waits"]]


def test_a_subscriber_gets_all_of_init_and_all_of_an_invocation(
    emulate: Start, install: Install, receiver: Receiver
) -> None:
    variables = install(one=[["print", "early"], *subscribing(wanted(receiver.port, path="/in/box?a=b"))])
    emulator = emulate(
        [["print", "in init"], ["next"], ["print", "at work"], ["response", "12345"], ["next"]], **variables
    )
    answer = emulator.invoke({}, X_Amzn_Trace_Id=TRACE)
    request_id = answer.headers["x-amzn-requestid"]
    report = receiver.wait_for("platform.report")[0]
    kinds = [event["type"] for event in receiver.events if event["type"].startswith("platform")]
    assert kinds == [
        *("platform.initStart", "platform.telemetrySubscription", "platform.initRuntimeDone", "platform.extension"),
        *("platform.initReport", "platform.start", "platform.runtimeDone", "platform.report"),
    ] or kinds.index("platform.extension") < kinds.index("platform.initReport")
    assert {(method, path) for method, path, _ in receiver.requests} == {("POST", "/in/box?a=b")}
    assert all(INSTANT.fullmatch(event["time"]) for event in receiver.events)
    assert receiver.records("platform.telemetrySubscription") == [{"name": "one", "state": "Subscribed", "types": ALL}]
    assert receiver.records("platform.extension") == [{"name": "one", "state": "Ready", "events": ["SHUTDOWN"]}]
    assert "early" in receiver.records("extension")
    assert [line for line in receiver.records("function") if not line.startswith("step")] == ["in init", "at work"]

    start, init = receiver.records("platform.start")[0], receiver.records("platform.initStart")[0]
    tracing = {"type": "X-Amzn-Trace-Id", "value": TRACE}
    arn = "arn:aws:lambda:us-east-1:123456789012:function:fn"
    assert start == {"requestId": request_id, "version": "$LATEST", "functionArn": arn, "tracing": tracing}
    assert (init["initializationType"], init["phase"], init["functionName"]) == ("on-demand", "init", "function")
    assert (init["functionVersion"], init["instanceMaxMemory"]) == ("$LATEST", 128 << 20)
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/function\[\$LATEST\][0-9a-f]{32}", init["instanceId"])
    done = receiver.records("platform.initRuntimeDone")[0]
    assert done == {"initializationType": "on-demand", "phase": "init", "status": "success"}
    init_report = receiver.records("platform.initReport")[0]
    assert (init_report["status"], init_report["phase"]) == ("success", "init")

    runtime_done = receiver.records("platform.runtimeDone")[0]
    assert (runtime_done["status"], runtime_done["metrics"]["producedBytes"]) == ("success", 5)
    assert runtime_done["tracing"] == report["tracing"] == tracing
    spans = runtime_done["spans"]
    assert [span["name"] for span in spans] == ["responseLatency", "responseDuration", "runtimeOverhead"]
    assert all(INSTANT.fullmatch(span["start"]) for span in spans)
    assert sorted(spans, key=lambda span: str(span["start"])) == spans
    assert 0 < spans[0]["durationMs"] <= sum(span["durationMs"] for span in spans)
    assert sum(span["durationMs"] for span in spans) <= runtime_done["metrics"]["durationMs"] + 1
    metrics = report["metrics"]
    assert (report["requestId"], report["status"], metrics["memorySizeMB"]) == (request_id, "success", 128)
    assert metrics["initDurationMs"] == init_report["metrics"]["durationMs"]
    assert metrics["billedDurationMs"] >= metrics["durationMs"] + metrics["initDurationMs"]
    assert 0 < metrics["maxMemoryUsedMB"] <= 128
    assert "TELEMETRY\tName: one\tState: Subscribed\tTypes: [Platform,Function,Extension]\n" in emulator.log


@pytest.mark.parametrize("schema", ["2020-08-15", "2021-03-18"])
def test_the_logs_api_has_the_events_of_its_schema(
    emulate: Start, install: Install, receiver: Receiver, schema: str
) -> None:
    emulator = emulate([["loop"]], **install(one=subscribing(wanted(receiver.port, schema=schema), LOGS)))
    request_id = emulator.invoke({}).headers["x-amzn-requestid"]
    report = receiver.wait_for("platform.report")[0]
    kinds = {event["type"] for event in receiver.events}
    assert kinds - {"extension"} == {
        *("platform.start", "platform.end", "platform.report", "platform.extension", "platform.logsSubscription"),
        *(["platform.runtimeDone"] if schema == "2021-03-18" else []),
    }
    assert receiver.records("platform.start") == [{"requestId": request_id, "version": "$LATEST"}]
    assert receiver.records("platform.end") == [{"requestId": request_id}]
    assert set(report) == {"requestId", "metrics", "tracing"}
    if schema == "2021-03-18":
        assert receiver.records("platform.runtimeDone") == [{"requestId": request_id, "status": "success"}]
    assert "LOGS\tName: one\tState: Subscribed\tTypes: [Platform,Function,Extension]\n" in emulator.log


def test_the_first_schema_lacks_what_came_later_and_none_has_what_only_the_logs_api_has(
    emulate: Start, install: Install, receiver: Receiver
) -> None:
    emulator = emulate([["loop"]], **install(one=subscribing(wanted(receiver.port, schema="2022-07-01"))))
    emulator.invoke({})
    receiver.wait_for("platform.report")
    assert set(receiver.records("platform.start")[0]) == {"requestId", "version", "tracing"}
    assert "instanceId" not in receiver.records("platform.initStart")[0]
    assert not receiver.records("platform.end")


@pytest.mark.parametrize(
    ("schema", "path", "is_object"),
    [("2022-12-13", TELEMETRY, True), ("2022-07-01", TELEMETRY, False), ("2021-03-18", LOGS, False)],
)
def test_a_line_that_is_an_object_is_one_in_its_record_where_the_schema_has_that(
    emulate: Start, receiver: Receiver, schema: str, path: str, is_object: bool
) -> None:
    line = '{"level":"TRACE","message":"m"}'  # too low for the log, yet subscribers get it
    script = [*internally(wanted(receiver.port, schema=schema), path), ["print", line], ["loop"]]
    emulate(script, AWS_LAMBDA_LOG_FORMAT="JSON").invoke({})
    receiver.wait_for("platform.report")
    assert (json.loads(line) if is_object else line) in receiver.records("function")


def test_only_what_was_asked_for_is_sent(emulate: Start, install: Install, receiver: Receiver) -> None:
    variables = install(one=subscribing(wanted(receiver.port, ["function"], schema="2025-01-29")))
    emulator = emulate([["print", "a"], ["next"], ["response", "1"], ["next"]], **variables)
    emulator.invoke({})
    receiver.wait_for("function", 3)
    assert {event["type"] for event in receiver.events} == {"function"}


def test_over_tcp_each_event_is_a_line(emulate: Start, install: Install) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        destination = {"protocol": "TCP", "port": server.getsockname()[1]}
        emulator = emulate([["loop"]], **install(one=subscribing(wanted(0, destination=destination))))
        emulator.invoke({})
        connection, _ = server.accept()
        with connection, connection.makefile() as lines:
            connection.settimeout(10)
            kinds = []
            while "platform.report" not in kinds:
                kinds.append(json.loads(lines.readline())["type"])
    assert kinds[0] == "platform.initStart"


def test_a_runtime_may_subscribe_by_an_extension_of_its_own(emulate: Start, receiver: Receiver) -> None:
    emulator = emulate(
        [["print", "before"], *internally(wanted(receiver.port)), ["print", "\u00e9\n\nafter"], ["loop"]]
    )
    emulator.invoke({})
    receiver.wait_for("platform.report")
    lines = [line for line in receiver.records("function") if not line.startswith("step")]
    assert lines == ["before", "\u00e9", "", "after"]
    assert receiver.records("platform.initStart")


def test_each_of_several_environments_has_its_own_subscribers(emulate: Start, receiver: Receiver) -> None:
    script = [*internally(wanted(receiver.port)), ["next"], ["sleep", 1], ["response", "1"], ["loop"]]
    emulator = emulate(script, RIE_ENVIRONMENTS="2", AWS_LAMBDA_FUNCTION_TIMEOUT="60")
    with ThreadPoolExecutor(2) as callers:
        ids = {answer.headers["x-amzn-requestid"] for answer in callers.map(emulator.invoke, range(2))}
    receiver.wait_for("platform.report", 2)
    assert {record["requestId"] for record in receiver.records("platform.start")} == ids
    assert len({record["instanceId"] for record in receiver.records("platform.initStart")}) == 2
    assert len(receiver.records("platform.start")) == 2


def test_methods_are_put_where_asked(emulate: Start, receiver: Receiver) -> None:
    uri = f"http://SANDBOX:{receiver.port}"
    destination = {"protocol": "HTTP", "URI": uri, "method": "PUT", "encoding": "JSON"}
    emulate([*internally(wanted(0, destination=destination)), ["loop"]]).invoke({})
    receiver.wait_for("platform.report")
    assert {(method, path) for method, path, _ in receiver.requests} == {("PUT", "/")}


# -- how an invocation can end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "status", "error_type"),
    [
        ([["next"], ["sleep", 30]], "timeout", "Sandbox.Timedout"),
        ([["next"], ["exit", 3]], "failure", "Runtime.ExitError"),
        ([["next"], ["error", "{}", "Function.Mine"], ["next"]], "error", "Function.Mine"),
    ],
    ids=["timeout", "failure", "error"],
)
@pytest.mark.parametrize("path", [TELEMETRY, LOGS])
def test_a_subscriber_hears_how_an_invocation_ended_before_it_is_shut_down(
    emulate: Start, install: Install, receiver: Receiver, script: list[Any], status: str, error_type: str, path: str
) -> None:
    slow = {"timeoutMs": 30_000}  # yet what is there is sent when the end is near
    schema = "2022-12-13" if path == TELEMETRY else "2021-03-18"
    variables = install(one=subscribing(wanted(receiver.port, schema=schema, buffering=slow), path))
    emulator = emulate(script, **variables, AWS_LAMBDA_FUNCTION_TIMEOUT="1")
    emulator.invoke({})
    if status == "error":
        emulator.stop()
    done, report = receiver.wait_for("platform.runtimeDone")[0], receiver.wait_for("platform.report")[0]
    if path == TELEMETRY:
        assert (done["status"], done["errorType"]) == (report["status"], report["errorType"]) == (status, error_type)
    else:
        assert done["status"] == ("failure" if status == "error" else status)
        faults = {"timeout": "Task timed out after 1.00 seconds", "failure": "exit status 3"}
        assert len(receiver.records("platform.fault")) == (status != "error")
        assert all(faults[status] in fault for fault in receiver.records("platform.fault"))


def test_each_life_of_an_environment_has_its_own_subscribers(emulate: Start, receiver: Receiver) -> None:
    emulator = emulate([*internally(wanted(receiver.port)), ["exit", 3]])
    receiver.wait_for("platform.initReport")
    emulator.invoke({})
    report = receiver.wait_for("platform.report")[0]
    assert (report["status"], report["errorType"]) == ("failure", "Runtime.ExitError")
    assert [record["phase"] for record in receiver.records("platform.initStart")] == ["init", "invoke"]
    reports = [(record["phase"], record["status"]) for record in receiver.records("platform.initReport")]
    assert reports == [("init", "error"), ("invoke", "error")]
    kinds = [event["type"] for event in receiver.events]
    assert kinds.index("platform.start") < kinds.index("platform.initStart", kinds.index("platform.initReport"))


def test_who_subscribes_in_an_init_that_is_repeated_hears_of_the_first(
    emulate: Start, receiver: Receiver, tmp_path: Path
) -> None:
    emulator = emulate(command=failing_once(tmp_path, [*internally(wanted(receiver.port)), ["loop"]]))
    emulator.wait_for("INIT_REPORT")
    emulator.invoke({"a": 1})
    receiver.wait_for("platform.report")
    others = ("function", "platform.extension")  # which is ready sooner or later than the runtime
    kinds = [event["type"] for event in receiver.events if event["type"] not in others]
    assert kinds == [
        *("platform.initStart", "platform.initRuntimeDone", "platform.initReport", "platform.start"),
        *("platform.initStart", "platform.telemetrySubscription", "platform.initRuntimeDone"),
        *("platform.initReport", "platform.runtimeDone", "platform.report"),
    ]


def test_a_restored_runtime_is_told_of_as_such(emulate: Start, receiver: Receiver) -> None:
    restore = ["get", "/2018-06-01/runtime/restore/next"]
    script = [*internally(wanted(receiver.port)), restore, ["sleep", 0.2], ["loop"]]
    emulator = emulate(script, AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
    emulator.invoke({})
    metrics = receiver.wait_for("platform.report")[0]["metrics"]
    kinds = [event["type"] for event in receiver.events if "estore" in event["type"] or "init" in event["type"]]
    assert kinds == [
        *("platform.initStart", "platform.initRuntimeDone", "platform.restoreStart", "platform.restoreRuntimeDone"),
        *("platform.restoreReport", "platform.initReport"),
    ]
    assert metrics["restoreDurationMs"] >= 200
    assert "initDurationMs" not in metrics
    log = emulator.wait_for("REPORT RequestId")
    assert "RESTORE_START Runtime Version: " in log
    assert re.search(r"\tRestore Duration: \d+\.\d\d ms\tBilled Restore Duration: \d+ ms\t\n", log)


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [TELEMETRY, LOGS])
def test_who_is_no_extension_is_refused(emulate: Start, path: str) -> None:
    with acting_as_runtime(emulate) as runtime:
        extension = Extension(runtime, [])
        for headers, kind in (
            ({"X": "y"}, "Extension.MissingExtensionIdentifier"),
            ({"Lambda-Extension-Identifier": "x"}, "Extension.InvalidExtensionIdentifier"),
            (
                {"Lambda-Extension-Identifier": "00000000-0000-4000-8000-000000000000"},
                "Extension.UnknownExtensionIdentifier",
            ),
        ):
            status, _, body = extension.ask("PUT", path, {"a": 1}, headers, api="")
            assert (status, json.loads(body)["errorType"]) == (403, kind)
        status, headers, _ = extension.ask("POST", path, {"a": 1}, api="")
        assert (status, headers["allow"]) == (405, "PUT")


@pytest.mark.parametrize(("path", "kind"), [(TELEMETRY, "ValidationError"), (LOGS, "Logs.ValidationError")])
def test_what_is_no_subscription_is_refused_with_all_that_is_wrong(emulate: Start, path: str, kind: str) -> None:
    with acting_as_runtime(emulate) as runtime:
        extension = Extension(runtime, [])
        destination = {"protocol": "HTTP", "URI": "http://sandbox/x"}
        document = {"schemaVersion": "x", "types": [], "destination": destination}
        status, _, body = extension.ask("PUT", path, document, api="")
        assert (status, json.loads(body)["errorType"]) == (400, kind)
        assert "URI port is not provided; types should not be empty" in json.loads(body)["errorMessage"]


@pytest.mark.parametrize(("path", "api"), [(TELEMETRY, "Telemetry"), (LOGS, "Logs")])
def test_after_init_nobody_can_subscribe(emulate: Start, path: str, api: str, receiver: Receiver) -> None:
    with acting_as_runtime(emulate) as runtime:
        extension = Extension(runtime, [])
        extension.wait()
        answer = runtime.invoke({})
        runtime.post(f"{runtime.next()}/response", b"1")
        answer.result(10)
        status, _, body = extension.ask("PUT", path, wanted(receiver.port), api="")
        document = {"errorMessage": f"{api} API subscription is closed", "errorType": f"{api}.SubscriptionClosed"}
        assert (status, json.loads(body)) == (403, document)


def test_a_second_subscription_changes_nothing_and_one_by_the_other_api_is_refused(
    emulate: Start, receiver: Receiver
) -> None:
    with acting_as_runtime(emulate) as runtime:
        extension = Extension(runtime, [])
        for types in (["platform"], ["function"]):
            status, _, body = extension.ask("PUT", TELEMETRY, wanted(receiver.port, types), api="")
            assert (status, body) == (200, b'"OK"')
        document = wanted(receiver.port, schema="2021-03-18")
        status, _, body = extension.ask("PUT", LOGS, document, api="")
        assert (status, json.loads(body)["errorType"]) == (403, "Logs.SubscriptionClosed")
        subscribed = receiver.wait_for("platform.telemetrySubscription", 2)
        assert [record["state"] for record in subscribed] == ["Subscribed", "Already subscribed"]
        assert [record["types"] for record in subscribed] == [["platform"], ["platform"]]


@pytest.mark.parametrize(("path", "api"), [(TELEMETRY, "Telemetry"), (LOGS, "Logs")])
def test_the_compat_profile_says_that_there_is_none(emulate: Start, path: str, api: str) -> None:
    emulator = emulate([["extension", "PUT", path, {}, "{}"], ["loop"]], RIE_PROFILE="compat")
    emulator.wait_for("step ")
    step = emulator.steps()[0]
    document = {"errorMessage": f"{api} API is not supported", "errorType": f"{api}.NotSupported"}
    assert (step["status"], json.loads(step["body"])) == (202, document)


# -- subscribers that do harm ------------------------------------------------------------------------------------------


def rss_kb(emulator: Emulator) -> int:
    with open(f"/proc/{emulator.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def bursts(count: int) -> list[Any]:
    """A runtime that prints two megabytes in each of some invocations."""
    steps = ["next"], ["print", "x" * 1_023 + "\n", 2_048], ["response", "1"]
    return [step for _ in range(count) for step in steps]


@pytest.mark.parametrize("kind", ["deaf", "dead", "rude"])
def test_a_bad_subscriber_costs_the_function_no_time_and_a_bounded_amount_of_memory(emulate: Start, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = free_port() if kind == "dead" else server.getsockname()[1]
        if kind == "rude":
            threading.Thread(target=hang_up, args=(server,), daemon=True).start()
        emulator = emulate([*internally(wanted(port)), *bursts(16), ["next"]])
        emulator.invoke({})
        before_kb = rss_kb(emulator)
        for _ in range(15):
            assert emulator.invoke({}).body == b"1"
        assert rss_kb(emulator) - before_kb < 16_384


def hang_up(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        connection.sendall(b"HTTP/1.1 200 " + b"x" * 70_000)
        connection.close()


def test_a_subscriber_that_was_too_slow_is_told_what_it_has_missed(emulate: Start, receiver: Receiver) -> None:
    receiver.status = 503
    emulator = emulate([*internally(wanted(receiver.port)), *bursts(4), ["next"]])
    for _ in range(4):
        emulator.invoke({})
    receiver.status = 200
    receiver.wait_for("platform.report", 4)
    missed = receiver.wait_for("platform.logsDropped")
    got = sum(line.startswith("xxx") for line in receiver.records("function"))
    assert got + sum(one["droppedRecords"] for one in missed) >= 4 * 2_048
    assert sum(one["droppedBytes"] for one in missed) > 1_048_576
    assert missed[0]["reason"].startswith("Consumer seems to have fallen behind")


def test_what_was_not_taken_is_sent_again(emulate: Start, receiver: Receiver) -> None:
    receiver.status = 500
    emulator = emulate([*internally(wanted(receiver.port)), ["loop"]])
    emulator.invoke({})
    receiver.status = 200
    receiver.wait_for("platform.report")
    kinds = [event["type"] for event in receiver.events if event["type"].startswith("platform")]
    assert len(kinds) == len(set(kinds))
    assert kinds[0] == "platform.initStart"


def test_a_line_of_any_length_arrives_in_parts(emulate: Start, receiver: Receiver) -> None:
    count = 400_000
    emulator = emulate([*internally(wanted(receiver.port)), ["print", "\u00e9", count], ["loop"]])
    emulator.invoke({})
    receiver.wait_for("platform.report")
    parts = [line for line in receiver.records("function") if "\u00e9" in line]
    assert "".join(parts) == "\u00e9" * count
    assert max(len(part.encode()) for part in parts) <= 262_144


def test_events_wait_for_company_as_long_as_was_asked_or_until_the_end(emulate: Start, receiver: Receiver) -> None:
    emulator = emulate([*internally(wanted(receiver.port, buffering={"timeoutMs": 30_000})), ["loop"]])
    emulator.invoke({})
    emulator.wait_for("REPORT RequestId")
    assert receiver.requests == []
    emulator.process.send_signal(signal.SIGTERM)
    receiver.wait_for("platform.report")
    assert len(receiver.requests) == 1


# -- records of more than one line ------------------------------------------------------------------------------------

APP = """
import logging
def handler(event, context):
    print("first")
    logging.getLogger().warning("two\\nlines")
    print("third")
    raise ValueError("of the\\nhandler")
"""


def test_what_aws_own_client_logs_in_one_piece_is_one_record_in_its_place(
    emulate: Start, install: Install, receiver: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP)
    variables = install(one=subscribing(wanted(receiver.port, ["function", "platform"])))
    command = [sys.executable, "-m", "awslambdaric", "app.handler"]
    emulator = emulate(command=command, **variables, AWS_LAMBDA_FUNCTION_TIMEOUT="60")
    emulator.invoke({})
    receiver.wait_for("platform.report")
    first, second, third, error = receiver.records("function")
    assert (first, third) == ("first", "third")
    assert second.startswith("[WARNING]\t")
    assert second.endswith("\ttwo\nlines")
    assert error.startswith("[ERROR] ValueError: of the\nhandler\nTraceback (most recent call last):\n")
    log = emulator.wait_for("REPORT RequestId")
    assert log.index("first\n") < log.index("\ttwo\nlines\n") < log.index("third\n") < log.index("\nTraceback")
    assert "\r" not in log
    assert "\xa5" not in log


def test_the_parts_of_an_invocation_are_told_when_the_runtime_is_back(emulate: Start, receiver: Receiver) -> None:
    """The service spec's §11.6: until the answer began, until it was here, until the next poll."""
    script = [*internally(wanted(receiver.port)), ["next"], ["sleep", 0.3], ["response", "1"], ["sleep", 0.4], ["next"]]
    emulator = emulate(script)
    emulator.invoke({})
    done = receiver.wait_for("platform.runtimeDone")[0]
    latency, duration, overhead = (span["durationMs"] for span in done["spans"])
    assert 250 < latency < 400 <= overhead + 50
    assert duration < 100
    assert done["metrics"]["durationMs"] > 650
    assert [event["type"] for event in receiver.events].index("platform.runtimeDone") < [
        event["type"] for event in receiver.events
    ].index("platform.report")


def test_a_runtime_that_ends_instead_of_coming_back_is_told_of_all_the_same(
    emulate: Start, install: Install, receiver: Receiver
) -> None:
    variables = install(one=subscribing(wanted(receiver.port)))
    emulator = emulate([["next"], ["response", "1"], ["exit", 0]], **variables)
    assert emulator.invoke({}).document == 1
    done, report = receiver.wait_for("platform.runtimeDone")[0], receiver.wait_for("platform.report")[0]
    assert (done["status"], report["status"]) == ("success", "success")


def test_a_runtime_that_stays_away_is_not_waited_for(emulate: Start, receiver: Receiver) -> None:
    emulator = emulate([*internally(wanted(receiver.port)), ["next"], ["response", "1"], ["sleep", 60]])
    emulator.invoke({})
    kinds = [span["name"] for span in receiver.wait_for("platform.runtimeDone")[0]["spans"]]
    assert kinds == ["responseLatency", "responseDuration", "runtimeOverhead"]
    assert receiver.wait_for("platform.report")[0]["status"] == "success"
