"""Who may run: shares of the account, reservations, provisioned slots, the rate of starts (lambda.md §7)."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rie.environments.concurrency import (
    CONCURRENCY,
    MAX_STARTS,
    RATE,
    RESERVED_CONCURRENCY,
    RESERVED_RATE,
    Concurrency,
    Share,
    Slots,
)
from rie.environments.traffic import Traffic
from rie.model.function import FunctionKey

F, G = (FunctionKey("123456789012", "us-east-1", name) for name in "fg")


def begin(share: Share, version: str = "$LATEST", times: int = 1) -> list[str | None]:
    return [share.begin(share.slots(version)) for _ in range(times)]


def test_functions_without_a_reservation_share_the_account() -> None:
    world = Concurrency(3)
    assert begin(world.share(F), times=2) == [None, None]
    assert begin(world.share(G), times=2) == [None, CONCURRENCY]
    world.share(F).end(world.share(F).slots("$LATEST"))
    assert begin(world.share(G)) == [None]


def test_regions_have_limits_of_their_own() -> None:
    world = Concurrency(1)
    elsewhere = FunctionKey(F.account, "eu-west-1", F.name)
    assert begin(world.share(F)) + begin(world.share(elsewhere)) == [None, None]


def test_a_reservation_is_a_guarantee_and_a_cap() -> None:
    world = Concurrency(10)
    world.share(F).reserve(2)
    assert begin(world.share(G), times=9) == [None] * 8 + [CONCURRENCY]
    assert begin(world.share(F), times=3) == [None, None, RESERVED_CONCURRENCY]
    world.share(F).reserve(None)
    assert begin(world.share(F)) == [CONCURRENCY]


def test_a_reservation_of_none_stops_the_function_and_what_runs_runs_on() -> None:
    world = Concurrency(10)
    share = world.share(F)
    begin(share, times=3)
    share.reserve(0)
    assert begin(share) == [RESERVED_CONCURRENCY]
    assert share.busy == 3
    for _ in range(3):
        share.end(share.slots("$LATEST"))
    assert begin(share) == [RESERVED_CONCURRENCY]
    share.reserve(None)
    assert begin(world.share(G), times=11) == [None] * 10 + [CONCURRENCY]


def test_where_all_that_is_reserved_is_provisioned_other_versions_are_throttled() -> None:
    share = Concurrency(10).share(F)
    share.reserve(1)
    share.provision(share.slots("1"), 1)
    assert begin(share) == [RESERVED_CONCURRENCY]
    assert begin(share, "1", 2) == [None, RESERVED_CONCURRENCY]


def test_more_than_is_provisioned_spills_over_into_what_is_left() -> None:
    world = Concurrency(3)
    share = world.share(F)
    share.provision(share.slots("1"), 2)
    assert begin(world.share(G), times=2) == [None, CONCURRENCY]  # the slots are held though nothing runs in them
    world.share(G).end(world.share(G).slots("$LATEST"))
    assert begin(share, "1", 4) == [None, None, None, CONCURRENCY]
    assert share.spilled == 1


def test_slots_that_are_not_provisioned_any_more_are_free_once_nothing_runs_in_them() -> None:
    world = Concurrency(2)
    share = world.share(F)
    share.provision(share.slots("1"), 2)
    begin(share, "1")
    share.provision(share.slots("1"), 0)
    assert begin(world.share(G), times=2) == [None, CONCURRENCY]


def test_a_thousand_environments_may_be_started_in_ten_seconds_and_no_more_later_for_having_waited() -> None:
    share = Concurrency(10_000).share(F)
    assert [share.start(100.0) for _ in range(MAX_STARTS)] == [None] * MAX_STARTS
    assert share.start(100.0) == RATE
    assert [share.start(101.0) for _ in range(101)].count(None) == 100
    assert [share.start(1_000.0) for _ in range(MAX_STARTS + 1)].count(None) == MAX_STARTS
    share.reserve(5)
    assert share.start(1_000.0) == RESERVED_RATE


def test_concurrency_is_the_rate_times_the_duration() -> None:
    traffic = Traffic()
    assert traffic.rate(0.0) == (0.0, 0.0)
    for tenth in range(600):
        traffic.note(1_000.0 + tenth / 10, 0.5)
    rate, duration_s = traffic.rate(1_060.0)
    assert rate == pytest.approx(10, rel=0.05)
    assert rate * duration_s == pytest.approx(5, rel=0.05)
    assert traffic.rate(1_200.0) == (0.0, 0.0)


LIMIT = 12
NAMES = [FunctionKey("123456789012", "us-east-1", name) for name in "abc"]
VERSIONS = ["$LATEST", "1", "2"]


class Limits(RuleBasedStateMachine):
    """Whatever is begun, ended, reserved and provisioned, within the rules of the API: no limit is ever passed."""

    def __init__(self) -> None:
        super().__init__()
        self.world = Concurrency(LIMIT)
        self.running: list[tuple[Share, Slots]] = []
        self.grants = 0

    @rule(key=st.sampled_from(NAMES), version=st.sampled_from(VERSIONS))
    def begin(self, key: FunctionKey, version: str) -> None:
        share = self.world.share(key)
        slots = share.slots(version)
        is_within = slots.busy < slots.provisioned
        free = self._free(share)
        refused = share.begin(slots)
        # Exactly those are refused for whom there is no slot.
        assert (refused is None) == (is_within or free > 0)
        if refused is None:
            self.running.append((share, slots))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        share, slots = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        share.end(slots)

    @rule(key=st.sampled_from(NAMES), count=st.none() | st.integers(0, 5))
    def reserve(self, key: FunctionKey, count: int | None) -> None:
        share = self.world.share(key)
        # The API lets nobody reserve less than is provisioned, nor what others hold.
        others = sum(each.reserved or 0 for each in self.world if each is not share)
        if count is None or (count >= share.provisioned and others + count + self._pool_held(share) <= LIMIT):
            share.reserve(count)

    @rule(key=st.sampled_from(NAMES), version=st.sampled_from(VERSIONS[1:]), count=st.integers(0, 4))
    def provision(self, key: FunctionKey, version: str, count: int) -> None:
        share = self.world.share(key)
        slots = share.slots(version)
        more = max(count, slots.busy) - max(slots.provisioned, slots.busy)
        if more <= self._free(share):
            share.provision(slots, count)

    def _free(self, share: Share) -> int:
        if share.reserved is not None:
            return share.reserved - share.held
        return LIMIT - sum(each.reserved or 0 for each in self.world) - self._pool_held(None)

    def _pool_held(self, but: Share | None) -> int:
        return sum(each.held for each in self.world if each.reserved is None and each is not but)

    @invariant()
    def counts_are_what_runs(self) -> None:
        for share in self.world:
            assert share.busy == sum(each is share for each, _ in self.running)
            assert share.held == sum(max(slots.provisioned, slots.busy) for slots in share.versions.values())
            assert share.account.held == self._pool_held(None)
            assert share.account.reserved == sum(each.reserved or 0 for each in self.world)


Limits.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestLimits = Limits.TestCase


class Admitted(RuleBasedStateMachine):
    """With reservations that never change, what runs never exceeds them, nor the account."""

    def __init__(self) -> None:
        super().__init__()
        self.world = Concurrency(LIMIT)
        for key, reserved in zip(NAMES, (None, 3, 0), strict=True):
            self.world.share(key).reserve(reserved)
        share = self.world.share(NAMES[1])
        share.provision(share.slots("1"), 2)
        self.running: list[tuple[Share, Slots]] = []

    @rule(key=st.sampled_from(NAMES), version=st.sampled_from(VERSIONS))
    def begin(self, key: FunctionKey, version: str) -> None:
        share = self.world.share(key)
        if share.begin(share.slots(version)) is None:
            self.running.append((share, share.slots(version)))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        share, slots = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        share.end(slots)

    @invariant()
    def no_limit_is_passed(self) -> None:
        busy = [self.world.share(key).busy for key in NAMES]
        assert busy[0] <= LIMIT - 3
        assert busy[1] <= 3
        assert busy[2] == 0
        others = busy[1] - self.world.share(NAMES[1]).slots("1").busy
        assert others <= 1  # two of the three are another version's


Admitted.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestAdmitted = Admitted.TestCase
