"""What becomes of asynchronous events (lambda.md §5.2), and what is told of their ends (§5.4, §5.5)."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rie.events.lane import Held, Lane
from rie.events.policy import Condition, End, Later, Rules, after_error, after_refusal, before_attempt
from rie.events.records import Targets, deliveries, record
from rie.model.event import Attempt, Event, EventInvokeConfig
from rie.model.function import FunctionKey

KEY = FunctionKey("123456789012", "us-east-1", "f")
EVENT = Event("e1", KEY, None, b'{"n":12345678901234567890123}', accepted_at=1_000.0, due_at=1_000.0)
FAILED = replace(EVENT, attempts=1, last=Attempt('{"errorMessage":"no","errorType":"E"}', "3", "Unhandled"))
NOW = 1_764_109_105.568


@pytest.mark.parametrize(("attempts", "wait_s"), [(1, 60.0), (2, 120.0)])
def test_a_failed_attempt_is_repeated_after_one_and_two_minutes(attempts: int, wait_s: float) -> None:
    assert after_error(replace(EVENT, attempts=attempts), Rules(), 1_001.0) == Later(1_001.0 + wait_s)


def test_after_the_third_attempt_retries_are_exhausted() -> None:
    assert after_error(replace(EVENT, attempts=3), Rules(), 1_200.0) == End(Condition.RETRIES_EXHAUSTED)


def test_no_retries_means_one_attempt() -> None:
    rules = Rules.of(EventInvokeConfig(0.0, max_retries=0), 1.0)
    assert after_error(FAILED, rules, 1_001.0) == End(Condition.RETRIES_EXHAUSTED)


def test_an_event_whose_next_attempt_would_come_too_late_ends_at_once() -> None:
    rules = Rules.of(EventInvokeConfig(0.0, max_age_s=60), 1.0)
    assert after_error(FAILED, rules, 1_000.5) == End(Condition.AGE_EXCEEDED)


def test_an_old_event_is_not_run() -> None:
    assert before_attempt(EVENT, Rules(max_age_s=60.0), 1_060.0) is None
    assert before_attempt(EVENT, Rules(max_age_s=60.0), 1_060.1) == End(Condition.AGE_EXCEEDED)


def test_refusals_double_the_wait_up_to_five_minutes() -> None:
    waits = [after_refusal(EVENT, Rules(), 1_000.0, number) for number in (1, 2, 3, 9, 10, 500)]
    assert waits == [Later(1_000.0 + wait) for wait in (1, 2, 4, 256, 300, 300)]


def test_a_scale_shortens_waits_and_ages_alike() -> None:
    rules = Rules.of(EventInvokeConfig(0.0, max_age_s=60), 0.01)
    assert after_error(FAILED, rules, 1_000.1) == End(Condition.AGE_EXCEEDED)
    assert after_error(FAILED, Rules.of(None, 0.01), 1_000.0) == Later(1_000.6)


def test_a_lane_lets_fewer_run_after_a_refusal_and_none_until_it_opens() -> None:
    lane = Lane()
    lane.ready.extend(Held(str(number), 0.0) for number in range(30))
    assert len([lane.next(0.0) for _ in range(10)]) == lane.running == 10
    assert lane.next(0.0) is None
    assert lane.refused(0.0, 5.0)
    for _ in range(9):
        lane.left()
    assert lane.next(4.9) is None
    assert [lane.next(5.0) is not None for _ in range(6)] == [True] * 5 + [False]


def test_a_burst_that_is_refused_together_counts_as_one_refusal() -> None:
    lane = Lane(running=100, window=100)
    assert lane.refusals_with(0.0) == 1
    assert [lane.refused(0.0, 1.0) for _ in range(100)] == [True] + [False] * 99
    assert (lane.running, lane.window, lane.refusals, lane.opens_at) == (0, 50, 1, 1.0)
    assert lane.refusals_with(0.9) == 1
    assert lane.refusals_with(1.0) == 2


def test_a_success_opens_a_lane_at_once() -> None:
    lane = Lane(running=1, window=2, refusals=3, opens_at=100.0)
    lane.ready.append(Held("e", 0.0))
    lane.ended()
    assert lane.next(0.0) is not None


def test_a_record_embeds_payloads_as_they_were_and_qualifies_the_arn() -> None:
    told = record(replace(FAILED, attempts=3), Condition.RETRIES_EXHAUSTED, NOW)
    assert '"requestPayload":{"n":12345678901234567890123}' in told
    assert json.loads(told) == {
        "version": "1.0",
        "timestamp": "2025-11-25T22:18:25.568Z",
        "requestContext": {
            "requestId": "e1",
            "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "requestPayload": {"n": 12345678901234567890123},
        "responseContext": {"statusCode": 200, "executedVersion": "3", "functionError": "Unhandled"},
        "responsePayload": {"errorMessage": "no", "errorType": "E"},
    }


def test_a_record_of_what_never_ran_has_no_response() -> None:
    told = json.loads(record(EVENT, Condition.ZERO_CONCURRENCY, NOW))
    assert "responseContext" not in told
    assert "responsePayload" not in told
    assert told["requestContext"]["approximateInvokeCount"] == 0


def test_a_failure_goes_to_the_destination_and_to_the_dead_letter_queue() -> None:
    targets = Targets("arn:s", "arn:f", "arn:d", "role")
    sent = deliveries(FAILED, Condition.RETRIES_EXHAUSTED, targets, NOW)
    assert [each.target for each in sent] == ["arn:f", "arn:d"]
    assert sent[1].body == EVENT.payload.decode()
    assert (sent[1].error_code, sent[1].error_message) == ("200", "no")


def test_a_success_goes_to_its_destination_only() -> None:
    succeeded = replace(EVENT, attempts=1, last=Attempt("7", "$LATEST"))
    sent = deliveries(succeeded, Condition.SUCCESS, Targets("arn:s", "arn:f", "arn:d"), NOW)
    assert [each.target for each in sent] == ["arn:s"]
    assert json.loads(sent[0].body)["responsePayload"] == 7


def test_nothing_is_sent_where_nothing_is_configured() -> None:
    assert deliveries(FAILED, Condition.RETRIES_EXHAUSTED, Targets(), NOW) == ()
