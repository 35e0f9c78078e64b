"""The log of an environment is read before it is frozen: all that its bootstrap held, and not whatever comes after."""

from __future__ import annotations

import asyncio

from rie.environments import log_reader
from tests.unit.test_environments import World, story, until


@story(freeze_s=0.5)  # longer than the pause before lines are read
async def test_an_environment_is_not_frozen_before_what_it_held_of_its_log_has_been_read(world: World) -> None:
    await world.run()
    (sandbox,) = world.engine.sandboxes.values()
    await until(lambda: sandbox.is_frozen)  # with nothing to say, at once
    held = [f"{number} {'x' * 20_000}\n" for number in range(8)]

    def more() -> None:
        """What the bootstrap does once there is room in its pipe; frozen, it can't."""
        if held and not sandbox.is_frozen:
            sandbox.log(held.pop(0))

    sink = world.sinks[0]
    sink.pause_s = 0.03
    sink.on_write = lambda: asyncio.get_running_loop().call_later(0.005, more) and None
    await world.run()
    await until(lambda: sandbox.is_frozen)
    assert held == []
    assert b"7 xx" in sink.data


@story(freeze_s=0.02)
async def test_what_logs_without_end_after_its_answer_is_frozen_all_the_same(world: World) -> None:
    sleeper = world.function("sleep")
    await world.run(sleeper)
    (sandbox,) = world.engine.sandboxes.values()
    sink = world.sinks[0]

    def more() -> None:
        if not sandbox.is_frozen:
            sandbox.log("x" * 60_000 + "\n")

    sink.on_write = lambda: asyncio.get_running_loop().call_soon(more) and None
    running = asyncio.ensure_future(world.run(sleeper, {"seconds": 0.1}))
    await until(lambda: b"xxx" in sink.data)
    await running
    before = len(sink.data)
    await until(lambda: sandbox.is_frozen)
    assert log_reader.MOST_HELD <= len(sink.data) - before <= 2 * log_reader.MOST_HELD


@story(freeze_s=0.02)
async def test_what_is_called_while_its_log_is_read_is_not_frozen_in_its_invocation(world: World) -> None:
    sleeper = world.function("sleep")
    await world.run(sleeper)
    (sandbox,) = world.engine.sandboxes.values()
    world.sinks[0].pause_s = 0.2
    sandbox.log("x" * 20_000 + "\n")
    await until(lambda: b"xxx" in world.sinks[0].data)
    assert (await world.run(sleeper, {"seconds": 0.5})).function_error is None
    assert not sandbox.is_frozen
