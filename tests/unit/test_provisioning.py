"""Provisioned concurrency, reservations and tenants in the pool, over the stub engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from test_environments import KEY, World, until

from rie.environments import provisioning
from rie.environments.environment import Environment
from rie.environments.lifecycle import State
from rie.environments.plan import Throttled
from rie.environments.provisioning import FAILED, INIT_FAILURE, READY, Allocation, Provisioning, Wanted
from rie.errors import SandboxFailed
from rie.model.function import Function
from rie.model.invocation import Invocation, Outcome

Story = Callable[[World, Provisioning], Awaitable[None]]


def story(**settings: Any) -> Callable[[Story], Callable[[], None]]:
    """Run an asynchronous test in a world of its own, with provisioning; it must be empty at the end."""

    def decorate(test: Story) -> Callable[[], None]:
        async def live() -> None:
            world = World(**settings)
            ahead = Provisioning(world.pool)
            try:
                await test(world, ahead)
            finally:
                await ahead.close()
                await world.pool.close()
                await world.engine.close()
            assert world.environments == []
            assert world.pool.held_mb == 0
            assert world.pool.busy == 0

        def run() -> None:
            asyncio.run(asyncio.wait_for(live(), 20))

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


def version(world: World, number: str, kind: str = "environment", **more: Any) -> Function:
    return replace(world.function(kind, configuration_id=f"c{number}", **more), version=number)


def ready(ahead: Provisioning, token: str, count: int) -> Callable[[], bool]:
    def is_ready() -> bool:
        found = ahead.allocation(token)
        return found is not None and found.status == READY and found.available == count

    return is_ready


async def run(world: World, function: Function, event: Any = None, tenant_id: str = "") -> Outcome:
    assert function.serving is not None
    payload = json.dumps(event or {}).encode()
    return await world.pool.run(function, function.serving, Invocation("id", payload, KEY.arn, tenant_id=tenant_id))


def initialization_type(outcome: Outcome) -> str:
    return str(json.loads(outcome.payload)["environment"]["AWS_LAMBDA_INITIALIZATION_TYPE"])


def sandbox(environment: Environment) -> Any:
    return environment._sandbox


@story()
async def test_environments_are_started_ahead_and_taken_first(world: World, ahead: Provisioning) -> None:
    one = version(world, "1")
    on_demand = await run(world, one)
    ahead.apply(KEY, {"t": Wanted(one, 2)})
    begun = ahead.allocation("t")
    assert begun == Allocation("1", 2, 0, "IN_PROGRESS")
    await until(ready(ahead, "t", 2))
    assert len(world.environments) == 3
    provisioned = await run(world, one)
    assert [initialization_type(each) for each in (on_demand, provisioned)] == ["on-demand", "provisioned-concurrency"]
    assert on_demand.init_ms is not None
    assert provisioned.init_ms is None
    assert ahead.allocation("t") == Allocation("1", 2, 2, READY)


@story()
async def test_what_finds_none_free_spills_over(world: World, ahead: Provisioning) -> None:
    one = version(world, "1", "sleep")
    ahead.apply(KEY, {"t": Wanted(one, 1)})
    await until(ready(ahead, "t", 1))
    await asyncio.gather(*(run(world, one, {"seconds": 0.1}) for _ in range(3)))
    share = world.pool.concurrency.share(KEY)
    assert (len(world.environments), share.spilled) == (3, 2)
    assert sum(each.is_provisioned for each in world.environments) == 1


@story(idle_s=0.1)
async def test_provisioned_environments_are_never_idle_for_too_long(world: World, ahead: Provisioning) -> None:
    one = version(world, "1")
    ahead.apply(KEY, {"t": Wanted(one, 1)})
    await run(world, replace(one, version="2"))
    await until(lambda: [each.is_provisioned for each in world.environments] == [True])
    assert ahead.allocation("t") == Allocation("1", 1, 1, READY)


@story(memory_mb=300)
async def test_they_make_room_for_nobody_but_others_do_for_them(world: World, ahead: Provisioning) -> None:
    other = version(world, "2")
    await run(world, other)
    one = version(world, "1")
    ahead.apply(KEY, {"t": Wanted(one, 2)})
    await until(ready(ahead, "t", 2))
    assert [each.is_provisioned for each in world.environments] == [True, True]
    with pytest.raises(Throttled):
        await run(world, other)


@story()
async def test_one_that_dies_is_replaced(world: World, ahead: Provisioning) -> None:
    one = version(world, "1")
    ahead.apply(KEY, {"t": Wanted(one, 1)})
    await until(ready(ahead, "t", 1))
    (before,) = world.environments
    before.started_at -= 60  # it has lived for long
    sandbox(before).crash()
    await until(lambda: before.state is State.GONE)
    await until(ready(ahead, "t", 1))
    (after,) = world.environments
    assert after is not before


@story()
async def test_one_that_dies_in_an_invocation_is_replaced(world: World, ahead: Provisioning) -> None:
    one = version(world, "1", "crash")
    ahead.apply(KEY, {"t": Wanted(one, 1)})
    await until(ready(ahead, "t", 1))
    (before,) = world.environments
    before.started_at -= 60
    with pytest.raises(SandboxFailed):
        await run(world, one)
    await until(ready(ahead, "t", 1))
    assert world.environments != [before]


@story()
async def test_init_that_fails_is_told_and_not_tried_again(world: World, ahead: Provisioning) -> None:
    one = version(world, "1", "fail-init")
    ahead.apply(KEY, {"t": Wanted(one, 3)})
    await until(lambda: ahead.allocation("t") == Allocation("1", 3, 0, FAILED, INIT_FAILURE))
    await until(lambda: world.environments == [])
    starts = len(world.sinks)
    ahead.apply(KEY, {"t": Wanted(one, 3)})
    await asyncio.sleep(0)
    assert len(world.sinks) == starts
    ahead.apply(KEY, {"again": Wanted(version(world, "1"), 1)})
    await until(ready(ahead, "again", 1))
    assert ahead.allocation("t") is None


@story()
async def test_what_the_engine_cannot_start_is_told_and_tried_again(world: World, ahead: Provisioning) -> None:
    one = version(world, "1", "echo")
    assert one.serving is not None
    broken = replace(one.serving, image=replace(one.serving.image, reference="unstartable/echo@sha256:" + "0" * 64))
    before = provisioning.AGAIN_AFTER_S
    provisioning.AGAIN_AFTER_S = (0.0, 0.0, 0.01)  # type: ignore[assignment]
    try:
        ahead.apply(KEY, {"t": Wanted(replace(one, serving=broken), 1)})

        def has_failed() -> bool:
            found = ahead.allocation("t")
            return found is not None and found.status == FAILED and "told to fail" in str(found.reason)

        await until(has_failed)
        ahead.apply(KEY, {"t": Wanted(one, 1)})
        await until(ready(ahead, "t", 1))
    finally:
        provisioning.AGAIN_AFTER_S = before


@story()
async def test_an_alias_that_moves_takes_what_is_provisioned_with_it(world: World, ahead: Provisioning) -> None:
    one, two = version(world, "1"), version(world, "2")
    ahead.apply(KEY, {"t": Wanted(one, 2)})
    await until(ready(ahead, "t", 2))
    ahead.apply(KEY, {"t": Wanted(two, 2)})
    assert ahead.allocation("t") == Allocation("2", 2, 2, "IN_PROGRESS")  # with the counts of before
    await until(lambda: ahead.allocation("t") == Allocation("2", 2, 2, READY))
    assert [each.function.version for each in world.environments] == ["2", "2"]
    assert initialization_type(await run(world, one)) == "on-demand"
    share = world.pool.concurrency.share(KEY)
    assert [share.slots(each).provisioned for each in "12"] == [0, 2]


@story()
async def test_fewer_keep_those_that_there_are_and_none_lets_all_go(world: World, ahead: Provisioning) -> None:
    one = version(world, "1")
    ahead.apply(KEY, {"t": Wanted(one, 3)})
    await until(ready(ahead, "t", 3))
    ahead.apply(KEY, {"u": Wanted(one, 1)})
    await until(ready(ahead, "u", 1))
    ahead.apply(KEY, {})
    await until(lambda: world.environments == [])
    assert ahead.allocation("u") is None
    assert world.pool.concurrency.share(KEY).held == 0


@story()
async def test_a_busy_one_ends_its_work_before_it_goes(world: World, ahead: Provisioning) -> None:
    one = version(world, "1", "sleep")
    ahead.apply(KEY, {"t": Wanted(one, 1)})
    await until(ready(ahead, "t", 1))
    running = asyncio.ensure_future(run(world, one, {"seconds": 0.1}))
    await asyncio.sleep(0)
    ahead.apply(KEY, {})
    assert (await running).function_error is None
    assert world.environments == []


@story()
async def test_with_all_that_is_reserved_provisioned_nothing_else_runs(world: World, ahead: Provisioning) -> None:
    one, latest = version(world, "1", "sleep"), world.function("sleep")
    world.pool.concurrency.share(KEY).reserve(1)
    ahead.apply(KEY, {"t": Wanted(one, 1)})
    await until(ready(ahead, "t", 1))
    with pytest.raises(Throttled) as throttled:
        await run(world, latest)
    assert throttled.value.reason == "ReservedFunctionConcurrentInvocationLimitExceeded"
    running = asyncio.ensure_future(run(world, one, {"seconds": 0.1}))
    await asyncio.sleep(0)
    with pytest.raises(Throttled):
        await run(world, one)
    await running


@story()
async def test_one_slot_runs_one_of_two_at_a_time_and_the_next_afterwards(world: World, ahead: Provisioning) -> None:
    sleeper = world.function("sleep")
    share = world.pool.concurrency.share(KEY)
    share.reserve(1)
    answers = await asyncio.gather(*(run(world, sleeper, {"seconds": 0.05}) for _ in range(2)), return_exceptions=True)
    assert [type(each) for each in answers] == [Outcome, Throttled]
    await run(world, sleeper)
    assert (share.busy, share.throttled) == (0, 1)


@story()
async def test_whatever_ends_an_invocation_gives_its_slot_back(world: World, ahead: Provisioning) -> None:
    share = world.pool.concurrency.share(KEY)
    with pytest.raises(SandboxFailed):
        await run(world, world.function("crash"))
    running = asyncio.ensure_future(run(world, world.function("sleep"), {"seconds": 5}))
    await until(lambda: any(each.state is State.BUSY for each in world.environments))
    assert share.busy == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (share.busy, share.held, share.account.held) == (0, 0, 0)


@story(concurrency=2)
async def test_tenants_never_share_an_environment_and_have_a_limit(world: World, ahead: Provisioning) -> None:
    function = world.function("environment")
    places = {
        tenant: {json.loads((await run(world, function, tenant_id=tenant)).payload)["sandboxId"] for _ in range(2)}
        for tenant in ("a", "b", "")
    }
    assert [len(found) for found in places.values()] == [1, 1, 1]
    assert len(set().union(*places.values())) == 3
    for tenant in ("c", "d", "e"):
        await run(world, function, tenant_id=tenant)
    with pytest.raises(Throttled):  # 2.5 for each slot of the account
        await run(world, function, tenant_id="f")


@story()
async def test_a_function_that_is_gone_leaves_no_count_behind(world: World, ahead: Provisioning) -> None:
    running = asyncio.ensure_future(run(world, world.function("sleep"), {"seconds": 0.1}))
    await until(lambda: any(each.state is State.BUSY for each in world.environments))
    share = world.pool.concurrency.share(KEY)
    world.pool.forget(KEY)
    await running
    assert (share.account.held, list(world.pool.concurrency)) == (0, [])
