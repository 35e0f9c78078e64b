"""Runtimes and their images: the table, what is made ready for a deployment, what sandboxes are told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from test_api_world import World

from rie.engine.base import Mount
from rie.environments.command import command_of
from rie.environments.variables import variables_for
from rie.errors import ImageNotFound, RuntimeUnavailable, SettingsError
from rie.functions.preparation import Preparation
from rie.functions.runtimes import read_table
from rie.model.function import Configuration, Function, FunctionKey
from rie.model.image import Image

KEY = FunctionKey("123456789012", "us-east-1", "f")
IMAGE = Image("reg/python@sha256:1", "sha256:1", "x86_64", ("/lambda-entrypoint.sh",), ("x",), "/var/task", {"A": "1"})


def test_the_images_that_this_project_builds_are_the_default(tmp_path: Path) -> None:
    table = read_table(tmp_path, "")
    assert table.reference("python3.12") == "docker-daemon:rie/python:3.11"
    assert table.reference("nodejs22.x") == "docker-daemon:rie/nodejs:22"
    assert table.reference("provided.al2023") == "docker-daemon:rie/provided:latest"
    with pytest.raises(RuntimeUnavailable, match=r"cannot run java21: .* --runtime java21=IMAGE, with RIE_RUNTIMES"):
        table.reference("java21")


def test_the_file_outdoes_the_defaults_the_setting_the_file_and_the_exact_name_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "runtimes.toml").write_text(
        '"python3.12" = "reg/python:3.12"\n"java*" = "reg/java"\n"ruby3.*" = "reg/r"\n'
    )
    table = read_table(tmp_path, "java21=reg/java:21, ruby3.*=reg/ruby:3 nodejs*=")
    assert table.reference("python3.12") == "reg/python:3.12"
    assert table.reference("python3.11") == "docker-daemon:rie/python:3.11"
    assert table.reference("java17") == "reg/java"
    assert table.reference("java21") == "reg/java:21"
    assert table.reference("ruby3.4") == "reg/ruby:3"
    with pytest.raises(RuntimeUnavailable):
        table.reference("nodejs22.x")


@pytest.mark.parametrize(("file", "setting"), [("a = 1", ""), ("a =", ""), ("", "python3.12"), ("", "=x")])
def test_what_cannot_be_read_is_a_settings_error(tmp_path: Path, file: str, setting: str) -> None:
    (tmp_path / "runtimes.toml").write_text(file)
    with pytest.raises(SettingsError, match="cannot read"):
        read_table(tmp_path, setting)


# -- preparation ---------------------------------------------------------------------------------------------------


class Registry:
    """An engine's two methods, over what is there."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.prepared: list[str] = []

    async def resolve(self, reference: str, architecture: str) -> Image:
        self.asked.append(reference)
        if "ruby" in reference:
            raise ImageNotFound(reference, "no such tag")
        return replace(IMAGE, architecture=architecture)

    async def prepare(self, image: Image) -> None:
        self.prepared.append(image.reference)


def prepare(world: World, tmp_path: Path, configuration: Configuration) -> tuple[Registry, Image, tuple[Mount, ...]]:
    registry = Registry()
    table = read_table(tmp_path, "ruby*=reg/ruby python3.11=reg/python:3.11")
    preparation = Preparation(registry.resolve, registry.prepare, table, world.code)

    async def both() -> tuple[Image, tuple[Mount, ...]]:
        return await preparation(configuration), await preparation.mounts(configuration)

    image, mounts = asyncio.run(both())
    return registry, image, mounts


def configuration_of(world: World) -> Configuration:
    return world.catalog.get(KEY).configuration


def test_a_zip_gets_its_runtimes_image_its_code_at_var_task_and_its_layers_at_opt(tmp_path: Path) -> None:
    world = World()
    layers = [world.publish_layer(name).json["LayerVersionArn"] for name in ("a", "b")]
    world.create_zip(Layers=layers)
    registry, image, mounts = prepare(world, tmp_path, configuration_of(world))
    assert registry.asked == ["reg/python:3.11"]
    assert registry.prepared == [image.reference]
    assert [mount.target for mount in mounts] == ["/var/task", "/opt"]
    assert (mounts[0].source / "app.py").exists()
    assert (mounts[1].source / "app.py").exists()
    assert list((mounts[1].source / "rie").iterdir()) == []


def test_an_image_function_has_no_mounts(tmp_path: Path) -> None:
    world = World()
    world.create()
    registry, image, mounts = prepare(world, tmp_path, configuration_of(world))
    assert (registry.asked, mounts) == ([], ())
    assert registry.prepared == [image.reference]


def test_a_pinned_image_stays_until_code_or_runtime_change(tmp_path: Path) -> None:
    world = World()
    world.create_zip()
    configuration = configuration_of(world)
    world.catalog.mark_deployed(KEY, configuration.configuration_id, IMAGE)
    assert world.catalog.get(KEY).serving == replace(configuration, image=IMAGE)
    world.configure(Timeout=9)
    assert prepare(world, tmp_path, configuration_of(world))[0].asked == []
    world.settle()
    world.configure(Runtime="python3.12")
    assert configuration_of(world).image is None


def test_an_image_that_is_not_there_is_the_runtimes_fault(tmp_path: Path) -> None:
    world = World()
    world.create_zip(Runtime="ruby3.3")
    with pytest.raises(RuntimeUnavailable, match=r"cannot run ruby3.3: .*no such tag; give one with rie serve"):
        prepare(world, tmp_path, configuration_of(world))


# -- what a sandbox is told ----------------------------------------------------------------------------------------


def test_the_handler_is_the_runtimes_command_and_a_variable(tmp_path: Path) -> None:
    world = World()
    world.create_zip()
    configuration = replace(configuration_of(world), image=IMAGE)
    assert command_of(configuration, IMAGE) == ("/lambda-entrypoint.sh", "app.handler")
    assert command_of(configuration, replace(IMAGE, entrypoint=("/opt/rie/bootstrap",))) == ()
    assert command_of(replace(configuration, runtime="provided.al2023"), IMAGE) == ()
    function: Function = world.catalog.get(KEY)
    variables = variables_for(function, configuration, "stream")
    assert (variables["_HANDLER"], variables["A"]) == ("app.handler", "1")
