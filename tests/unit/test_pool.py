"""The pool of environments, as sequences of what it is told and what it wants done."""

from __future__ import annotations

from bootstrap.commands import SetTimer, TurnAway
from bootstrap.events import Invocation
from bootstrap.pool import GROW_S, GROW_TIMER, Begin, Hand, Pool
from bootstrap.waiting import MAX_WAITING

A, B, C, D = (Invocation(name, b"") for name in "abcd")


def test_only_the_first_begins_at_boot() -> None:
    assert Pool(3).boot() == [Begin(0)]


def test_a_lazy_one_begins_nothing_until_something_comes() -> None:
    pool = Pool(2, is_lazy=True)
    assert pool.boot() == []
    assert pool.take(A, 1.0) == [Begin(0)]
    assert pool.is_idle(0) == [Hand(0, A)]


def test_others_begin_only_when_more_have_waited_for_a_while_than_are_starting() -> None:
    pool = Pool(3)
    pool.boot()
    assert pool.take(A, 1.0) == [SetTimer(GROW_TIMER, 1.0 + GROW_S)]
    assert pool.take(B, 1.001) == [SetTimer(GROW_TIMER, 1.0 + GROW_S)]
    assert pool.grow(1.0 + GROW_S) == [SetTimer(GROW_TIMER, 1.001 + GROW_S)]
    assert pool.grow(1.001 + GROW_S) == [Begin(1)]
    assert pool.take(C, 2.0) == [SetTimer(GROW_TIMER, 1.0 + GROW_S)]
    assert pool.grow(2.0 + GROW_S) == [Begin(2)]
    assert pool.take(D, 3.0) == []
    assert pool.is_idle(2) == [Hand(2, A)]
    assert pool.is_idle(0) == [Hand(0, B)]
    assert pool.is_idle(0) == [Hand(0, C)]
    assert pool.is_idle(1) == [Hand(1, D)]
    assert pool.is_idle(1) == []


def test_an_environment_that_is_only_just_not_back_yet_is_waited_for() -> None:
    pool = Pool(2)
    pool.boot()
    pool.is_idle(0)
    pool.take(A, 1.0)
    pool.take(B, 1.1)
    assert pool.is_idle(0) == [Hand(0, B)]
    assert pool.grow(1.1 + GROW_S) == []


def test_the_first_free_one_takes_what_comes() -> None:
    pool = Pool(2)
    pool.boot()
    pool.take(A, 1.0)
    pool.take(B, 1.0)
    pool.grow(2.0)
    pool.is_idle(0)
    pool.is_idle(1)
    pool.is_idle(1)
    pool.is_idle(0)
    assert pool.take(C, 1.0) == [Hand(0, C)]
    assert pool.take(D, 1.0) == [Hand(1, D)]


def test_who_takes_one_at_a_time_is_not_free_before_it_is_idle() -> None:
    pool = Pool(1)
    pool.boot()
    pool.is_idle(0)
    pool.take(A, 1.0)
    pool.take(B, 1.0)
    assert pool.has_ended_one(0) == []
    assert pool.is_idle(0) == [Hand(0, B)]


def test_who_takes_many_has_room_again_with_the_end_of_each() -> None:
    pool = Pool(2, capacity=2)
    pool.boot()
    pool.is_idle(0)
    assert pool.take(A, 1.0) == [Hand(0, A)]
    assert pool.take(B, 1.0) == [Hand(0, B)]
    assert pool.take(C, 1.0) == [SetTimer(GROW_TIMER, 1.0 + GROW_S)]
    assert pool.has_ended_one(0) == [Hand(0, C)]


def test_more_than_can_wait_are_turned_away() -> None:
    pool = Pool(1)
    pool.boot()
    for _ in range(MAX_WAITING):
        pool.take(A, 1.0)
    assert pool.take(B, 1.0) == [TurnAway(B, TurnAway.FULL)]


def test_at_the_end_who_waits_and_who_comes_is_turned_away() -> None:
    pool = Pool(1)
    pool.boot()
    pool.take(A, 1.0)
    assert pool.close() == [TurnAway(A, TurnAway.SHUTDOWN)]
    assert pool.take(B, 1.0) == [TurnAway(B, TurnAway.SHUTDOWN)]
    assert pool.is_idle(0) == []
