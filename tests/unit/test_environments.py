"""The pool over the stub engine: reuse, scale-out, limits, eviction, retirement and what happens when sandboxes die."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rie.engine.base import SandboxSpec
from rie.engine.stub import StubEngine, StubSandbox
from rie.environments.environment import Environment
from rie.environments.lifecycle import MOVES, IllegalMove, State, move
from rie.environments.overdue import overdue_lines, overdue_report
from rie.environments.plan import Limits, Start, Throttle, Throttled, plan
from rie.environments.pool import Pool
from rie.environments.pool_settings import PoolSettings
from rie.environments.variables import variables_for
from rie.errors import HostFault, SandboxFailed
from rie.iam.sessions import Credentials
from rie.model.function import Configuration, Function, FunctionKey, Logging
from rie.model.image import Image
from rie.model.invocation import Invocation, Outcome

KEY = FunctionKey("123456789012", "us-east-1", "fn")


class Lines:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.data = b""
        self.writes = 0
        self.pause_s = 0.0
        self.on_write: Callable[[], None] = lambda: None
        self.is_closed = False

    def write(self, data: bytes) -> float:
        self.data += data
        self.writes += 1
        self.on_write()
        return self.pause_s

    def close(self) -> None:
        self.is_closed = True


class World:
    """A pool, its engine and one function."""

    def __init__(self, **settings: Any) -> None:
        limits = Limits(settings.pop("concurrency", 100), settings.pop("memory_mb", 100_000))
        self.engine = StubEngine()
        self.sinks: list[Lines] = []
        self.credentials: Credentials | Exception | None = None  # of every role
        pool_settings = PoolSettings(
            limits,
            settings.pop("idle_s", 60.0),
            settings.pop("variables", {}),
            settings.pop("freeze_s", 0.0),
            settings.pop("is_learned", False),
        )
        self.pool = Pool(self.engine, pool_settings, self._sink, self._credentials_of)

    async def _credentials_of(self, function: Function, configuration: Configuration) -> Credentials | None:
        if isinstance(self.credentials, Exception):
            raise self.credentials
        return self.credentials

    def _sink(self, environment: Environment) -> Lines:
        self.sinks.append(Lines())
        return self.sinks[-1]

    def function(self, kind: str = "echo", configuration_id: str = "c1", memory_mb: int = 128, **more: Any) -> Function:
        image = Image(f"stub/{kind}@sha256:{'0' * 64}", f"sha256:{'0' * 64}", "x86_64")
        configuration = Configuration(
            configuration_id,
            "role",
            f"stub/{kind}:1",
            image,
            memory_mb=memory_mb,
            timeout_s=more.pop("timeout_s", 3),
            **more,
        )
        return Function(KEY, configuration, configuration, "r", "now")

    async def run(self, function: Function | None = None, event: Any = None) -> Outcome:
        function = function or self.function()
        invocation = Invocation("11111111-2222-4333-8444-555555555555", json.dumps(event or {}).encode(), KEY.arn)
        assert function.serving is not None
        return await self.pool.run(function, function.serving, invocation)

    @property
    def environments(self) -> list[Environment]:
        return list(self.pool)


def story(**settings: Any) -> Callable[[Callable[[World], Awaitable[None]]], Callable[[], None]]:
    """Run an asynchronous test in a world of its own, which must be empty at the end."""

    def decorate(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
        async def live() -> None:
            world = World(**settings)
            try:
                await test(world)
            finally:
                await world.pool.close()
                await world.engine.close()
            assert world.environments == []
            assert world.pool.held_mb == 0
            assert all(sink.is_closed for sink in world.sinks)

        def run() -> None:
            asyncio.run(asyncio.wait_for(live(), 20))

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to pass")


@story()
async def test_the_second_invocation_finds_the_first_ones_environment_warm(world: World) -> None:
    first, second = await world.run(), await world.run()
    assert len(world.environments) == 1
    assert world.environments[0].invocations == 2
    assert first.init_ms is not None
    assert second.init_ms is None


@story()
async def test_concurrent_invocations_scale_out_and_never_share(world: World) -> None:
    sleeper = world.function("sleep")
    await asyncio.gather(*(world.run(sleeper, {"seconds": 0.1}) for _ in range(20)))
    assert [environment.invocations for environment in world.environments] == [1] * 20
    await asyncio.gather(*(world.run(sleeper, {"seconds": 0.05}) for _ in range(20)))
    assert [environment.invocations for environment in world.environments] == [2] * 20


@story()
async def test_the_most_recently_used_environment_is_reused_first(world: World) -> None:
    sleeper = world.function("sleep")
    await asyncio.gather(world.run(sleeper, {"seconds": 0.02}), world.run(sleeper, {"seconds": 0.1}))
    for _ in range(3):
        await world.run(sleeper)
    assert sorted(environment.invocations for environment in world.environments) == [1, 4]


@story(concurrency=2)
async def test_more_than_may_run_at_once_is_throttled_and_later_runs(world: World) -> None:
    sleeper = world.function("sleep")
    running = [asyncio.ensure_future(world.run(sleeper, {"seconds": 0.1})) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Throttled) as throttled:
        await world.run(sleeper)
    assert throttled.value.reason == "ConcurrentInvocationLimitExceeded"
    await asyncio.gather(*running)
    await world.run(sleeper)


@story(memory_mb=300)
async def test_the_coldest_idle_environment_makes_room_for_another_function(world: World) -> None:
    old, older = world.function(configuration_id="old"), world.function(configuration_id="older")
    await world.run(older)
    await world.run(old)
    await world.run(world.function(configuration_id="new"))
    left = {environment.configuration.configuration_id for environment in world.environments}
    assert left == {"old", "new"}


@story(memory_mb=300)
async def test_memory_is_never_promised_twice(world: World) -> None:
    sleeper = world.function("sleep")
    running = [asyncio.ensure_future(world.run(sleeper, {"seconds": 0.2})) for _ in range(2)]
    await asyncio.sleep(0.05)
    with pytest.raises(Throttled):
        await world.run(world.function(configuration_id="other"))
    await asyncio.gather(*running)
    with pytest.raises(Throttled):
        await world.run(world.function(configuration_id="huge", memory_mb=301))


@story(idle_s=0.1)
async def test_idle_environments_are_evicted_after_their_time(world: World) -> None:
    await world.run()
    assert len(world.environments) == 1
    await until(lambda: world.environments == [])
    await until(lambda: world.pool.held_mb == 0)


@story(idle_s=0.3)
async def test_busy_environments_are_not_evicted(world: World) -> None:
    outcome = await world.run(world.function("sleep"), {"seconds": 0.8})
    assert outcome.function_error is None


@story()
async def test_a_new_configuration_gets_new_environments_and_the_old_idle_ones_go(world: World) -> None:
    await world.run()
    world.pool.retire(KEY, "$LATEST", keep="c2")
    assert world.environments == []
    await world.run(world.function(configuration_id="c2"))
    world.pool.retire(KEY, "$LATEST", keep="c2")
    assert len(world.environments) == 1


@story()
async def test_a_busy_environment_of_an_old_configuration_ends_its_work_and_goes(world: World) -> None:
    running = asyncio.ensure_future(world.run(world.function("sleep"), {"seconds": 0.1}))
    await until(lambda: any(environment.state is State.BUSY for environment in world.environments))
    world.pool.retire(KEY)
    assert (await running).function_error is None
    assert world.environments == []


@story()
async def test_a_functions_own_error_keeps_its_environment(world: World) -> None:
    outcome = await world.run(world.function("fail"))
    assert outcome.function_error == "Unhandled"
    await world.run(world.function("fail"))
    assert world.environments[0].invocations == 2


@story()
async def test_a_sandbox_that_dies_in_an_invocation_is_a_host_fault_and_is_replaced(world: World) -> None:
    with pytest.raises(SandboxFailed):
        await world.run(world.function("crash"))
    assert world.environments == []
    await world.run()


@story()
async def test_a_sandbox_that_dies_while_idle_is_forgotten(world: World) -> None:
    await world.run()
    (environment,) = world.environments
    environment._sandbox.crash()  # type: ignore[union-attr]
    await until(lambda: world.environments == [])
    await world.run()


@story()
async def test_a_sandbox_that_does_not_start_is_a_host_fault_and_leaves_nothing(world: World) -> None:
    function = world.function()
    image = Image(f"unstartable/echo@sha256:{'0' * 64}", f"sha256:{'0' * 64}", "x86_64")
    configuration = Configuration("c9", "role", "unstartable/echo:1", image)
    with pytest.raises(HostFault):
        await world.pool.run(function, configuration, Invocation("id", b"{}", KEY.arn))
    assert world.environments == []


@story()
async def test_a_sandbox_that_does_not_end_in_time_is_a_timeout_of_the_function_and_replaced(world: World) -> None:
    function = world.function("sleep", timeout_s=1)
    await world.run(function)
    (environment,) = world.environments
    environment._sandbox.timeout_s = 60.0  # type: ignore[union-attr]
    outcome = await world.run(function, {"seconds": 30})
    assert outcome.function_error == "Unhandled"
    assert json.loads(outcome.payload)["errorType"] == "Sandbox.Timedout"
    assert world.environments == []
    assert world.sinks[0].data.endswith(b"Status: timeout\n")


@story()
async def test_an_environment_that_works_on_after_its_answer_is_not_waited_for_and_serves_again_later(
    world: World,
) -> None:
    lingerer = world.function("linger")
    await world.run(lingerer, {"seconds": 0.5})
    await world.run(lingerer)  # in an environment of its own, because the first has not finished
    assert sorted(environment.invocations for environment in world.environments) == [1, 1]
    assert world.pool.busy == 1
    await until(lambda: world.pool.busy == 0)
    sleepers = [world.run(lingerer) for _ in range(2)]
    await asyncio.gather(*sleepers)
    assert [environment.invocations for environment in world.environments] == [2, 2]


@story()
async def test_a_first_invocation_waits_until_its_environment_can_begin_however_its_init_ended(world: World) -> None:
    # As after an init that has timed out: extensions have two seconds to end before the invocation repeats it.
    start = world.engine.start

    async def start_what_is_not_ready(spec: SandboxSpec) -> StubSandbox:
        sandbox = await start(spec)
        sandbox.work_on(0.3)
        return sandbox

    world.engine.start = start_what_is_not_ready  # type: ignore[method-assign]
    await world.run()
    assert [environment.invocations for environment in world.environments] == [1]


@story()
async def test_an_environment_that_finishes_at_once_is_reused_at_once(world: World) -> None:
    lingerer = world.function("linger")
    for _ in range(5):
        await world.run(lingerer, {"seconds": 0.01})
    assert len(world.environments) == 1


@story()
async def test_an_environment_whose_door_has_closed_is_not_used_again(world: World) -> None:
    await world.run()
    (environment,) = world.environments
    environment._door.close()  # type: ignore[union-attr]
    await world.run()
    assert [found is environment for found in world.environments] == [False]


@story()
async def test_a_cancelled_invocation_costs_its_environment(world: World) -> None:
    running = asyncio.ensure_future(world.run(world.function("sleep"), {"seconds": 5}))
    await until(lambda: any(environment.state is State.BUSY for environment in world.environments))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert world.environments == []


@story()
async def test_a_closed_pool_runs_nothing(world: World) -> None:
    await world.run()
    await world.pool.close()
    with pytest.raises(SandboxFailed):
        await world.run()


@story()
async def test_the_log_of_an_environment_reaches_its_sink_whole(world: World) -> None:
    await world.run()
    await world.run()
    await until(lambda: world.sinks[0].data.count(b"REPORT") == 2)
    assert world.sinks[0].data.startswith(b"INIT_START")


# -- the plan, case by case --------------------------------------------------------------------------------------------


def test_case_1_too_many_were_started_lately() -> None:
    assert plan(1, 1_000, "why", []) == Throttle("why")


def test_case_2_a_new_one_fits() -> None:
    assert plan(500, 500, None, [("cold", 500)]) == Start()


def test_case_3_just_enough_of_the_coldest_go() -> None:
    idle = [("coldest", 100), ("colder", 100), ("cold", 100)]
    assert plan(250, 100, None, idle) == Start(evict=("coldest", "colder"))


def test_case_4_it_does_not_fit_and_nothing_is_evicted() -> None:
    assert plan(500, 100, None, [("a", 100)]) == Throttle("ConcurrentInvocationLimitExceeded")


@pytest.mark.parametrize("current", State)
@pytest.mark.parametrize("to", State)
def test_moves_are_those_of_the_table(current: State, to: State) -> None:
    if to in MOVES[current]:
        assert move(current, to) is to
    else:
        with pytest.raises(IllegalMove):
            move(current, to)


# -- freezing ----------------------------------------------------------------------------------------------------------


@story(freeze_s=0.02)
async def test_an_idle_environment_is_frozen_and_thawed_before_it_serves_again(world: World) -> None:
    await world.run()
    (environment,) = world.environments
    sandbox = world.engine.sandboxes[environment.environment_id]
    await until(lambda: sandbox.is_frozen)
    await world.run()
    assert (sandbox.is_frozen, environment.invocations) == (False, 2)
    await until(lambda: sandbox.is_frozen)


@story(freeze_s=0.02)
async def test_what_works_on_after_its_answer_is_not_frozen_before_it_has_ended(world: World) -> None:
    await world.run(world.function("linger"), {"seconds": 0.3})
    (environment,) = world.environments
    sandbox = world.engine.sandboxes[environment.environment_id]
    await asyncio.sleep(0.1)
    assert not sandbox.is_frozen
    await until(lambda: sandbox.is_frozen)


@story()
async def test_without_a_time_to_freeze_nothing_is_frozen(world: World) -> None:
    await world.run()
    (environment,) = world.environments
    await asyncio.sleep(0.05)
    assert not world.engine.sandboxes[environment.environment_id].is_frozen


@story(variables={"AWS_ENDPOINT_URL": "http://10.0.0.1:4566"})
async def test_a_functions_variables_hold_its_roles_credentials_over_whatever_the_image_says(world: World) -> None:
    world.credentials = Credentials("ASIA1", "secret", "token", time.time() + 3_600)
    function = world.function("environment", variables={"MINE": "1"})
    seen = json.loads((await world.run(function)).payload)["environment"]
    assert seen["MINE"] == "1"
    assert seen["AWS_ENDPOINT_URL"] == "http://10.0.0.1:4566"
    assert [seen[f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")] == [
        "ASIA1",
        "secret",
        "token",
    ]
    other = world.function("environment", "c2", variables={"AWS_ENDPOINT_URL": "http://mine"})
    assert json.loads((await world.run(other)).payload)["environment"]["AWS_ENDPOINT_URL"] == "http://mine"


@story()
async def test_an_environment_is_retired_before_its_credentials_end(world: World) -> None:
    world.credentials = Credentials("ASIA1", "secret", "token", time.time() + 3_600)
    await world.run()
    (first,) = world.environments
    await world.run()
    assert world.environments == [first]
    first.credentials = Credentials("ASIA1", "secret", "token", time.time() + 62)  # an invocation may take 3 s
    world.credentials = Credentials("ASIA2", "secret", "token", time.time() + 3_600)
    await world.run()
    (second,) = world.environments
    assert second is not first
    assert second.credentials == world.credentials


@story()
async def test_without_credentials_no_environment_starts_and_none_is_left(world: World) -> None:
    world.credentials = HostFault("cannot assume the role: no answer")
    with pytest.raises(HostFault, match="no answer"):
        await world.run()
    await until(lambda: not world.environments and not world.pool.held_mb)
    world.credentials = None
    await world.run()


@story()
async def test_a_log_that_comes_too_fast_is_not_read_for_a_while_and_whole_in_the_end(world: World) -> None:
    await world.run()
    (sandbox,) = world.engine.sandboxes.values()
    sink = world.sinks[0]
    await until(lambda: b"REPORT" in sink.data)
    sink.pause_s = 0.05
    before = sink.writes
    sandbox.log("first\n")
    await until(lambda: b"first" in sink.data)
    sandbox.log("second\n")
    assert await world.run()  # goes on meanwhile
    await until(lambda: b"second" in sink.data)
    assert sink.writes > before + 1
    sandbox.log("last\n")
    await world.pool.close()
    assert sink.data.endswith(b"last\n")


@story()
async def test_the_end_of_an_environment_does_not_wait_for_a_log_without_end(world: World) -> None:
    await world.run()
    (sandbox,) = world.engine.sandboxes.values()
    world.sinks[0].on_write = lambda: sandbox.log("x" * 1_000 + "\n")
    sandbox.log("begin\n")
    await world.pool.close()
    assert world.sinks[0].is_closed


def test_the_system_level_goes_to_the_bootstrap_and_a_function_cannot_say_how_its_log_looks() -> None:
    def variables(logging: Logging, **given: str) -> dict[str, str]:
        image = Image(f"stub/echo@sha256:{'0' * 64}", f"sha256:{'0' * 64}", "x86_64")
        configuration = Configuration("c", "role", "stub/echo:1", image, variables=given, logging=logging)
        return variables_for(Function(KEY, configuration, configuration, "r", "now"), configuration, "stream")

    seen = variables(Logging("", "JSON", "DEBUG", "WARN"), RIE_SYSTEM_LOG_LEVEL="DEBUG", AWS_LAMBDA_LOG_LEVEL="FATAL")
    assert (seen["AWS_LAMBDA_LOG_FORMAT"], seen["AWS_LAMBDA_LOG_LEVEL"]) == ("JSON", "DEBUG")
    assert seen["RIE_SYSTEM_LOG_LEVEL"] == "WARN"
    text = variables(Logging("mine"), AWS_LAMBDA_LOG_FORMAT="JSON")
    assert {"AWS_LAMBDA_LOG_FORMAT", "AWS_LAMBDA_LOG_LEVEL", "RIE_SYSTEM_LOG_LEVEL"}.isdisjoint(text)
    assert text["AWS_LAMBDA_LOG_GROUP_NAME"] == "mine"


@pytest.mark.parametrize("log_format", ["Text", "JSON"])
def test_an_overdue_invocation_is_reported_in_the_functions_format(log_format: str) -> None:
    configuration = World().function(timeout_s=1, logging=Logging("", log_format)).configuration
    text = overdue_lines(overdue_report("id", configuration), "Task timed out after 1.00 seconds", configuration)
    if log_format == "Text":
        assert text.endswith("\tStatus: timeout\n")
        assert "END RequestId: id\n" in text
        return
    fault, report = map(json.loads, text.splitlines())
    assert fault["record"].endswith(" id Task timed out after 1.00 seconds")
    assert report["type"] == "platform.report"
    assert (report["record"]["requestId"], report["record"]["status"]) == ("id", "timeout")
    assert report["record"]["metrics"]["durationMs"] == 1_000
