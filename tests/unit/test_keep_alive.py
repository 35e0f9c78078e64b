"""When environments are kept and started ahead: idle times, arrivals, timetables and what is made of them; no clock."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rie.environments import idle_times
from rie.environments.arrivals import Arrivals, Book, Caller
from rie.environments.idle_times import GRACE_S, IdleTimes, Window
from rie.environments.keep_alive import KeepAlive, Slot
from rie.environments.timetable import SPARE, Timetable
from rie.model.function import FunctionKey

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
STANDARD = 600.0


def after(times: Iterable[float]) -> Window:
    found = IdleTimes()
    for each in times:
        found.note(each)
    return found.window(STANDARD)


# -- the histogram, case by case ---------------------------------------------------------------------------------------


def test_case_1_little_says_nothing() -> None:
    assert after([]) == after([30 * MINUTE] * 2) == Window(STANDARD)


def test_case_2_a_daily_call_is_prepared_for_around_its_time() -> None:
    window = after([DAY, DAY + 60, DAY - 60, DAY])
    assert window == Window(GRACE_S, DAY - 60 - 120, DAY + 60 + 120)


def test_case_2_rare_calls_at_no_time_in_particular_say_nothing() -> None:
    assert after([5 * HOUR, 20 * HOUR, 50 * HOUR, 7 * HOUR]) == Window(STANDARD)


def test_case_2_only_the_last_rare_ones_count() -> None:
    window = after([5 * HOUR, 9 * HOUR, *([DAY] * idle_times.RARE)])
    assert window.ahead_s is not None and window.ahead_s < DAY < window.until_s


def test_case_3_a_flat_histogram_says_nothing() -> None:
    assert after(minute * MINUTE for minute in range(240)) == Window(STANDARD)


def test_case_4_an_hourly_call_is_prepared_for_from_a_tenth_before_to_a_tenth_after() -> None:
    window = after([HOUR + 5] * 10)
    assert window == Window(GRACE_S, pytest.approx(54 * MINUTE), pytest.approx(61 * 1.1 * MINUTE))


def test_case_4_what_is_called_again_soon_is_kept_until_then_and_not_started_again() -> None:
    assert after([4 * MINUTE + 1] * 10) == Window(STANDARD)  # never less
    assert after([1 * MINUTE, 16 * MINUTE] * 10) == Window(pytest.approx(17 * 1.1 * MINUTE))


def test_case_4_one_long_pause_in_a_hundred_is_not_waited_for() -> None:
    assert after([*([30.0] * 300), 3 * HOUR]) == Window(STANDARD)


def test_case_4_it_is_kept_no_longer_than_pays() -> None:
    often = after([1 * MINUTE] * 50 + [20 * MINUTE] * 50)
    seldom = after([1 * MINUTE] * 50 + [100 * MINUTE] * 50)
    assert often == Window(pytest.approx(21 * 1.1 * MINUTE))
    assert seldom == Window(STANDARD)  # eighty minutes of memory for each call that finds it


def test_it_follows_a_function_whose_calls_change() -> None:
    times = IdleTimes()
    for _ in range(2_000):
        times.note(30.0)
    for _ in range(4_000):
        times.note(HOUR + 5)
    assert times.window(STANDARD).ahead_s == pytest.approx(54 * MINUTE)


@given(st.lists(st.floats(0, 30 * DAY), max_size=60))
def test_it_starts_ahead_after_a_while_or_keeps_no_shorter_than_the_standard_time(
    times: list[float],
) -> None:
    window = after(times)
    if window.ahead_s is None:
        assert window.keep_s >= STANDARD
    else:
        assert 0 < window.keep_s < window.ahead_s < window.until_s


@given(st.lists(st.floats(0, 30 * DAY), max_size=60))
def test_what_is_dumped_and_loaded_decides_the_same(times: list[float]) -> None:
    found = IdleTimes()
    for each in times:
        found.note(each)
    loaded = IdleTimes.load(json.loads(json.dumps(found.dump())))
    assert loaded.dump() == found.dump()
    if len(times) <= 16:  # else what was decided may be some calls old
        assert loaded.window(STANDARD) == found.window(STANDARD)


@pytest.mark.parametrize(
    "dumped",
    [
        {},
        {"bins": [], "beyond": 0, "rare": []},
        {"bins": {"240": 1}, "beyond": 0, "rare": []},
        {"bins": {"0": -1}, "beyond": 0, "rare": []},
        {"bins": {"0": 1}, "beyond": "x", "rare": []},
    ],
)
def test_what_is_no_histogram_is_refused(dumped: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        IdleTimes.load(dumped)


# -- arrivals ----------------------------------------------------------------------------------------------------------


def test_idle_times_are_told_apart_by_how_many_run() -> None:
    """One call a minute, and every hour three at once: what serves one is kept, the others are started ahead."""
    arrivals = Arrivals()
    now = 0.0
    for minute in range(60 * 12):
        now = minute * MINUTE
        together = 3 if minute % 60 == 0 else 1
        for _ in range(together):
            arrivals.begin(now)
        for _ in range(together):
            arrivals.end(now + 1)
    assert arrivals.window(1, STANDARD) == Window(STANDARD)
    ahead_s = arrivals.window(2, STANDARD).ahead_s
    assert ahead_s is not None and ahead_s == pytest.approx(0.9 * 59 * MINUTE)
    assert arrivals.window(3, STANDARD) == arrivals.window(2, STANDARD)
    assert arrivals.window(4, STANDARD) == Window(STANDARD)


def test_the_end_tells_how_many_must_run_again() -> None:
    arrivals = Arrivals()
    for _ in range(3):
        arrivals.begin(0.0)
    assert [arrivals.end(1.0) for _ in range(3)] == [3, 2, 1]


def caller(name: str, version: str = "$LATEST") -> Caller:
    return Caller(FunctionKey("123456789012", "us-east-1", name), version)


def test_a_book_forgets_whose_last_call_is_longest_ago() -> None:
    book = Book(most=32)
    for number in range(32):
        book.of(caller(str(number))).begin(float(number))
    book.of(caller("0")).begin(100.0)
    book.of(caller("new"))
    names = {each.key.name for each, _ in book.dump()}
    assert names == {"new", "0", *map(str, range(3, 32))}
    assert len(book) <= 32


def test_a_book_forgets_what_is_gone() -> None:
    book = Book()
    for each in (caller("a"), caller("a", "1"), caller("b")):
        book.of(each)
    book.forget(caller("a").key, "1")
    assert {each for each, _ in book.dump()} == {caller("a"), caller("b")}
    book.forget(caller("a").key)
    assert {each for each, _ in book.dump()} == {caller("b")}


def test_a_book_is_dumped_and_loaded() -> None:
    book = Book()
    arrivals = book.of(caller("a"))
    for hour in range(6):
        arrivals.begin(hour * HOUR)
        arrivals.end(hour * HOUR + 1)
    again = Book(most=4)
    again.load(dict(book.dump()))
    assert again.of(caller("a")).window(1, STANDARD) == arrivals.window(1, STANDARD) != Window(STANDARD)
    assert again.of(caller("a")).busy == 0


# -- the timetable -----------------------------------------------------------------------------------------------------


def test_an_item_is_due_once_and_when_it_was_set_last() -> None:
    table: Timetable[str] = Timetable()
    table.set("later", 1.0)
    table.set("later", 3.0)
    table.set("sooner", 9.0)
    table.set("sooner", 2.0)
    table.set("gone", 1.0)
    table.remove("gone")
    assert [list(table.pop_due(now)) for now in (1.0, 2.0, 3.0, 9.0)] == [[], ["sooner"], ["later"], []]
    assert table.looks_at is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 50), st.booleans()), max_size=200))
def test_a_timetable_is_as_one_that_is_searched(steps: list[tuple[int, int, bool]]) -> None:
    table: Timetable[int] = Timetable()
    simple: dict[int, int] = {}
    now = 0
    for item, wait, is_set in steps:
        if is_set:
            table.set(item, now + wait)
            simple[item] = now + wait
        else:
            table.remove(item)
            simple.pop(item, None)
            now += wait
            due = [each for each in simple if simple[each] <= now]
            assert sorted(table.pop_due(now)) == sorted(due)
            for each in due:
                del simple[each]
        looks_at = table.looks_at
        assert not simple or (looks_at is not None and looks_at <= min(simple.values()))


def test_a_timetable_keeps_no_more_entries_than_it_needs() -> None:
    table: Timetable[int] = Timetable()
    for number in range(10_000):
        table.set(number, 1e6)
        table.remove(number)
        table.set(-1, 1e6 - number)  # sooner each time
    assert len(table._heap) <= 2 * len(table) + SPARE + 1


# -- keep alive --------------------------------------------------------------------------------------------------------


def hourly() -> Arrivals:
    arrivals = Arrivals()
    for hour in range(12):
        arrivals.begin(hour * HOUR)
        arrivals.end(hour * HOUR + 1)
    return arrivals


def test_a_fixed_time_is_the_same_for_all() -> None:
    keep: KeepAlive[str, str] = KeepAlive(STANDARD, is_learned=False)
    keep.note_idle("e", Slot("f", 1), hourly(), "model", 0.0)
    assert keep.looks_at == STANDARD
    assert (keep.overdue(STANDARD), keep.starts(DAY)) == (["e"], [])


def test_an_hourly_function_is_let_go_and_started_ahead_of_its_call() -> None:
    keep: KeepAlive[str, str] = KeepAlive(STANDARD, is_learned=True)
    keep.note_idle("e", Slot("f", 1), hourly(), "model", 100.0)
    assert (keep.overdue(100.0 + GRACE_S - 1), keep.overdue(100.0 + GRACE_S)) == ([], ["e"])
    at = keep.looks_at
    assert at == pytest.approx(100.0 + 0.9 * 59 * MINUTE)
    (start,) = keep.starts(at)
    assert (start.slot, start.model, start.used_at) == (Slot("f", 1), "model", 100.0)
    assert keep.starts(DAY) == []
    keep.note_ready("e2", start)
    assert (keep.overdue(start.until - 1), keep.overdue(start.until)) == ([], ["e2"])


def test_what_is_used_meanwhile_is_planned_anew_and_what_is_gone_is_not_started() -> None:
    keep: KeepAlive[str, str] = KeepAlive(STANDARD, is_learned=True)
    arrivals = hourly()
    keep.note_idle("e", Slot("f", 1), arrivals, "old", 0.0)
    keep.note_taken("e")
    keep.note_idle("e", Slot("f", 1), arrivals, "new", 1_000.0)
    keep.note_idle("g", Slot("g", 1), arrivals, "gone", 1_000.0)
    assert keep.places == {"f", "g"}
    keep.forget(lambda place: place == "g")
    assert [start.model for start in keep.starts(DAY)] == ["new"]
