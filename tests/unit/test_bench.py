"""The benchmarks' statistics, their report and their check of answers; nothing here is timed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import client, figures, keepalive, report, trace
from bench.figures import Report, Spread, Summary

FACTS = {"machine": "a CPU, 2 cores"}
SAMPLES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=50)


def test_a_quantile_lies_linearly_between_neighbours() -> None:
    assert figures.quantile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert figures.quantile([10.0, 20.0], 0.9) == pytest.approx(19.0)
    assert figures.quantile([7.0], 0.25) == 7.0


@given(SAMPLES)
def test_the_quantiles_0_and_1_are_the_least_and_the_greatest_sample(samples: list[float]) -> None:
    assert figures.quantile(samples, 0) == min(samples)
    assert figures.quantile(samples, 1) == max(samples)


@given(SAMPLES, st.floats(0, 1), st.floats(0, 1))
def test_a_quantile_never_falls_as_its_share_grows(samples: list[float], one: float, other: float) -> None:
    low, high = (figures.quantile(samples, share) for share in sorted((one, other)))
    assert low <= high or low == pytest.approx(high)


@pytest.mark.parametrize(("samples", "share"), [([], 0.5), ([1.0], -0.1), ([1.0], 1.1)])
def test_a_quantile_of_nothing_or_past_the_ends_is_refused(samples: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="cannot take the quantile"):
        figures.quantile(samples, share)


def test_a_summary_is_over_the_samples_of_all_rounds() -> None:
    assert figures.summarise([[1.0, 2.0], [3.0]]) == Summary(2.0, 2.8)


def test_ratios_are_taken_round_by_round_so_that_drift_cancels() -> None:
    ours = [[1.0, 1.0], [10.0, 10.0], [100.0, 100.0]]
    peer = [[2.0, 2.0], [20.0, 20.0], [200.0, 200.0]]
    assert figures.paired_ratio(ours, peer) == Spread(0.5, 0.5, 0.5)


def test_a_ratio_has_the_quartiles_of_the_rounds_as_its_spread() -> None:
    ours = [[1.0], [2.0], [3.0], [4.0], [5.0]]
    peer = [[1.0]] * 5
    assert figures.paired_ratio(ours, peer) == Spread(3.0, 2.0, 4.0)


def test_rounds_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot pair 2 rounds of ours with 1"):
        figures.paired_ratio([[1.0], [1.0]], [[1.0]])


@pytest.mark.parametrize(
    ("value", "text"), [(0.6123, "0.612"), (2.345, "2.35"), (23.45, "23.4"), (431.6, "432"), (1830.2, "1,830")]
)
def test_a_number_has_as_many_digits_as_it_is_worth(value: float, text: str) -> None:
    assert report.number(value) == text


def reports() -> list[Report]:
    warm = figures.compare("warm", "ms", [[0.5, 0.5]] * 2, [[1.0, 1.0]] * 2, note="connections used: 1")
    rate = figures.compare("rate", "invocations/s", [[2000.0]], [[1000.0]], more_is_better=True)
    return [Report("emulator", "a peer", (warm, rate), ("the peer died",))]


def test_the_text_says_what_both_took_their_ratio_and_how_often() -> None:
    lines = report.as_text(FACTS, reports()).splitlines()
    assert lines[0] == "machine: a CPU, 2 cores"
    assert "emulator, beside a peer" in lines
    warm = next(line for line in lines if line.startswith("warm, ms"))
    assert warm.split()[2:] == ["0.500", "0.500", "1.00", "1.00", "0.50", "(0.50", "to", "0.50)", "2", "x", "2"]
    rate = next(line for line in lines if line.startswith("rate, invocations/s (more is better)"))
    assert rate.split()[4:] == ["better)", "2,000", "2,000", "1,000", "1,000", "2.00", "(2.00", "to", "2.00)", "1"]
    assert lines[-2:] == ["- warm: connections used: 1", "- the peer died"]


def test_the_columns_of_the_text_are_aligned() -> None:
    lines = report.as_text(FACTS, reports()).splitlines()
    table = lines[lines.index("emulator, beside a peer") + 1 :][:3]
    assert len({len(line) for line in table}) == 1


def test_the_json_holds_the_same_unrounded() -> None:
    document = json.loads(report.as_json(FACTS, reports()))
    assert document["machine"] == FACTS
    (found,) = document["reports"]
    assert found["notes"] == ["the peer died"]
    assert found["figures"][0]["ratio"] == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert found["figures"][1]["more_is_better"] is True


def test_an_answer_is_whole_only_with_all_of_the_event() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" + client.EVENT
    assert client.is_whole(whole)
    assert not any(client.is_whole(whole[:length]) for length in range(len(whole)))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 502 Bad Gateway\r\n\r\n" + client.EVENT,
        b'HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\n{"errorType": "Runtime.Error"}',
        b"HTTP/1.1 200 OK\r\n\r\n" + client.EVENT + b"more",
    ],
)
def test_another_answer_than_the_event_is_no_measurement(answer: bytes) -> None:
    with pytest.raises(client.CallFailed, match="the answer is not the event"):
        client.is_whole(answer)


def test_a_trace_replayed_counts_cold_starts_and_idle_memory() -> None:
    caller = trace.Caller("timer", 1_024, [(hour * trace.HOUR_S + 60, 1.0) for hour in range(48)])
    fixed = keepalive.replay(caller, 48 * trace.HOUR_S, is_learned=False)
    assert (fixed.cold, fixed.idle_mb_s, fixed.ahead) == (1.0, 48 * 600 * 1_024, 0)
    learned = keepalive.replay(caller, 48 * trace.HOUR_S, is_learned=True)
    assert 3 / 48 <= learned.cold <= 5 / 48
    assert learned.ahead >= 43
    assert learned.idle_mb_s < fixed.idle_mb_s


def test_calls_at_the_same_time_take_an_environment_each_and_what_still_idles_at_the_end_counts() -> None:
    caller = trace.Caller("burst", 1, [(0.0, 10.0), (5.0, 10.0), (20.0, 1.0)])
    found = keepalive.replay(caller, 100.0, is_learned=False)
    assert found.cold == pytest.approx(2 / 3)
    assert found.idle_mb_s == (100 - 10) + (20 - 15) + (100 - 21)


def test_a_trace_is_its_seeds_alone_and_has_every_kind_of_caller() -> None:
    made = trace.synthesise(3, 60, 3)
    assert made == trace.synthesise(3, 60, 3) != trace.synthesise(4, 60, 3)
    assert {caller.kind for caller in made} == set(trace.KINDS)
    for caller in made:
        instants = [at for at, _ in caller.calls]
        assert instants == sorted(instants) and instants[0] >= 0 and instants[-1] < 3 * trace.DAY_S
        assert trace.MIN_MB <= caller.memory_mb <= trace.MAX_MB
