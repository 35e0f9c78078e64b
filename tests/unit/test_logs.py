"""Log files: whole lines, their order, rotation, followers and the bounds on disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rie.logs import bounds, follow, writer
from rie.logs.bounds import Bounds, StreamFile, superfluous, sweep
from rie.logs.files import LogFiles
from rie.logs.rate import Rate

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


def test_a_record_of_several_lines_is_one(tmp_path: Path) -> None:
    async def see() -> tuple[list[str], list[str]]:
        logs = LogFiles(tmp_path)
        with logs.follow(GROUP) as follower:
            logs.open(GROUP, "s").write(b"before\nTraceback\x1e  File\x1eError\n")
            return [line.text for line in logs.read(GROUP)], [line.text for line in await follower.get()]

    expected = ["before", "Traceback\n  File\nError"]
    assert asyncio.run(see()) == (expected, expected)


def test_streams_of_a_group_are_merged_by_time_and_others_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = LogFiles(tmp_path)
    one, two, other = logs.open(GROUP, "1"), logs.open(GROUP, "2"), logs.open("/other", "1")
    for at, sink, text in ((1.0, one, b"a\n"), (2.0, two, b"b\n"), (3.0, one, b"c\n"), (1.5, other, b"x\n")):
        monkeypatch.setattr(writer.time, "time", lambda at=at: at)
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
    monkeypatch.setattr(writer, "MAX_STREAM_BYTES", 10_000)
    logs = LogFiles(tmp_path)
    sink = logs.open(GROUP, "s")
    for number in range(5_000):
        sink.write(b"line %d\n" % number)
    paths = list((tmp_path).rglob("*.log*"))
    assert len(paths) == 2
    assert sum(path.stat().st_size for path in paths) <= 20_000
    assert list(logs.read(GROUP))[-1].text == "line 4999"


def stream_file(owner: str, name: str, size: int, written_at: float, retention_days: float = 0) -> StreamFile:
    return StreamFile(Path(name), owner, size, written_at, retention_days)


def gone(files: list[StreamFile], bounds: Bounds, now: float = 1e6) -> list[str]:
    return [file.path.name for file in superfluous(files, bounds, now)]


def test_of_a_function_above_its_bound_the_oldest_files_go() -> None:
    files = [stream_file("a", f"a{number}", 10, number) for number in range(5)] + [stream_file("b", "b0", 30, 0)]
    assert gone(files, Bounds(30, 1_000)) == ["a0", "a1"]


def test_a_function_has_no_more_files_than_readers_can_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_FILES", 3)
    assert gone([stream_file("a", f"a{number}", 1, number) for number in range(5)], Bounds()) == ["a0", "a1"]


def test_above_the_bound_on_all_whoever_takes_the_most_loses_lines_not_who_was_there_first() -> None:
    quiet = [stream_file("quiet", "q0", 10, 0)]
    flood = [stream_file("flood", f"f{number}", 50, 10 + number) for number in range(4)]
    assert gone(quiet + flood, Bounds(1_000, 120)) == ["f0", "f1"]


def test_what_is_past_its_days_goes_and_a_group_may_have_days_of_its_own() -> None:
    day_s = bounds.DAY_S
    files = [stream_file("a", "old", 1, 0, 2), stream_file("a", "kept", 1, 0, 0), stream_file("a", "new", 1, day_s, 2)]
    assert gone(files, Bounds(), 2.5 * day_s) == ["old"]


def test_a_stream_that_was_swept_away_is_begun_anew_by_its_writer(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path)
    sink = logs.open(GROUP, "s")
    sink.write(b"before\n")
    assert sweep(tmp_path, Bounds(1, 1), 0.0) == 1
    sink.write(b"after\n")
    sink.close()
    assert [line.text for line in logs.read(GROUP)] == ["after"]
    assert [group.name for group in logs.groups()] == [GROUP]


def test_functions_that_share_a_group_have_bounds_of_their_own(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path)
    for name, octets in (("quiet", 10), ("flood", 1_000), ("flood", 1_000)):
        sink = logs.open("shared", f"2026/01/02/{name}[$LATEST]{octets:032x}{'0' if name == 'quiet' else ''}")
        sink.write(b"x" * octets + b"\n")
        sink.close()
    assert sweep(tmp_path, Bounds(100, 10_000), 0.0) == 1
    assert {line.text for line in logs.read("shared")} == {"x" * 10}


def test_a_sink_says_how_long_it_wants_nothing_more_and_functions_do_not_share_that(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path, kb_per_s=1)
    flood, same, other = (logs.open(GROUP, stream, owner) for stream, owner in (("1", "a"), ("2", "a"), ("3", "b")))
    assert flood.write(b"x\n" * 50) == 0.0
    assert flood.write(b"x\n" * 10_000) > 5.0
    assert same.write(b"x\n") > 5.0
    assert other.write(b"x\n") == 0.0


def test_a_rate_pays_its_debt_in_time() -> None:
    now = [0.0]
    rate = Rate(100, 200, lambda: now[0])
    assert rate.spend(200) == 0.0
    assert rate.spend(50) == 0.5
    now[0] = 0.5
    assert rate.spend(0) == 0.0
    now[0] = 60.0
    assert rate.spend(300) == 1.0


def test_a_line_without_end_is_cut_not_hoarded(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path)
    sink = logs.open(GROUP, "s")
    for _ in range(50):
        sink.write(b"x" * 65_536)
    assert len(sink._partial) <= writer.MAX_LINE
    sink.close()
    assert sum(len(line.text) for line in logs.read(GROUP)) == 50 * 65_536


def test_a_follower_gets_what_comes_and_a_slow_one_costs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "FOLLOWER_BYTES", 100)

    async def see() -> list[str]:
        logs = LogFiles(tmp_path)
        sink = logs.open(GROUP, "s")
        with logs.follow(GROUP) as follower:
            sink.write(b"one\ntwo\n")
            sink.write(b"x" * 200 + b"\n")
            sink.write(b"three\n")
            return [line.text for _ in range(2) for line in await follower.get()]

    assert asyncio.run(see()) == ["one", "two", "rie: 1 lines left out here: they came too fast", "three"]


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


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("START RequestId: x Version: $LATEST", "\x1b[2m"),
        ("REPORT RequestId: x\tStatus: timeout", "\x1b[31m"),
        ("[ERROR] ValueError: boom", "\x1b[31m"),
        ("[WARNING]\t2026-01-02T03:04:05.678Z\tid\ttext", "\x1b[33m"),
        ("2026-01-02T03:04:05.678Z\t11-22\tERROR\tInvoke Error", "\x1b[31m"),
        ("2026-01-02T03:04:05.678Z\t11-22\tINFO\ttext", ""),
        ('{"level": "debug", "message": "x"}', "\x1b[2m"),
        ('{"level": "CRITICAL"}', "\x1b[1;31m"),
        ('{"type": "platform.report", "record": {"status": "timeout"}}', "\x1b[31m"),
        ('{"type": "platform.start", "record": {}}', "\x1b[2m"),
        ('{"no json', ""),
        ("plain", ""),
    ],
)
def test_a_level_has_its_colour_in_every_format(text: str, colour: str) -> None:
    from rie.cli.logs import colour_of

    assert colour_of(text) == colour
