"""The bootstrap's small parts: settings, log lines, faults and percent-encoding."""

from __future__ import annotations

import gc
import itertools
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from bootstrap import command_line, output, settings
from bootstrap.commands import ReportEnd, ReportInit
from bootstrap.connection import Connection
from bootstrap.errors import SettingsError
from bootstrap.events import Invocation
from bootstrap.faults import known_error_type
from bootstrap.frames import FrameReader
from bootstrap.ids import new_id, new_request, new_trace_id
from bootstrap.memory import Gauge
from bootstrap.output import LineReader, Log
from bootstrap.quoting import query_value, unquote
from bootstrap.records import Record, make_constructors


def test_the_last_of_several_arguments_is_the_handler_and_all_are_the_command() -> None:
    read = settings.read({}, ["python", "-m", "awslambdaric", "app.handler"])
    assert read.command == ("python", "-m", "awslambdaric", "app.handler")
    assert read.variables["_HANDLER"] == "app.handler"


def test_one_argument_is_the_handler_where_the_image_has_a_bootstrap_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bootstrap").touch()
    monkeypatch.setattr(command_line, "BOOTSTRAPS", (str(tmp_path / "bootstrap"),))
    read = settings.read({}, ["app.handler"])
    assert (read.command, read.variables["_HANDLER"]) == ((), "app.handler")


def test_one_argument_that_is_a_program_is_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bootstrap").touch()
    monkeypatch.setattr(command_line, "BOOTSTRAPS", (str(tmp_path / "bootstrap"),))
    assert settings.read({}, ["/var/task/server"]).command == ("/var/task/server",)
    assert settings.read({}, ["sh"]).command == ("sh",)


def test_the_runtime_sees_the_services_variables_and_none_of_ours() -> None:
    read = settings.read({"RIE_SOCKET": "/s", "RIE_OWN": "kept", "AWS_REGION": "eu-west-1", "MINE": "1"}, ["a", "b"])
    assert read.is_managed
    assert "RIE_SOCKET" not in read.variables
    assert read.variables["RIE_OWN"] == "kept"
    assert read.variables["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert read.variables["AWS_LAMBDA_RUNTIME_API"] == "127.0.0.1:9001"
    assert read.variables["LAMBDA_TASK_ROOT"] == "/var/task"
    assert read.variables["TZ"] == ":UTC"


def test_empty_credentials_are_left_out() -> None:
    variables = settings.read({"AWS_ACCESS_KEY_ID": "", "AWS_SESSION_TOKEN": "t"}, []).variables
    assert "AWS_ACCESS_KEY_ID" not in variables
    assert variables["AWS_SESSION_TOKEN"] == "t"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_LAMBDA_FUNCTION_TIMEOUT", "soon"),
        ("AWS_LAMBDA_FUNCTION_TIMEOUT", "-1"),
        ("AWS_LAMBDA_FUNCTION_TIMEOUT", "nan"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "lots"),
        ("RIE_ADDRESS", "8080"),
        ("RIE_ADDRESS", "x:99999"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        settings.read({name: value}, [])


def test_the_timeout_may_be_a_fraction() -> None:
    assert settings.read({"AWS_LAMBDA_FUNCTION_TIMEOUT": "1.5"}, []).timeout_s == 1.5


def report(status: str = "success", error_type: str = "", init_ms: float | None = None) -> str:
    return output.end_lines(ReportEnd(Invocation("id", b""), status, 3.014, init_ms, error_type), 128, 36)


def test_the_report_line_is_the_services_to_the_tab() -> None:
    assert report() == (
        "END RequestId: id\nREPORT RequestId: id\tDuration: 3.01 ms\tBilled Duration: 4 ms\t"
        "Memory Size: 128 MB\tMax Memory Used: 36 MB\t\n"
    )
    assert report(init_ms=110.1).endswith(
        "Billed Duration: 114 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\tInit Duration: 110.10 ms\t\n"
    )
    assert report("timeout").endswith("36 MB\tStatus: timeout\n")
    assert report("failure", "Runtime.ExitError").endswith("36 MB\tStatus: error\tError Type: Runtime.ExitError\n")
    assert report("error", "Runtime.Unknown") == report()


def test_a_failed_init_has_a_line_of_its_own() -> None:
    line = output.init_report_line(ReportInit("init", "error", 150.789, "Runtime.ExitError"))
    assert line == "INIT_REPORT Init Duration: 150.79 ms\tPhase: init\tStatus: error\tError Type: Runtime.ExitError\n"
    line = output.init_report_line(ReportInit("init", "timeout", 9999.79, "Sandbox.Timedout"))
    assert line == "INIT_REPORT Init Duration: 9999.79 ms\tPhase: init\tStatus: timeout\n"


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("Runtime.ImportModuleError", "Runtime.ImportModuleError"),
        ("Function.Custom", "Function.Custom"),
        ("Function.x", "Function.Unknown"),
        ("ValueError", "Runtime.Unknown"),
        ("", "Runtime.Unknown"),
        ("Runtime.Bad\r\nX: y", "Runtime.Unknown"),
    ],
)
def test_only_the_services_error_types_are_recorded(text: str, known: str) -> None:
    assert known_error_type(text) == known


class Into:
    """Takes lines into a log, as the loop does."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def take_lines(self, name: str, text: bytes, is_record: bool) -> None:
        self._log.write(text)


def test_lines_are_cut_at_newlines_and_at_the_limit_and_a_rest_is_not_lost(tmp_path: Path) -> None:
    log = Log(str(_touch(tmp_path / "log")))
    read, write = os.pipe()
    os.set_blocking(read, False)
    reader = LineReader(read, Into(log))
    os.write(write, b"one\ntw")
    assert reader.read()
    os.write(write, b"o\nthree")
    assert reader.read()
    log.flush()
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"
    os.close(write)
    assert not reader.read()
    log.flush()
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\nthree\n"


def test_a_line_without_end_is_cut_at_the_services_limit(tmp_path: Path) -> None:
    log = Log(str(_touch(tmp_path / "log")))
    reader = LineReader(-1, Into(log))
    for _ in range(10):
        reader._take(b"x" * 65_536)
    log.flush()
    assert (tmp_path / "log").read_bytes().startswith(b"x" * output.MAX_LINE + b"\n")


def test_a_line_too_long_is_cut_between_characters_and_what_follows_is_whole(tmp_path: Path) -> None:
    log = Log(str(_touch(tmp_path / "log")))
    reader = LineReader(-1, Into(log))
    text = "x" + "\u20ac" * 200_000  # three bytes each
    for at in range(0, len(text.encode()), 65_536):
        reader._take(text.encode()[at : at + 65_536])
    reader._take(b"\nnext\nrest")
    reader.end()
    log.flush()
    *parts, following, rest = (tmp_path / "log").read_text().splitlines()
    assert "".join(parts) == text
    assert max(len(part.encode()) for part in parts) <= output.MAX_LINE
    assert (following, rest) == ("next", "rest")


def test_a_line_of_just_the_limit_is_not_cut(tmp_path: Path) -> None:
    log = Log(str(_touch(tmp_path / "log")))
    reader = LineReader(-1, Into(log))
    reader._take(b"x" * output.MAX_LINE)
    reader._take(b"\ny\n")
    log.flush()
    assert (tmp_path / "log").read_bytes() == b"x" * output.MAX_LINE + b"\ny\n"


def framed(record: bytes, kind: int = 3, at_us: int = 1_764_000_000_000_000) -> bytes:
    return b"\xa5\x5a\x00" + bytes([kind]) + len(record).to_bytes(4, "big") + at_us.to_bytes(8, "big") + record


def passed_on(data: bytes, cuts: tuple[int, ...] = ()) -> list[tuple[bytes, bool]]:
    """What a reader makes of data that come in parts."""
    found: list[tuple[bytes, bool]] = []
    reader = FrameReader(-1, SimpleNamespace(take_lines=lambda _, text, is_record: found.append((text, is_record))))
    for begin, end in itertools.pairwise([0, *sorted(cuts), len(data)]):
        reader._take(data[begin:end])
    reader.end()
    return found


def test_a_frame_is_one_record_in_its_place_among_the_lines() -> None:
    data = b"before\nwithout end" + framed(b"two\nlines") + framed(b"more\n", kind=0x0E) + b"after\n"
    assert passed_on(data) == [
        *((b"before\n", False), (b"without end\n", False), (b"two\nlines\n", True), (b"more\n", True)),
        (b"after\n", False),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"\xa5\x5a\x00\x03" + b"x" * 40 + b"\n",
        framed(b"text", kind=0x40) + b"\n",
        framed(b"text", at_us=7) + b"\n",
        b"ends with \xa5\x5a",
        b"\xa5\x5a\x00",
    ],
)
def test_what_only_looks_like_a_frame_is_text(data: bytes) -> None:
    assert passed_on(data) == [(data if data.endswith(b"\n") else data + b"\n", False)]


def test_a_frame_that_never_ends_is_passed_on_in_parts_and_its_rest_at_the_end() -> None:
    data = framed(b"x" * 600_000)[:-1]
    parts = [text for text, _ in passed_on(data, tuple(range(0, len(data), 65_536)))]
    assert [len(part) - 1 for part in parts] == [output.MAX_LINE, output.MAX_LINE, 599_999 - 2 * output.MAX_LINE]


@given_settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from([b"line\n", framed(b"a\nb"), framed(b""), framed(b"\xa5\x5a\x00\x03")])),
    st.lists(st.integers(0, 100), max_size=6),
)
def test_it_does_not_matter_how_the_bytes_come(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    whole, cut = passed_on(data), passed_on(data, tuple(at for at in cuts if at <= len(data)))
    assert [record for record in cut if record[1]] == [record for record in whole if record[1]]
    assert b"".join(text for text, _ in cut) == b"".join(text for text, _ in whole)


def test_a_slow_reader_costs_lines_never_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MAX_BACKLOG", 200_000)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    log = Log(str(fifo))
    for number in range(10_000):
        log.write(b"%099d\n" % number)
        log.flush()
    assert log.is_blocked
    seen = b""
    while log.has_backlog:
        seen += os.read(read, 1 << 20)
        log.flush()
    seen += os.read(read, 1 << 20)
    lines = seen.splitlines()
    assert lines[0] == b"%099d" % 0
    notice = lines[-1].decode()
    assert f"rie: {10_000 - len(lines) + 1} lines (" in notice
    assert "dropped" in notice


def test_the_tail_is_the_last_four_kilobytes_of_this_invocation(tmp_path: Path) -> None:
    log = Log(str(_touch(tmp_path / "log")))
    log.write(b"before\n")
    log.begin()
    for number in range(100_000):
        log.write(b"%d\n" % number)
    tail = log.tail()
    assert len(tail) == 4096
    assert tail.endswith(b"99998\n99999\n")
    log.begin()
    assert log.tail() == b""


def _touch(path: Path) -> Path:
    path.touch()
    return path


def test_percent_encoding_is_decoded_once_and_nonsense_stays() -> None:
    assert unquote("arn%3Aaws%3a%2541") == "arn:aws:%41"
    assert unquote("100%") == "100%"
    assert unquote("%zz%4") == "%zz%4"
    assert unquote("%ff") == "\ufffd"
    assert query_value("a=1&Qualifier=%24LATEST", "Qualifier") == "$LATEST"
    assert query_value("", "Qualifier") == ""


def test_request_ids_are_uuids_of_version_4() -> None:
    import uuid

    ids = {new_id() for _ in range(100)} | {new_request()[0] for _ in range(100)}
    assert len(ids) == 200
    assert {(uuid.UUID(text).version, uuid.UUID(text).variant) for text in ids} == {(4, uuid.RFC_4122)}
    assert all(str(uuid.UUID(text)) == text for text in ids)


def test_trace_ids_are_as_the_service_writes_them() -> None:
    traces = [new_trace_id(), new_request()[1], new_request()[1]]
    assert len(set(traces)) == 3
    pattern = r"Root=1-([0-9a-f]{8})-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0"
    assert all(abs(int(re.fullmatch(pattern, trace)[1], 16) - time.time()) < 5 for trace in traces)


def test_a_closed_connection_leaves_nothing_for_the_garbage_collector() -> None:
    class Nobody:
        """As loop, door and listener."""

        max_body = 10

        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *_: None

    nobody: Any = Nobody()

    def come_and_go() -> None:
        ours, theirs = socket.socketpair()
        Connection(ours.detach(), socket.AF_UNIX, nobody, nobody, nobody).close()
        theirs.close()

    come_and_go()
    gc.collect()
    gc.disable()
    try:
        come_and_go()
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("profile", "arguments", "command", "addresses"),
    [
        ("aws", ["--log-level", "debug", "/bin/x", "h"], ("/bin/x", "h"), (8080, 9001)),
        ("aws", ["--runtime-interface-emulator-address=1.2.3.4:81", "/bin/x"], ("/bin/x",), (81, 9001)),
        ("aws", ["/bin/x", "--log-level", "debug"], ("/bin/x", "--log-level", "debug"), (8080, 9001)),
        ("compat", ["/bin/x", "--log-level", "debug", "h"], ("/bin/x", "h"), (8080, 9001)),
        ("compat", ["/bin/x", "--enable-init-caching", "--runtime-api-address", "0.0.0.0:82"], ("/bin/x",), (8080, 82)),
        ("compat", ["/bin/x", "--foo", "h"], ("/bin/x", "--foo", "h"), (8080, 9001)),
    ],
)
def test_the_options_of_awss_emulator_are_understood(
    profile: str, arguments: list[str], command: tuple[str, ...], addresses: tuple[int, int]
) -> None:
    read = settings.read({"RIE_PROFILE": profile}, arguments)
    assert (read.command, (read.front_door[1], read.runtime_api[1])) == (command, addresses)
    assert read.variables["AWS_LAMBDA_RUNTIME_API"].endswith(f":{addresses[1]}")


def test_an_option_without_its_value_is_named() -> None:
    with pytest.raises(SettingsError, match="--log-level: nothing follows"):
        settings.read({}, ["--log-level"])


def test_report_of_a_traced_invocation_is_followed_by_its_trace() -> None:
    """Service spec §11.2."""
    trace_id = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1;Lineage=a:1"
    lines = output.end_lines(ReportEnd(Invocation("id", b"", trace_id=trace_id), "success", 1.0), 128, 30)
    said = "XRAY TraceId: 1-5bef4de7-ad49b0e87f6ef6c87fc2e700\tSegmentId: 9a9197af755a6419\tSampled: true\t\n"
    assert lines.partition("Max Memory Used: 30 MB\t\n")[2] == said
    unsampled = ReportEnd(Invocation("id", b"", trace_id=trace_id.replace("Sampled=1", "Sampled=0")), "success", 1.0)
    assert "XRAY" not in output.end_lines(unsampled, 128, 30)


def test_a_records_first_instance_is_made_as_all_others_are() -> None:
    def fresh() -> Any:
        class Pair(Record):
            one: int
            two: int = 2

        return Pair

    kind = fresh()
    assert [(made.one, made.two) for made in (kind(1), kind(1), kind(one=3), kind(4, two=5))] == [
        (1, 2),
        (1, 2),
        (3, 2),
        (4, 5),
    ]
    assert kind(1) == kind(1)
    for values, named in (((), {}), ((1, 2, 3), {}), ((1,), {"one": 1}), ((1,), {"three": 3})):
        for made_before in (0, 2):
            kind = fresh()
            for _ in range(made_before):
                kind(1)
            with pytest.raises(TypeError):
                kind(*values, **named)


def test_a_process_is_measured_again_through_the_files_that_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    gauge, opened, real_open = Gauge(), [], os.open

    def counted(path: str, *arguments: int) -> int:
        opened.append(path)
        return real_open(path, *arguments)

    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        monkeypatch.setattr(os, "open", counted)
        for _ in range(2):
            children = gauge.descendants(os.getpid())[1:]
            assert child.pid in children
            assert gauge.peak_kb(children) > 0
        child.kill()
    assert len(opened) == len(set(opened))


def test_constructors_are_made_at_once_where_a_process_will_be_forked() -> None:
    class Kind(Record):
        pass

    class Pair(Kind):
        first: int
        second: int = 2

    assert Pair.__init__.__name__ != "__init__"
    make_constructors(Kind)
    assert Pair.__init__.__name__ == "__init__"
    assert Pair(1).__dict__ == {"first": 1, "second": 2}
