"""The JSON log format of the real bootstrap (service spec §11.4, §11.5)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.protocol.emulator import Emulator, Start

JSON = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}


def events(emulator: Emulator) -> list[dict[str, Any]]:
    """The platform's, in order."""
    lines = [json.loads(line) for line in emulator.log.splitlines() if line.startswith('{"time"')]
    return [line for line in lines if line["type"].startswith("platform.")]


def test_platform_lines_are_objects_in_the_services_order_and_there_is_no_end(emulate: Start) -> None:
    emulator = emulate([["print", "plain"], ["next"], ["response", "1"], ["next"]], **JSON)
    answer = emulator.invoke({}, X_Amz_Log_Type="Tail")
    emulator.wait_for("platform.report")
    start, begin, report = events(emulator)
    assert [start["type"], begin["type"], report["type"]] == [
        *("platform.initStart", "platform.start", "platform.report"),
    ]
    request_id = answer.headers["x-amzn-requestid"]
    assert begin["record"]["requestId"] == report["record"]["requestId"] == request_id
    assert {"durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs"} == set(
        report["record"]["metrics"]
    )
    assert "\nplain\n" in emulator.log
    assert not any(word in emulator.log for word in ("START", "END RequestId", "REPORT RequestId"))
    assert b"platform.report" in base64.b64decode(answer.headers["x-amz-log-result"])


def test_what_went_wrong_is_told_with_its_type(emulate: Start) -> None:
    emulator = emulate([["next"], ["exit", 3]], **JSON)
    emulator.invoke({})
    emulator.wait_for("platform.report")
    told = {event["type"]: event["record"] for event in events(emulator)}
    assert told["platform.fault"].endswith("Error: Runtime exited with error: exit status 3\nRuntime.ExitError")
    for kind in ("platform.runtimeDone", "platform.report"):
        assert (told[kind]["status"], told[kind]["errorType"]) == ("failure", "Runtime.ExitError")


@pytest.mark.parametrize(
    ("level", "seen"),
    [("DEBUG", ["DEBUG", "INFO", "ERROR", "odd"]), ("WARN", ["ERROR"]), ("nonsense", ["INFO", "ERROR", "odd"])],
)
def test_objects_below_the_functions_level_are_left_out_and_text_never_is(
    emulate: Start, level: str, seen: list[str]
) -> None:
    lines = [{"level": one, "timestamp": "2025-11-25T02:26:54.123Z"} for one in ("DEBUG", "INFO", "ERROR", "odd")]
    text = "\n".join(["text", "{broken", *(json.dumps(line) for line in lines)])
    emulator = emulate([["print", text], ["loop"]], **JSON, AWS_LAMBDA_LOG_LEVEL=level)
    emulator.invoke({})
    log = emulator.wait_for("platform.report")
    assert "\ntext\n{broken\n" in log
    assert [one for one in ("DEBUG", "INFO", "ERROR", "odd") if f'{{"level": "{one}"' in log] == seen


def test_an_object_without_a_timestamp_gets_one(emulate: Start) -> None:
    emulator = emulate([["print", '{"message":"m","timestamp":7}'], ["loop"]], **JSON)
    line = next(line for line in emulator.wait_for('"message"').splitlines() if '"message"' in line)
    assert json.loads(line)["timestamp"].endswith("Z")


def test_the_levels_of_the_platform_are_the_systems(emulate: Start) -> None:
    emulator = emulate([["loop"]], **JSON, RIE_SYSTEM_LOG_LEVEL="WARN")
    emulator.invoke({})
    emulator.stop()
    assert events(emulator) == []
