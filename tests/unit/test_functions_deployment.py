"""Deployments: what becomes of Pending and InProgress (lambda.md §1.12)."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

import pytest
from test_api_world import ROLE, World

from rie.errors import (
    EngineUnavailable,
    ImageAccessDenied,
    ImageInvalid,
    ImageNotFound,
    RegistryUnavailable,
    RuntimeUnavailable,
    StoreFailed,
)
from rie.functions.changes import Changes, NewCode, NewFunction
from rie.functions.deployment import Deployment
from rie.model.function import Configuration, Function, FunctionKey
from rie.model.image import Image

KEY = FunctionKey("123456789012", "us-east-1", "f")
NEW = NewFunction(KEY, "reg/app:1", Changes(role=ROLE))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the condition is a database's, it has no event
            await asyncio.sleep(0.005)


async def ready(configuration: Configuration) -> Image:
    """A preparation that finds everything there."""
    assert configuration.image is not None
    return configuration.image


def now(world: World) -> Function:
    return world.catalog.get(KEY)


def test_a_function_becomes_active_once_its_image_is_ready() -> None:
    async def run() -> None:
        world = World()
        let = asyncio.Event()

        async def prepare(configuration: Configuration) -> Image:
            await let.wait()
            return await ready(configuration)

        deployment = Deployment(prepare, world.catalog)
        deployment.submit(world.catalog.create(NEW))
        await asyncio.sleep(0)
        assert now(world).state == "Pending"
        assert now(world).serving is None
        let.set()
        await until(lambda: now(world).state == "Active")
        assert now(world).serving == now(world).configuration
        assert world.notices[-1] == (KEY, "$LATEST", now(world))
        await deployment.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ImageNotFound("reg/app:1", "gone"), "ImageDeleted"),
        (ImageAccessDenied("reg/app:1", "403"), "ImageAccessDenied"),
        (ImageInvalid("reg/app:1", "digest mismatch"), "InvalidImage"),
        (RegistryUnavailable("cannot pull: refused"), "InternalError"),
        (EngineUnavailable("cannot pull: no engine"), "InternalError"),
        (RuntimeUnavailable("cannot run ruby3.3: no image is set for it"), "InvalidRuntime"),
        (ZeroDivisionError("secret"), "InternalError"),
    ],
)
def test_a_first_deployment_that_fails_makes_the_function_failed_with_a_reason(error: Exception, code: str) -> None:
    async def run() -> None:
        world = World()

        async def prepare(_configuration: Configuration) -> Image:
            raise error

        deployment = Deployment(prepare, world.catalog)
        deployment.submit(world.catalog.create(NEW))
        await until(lambda: now(world).state == "Failed")
        function = now(world)
        assert (function.state_reason_code, function.last_update_status_reason_code) == (code, code)
        assert function.last_update_status == "Failed"
        assert function.state_reason
        assert "secret" not in function.state_reason
        assert function.serving is None
        await deployment.close()

    asyncio.run(run())


def test_after_an_update_that_fails_what_served_before_goes_on_serving() -> None:
    world = World()
    world.active()
    before = now(world)
    world.catalog.update_code(NewCode(KEY, "reg/app:2"))
    assert now(world).serving == before.configuration
    world.catalog.mark_failed(KEY, now(world).configuration.configuration_id, "InvalidImage", "why")
    after = now(world)
    assert (after.state, after.last_update_status) == ("Active", "Failed")
    assert (after.last_update_status_reason_code, after.last_update_status_reason) == ("InvalidImage", "why")
    assert after.serving == before.configuration
    assert after.configuration.image_uri == "reg/app:2"


def test_a_function_that_failed_at_first_may_be_mended() -> None:
    world = World()
    world.catalog.create(NEW)
    world.catalog.mark_failed(KEY, now(world).configuration.configuration_id, "InvalidImage", "why")
    during = world.catalog.update_code(NewCode(KEY, "reg/app:2"))
    assert (during.state, during.last_update_status) == ("Pending", "InProgress")
    world.settle()
    after = now(world)
    assert (after.state, after.last_update_status, after.state_reason) == ("Active", "Successful", None)


def test_the_end_of_an_overtaken_deployment_is_ignored() -> None:
    world = World()
    old = world.catalog.create(NEW).configuration.configuration_id
    world.catalog.delete(KEY)
    world.catalog.mark_deployed(KEY, old)  # the function is gone
    world.catalog.create(NEW)
    world.catalog.mark_deployed(KEY, old)  # and came back as another
    world.catalog.mark_failed(KEY, old, "InvalidImage", "why")
    assert now(world).state == "Pending"
    world.settle()
    newest = now(world)
    world.catalog.mark_failed(KEY, newest.configuration.configuration_id, "InvalidImage", "late")
    assert now(world) == newest


def test_an_update_of_what_was_made_again_never_repeats_a_configuration_id() -> None:
    world = World()
    world.active()
    seen = {now(world).configuration.configuration_id}
    for _ in range(3):
        world.catalog.update_configuration(KEY, Changes())
        world.settle()
        seen.add(now(world).configuration.configuration_id)
    assert len(seen) == 4


def test_what_an_earlier_process_left_is_resumed() -> None:
    async def run() -> None:
        world = World()
        world.active("g")
        world.catalog.create(NEW)
        world.configure("g", Timeout=9)
        deployment = Deployment(ready, world.catalog)
        deployment.resume(world.catalog.unsettled())
        await until(lambda: world.catalog.unsettled() == [])
        await deployment.close()

    asyncio.run(run())


def test_only_so_many_are_deployed_at_once() -> None:
    async def run() -> None:
        world = World()
        running = most = 0

        async def prepare(configuration: Configuration) -> Image:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1
            return await ready(configuration)

        deployment = Deployment(prepare, world.catalog, at_once=2)
        for number in range(6):
            world.create(f"f{number}")
        deployment.resume(world.submitted)
        await until(lambda: world.catalog.unsettled() == [])
        assert most == 2
        await deployment.close()

    asyncio.run(run())


def test_submitting_works_from_any_thread_and_is_silent_after_the_end() -> None:
    world = World()
    function = world.catalog.create(NEW)

    async def run() -> Deployment:
        deployment = Deployment(ready, world.catalog)
        thread = threading.Thread(target=deployment.submit, args=(function,))
        thread.start()
        await until(lambda: now(world).state == "Active")
        thread.join()
        await deployment.close()
        deployment.submit(function)
        return deployment

    asyncio.run(run()).submit(function)  # its loop is closed


def test_closing_gives_up_what_is_under_way_and_leaves_it_to_be_resumed() -> None:
    async def run() -> None:
        world = World()
        begun = asyncio.Event()

        async def prepare(configuration: Configuration) -> Image:
            begun.set()
            await asyncio.Event().wait()
            return await ready(configuration)

        deployment = Deployment(prepare, world.catalog)
        deployment.submit(world.catalog.create(NEW))
        await begun.wait()
        await deployment.close()
        assert [each.key for each in world.catalog.unsettled()] == [KEY]

    asyncio.run(run())


def test_an_outcome_that_the_store_refuses_is_written_down_later(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        world = World()
        refusals = [StoreFailed("cannot update a function: database is locked"), KeyError("bug")]

        class Reluctant:
            def mark_deployed(self, key: FunctionKey, configuration_id: str, image: Image | None = None) -> None:
                if refusals:
                    raise refusals.pop(0)
                world.catalog.mark_deployed(key, configuration_id, image)

            mark_failed = world.catalog.mark_failed

        deployment = Deployment(ready, Reluctant())
        deployment.submit(world.catalog.create(NEW))
        await until(lambda: now(world).state == "Active")
        await deployment.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert "database is locked" in caplog.text
