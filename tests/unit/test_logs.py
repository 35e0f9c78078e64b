"""Log files: whole lines, their order, rotation, followers and the bounds on disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rie.logs import files
from rie.logs.files import LogFiles

GROUP = "/aws/lambda/fn"


def test_lines_cut_anywhere_are_kept_whole_and_in_order(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path)
    sink = logs.open(GROUP, "2026/01/02/[$LATEST]abc")
    for piece in (b"on", b"e\ntwo\nth", b"ree\n", b"\n", b"rest"):
        sink.write(piece)
    sink.close()
    lines = list(logs.read(GROUP))
    assert [line.text for line in lines] == ["one", "two", "three", "", "rest"]
    assert {line.stream for line in lines} == {"2026/01/02/[$LATEST]abc"}


def test_streams_of_a_group_are_merged_by_time_and_others_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = LogFiles(tmp_path)
    one, two, other = logs.open(GROUP, "1"), logs.open(GROUP, "2"), logs.open("/other", "1")
    for at, sink, text in ((1.0, one, b"a\n"), (2.0, two, b"b\n"), (3.0, one, b"c\n"), (1.5, other, b"x\n")):
        monkeypatch.setattr(files.time, "time", lambda at=at: at)
        sink.write(text)
    assert [line.text for line in logs.read(GROUP)] == ["a", "b", "c"]
    assert [line.text for line in logs.read(GROUP, since_ms=2_000)] == ["b", "c"]
    assert list(logs.read("/nobody")) == []


def test_a_group_cannot_name_a_place_outside(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path / "logs")
    logs.open("../../escape", "../s").write(b"x\n")
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
    assert next(logs.read("../../escape")).text == "x"


def test_a_stream_takes_two_files_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_STREAM_BYTES", 10_000)
    logs = LogFiles(tmp_path)
    sink = logs.open(GROUP, "s")
    for number in range(5_000):
        sink.write(b"line %d\n" % number)
    paths = list((tmp_path).rglob("*.log*"))
    assert len(paths) == 2
    assert sum(path.stat().st_size for path in paths) <= 20_000
    assert list(logs.read(GROUP))[-1].text == "line 4999"


def test_the_oldest_streams_of_a_group_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_STREAMS", 5)
    logs = LogFiles(tmp_path)
    for number in range(20):
        sink = logs.open(GROUP, f"s{number}")
        sink.write(b"x\n")
        sink.close()
    assert len(list(tmp_path.rglob("*.log"))) <= 6


def test_a_line_without_end_is_cut_not_hoarded(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path)
    sink = logs.open(GROUP, "s")
    for _ in range(50):
        sink.write(b"x" * 65_536)
    assert len(sink._partial) <= files.MAX_LINE
    sink.close()
    assert sum(len(line.text) for line in logs.read(GROUP)) == 50 * 65_536


def test_a_follower_gets_what_comes_and_a_slow_one_costs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FOLLOWER_BYTES", 100)

    async def follow() -> list[str]:
        logs = LogFiles(tmp_path)
        sink = logs.open(GROUP, "s")
        with logs.follow(GROUP) as follower:
            sink.write(b"one\ntwo\n")
            sink.write(b"x" * 200 + b"\n")
            sink.write(b"three\n")
            return [line.text for _ in range(2) for line in await follower.get()]

    assert asyncio.run(follow()) == ["one", "two", "three"]


def test_reading_and_following_from_one_moment_on_misses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    async def both() -> list[str]:
        logs = LogFiles(tmp_path)
        sink = logs.open(GROUP, "s")
        sink.write(b"before\n")
        with logs.follow(GROUP) as follower:
            lines = logs.read(GROUP)
            sink.write(b"after\n")
            return [line.text for line in lines] + [line.text for line in await follower.get()]

    assert asyncio.run(both()) == ["before", "after"]


@pytest.mark.parametrize("group", ["..", ".", "x" * 512, "a/../b", "./#/-"])
def test_a_group_may_be_named_anything_and_stays_below_its_place(tmp_path: Path, group: str) -> None:
    (tmp_path / "precious").write_text("kept")
    logs = LogFiles(tmp_path / "logs")
    logs.open(group, "s").write(b"x\n")
    assert [line.text for line in logs.read(group)] == ["x"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "precious"]
    assert len(list((tmp_path / "logs").iterdir())) == 1


def test_a_disk_that_refuses_loses_lines_not_invocations(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file, where the directory should be")
    sink = LogFiles(tmp_path / "logs").open(GROUP, "s")
    sink.write(b"x\n")
    sink.close()
