"""The pool over the daemonless engine: what is started ahead of a call, kept or given up."""

from __future__ import annotations

import asyncio
import json

import pytest

from rie.environments.idle_times import IdleTimes, Window
from rie.environments.lifecycle import State
from rie.environments.plan import Limits
from rie.environments.pool import Pool
from rie.environments.pool_settings import PoolSettings
from rie.model.function import Configuration, Function, FunctionKey
from rie.model.invocation import Invocation
from tests.contract.conftest import Case, eventually, run
from tests.unit.test_environments import Lines

KEY = FunctionKey("123456789012", "us-east-1", "fn")


def test_one_that_is_started_ahead_serves_and_one_that_makes_room_while_it_starts_is_gone(
    oci_case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expect(window: Window) -> None:
        monkeypatch.setattr(IdleTimes, "window", lambda self, standard_s: window)

    async def test() -> None:
        async with oci_case.engine() as engine:
            image = (await oci_case.spec(engine, "echo")).image
            settings = PoolSettings(Limits(10, 300), freeze_s=0.01, is_learned=True)
            pool = Pool(engine, settings, lambda environment: Lines())

            async def call(name: str, memory_mb: int = 128) -> float | None:
                configuration = Configuration(name, "role", "uri", image, memory_mb=memory_mb)
                function = Function(KEY, configuration, configuration, "r", "now")
                outcome = await pool.run(function, configuration, Invocation("id", b'{"n": 1}', KEY.arn))
                assert json.loads(outcome.payload) == {"n": 1}
                return outcome.init_ms

            expect(Window(0.01, 0.5, 60.0))
            assert await call("a") is not None
            await eventually(lambda: [each.is_ahead for each in pool] == [True], 20)
            (ahead,) = pool
            await eventually(lambda: ahead._is_frozen, 20)
            assert await call("a") is None
            assert ahead.invocations == 1
            await eventually(lambda: any(each is not ahead for each in pool), 20)
            (other,) = (each for each in pool if each is not ahead)
            assert other.is_ahead and other.state is not State.IDLE
            assert await call("b", memory_mb=300) is not None
            assert other.state is State.GONE
            await pool.close()
            await asyncio.sleep(0)
            assert pool.held_mb == 0

    run(test())
