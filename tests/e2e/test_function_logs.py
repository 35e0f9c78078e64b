"""What real functions log: the platform's lines in both formats, levels, the tail, and a flood."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3

from tests.e2e.world import Deployed, Manager, create, managing, wait_until


def records(function: Deployed, manager: Manager, last: str) -> list[dict[str, Any]]:
    """The log's lines, each an object, once one of the type `last` is among them."""

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in function.log(manager).splitlines()]

    wait_until(lambda: any(record.get("type") == last for record in read()), 30, f"there is no {last}")
    return read()


def test_text_lines_have_the_services_layout_and_order_and_the_tail_ends_with_the_report(
    deploy: Callable[..., Deployed], manager: Manager
) -> None:
    function = deploy()
    answer = function.invoke({"verb": "log", "text": "mine", "lines": 1})
    rid = answer.request_id
    pattern = (
        rf"START RequestId: {rid} Version: \$LATEST\nmine0\nEND RequestId: {rid}\nREPORT RequestId: {rid}\t"
        r"Duration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 256 MB\tMax Memory Used: \d+ MB\t"
        r"Init Duration: \d+\.\d\d ms\t\n"
    )
    assert re.fullmatch(pattern, answer.tail)
    wait_until(lambda: "REPORT" in function.log(manager), 30, "the log has no REPORT")
    log = function.log(manager)
    assert log.startswith("INIT_START Runtime Version: ")
    assert f"{log}\n".endswith(answer.tail)


def test_a_stack_trace_is_one_event_and_whole_in_the_tail(deploy: Callable[..., Deployed], manager: Manager) -> None:
    function = deploy()
    answer = function.invoke({"verb": "fail", "message": "one piece"})
    assert "Traceback (most recent call last):\n" in answer.tail
    wait_until(lambda: "REPORT" in function.log(manager), 30, "the log has no REPORT")
    client = boto3.client(
        "logs",
        endpoint_url=manager.endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    events = client.filter_log_events(logGroupName=f"/aws/lambda/{function.name}")["events"]
    (trace,) = [event["message"] for event in events if "one piece" in event["message"]]
    assert trace.startswith("[ERROR] ValueError: one piece\nTraceback (most recent call last):\n")


def test_json_logs_are_objects_without_an_end_and_the_tail_is_of_the_same(
    deploy: Callable[..., Deployed], manager: Manager
) -> None:
    function = deploy(LoggingConfig={"LogFormat": "JSON", "SystemLogLevel": "DEBUG"})
    answer = function.invoke({"verb": "log", "text": '{"level": "WARN", "message": "told", "n": "', "rest": ""})
    tail = [line for line in answer.tail.splitlines() if line.startswith('{"time"')]
    assert [json.loads(line)["type"] for line in tail] == ["platform.start", "platform.runtimeDone", "platform.report"]
    report = json.loads(tail[-1])["record"]
    assert (report["requestId"], report["status"]) == (answer.request_id, "success")
    assert set(report["metrics"]) == {
        *("durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs"),
    }
    assert "END RequestId" not in answer.tail


def test_levels_of_the_configuration_choose_what_is_logged(deploy: Callable[..., Deployed], manager: Manager) -> None:
    levels = {"LogFormat": "JSON", "ApplicationLogLevel": "ERROR", "SystemLogLevel": "WARN"}
    function = deploy(LoggingConfig=levels)
    assert function.invoke({"verb": "describe"}).payload["variables"]["AWS_LAMBDA_LOG_LEVEL"] == "ERROR"
    variables = function.invoke({"verb": "describe"}).payload["variables"]
    assert "RIE_SYSTEM_LOG_LEVEL" not in variables
    assert function.invoke({"verb": "sleep", "seconds": 0}).tail == ""
    assert function.invoke({"verb": "exit"}).error == "Unhandled"
    kinds = [record.get("type") for record in records(function, manager, "platform.report")]
    assert "platform.start" not in kinds
    assert "platform.report" in kinds  # of the exit alone


def test_a_function_that_floods_its_log_is_bounded_told_so_and_costs_its_neighbour_no_line(
    image: str, tmp_path: Path
) -> None:
    bounds = {"RIE_LOG_KB_PER_S": "256", "RIE_LOG_FUNCTION_MB": "4", "RIE_LOG_TOTAL_MB": "8"}
    with managing(tmp_path, **bounds) as manager:
        flood = create(manager.client(), image, Timeout=60, FunctionName="flood")
        quiet = create(manager.client(), image, FunctionName="quiet")
        event = {"verb": "log", "text": "x" * 1_000, "lines": 20_000}
        answer = flood.invoke(event)
        assert answer.error is None
        assert answer.tail.rstrip("\t\n").splitlines()[-1].startswith("REPORT")
        for number in range(10):
            assert quiet.invoke({"verb": "log", "text": f"call {number} line "}).error is None
        wait_until(lambda: quiet.log(manager).count("REPORT") == 10, 30, "the neighbour's lines are missing")
        assert [line for line in quiet.log(manager).splitlines() if line.startswith("call")] == [
            f"call {number} line 0" for number in range(10)
        ]
        pattern = r"rie: \d+ lines \(\d+ bytes\) dropped: the log's reader is too slow"
        # Its environment stands still between invocations, and so do the lines that have not been read yet.
        wait_until(
            lambda: flood.invoke() and re.search(pattern, flood.log(manager)), 90, "nobody says what was dropped"
        )
        kept = sum(path.stat().st_size for path in (manager.data / "logs").rglob("*.log*"))
        assert kept < 12 << 20  # of 20 MB
