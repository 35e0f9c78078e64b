"""The bootstrap's small parts: settings, log lines, faults and percent-encoding."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootstrap import output, settings
from bootstrap.commands import ReportEnd, ReportInit
from bootstrap.errors import SettingsError
from bootstrap.events import Invocation
from bootstrap.faults import known_error_type
from bootstrap.ids import new_id
from bootstrap.output import LineReader, Log
from bootstrap.quoting import query_value, unquote


def test_the_last_of_several_arguments_is_the_handler_and_all_are_the_command() -> None:
    read = settings.read({}, ["python", "-m", "awslambdaric", "app.handler"])
    assert read.command == ("python", "-m", "awslambdaric", "app.handler")
    assert read.variables["_HANDLER"] == "app.handler"


def test_one_argument_is_the_handler_where_the_image_has_a_bootstrap_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bootstrap").touch()
    monkeypatch.setattr(settings, "BOOTSTRAPS", (str(tmp_path / "bootstrap"),))
    read = settings.read({}, ["app.handler"])
    assert (read.command, read.variables["_HANDLER"]) == ((), "app.handler")


def test_one_argument_that_is_a_program_is_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bootstrap").touch()
    monkeypatch.setattr(settings, "BOOTSTRAPS", (str(tmp_path / "bootstrap"),))
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


def test_lines_are_cut_at_newlines_and_at_the_limit_and_a_rest_is_not_lost(tmp_path: Path) -> None:
    log = Log(str(_touch(tmp_path / "log")))
    read, write = os.pipe()
    os.set_blocking(read, False)
    reader = LineReader(read, log)
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
    reader = LineReader(-1, log)
    for _ in range(10):
        reader._take(b"x" * 65_536)
    log.flush()
    assert (tmp_path / "log").read_bytes().startswith(b"x" * output.MAX_LINE + b"\n")


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

    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(uuid.UUID(text).version == 4 for text in ids)
