"""What telemetry is made of, without sockets: subscriptions read, records rendered, feeds kept within bounds."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootstrap import platform_records
from bootstrap.commands import (
    DeliverShutdown,
    ReportEnd,
    ReportExtension,
    ReportFault,
    ReportInit,
    ReportInitRuntimeDone,
    ReportInitStart,
    ReportRestore,
    ReportRestoreStart,
    ReportRuntimeDone,
    ReportStart,
    ReportSubscription,
)
from bootstrap.events import Invocation
from bootstrap.feed import MAX_WAITING_BYTES, NEVER, ROOM_FOR_PLATFORM, Feed
from bootstrap.hosts import name_ourselves
from bootstrap.json_log import JsonLines, is_instant
from bootstrap.platform_records import Platform, Span, level_of, shaped
from bootstrap.settings import Settings, read
from bootstrap.subscription import Subscription, parse
from bootstrap.telemetry_api import MAX_EARLY_BYTES, MAX_EARLY_REPORTS, REPORTS, SIGNS, Early, TelemetryApi

HTTP = {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080/x"}
TCP = {"protocol": "TCP", "port": 8080}
GOOD = {"schemaVersion": "2022-12-13", "types": ["platform"], "destination": HTTP}
ONE = Invocation("id-1", b"{}", function_arn="arn:f", trace_id="Root=1", tenant_id="blue")
STREAM = "2026/11/26/[$LATEST]0123456789abcdef0123456789abcdef"


def parsed(api: str = "Telemetry", **changes: Any) -> Subscription:
    return parse(api, json.dumps({**GOOD, **changes}).encode())


# -- subscriptions ----------------------------------------------------------------------------------------------------


def test_what_is_not_said_has_its_default() -> None:
    assert parsed() == Subscription(
        *("Telemetry", "2022-12-13", ("platform",), "HTTP", 8080, "/x", "POST", 10_000, 262_144, 1.0)
    )
    assert parse("Logs", json.dumps({"types": ["function"], "destination": HTTP}).encode()).schema == "2020-08-15"


@pytest.mark.parametrize(
    ("uri", "port", "path"),
    [
        ("http://sandbox:1", 1, "/"),
        ("http://sandbox.localdomain:65535/a/b?c=d#e", 65_535, "/a/b?c=d"),
        ("HTTP://Sandbox.LocalDomain:80?q", 80, "/?q"),
    ],
)
def test_addresses_that_are_taken(uri: str, port: int, path: str) -> None:
    subscription = parsed(destination={"protocol": "HTTP", "URI": uri})
    assert (subscription.port, subscription.path) == (port, path)


@pytest.mark.parametrize("schema", ["2022-07-01", "2022-12-13", "2025-01-29"])
def test_all_schemas_of_telemetry_are_taken(schema: str) -> None:
    assert parsed(schemaVersion=schema).schema == schema


@pytest.mark.parametrize("schema", ["2020-08-15", "2021-03-18"])
def test_all_schemas_of_the_logs_api_are_taken(schema: str) -> None:
    assert parsed("Logs", schemaVersion=schema).schema == schema


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("maxItems", 1_000, 10_000), ("maxBytes", 262_144, 1_048_576), ("timeoutMs", 25, 30_000)],
)
def test_buffering_has_its_ranges(name: str, least: int, most: int) -> None:
    for value in (least, most):
        assert parsed(buffering={name: value})
    for wrong in (least - 1, most + 1, str(least), least + 0.5, True):
        with pytest.raises(ValueError, match=f"buffering.{name} must be a whole number from {least} to {most}"):
            parsed(buffering={name: wrong})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schemaVersion": None}, "schemaVersion is not provided"),
        ({"schemaVersion": "2021-03-18"}, "schemaVersion '2021-03-18' is unknown"),
        ({"schemaVersion": []}, "is unknown"),
        ({"types": []}, "types should not be empty"),
        ({"types": None}, "types should not be empty"),
        ({"types": "platform"}, "types must be a list of some of platform, function, extension"),
        ({"types": ["platform", {}]}, "types must be a list"),
        ({"destination": None}, "destination is not provided"),
        ({"destination": []}, "destination is not an object"),
        ({"destination": {"protocol": "UDP"}}, "destination.protocol must be HTTP or TCP"),
        ({"destination": {"protocol": "TCP"}}, "destination.port is not provided"),
        ({"destination": {"protocol": "TCP", "port": 65_536}}, "destination.port is no port"),
        ({"destination": {"protocol": "TCP", "port": "1"}}, "destination.port is no port"),
        ({"destination": {"protocol": "HTTP"}}, "destination.URI is not provided"),
        ({"destination": {**HTTP, "URI": "http://sandbox/x"}}, "URI port is not provided"),
        ({"destination": {**HTTP, "URI": "http://sandbox:x/"}}, "URI port is no port"),
        ({"destination": {**HTTP, "URI": "http://sandbox:²/"}}, "must be escaped"),
        ({"destination": {**HTTP, "URI": "http://sandbox:0/"}}, "URI port is no port"),
        ({"destination": {**HTTP, "URI": "https://sandbox:1/"}}, "must begin with http://"),
        ({"destination": {**HTTP, "URI": "http://169.254.169.254:80/"}}, "host must be sandbox.localdomain"),
        ({"destination": {**HTTP, "URI": "http://sandbox@example.com:80/"}}, "host must be sandbox.localdomain"),
        ({"destination": {**HTTP, "URI": "http://sandbox:1/a\r\nX: y"}}, "must be escaped"),
        ({"destination": {**HTTP, "method": "DELETE"}}, "destination.method must be one of POST, PUT"),
        ({"destination": {**HTTP, "encoding": "XML"}}, "destination.encoding must be JSON"),
        ({"buffering": 7}, "buffering is not an object"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        parsed(**changes)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(ValueError, match="failed to parse JSON"):
        parse("Telemetry", body)


words = st.sampled_from(["", "x", "HTTP", "TCP", "PUT", "platform", "2022-07-01", "http://sandbox:1", "http://", "\0"])
values = st.one_of(st.none(), st.booleans(), st.integers(-1, 70_000), st.floats(allow_nan=False), words, st.just([[]]))
members = st.sampled_from(["schemaVersion", "types", "destination", "buffering", "protocol", "URI", "port", "method"])
objects = st.dictionaries(members, values, max_size=3)


@settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(members, st.one_of(values, objects, st.lists(values, max_size=2)), max_size=4))
def test_a_document_of_any_shape_is_taken_or_refused(document: dict[str, Any]) -> None:
    try:
        parse("Telemetry", json.dumps({**GOOD, **document}).encode())
    except ValueError as error:
        assert str(error)


# -- records ----------------------------------------------------------------------------------------------------------


def some_settings(**variables: str) -> Settings:
    return read({"AWS_LAMBDA_FUNCTION_NAME": "fn", "AWS_LAMBDA_LOG_STREAM_NAME": STREAM, **variables}, [])


def rendered(report: Any, used_mb: int = 0, *spans: Span, **variables: str) -> list[tuple[str, Any]]:
    return Platform(some_settings(**variables), "1.2.3").render(report, used_mb, spans)


TRACING = {"type": "X-Amzn-Trace-Id", "value": "Root=1"}
WHERE = {
    "runtimeVersion": "rie:1.2.3",
    "runtimeVersionArn": "",
    "functionName": "fn",
    "functionVersion": "$LATEST",
    "instanceId": STREAM.replace("/[", "/fn["),
    "instanceMaxMemory": 134_217_728,
}
INIT = {"initializationType": "on-demand", "phase": "init"}


@pytest.mark.parametrize(
    ("report", "kind", "record"),
    [
        (ReportInitStart("init"), "initStart", {**INIT, **WHERE}),
        (
            ReportInitStart("invoke", ONE),
            "initStart",
            {"initializationType": "on-demand", "phase": "invoke", **WHERE, "tracing": TRACING},
        ),
        (ReportInitRuntimeDone("init", "success"), "initRuntimeDone", {**INIT, "status": "success"}),
        (
            ReportInit("init", "error", 1.23456, "Runtime.X"),
            "initReport",
            {**INIT, "status": "error", "errorType": "Runtime.X", "metrics": {"durationMs": 1.235}},
        ),
        (
            ReportStart(ONE),
            "start",
            {"requestId": "id-1", "version": "$LATEST", "functionArn": "arn:f", "tenantId": "blue", "tracing": TRACING},
        ),
        (
            ReportRuntimeDone(ONE, "error", 2.0, 7, "Function.X"),
            "runtimeDone",
            {
                "requestId": "id-1",
                "status": "error",
                "errorType": "Function.X",
                "tracing": TRACING,
                "metrics": {"durationMs": 2.0, "producedBytes": 7},
            },
        ),
        (
            ReportExtension("one", "LaunchError", (), "Extension.LaunchError"),
            "extension",
            {"name": "one", "state": "LaunchError", "events": [], "errorType": "Extension.LaunchError"},
        ),
        (
            ReportSubscription("Telemetry", "one", "Subscribed", ("function",)),
            "telemetrySubscription",
            {"name": "one", "state": "Subscribed", "types": ["function"]},
        ),
        (
            ReportSubscription("Logs", "one", "Subscribed", ("function",)),
            "logsSubscription",
            {"name": "one", "state": "Subscribed", "types": ["function"]},
        ),
        (ReportRestoreStart(), "restoreStart", WHERE),
        (ReportFault("", "RequestId: id-1 Error: x\nRuntime.X"), "fault", "RequestId: id-1 Error: x\nRuntime.X"),
    ],
)
def test_records(report: Any, kind: str, record: Any) -> None:
    assert rendered(report) == [(f"platform.{kind}", record)]


def test_the_end_of_an_invocation_is_an_end_and_a_report() -> None:
    span = Span("extensionOverhead", 0.0, 1.0)
    end, report = rendered(ReportEnd(ONE, "success", 3.5, 10.0), 36, span)
    assert end == ("platform.end", {"requestId": "id-1"})
    assert report == (
        "platform.report",
        {
            "requestId": "id-1",
            "status": "success",
            "tracing": TRACING,
            "metrics": {
                "durationMs": 3.5,
                "billedDurationMs": 14,
                "memorySizeMB": 128,
                "maxMemoryUsedMB": 36,
                "initDurationMs": 10.0,
            },
            "spans": [{"name": "extensionOverhead", "start": "1970-01-01T00:00:00.000Z", "durationMs": 1.0}],
        },
    )


def test_where_many_run_at_a_time_a_report_says_nothing_of_memory_and_money() -> None:
    concurrent = {"AWS_LAMBDA_MAX_CONCURRENCY": "4"}
    report = dict(rendered(ReportEnd(ONE, "success", 3.5), 36, **concurrent))["platform.report"]
    assert report["metrics"] == {"durationMs": 3.5}
    assert rendered(ReportInitStart("init"), **concurrent)[0][1]["initializationType"] == "lambda-managed-instances"


def test_a_restore_has_two_events() -> None:
    failed = {"status": "error", "errorType": "Runtime.X"}
    assert rendered(ReportRestore("error", 1236.04, "Runtime.X")) == [
        ("platform.restoreRuntimeDone", failed),
        ("platform.restoreReport", {**failed, "metrics": {"durationMs": 1236.04}}),
    ]


def test_the_logs_api_calls_an_error_a_failure_and_its_first_schema_has_no_runtime_done() -> None:
    record = {"requestId": "id-1", "status": "error", "errorType": "X"}
    assert shaped("Logs", "2021-03-18", "platform.runtimeDone", record) == {"requestId": "id-1", "status": "failure"}
    assert shaped("Logs", "2020-08-15", "platform.runtimeDone", record) is None
    assert shaped("Logs", "2021-03-18", "platform.initStart", {}) is None


@pytest.mark.parametrize("kind", ["platform.end", "platform.fault", "platform.logsSubscription"])
def test_telemetry_has_none_of_the_events_that_only_the_logs_api_has(kind: str) -> None:
    assert shaped("Telemetry", "2022-12-13", kind, "text") is None
    assert shaped("Logs", "2020-08-15", kind, {"name": "n"} if "Sub" in kind else "text") is not None


@pytest.mark.parametrize(
    ("report", "levels"),
    [
        (ReportInitStart("init"), ["INFO"]),
        (ReportInitRuntimeDone("init", "success"), ["DEBUG"]),
        (ReportInitRuntimeDone("init", "timeout"), ["WARN"]),
        (ReportInit("init", "success", 1.0), ["DEBUG"]),
        (ReportInit("init", "error", 1.0), ["WARN"]),
        (ReportStart(ONE), ["INFO"]),
        (ReportRuntimeDone(ONE, "success", 1.0), ["DEBUG"]),
        (ReportRuntimeDone(ONE, "failure", 1.0), ["WARN"]),
        (ReportEnd(ONE, "success", 1.0), ["INFO", "INFO"]),
        (ReportEnd(ONE, "timeout", 1.0), ["INFO", "WARN"]),
        (ReportExtension("one", "Ready"), ["INFO"]),
        (ReportExtension("one", "LaunchError"), ["WARN"]),
        (ReportSubscription("Telemetry", "one", "Subscribed", ()), ["INFO"]),
        (ReportRestore("success", 1.0), ["DEBUG", "INFO"]),
        (ReportRestore("error", 1.0), ["WARN", "WARN"]),
        (ReportFault("", "x"), ["WARN"]),
    ],
)
def test_levels(report: Any, levels: list[str]) -> None:
    assert [level_of(kind, record) for kind, record in rendered(report)] == levels


def test_an_init_that_was_not_on_demand_is_always_told() -> None:
    snap = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
    assert level_of(*rendered(ReportInit("init", "success", 1.0), **snap)[0]) == "INFO"


def test_json_lines_leave_out_what_is_below_the_systems_level() -> None:
    lines = JsonLines(some_settings(AWS_LAMBDA_LOG_FORMAT="JSON"), "1")
    assert lines.of(ReportRuntimeDone(ONE, "success", 1.0), 0) == ""
    assert json.loads(lines.of(ReportEnd(ONE, "success", 1.0), 36))["type"] == "platform.report"
    debug = JsonLines(some_settings(AWS_LAMBDA_LOG_FORMAT="JSON", RIE_SYSTEM_LOG_LEVEL="DEBUG"), "1")
    assert json.loads(debug.of(ReportRuntimeDone(ONE, "success", 1.0), 0))["type"] == "platform.runtimeDone"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("2025-11-25T02:26:54.123Z", True),
        ("2025-11-25T02:26:54Z", True),
        ("2025-11-25t02:26:54.123456+01:00", True),
        ("2025-11-25 02:26:54Z", False),
        ("2025-11-25T02:26:54", False),
        ("now", False),
        (7, False),
    ],
)
def test_instants(text: object, is_one: bool) -> None:
    assert is_instant(text) is is_one


# -- feeds ------------------------------------------------------------------------------------------------------------


def told(records: int, octets: int) -> bytes:
    return b"lost %d %d" % (records, octets)


def feed(types: tuple[str, ...] = ("platform", "function"), **buffering: int) -> Feed:
    return Feed(
        parsed(types=list(types), buffering=buffering), lambda records, octets: b"lost %d %d" % (records, octets)
    )


def test_events_wait_for_company_until_the_first_has_waited_long_enough() -> None:
    one = feed(timeoutMs=500)
    assert one.due_at == NEVER
    one.offer(b"a", 100.0, is_line=True)
    one.offer(b"b", 100.4, is_line=True)
    assert one.due_at == 100.5
    assert one.take(100.5) == [b"a", b"b"]
    assert one.due_at == NEVER


def test_a_full_portion_goes_at_once_and_holds_no_more_than_was_asked() -> None:
    one = feed(maxItems=1_000)
    for number in range(1_001):
        one.offer(b"%d" % number, 100.0, is_line=True)
    assert one.due_at == 100.0
    assert len(one.take(100.0)) == 1_000
    assert one.due_at == 101.0
    big = feed(maxBytes=262_144)
    for _ in range(3):
        big.offer(b"x" * 100_000, 100.0, is_line=True)
    assert big.due_at == 100.0
    assert len(big.take(100.0)) == 2


def test_an_event_larger_than_a_portion_goes_alone() -> None:
    one = feed()
    one.offer(b"x" * 300_000, 100.0, is_line=True)
    one.offer(b"y", 100.0, is_line=True)
    assert [len(event) for event in one.take(100.0)] == [300_000]
    assert one.take(100.0) == [b"y"]


def test_what_has_no_room_is_counted_and_told_when_there_is_some() -> None:
    one = feed()
    line = b"x" * 100_000
    count = MAX_WAITING_BYTES // len(line)
    for _ in range(count + 5):
        one.offer(line, 100.0, is_line=True)
    assert len(one) == count
    one.offer(b"platform", 100.0, is_line=False)
    taken = [event for _ in range(count) for event in one.take(100.0)]
    assert taken[count:] == [b"lost 5 500000", b"platform"]


def test_what_was_lost_last_is_told_too() -> None:
    one = feed()
    for _ in range(MAX_WAITING_BYTES // 100_000 + 1):
        one.offer(b"x" * 100_000, 100.0, is_line=True)
    events: list[bytes] = []
    while one:
        events += one.take(100.0)
    assert events[-1] == b"lost 1 100000"


def test_who_wants_no_platform_events_is_told_of_no_loss() -> None:
    one = feed(("function",))
    one.lose(3, 30)
    one.offer(b"a", 100.0, is_line=True)
    assert one.take(100.0) == [b"a"]


@settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(1, 400_000), st.booleans(), st.integers(0, 3))))
def test_a_feed_never_holds_more_than_its_bound_and_loses_nothing_unsaid(steps: list[tuple[int, bool, int]]) -> None:
    lost = 0

    def dropped(records: int, _: int) -> bytes:
        nonlocal lost
        lost += records
        return b"!"

    one = Feed(parsed(types=["platform", "function"]), dropped)
    offered = taken = 0
    for size, is_line, takes in steps:
        one.offer(b"x" * size, 100.0, is_line=is_line)
        offered += 1
        for _ in range(takes):
            taken += sum(event != b"!" for event in one.take(100.0))
        assert one._octets <= MAX_WAITING_BYTES + ROOM_FOR_PLATFORM + 1
    while one:
        taken += sum(event != b"!" for event in one.take(100.0))
    assert taken + lost == offered


def test_dropped_says_how_much() -> None:
    kind, record = platform_records.dropped(123, 12_345)
    assert kind == "platform.logsDropped"
    assert (record["droppedRecords"], record["droppedBytes"]) == (123, 12_345)


# -- who listens in ---------------------------------------------------------------------------------------------------


def listening(**variables: str) -> tuple[Any, dict[type, Any]]:
    """A loop that only performs, with the API on it, and its performers from before."""
    plain = {kind: lambda _: None for kind in (*REPORTS, *SIGNS, ReportInitStart, DeliverShutdown)}
    loop = SimpleNamespace(performers=dict(plain), tap=None, settings=some_settings(**variables), used_mb=0)
    TelemetryApi(loop, "1")
    return loop, plain


def taps(loop: Any, plain: dict[type, Any]) -> list[type]:
    return [kind for kind in plain if loop.performers[kind] is not plain[kind] and kind is not ReportInitStart]


def test_when_nobody_has_subscribed_by_the_end_of_init_nothing_is_listened_to() -> None:
    loop, plain = listening()
    assert taps(loop, plain)
    loop.performers[ReportInitStart](ReportInitStart("init"))
    loop.tap("", b"a line\n", False)
    loop.performers[ReportInit](ReportInit("init", "success", 1.0))
    assert taps(loop, plain) == []
    assert loop.tap is None


def test_an_init_that_is_repeated_is_listened_to_again() -> None:
    loop, plain = listening()
    loop.performers[ReportInit](ReportInit("init", "success", 1.0))
    loop.performers[ReportInitStart](ReportInitStart("invoke", ONE))
    assert taps(loop, plain)
    loop.performers[ReportInit](ReportInit("invoke", "success", 1.0))
    assert taps(loop, plain) == []


def test_who_listens_to_us_in_turn_keeps_his_place() -> None:
    loop, plain = listening()
    heard: list[Any] = []
    before = loop.performers[ReportEnd]
    loop.performers[ReportEnd] = lambda command: (heard.append(command), before(command))
    loop.performers[ReportInit](ReportInit("init", "success", 1.0))
    loop.performers[ReportEnd](ReportEnd(ONE, "success", 1.0))
    assert len(heard) == 1
    assert taps(loop, plain) == [ReportEnd]


def test_the_compat_profile_listens_to_nothing() -> None:
    loop, plain = listening(RIE_PROFILE="compat")
    assert taps(loop, plain) == []


def test_what_is_kept_for_later_subscribers_is_bounded() -> None:
    early = Early()
    for _ in range(20):
        early.lines(0.0, "", b"x\n" * 50_000, is_record=False)
    for _ in range(2_000):
        early.report(0.0, ReportFault("", "x"), 0)
    assert sum(len(item[1]) for _, item, _ in early.items if isinstance(item, tuple)) <= MAX_EARLY_BYTES
    assert sum(isinstance(item, ReportFault) for _, item, _ in early.items) == MAX_EARLY_REPORTS
    assert early.lost_records == 10 * 50_000


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [b"", b"127.0.0.1 localhost\n", b"127.0.0.1 localhost"])
def test_the_hosts_file_gets_the_names_once(tmp_path: Path, before: bytes) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(before)
    for _ in range(2):
        name_ourselves(str(hosts))
    lines = hosts.read_text().splitlines()
    assert lines[-1].split() == ["127.0.0.1", "sandbox.localdomain", "sandbox"]
    assert len(lines) == 1 + bool(before)


def test_a_hosts_file_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    name_ourselves(str(tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []
