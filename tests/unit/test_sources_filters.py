"""Filter patterns (lambda.md §6.4) and partial batch answers (§6.5)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rie.functions.filters import Filter, InvalidPattern, check
from rie.model.invocation import Outcome
from rie.sources.replies import failed_items


def lets(pattern: Any, record: dict[str, Any], payload: str | None = None) -> bool:
    return Filter([json.dumps(pattern)], payload).lets_through(record)


@pytest.mark.parametrize(
    ("pattern", "record", "passes"),
    [
        ({"a": ["x"]}, {"a": "x"}, True),
        ({"a": ["x"]}, {"a": "X"}, False),
        ({"a": ["x", "y"]}, {"a": "y"}, True),
        ({"a": ["x"], "b": ["y"]}, {"a": "x"}, False),
        ({"a": {"b": ["x"]}}, {"a": {"b": "x"}}, True),
        ({"a": {"b": ["x"]}}, {"a": "x"}, False),
        ({"a": [1]}, {"a": 1.0}, True),
        ({"a": [1]}, {"a": True}, False),
        ({"a": [None]}, {"a": None}, True),
        ({"a": [None]}, {}, False),
        ({"a": [""]}, {"a": ""}, True),
        ({"a": ["x"]}, {"a": ["z", "x"]}, True),
        ({"a": {"b": [1]}}, {"a": [{"b": 2}, {"b": 1}]}, True),
        ({"a": [{"prefix": "ab"}]}, {"a": "abc"}, True),
        ({"a": [{"suffix": "bc"}]}, {"a": "abc"}, True),
        ({"a": [{"suffix": "x"}]}, {"a": "abc"}, False),
        ({"a": [{"equals-ignore-case": "AB"}]}, {"a": "ab"}, True),
        ({"a": [{"anything-but": ["x", "y"]}]}, {"a": "z"}, True),
        ({"a": [{"anything-but": "x"}]}, {"a": "x"}, False),
        ({"a": [{"anything-but": {"prefix": "x"}}]}, {"a": "xy"}, False),
        ({"a": [{"anything-but": ["x"]}]}, {}, False),
        ({"a": [{"numeric": [">", 0, "<=", 5]}]}, {"a": 5}, True),
        ({"a": [{"numeric": [">", 0, "<=", 5]}]}, {"a": 5.1}, False),
        ({"a": [{"numeric": ["=", 300]}]}, {"a": "300"}, False),
        ({"a": [{"exists": True}]}, {"a": None}, True),
        ({"a": [{"exists": True}]}, {}, False),
        ({"a": [{"exists": False}]}, {}, True),
        ({"a": [{"exists": False}]}, {"a": 1}, False),
        ({"a": [{"cidr": "10.0.0.0/24"}]}, {"a": "10.0.0.7"}, True),
        ({"a": [{"cidr": "10.0.0.0/24"}]}, {"a": "10.0.1.7"}, False),
        ({"$or": [{"a": [1]}, {"b": [2]}]}, {"b": 2}, True),
        ({"$or": [{"a": [1]}, {"b": [2]}], "c": [3]}, {"b": 2}, False),
    ],
)
def test_a_pattern_lets_through_what_it_describes(pattern: Any, record: dict[str, Any], passes: bool) -> None:
    assert lets(pattern, record) is passes


@pytest.mark.parametrize(
    ("pattern", "body", "passes"),
    [
        ({"body": ["plain"]}, "plain", True),
        ({"body": ["plain"]}, '{"a":1}', False),
        ({"body": {"a": [1]}}, '{"a":1}', True),
        ({"body": {"a": [1]}}, "plain", False),
        ({"body": {"a": [{"exists": False}]}}, '{"b":1}', True),
        ({"other": ["x"]}, "plain", True),
    ],
)
def test_a_payload_is_read_as_what_the_pattern_takes_it_for(pattern: Any, body: str, passes: bool) -> None:
    assert lets(pattern, {"body": body, "other": "x"}, "body") is passes


def test_one_of_several_patterns_is_enough_and_none_lets_everything_through() -> None:
    assert Filter(['{"a":[1]}', '{"a":[2]}'], None).lets_through({"a": 2})
    assert Filter([], None).lets_through({"a": 3})


@pytest.mark.parametrize(
    "pattern",
    [
        '"single-string"',
        "{",
        "[]",
        "{}",
        '{"a":"x"}',
        '{"a":[]}',
        '{"a":{}}',
        '{"a":[["x"]]}',
        '{"a":[{"unknown":1}]}',
        '{"a":[{"prefix":1}]}',
        '{"a":[{"prefix":"x","suffix":"y"}]}',
        '{"a":[{"numeric":[">"]}]}',
        '{"a":[{"numeric":["~",1]}]}',
        '{"a":[{"exists":"yes"}]}',
        '{"a":[{"cidr":"10.0"}]}',
        '{"a":[{"anything-but":[]}]}',
        '{"a":["' + "x" * 4096 + '"]}',
    ],
)
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidPattern):
        check(pattern)


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (b"null", set()),
        (b"", set()),
        (b'""', set()),
        (b"{}", set()),
        (b'{"batchItemFailures":null}', set()),
        (b'{"batchItemFailures":[]}', set()),
        (b'{"batchItemFailures":[{"itemIdentifier":"a"}]}', {"a"}),
        (b'{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"a"}]}', {"a"}),
        (b'{"batchItemFailures":[{"itemIdentifier":"z"}]}', {"a", "b"}),
        (b'{"batchItemFailures":[{"itemIdentifier":""}]}', {"a", "b"}),
        (b'{"batchItemFailures":[{"itemIdentifier":null}]}', {"a", "b"}),
        (b'{"batchItemFailures":[{}]}', {"a", "b"}),
        (b'{"batchItemFailures":"a"}', {"a", "b"}),
        (b'{"foo":1}', {"a", "b"}),
        (b"{", {"a", "b"}),
        (b"[1]", {"a", "b"}),
        (b"7", {"a", "b"}),
    ],
)
def test_an_answer_tells_which_items_failed(answer: bytes, failed: set[str]) -> None:
    assert failed_items(Outcome(answer, "1"), ["a", "b"], reports=True) == failed


def test_without_reports_any_answer_is_success_and_an_error_never_is() -> None:
    assert failed_items(Outcome(b'{"foo":1}', "1"), ["a"], reports=False) == set()
    assert failed_items(Outcome(b"{}", "1", "Unhandled"), ["a"], reports=True) == {"a"}
