"""The manager removes images that no function has: the oldest first, none that runs or has just been used."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections import namedtuple
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rie.engine.oci import OciEngine
from rie.engine.stub import StubEngine
from rie.errors import DiskFull, ImageNotFound
from rie.functions.image_sweeper import MB, Bounds, ImageSweeper
from rie.model.function import Configuration
from rie.model.image import Image
from rie.rootfs.collect import Spared
from rie.rootfs.images import Images
from tests.contract.conftest import Case, connect, eventually, run
from tests.layers import archive, file
from tests.registry import assemble
from tests.scripted_registry import scripted


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path / "images")


def pulled(images: Images, *sizes: int, age_s: float = 3_600.0) -> Image:
    """An image with a layer of each size, last used so long ago."""
    layers = [archive(file(f"of-{size}", bytes(size))) for size in sizes]
    with scripted(assemble(layers)) as registry:
        image = images.resolve(registry.reference, "x86_64")
        images.prepare(image)
    at = time.time() - age_s
    os.utime(images._root / "images" / f"{image.digest.partition(':')[2]}.json", (at, at))
    return image


def here(images: Images) -> set[str]:
    return {kept.image.digest for kept in images.list()}


def digests(*found: Image) -> set[str]:
    return {image.digest for image in found}


def test_what_nobody_wants_stays_up_to_a_bound_that_used_last_first(images: Images) -> None:
    wanted = pulled(images, 1_000, 5_000)
    oldest = pulled(images, 1_000, 30, age_s=9_000)
    middle = pulled(images, 200, age_s=6_000)
    newest = pulled(images, 400, age_s=3_000)
    assert images.collect([wanted.digest], Spared(630)) == 0
    assert images.collect([wanted.digest], Spared(620)) == 30  # what it shares with a wanted one is not its own
    assert here(images) == digests(wanted, middle, newest)
    images.hold(middle)
    images.release(middle)  # it is the newest now
    assert images.collect([wanted.digest], Spared(300)) == 400
    assert here(images) == digests(wanted, middle)
    assert oldest.digest not in here(images)


def test_what_was_used_just_now_stays_whatever_the_bound(images: Images) -> None:
    old, deployed = pulled(images, 100), pulled(images, 20)
    images.prepare(deployed)  # as a deployment does, of what is here already
    assert images.collect([], Spared(0, recent_s=600)) == 100
    assert here(images) == digests(deployed)
    assert images.collect([], Spared(1, recent_s=0)) == 20
    assert old.digest not in here(images)


def test_leftovers_of_pulls_count_and_go_before_any_image(images: Images, tmp_path: Path) -> None:
    image = pulled(images, 100)
    (tmp_path / "images/downloads/left").write_bytes(bytes(500))
    assert images.collect([], Spared(600)) == 0
    assert images.collect([], Spared(599)) == 500
    assert here(images) == digests(image)


def test_an_engine_keeps_what_runs_and_what_functions_have(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            assert isinstance(engine, OciEngine)
            sandbox = await oci_case.start(engine, "echo")
            functions = {name: (await oci_case.spec(engine, name)).image for name in ("echo", "talk", "environment")}
            listed = Images(oci_case.settings.images or Path())
            await engine.collect([functions["talk"]], 0, 600.0)
            assert digests(*functions.values()) <= here(listed)  # all were used just now
            await engine.collect([functions["talk"]], 0, 0.0)
            assert digests(functions["echo"], functions["talk"]) <= here(listed)
            assert functions["environment"].digest not in here(listed)
            answer = await (await connect(sandbox)).invoke({"still": "there"})
            assert answer.json() == {"still": "there"}
            await sandbox.destroy()
            await engine.collect([], 0, 0.0)
            with pytest.raises(ImageNotFound):
                await engine.start(await _spec_of(oci_case, functions["echo"]))

    run(test())


async def _spec_of(case: Case, image: Image):  # type: ignore[no-untyped-def]
    from rie.engine.base import SandboxSpec

    return SandboxSpec("s-2", image, image.command, "/", {}, 128, 512, 0.1)


# -- when the manager does it ------------------------------------------------------------------------------------------

Usage = namedtuple("Usage", "total used free")


def image_of(name: str) -> Image:
    return Image(f"stub/{name}@sha256:{'0' * 64}", f"sha256:{'0' * 64}", "x86_64")


def configuration(name: str) -> Configuration:
    return Configuration(name, "role", f"stub/{name}:1", image_of(name))


def sweeping(test: Callable[[ImageSweeper, StubEngine], Awaitable[None]], tmp_path: Path) -> None:
    pending = replace(configuration("pending"), image=None)

    async def told() -> None:
        engine = StubEngine()
        sweeper = ImageSweeper(engine, Bounds(tmp_path, 7, 2), look_s=0.01)
        assert await sweeper.sweep(0) == 0 and not engine.collections  # it does not know what there is
        sweeper.open(lambda: [configuration("had"), pending], lambda: [configuration("runs")])
        await test(sweeper, engine)
        await sweeper.close()

    asyncio.run(asyncio.wait_for(told(), 20))


KEPT = {image_of(name).reference for name in ("had", "runs")}


def test_from_time_to_time_what_no_function_has_is_held_against_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(9 * MB, 0, 9 * MB))

    async def test(sweeper: ImageSweeper, engine: StubEngine) -> None:
        await eventually(lambda: len(engine.collections) > 1)
        assert engine.collections[0] == (KEPT, 7 * MB)

    sweeping(test, tmp_path)


def test_with_little_disk_left_all_of_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(9 * MB, 8 * MB, 1 * MB))

    async def test(sweeper: ImageSweeper, engine: StubEngine) -> None:
        await eventually(lambda: len(engine.collections) > 1)
        assert engine.collections[0] == (KEPT, 0)

    sweeping(test, tmp_path)


def test_a_deployment_that_finds_the_disk_full_is_tried_again_without_what_no_function_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(9 * MB, 0, 9 * MB))

    async def test(sweeper: ImageSweeper, engine: StubEngine) -> None:
        prepare = engine.prepare

        async def full(image: Image, on_progress: object = None) -> None:
            if len(engine.prepared) > 1:
                raise DiskFull("cannot keep an image: no space left")
            await prepare(image)

        engine.prepare = full  # type: ignore[assignment, method-assign]
        engine.prepared = {image_of("had").reference, image_of("lost").reference}
        await sweeper.prepare(image_of("new"))
        assert engine.prepared == {image_of(name).reference for name in ("had", "new")}
        engine.prepared = set(KEPT)
        with pytest.raises(DiskFull):
            await sweeper.prepare(image_of("another"))

    sweeping(test, tmp_path)
