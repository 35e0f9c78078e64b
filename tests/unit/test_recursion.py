"""Loops: what a trace header says of them, and when they are stopped (lambda.md §2.9)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rie.errors import ServiceError
from rie.invoke.lineage import MAX_PASSES, passed_on
from rie.invoke.loops import LoopGuard
from rie.invoke.mirror import Mirror
from rie.model.function import FunctionKey
from rie.model.record import place_of
from rie.model.recursion import RECURSION, Recursion

F, G = (FunctionKey("123456789012", "us-east-1", name) for name in "fg")
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0"


def test_the_first_of_a_chain_begins_its_lineage() -> None:
    header, passes = passed_on(TRACE, F.arn)
    assert passes == 0
    assert re.fullmatch(re.escape(TRACE) + r";Lineage=1:[0-9a-f]{8}:0", header)


def test_a_function_is_counted_whatever_ran_in_between() -> None:
    header = TRACE
    for expected in range(5):
        header, passes = passed_on(header, F.arn)
        assert passes == expected
        header, passes = passed_on(header, G.arn)
        assert passes == expected
    assert header.startswith(f"{TRACE};Lineage=1:")
    assert header.count("Lineage=") == 1


def test_the_seventeenth_run_in_a_chain_is_stopped() -> None:
    guard, header = LoopGuard(Mirror()), TRACE
    for _ in range(MAX_PASSES):
        header = guard.pass_on(F, header)
    with pytest.raises(ServiceError) as caught:
        guard.pass_on(F, header)
    assert caught.value.code == "RecursiveInvocationException"
    assert guard.pass_on(G, header)


def test_a_loop_that_is_allowed_goes_on() -> None:
    mirror, header = Mirror(), TRACE
    mirror.update(RECURSION, place_of(F, "$LATEST"), Recursion("Allow"))
    for _ in range(3 * MAX_PASSES):
        header = LoopGuard(mirror).pass_on(F, header)
    assert header.endswith(f":{3 * MAX_PASSES - 1}")


@pytest.mark.parametrize("lineage", ["", "x", "1:zz:1", "1:0123abcd:-1", "1:0123abcd:1|", ":::", "0123abcd:²"])
def test_a_lineage_that_makes_no_sense_is_dropped(lineage: str) -> None:
    header, passes = passed_on(f"{TRACE};Lineage={lineage}", F.arn)
    assert (header, passes) == passed_on(TRACE, F.arn)


def test_the_older_spelling_is_read() -> None:
    own = passed_on(TRACE, F.arn)[0].split(":")[1]
    assert passed_on(f"{TRACE};Lineage=0123abcd:3|{own}:7", F.arn)[1] == 8


@given(st.text(max_size=80))
def test_no_header_is_too_odd(text: str) -> None:
    header, passes = passed_on(text, F.arn)
    assert passes >= 0
    assert header.count("Lineage=1:") == 1
