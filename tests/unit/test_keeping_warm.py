"""The pool over the stub engine: what is kept, evicted and started ahead, and that memory is never promised twice."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from rie.engine.base import SandboxSpec
from rie.engine.stub import StubEngine, StubSandbox
from rie.environments import pool
from rie.environments.environment import Environment
from rie.environments.idle_times import IdleTimes, Window
from rie.environments.lifecycle import State
from rie.environments.plan import Throttled
from rie.environments.provisioning import READY, Provisioning, Wanted
from rie.errors import HostFault
from rie.model.function import Configuration, Function
from rie.model.invocation import Invocation
from tests.unit.test_environments import KEY, World, story, until


class WeighingEngine(StubEngine):
    """Knows the memory that sandboxes hold, from before their start to after their end, which takes a while."""

    def __init__(self) -> None:
        super().__init__(start_s=0.002)
        self.memory_mb: dict[str, int] = {}
        self.most_mb = 0

    async def start(self, spec: SandboxSpec) -> StubSandbox:
        self.memory_mb[spec.sandbox_id] = spec.memory_mb
        self.most_mb = max(self.most_mb, sum(self.memory_mb.values()))
        try:
            sandbox = await super().start(spec)
        except BaseException:
            del self.memory_mb[spec.sandbox_id]
            raise
        destroy = sandbox.destroy

        async def slowly() -> None:
            await asyncio.sleep(0.003)
            await destroy()
            self.memory_mb.pop(spec.sandbox_id, None)

        sandbox.destroy = slowly  # type: ignore[method-assign]
        return sandbox


def weigh(world: World) -> WeighingEngine:
    engine = WeighingEngine()
    world.engine = world.pool._engine = engine
    return engine


def expect(world: World, monkeypatch: pytest.MonkeyPatch, window: Window) -> None:
    monkeypatch.setattr(IdleTimes, "window", lambda self, standard_s: window)


def known(test: Callable[[World, pytest.MonkeyPatch], Any], **settings: Any) -> Callable[[], None]:
    """A story in which idle times can be dictated."""

    @story(**settings)
    async def told(world: World) -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            await test(world, monkeypatch)

    return told


def ids(world: World) -> set[str]:
    return {each.configuration.configuration_id for each in world.environments}


# -- started ahead -----------------------------------------------------------------------------------------------------


def test_what_is_expected_is_let_go_started_ahead_serves_as_warm_and_goes_again() -> None:
    async def test(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        expect(world, monkeypatch, Window(0.1, 0.3, 0.8))
        await world.run()
        (first,) = world.environments
        await until(lambda: world.environments == [])
        await until(lambda: [each.state for each in world.environments] == [State.IDLE])
        (second,) = world.environments
        assert second is not first and second.is_ahead
        expect(world, monkeypatch, Window(0.1))
        assert (await world.run()).init_ms is None
        assert second.invocations == 1
        await until(lambda: world.environments == [])

    known(test, is_learned=True)()


def test_what_was_expected_in_vain_goes_when_its_time_is_over() -> None:
    async def test(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        expect(world, monkeypatch, Window(0.05, 0.1, 0.4))
        await world.run()
        await until(lambda: any(each.is_ahead for each in world.environments))
        await until(lambda: world.environments == [])
        assert len(world.sinks) == 2
        await asyncio.sleep(0.3)
        assert len(world.sinks) == 2  # and nothing takes its place

    known(test, is_learned=True)()


def test_nothing_is_started_ahead_where_enough_are_there_or_of_what_is_gone() -> None:
    async def test(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        expect(world, monkeypatch, Window(0.01, 0.5, 0.9))
        await world.run()
        await until(lambda: world.environments == [])
        expect(world, monkeypatch, Window(5.0))
        await world.run()
        await world.run(world.function(configuration_id="gone"))
        world.pool.forget(KEY)
        await asyncio.sleep(0.7)
        assert not any(each.is_ahead for each in world.environments)
        assert (len(world.pool.book), world.environments) == (0, [])

    known(test, is_learned=True)()


def test_starting_ahead_evicts_only_what_was_used_before() -> None:
    async def test(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        old, expected, new = (world.function(configuration_id=name) for name in ("old", "expected", "new"))
        expect(world, monkeypatch, Window(5.0))
        await world.run(old)
        expect(world, monkeypatch, Window(0.01, 0.6, 9.0))
        await world.run(expected)
        await until(lambda: ids(world) == {"old"})
        expect(world, monkeypatch, Window(5.0))
        await world.run(new)
        await until(lambda: ids(world) == {"expected", "new"})  # there is room for two
        expect(world, monkeypatch, Window(0.01, 0.6, 9.0))
        await world.run(new)
        await until(lambda: ids(world) == {"expected"})
        expect(world, monkeypatch, Window(5.0))
        await world.run(old)
        await world.run(expected)  # now both were used after "new" was
        await asyncio.sleep(0.9)
        assert ids(world) == {"old", "expected"}

    known(test, is_learned=True, memory_mb=300)()


def test_a_request_never_waits_or_is_throttled_for_what_is_started_ahead() -> None:
    async def test(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        expect(world, monkeypatch, Window(0.01, 0.5, 9.0))
        await world.run()
        await until(lambda: world.environments == [])
        expect(world, monkeypatch, Window(5.0))
        world.engine.start_s = 0.3
        await until(lambda: [each.is_ahead for each in world.environments] == [True])
        (ahead,) = world.environments
        assert ahead.state is State.STARTING
        running = asyncio.ensure_future(world.run(world.function(configuration_id="other", memory_mb=256)))
        await asyncio.sleep(0)
        assert ids(world) == {"other"}
        assert (await running).function_error is None
        assert ahead.state is State.GONE
        assert ids(world) == {"other"}

    known(test, is_learned=True, memory_mb=300)()


def test_one_that_cannot_be_started_ahead_leaves_nothing() -> None:
    async def test(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        expect(world, monkeypatch, Window(0.01, 0.5, 9.0))
        await world.run()
        seen: list[Environment] = []

        async def assume(function: Function, configuration: Configuration) -> None:
            seen.extend(each for each in world.environments if each.is_ahead)
            raise HostFault("cannot assume the role: no answer")

        world.pool._credentials_of = assume
        await until(lambda: [each.state for each in seen] == [State.GONE])
        await until(lambda: world.pool.held_mb == 0)
        world.pool._credentials_of = world._credentials_of
        await world.run()

    known(test, is_learned=True)()


@story(is_learned=True)
async def test_closing_ends_what_is_being_started_ahead(world: World) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        expect(world, monkeypatch, Window(0.01, 0.5, 9.0))
        await world.run()
        await until(lambda: world.environments == [])
        world.engine.start_s = 30.0
        await until(lambda: [each.is_ahead for each in world.environments] == [True])
        await world.pool.close()
        assert world.engine.sandboxes == {}


# -- memory ------------------------------------------------------------------------------------------------------------


@story(memory_mb=300)
async def test_a_burst_of_requests_evicts_for_each_and_throttles_none_that_fits(world: World) -> None:
    engine = weigh(world)
    for name in ("a", "b"):
        await world.run(world.function(configuration_id=name))
    others = [world.function(configuration_id=name) for name in ("c", "d")]
    await asyncio.gather(*(world.run(other) for other in others))
    assert (ids(world), engine.most_mb) == ({"c", "d"}, 256)


@story(memory_mb=300, idle_s=0.05)
async def test_what_is_leaving_is_waited_for_instead_of_evicting_more(world: World) -> None:
    engine = weigh(world)
    await world.run(world.function(configuration_id="a", memory_mb=200))
    world.pool.retire(KEY)
    assert world.pool.held_mb == 200
    await world.run(world.function(configuration_id="b", memory_mb=200))
    assert engine.most_mb == 200


@story(memory_mb=1_000, is_learned=True, idle_s=0.05, freeze_s=0.01)
async def test_whatever_happens_sandboxes_never_hold_more_memory_than_there_is(world: World) -> None:
    engine = weigh(world)
    dice = random.Random(7)
    ahead = Provisioning(world.pool)
    functions = [world.function("sleep", f"c{n}", memory_mb=128 + 64 * n) for n in range(5)]
    throttled = 0

    async def call(function: Function) -> None:
        nonlocal throttled
        assert function.serving is not None
        payload = json.dumps({"seconds": dice.random() * 0.02}).encode()
        try:
            await world.pool.run(function, function.serving, Invocation("id", payload, KEY.arn))
        except Throttled:
            throttled += 1

    with pytest.MonkeyPatch.context() as monkeypatch:
        windows = [Window(0.02, 0.05, 0.2), Window(0.01, 0.03, 0.05), Window(0.1)]
        monkeypatch.setattr(IdleTimes, "window", lambda self, standard_s: dice.choice(windows))
        for step in range(60):
            if step % 10 == 5:
                provisioned = dice.choice(functions)
                ahead.apply(KEY, {f"t{step}": Wanted(provisioned, dice.randrange(1, 4))})
            if step % 17 == 0:
                world.pool.retire(KEY, keep="c0")
            calls = [call(dice.choice(functions)) for _ in range(dice.randrange(1, 8))]
            running = asyncio.gather(*calls)
            await asyncio.sleep(dice.random() * 0.03)
            for environment in world.environments:
                if dice.random() < 0.05 and environment._sandbox is not None:
                    environment._sandbox.crash()  # type: ignore[attr-defined]
            await asyncio.wait({running})
            running.exception()
            assert world.pool.held_mb <= 2_000
    ahead.apply(KEY, {})
    await ahead.close()
    assert 700 <= engine.most_mb <= 1_000
    assert throttled > 0
    await world.pool.close()
    assert (engine.memory_mb, world.pool.held_mb) == ({}, 0)


@story(memory_mb=300)
async def test_provisioned_environments_wait_for_those_that_make_room_for_them(world: World) -> None:
    engine = weigh(world)
    for name in ("a", "b"):
        await world.run(world.function(configuration_id=name))
    ahead = Provisioning(world.pool)
    ahead.apply(KEY, {"t": Wanted(world.function(configuration_id="c"), 2)})

    def is_ready() -> bool:
        found = ahead.allocation("t")
        return found is not None and found.status == READY

    await until(is_ready)
    assert (ids(world), engine.most_mb) == ({"c"}, 256)
    await ahead.close()


@story(memory_mb=400)
async def test_the_coldest_is_evicted_whichever_came_first(world: World) -> None:
    a, b, c, d = (world.function(configuration_id=name) for name in "abcd")
    for function in (a, b, c, a):
        await world.run(function)
    await world.run(d)
    assert ids(world) == {"a", "c", "d"}
    await world.run(b)
    assert ids(world) == {"a", "d", "b"}


@story()
async def test_tenants_that_are_gone_are_not_remembered_for_ever(world: World) -> None:
    function = world.function()
    assert function.serving is not None
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(pool, "MANY_GROUPS", 8)
        for number in range(50):
            tenant = f"tenant-{number}"
            await world.pool.run(function, function.serving, Invocation("id", b"{}", KEY.arn, tenant_id=tenant))
            if number % 5:
                world.pool._discard(world.environments[-1])
        with_environment = {each.address for each in world.environments}
        assert len(with_environment) == 10
        assert with_environment <= set(world.pool._groups)
        assert len(world.pool._groups) <= len(with_environment) + 8
