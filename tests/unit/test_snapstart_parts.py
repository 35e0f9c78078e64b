"""Snapshots without criu: the machine's story, what is shared of memory, what is not given back, versions' states."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_api_world import World
from test_lifecycle import ONE, Story, kinds, of

from bootstrap.commands import (
    CancelTimer,
    Refuse,
    ReportEnd,
    ReportIdle,
    ReportInit,
    ReportInitRuntimeDone,
    ReportParked,
    ReportRestore,
    ReportRestoreStart,
    Restore,
    SetTimer,
)
from bootstrap.errors import IllegalEvent
from bootstrap.events import (
    Booted,
    ExtensionPolled,
    ExtensionRegistered,
    InitErrorPosted,
    InvokeReceived,
    NextPolled,
    ResponsePosted,
    Restored,
    RestorePolled,
    RuntimeExited,
    TimerFired,
)
from bootstrap.lifecycle import IDLE, PARKED, RESET, RESTORE, Machine
from rie.engine.oci import sharing
from rie.engine.oci.launcher import seccomp
from rie.environments.answers import init_failed, restore_failed
from rie.environments.plan import Throttled
from rie.environments.snapshots import Snapshots
from rie.errors import InitFailed, SandboxFailed, ServiceError
from rie.functions.deployment import Deployment
from rie.invoke.directory import serving
from rie.model.function import Configuration, Function, FunctionKey
from rie.model.image import Image

PAGE = sharing.PAGE
KEY = FunctionKey("123456789012", "us-east-1", "f")


# -- the machine ---------------------------------------------------------------------------------------------------


def template() -> Story:
    """One that a snapshot will be taken of."""
    story = Story()
    story.machine = Machine(3.0, is_provisioned=True, is_template=True)
    return story


def parked() -> Story:
    """And its runtime waits to be restored."""
    story = template()
    story.tell(Booted())
    story.tell(RestorePolled("restore"), after=0.3)
    return story


def test_init_ends_where_the_runtime_waits_to_be_restored() -> None:
    story = template()
    story.tell(Booted())
    assert story.tell(RestorePolled("restore"), after=0.3) == [
        ReportInitRuntimeDone("init", "success"),
        CancelTimer("init"),
        ReportInit("init", "success", pytest.approx(300.0)),
        ReportParked(),
    ]
    assert story.machine.phase == PARKED
    assert not story.machine.is_free


def test_what_is_made_of_the_snapshot_runs_the_hooks_and_serves() -> None:
    story = parked()
    commands = story.tell(Restored("manager"), after=500.0)
    assert commands == [ReportRestoreStart(), SetTimer("restore", story.at + 10.0), Restore("restore")]
    commands = story.tell(NextPolled("poll"), after=0.1)
    assert commands == [ReportRestore("success", pytest.approx(100.0)), CancelTimer("restore"), ReportIdle()]
    assert story.machine.phase == IDLE
    story.tell(InvokeReceived(ONE))
    report = of(ReportEnd, story.tell(ResponsePosted("post", "id-1", b"")))
    assert (report.init_ms, report.restore_ms) == (None, pytest.approx(100.0))


def test_a_runtime_that_knows_no_hooks_is_restored_from_its_first_poll() -> None:
    story = template()
    story.tell(Booted())
    assert ReportParked() in story.tell(NextPolled("poll"))
    commands = story.tell(Restored("manager"), after=60.0)
    assert kinds(commands) == ["ReportRestoreStart", "ReportRestore"]
    assert of(ReportRestore, commands).status == "success"
    assert kinds(story.tell(InvokeReceived(ONE))) == ["ReportStart", "SetTimer", "Deliver"]


def test_an_invocation_that_comes_before_the_end_of_the_hooks_waits() -> None:
    story = parked()
    assert story.tell(InvokeReceived(ONE)) == []
    story.tell(Restored("manager"))
    assert "Deliver" in kinds(story.tell(NextPolled("poll")))


def test_the_snapshot_waits_for_extensions_too() -> None:
    story = template()
    story.tell(Booted(("one",)))
    story.tell(ExtensionRegistered("r", "one", (), "identifier"))
    assert story.tell(RestorePolled("restore")) == [ReportInitRuntimeDone("init", "success")]
    assert ReportParked() in story.tell(ExtensionPolled("poll", "identifier"))


def test_hooks_that_fail_leave_nobody_to_serve() -> None:
    story = parked()
    story.tell(Restored("manager"))
    story.tell(InitErrorPosted("post", b"{}", "Runtime.AfterRestoreError"), after=0.1)
    restored = of(ReportRestore, story.tell(RuntimeExited(65)))
    assert (restored.status, restored.error_type) == ("error", "Runtime.AfterRestoreError")
    assert story.machine.phase != RESTORE


def test_hooks_that_take_too_long_are_given_up() -> None:
    story = parked()
    story.tell(Restored("manager"))
    restored = of(ReportRestore, story.tell(TimerFired("restore"), after=10.0))
    assert (restored.status, restored.error_type) == ("timeout", "Sandbox.Timedout")
    assert story.machine.phase == RESET


def test_nobody_is_restored_twice_or_before_there_is_a_snapshot() -> None:
    story = template()
    with pytest.raises(IllegalEvent):
        story.tell(Restored("manager"))
    story = parked()
    story.tell(Restored("manager"))
    with pytest.raises(IllegalEvent):
        story.tell(Restored("manager"))
    story.tell(NextPolled("poll"))
    assert of(Refuse, story.tell(RestorePolled("again"))).status == 403


# -- memory --------------------------------------------------------------------------------------------------------


def vma(start: int, pages: int, **changes: int) -> sharing.Fields:
    """A mapping as criu writes it: anonymous, private."""
    fields = {"start": start, "end": start + pages * PAGE, "pgoff": 0, "shmid": 0, "prot": 3, "flags": 0x22}
    fields |= {"status": 0x201, "fd": (1 << 64) - 1, **changes}
    return list(zip(range(1, 9), fields.values(), strict=True))


def image(path: Path, *messages: sharing.Fields) -> None:
    sharing._write(path, struct.pack("<II", sharing.COMMON_MAGIC, 0x1234), list(messages))


def pages(first: int, count: int) -> bytes:
    """Pages that can be told from each other."""
    return b"".join(bytes([number]) * PAGE for number in range(first, first + count))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Of one process: a mapping of 32 pages, one that is too small, one that grows down, one more of 16 pages."""
    mappings = [vma(0x10000, 32), vma(0x40000, 2), vma(0x50000, 32, flags=0x122), vma(0x80000, 16, status=0x221)]
    image(tmp_path / "mm-7.img", [(1, 99), *((sharing.MM_VMAS, sharing._encode(each)) for each in mappings)])
    runs = [(0x11000, 3), (0x2F000, 1), (0x40000, 2), (0x50000, 1), (0x80000, 16)]
    entries: list[sharing.Fields] = [[(1, at), (2, count), (4, 4), (5, count)] for at, count in runs]
    image(tmp_path / "pagemap-7.img", [(1, 1)], *entries)
    (tmp_path / "pages-1.img").write_bytes(pages(1, 23))
    regular = sharing._encode([(1, 41), (2, 0), (3, 0), (5, b"\x08\x00"), (6, b"/lib/x"), (8, 100)])
    image(tmp_path / "files.img", [(1, 1), (2, 41), (3, regular)])
    return tmp_path


def test_pages_of_large_anonymous_mappings_move_into_one_file(images: Path) -> None:
    assert sharing.share(images, images / "memory", "/run/rie/memory") == 2
    with (images / "memory").open("rb") as memory:
        memory.seek(PAGE)
        assert memory.read(3 * PAGE) == pages(1, 3)
        memory.seek(31 * PAGE)
        assert memory.read(2 * PAGE) == pages(4, 1) + bytes(PAGE)  # what follows a mapping reads as zeros
        memory.seek(sharing.ROOM)
        assert memory.read(16 * PAGE) == pages(8, 16)
    assert (images / "memory").stat().st_blocks * 512 < 40 * PAGE
    assert (images / "pages-1.img").read_bytes() == pages(5, 3)
    _, (_, *left) = sharing._read(images / "pagemap-7.img")
    assert [(sharing._get(entry, 1), sharing._get(entry, 2)) for entry in left] == [(0x40000, 2), (0x50000, 1)]


def test_such_mappings_become_private_ones_of_that_file_and_the_others_stay(images: Path) -> None:
    sharing.share(images, images / "memory", "/run/rie/memory")
    _, (message,) = sharing._read(images / "mm-7.img")
    assert sharing._get(message, 1) == 99
    mappings = [value for number, value in message if number == sharing.MM_VMAS]
    found = [sharing._parse(value) for value in mappings if isinstance(value, bytes)]
    assert found[0] == vma(0x10000, 32, pgoff=0, shmid=42, flags=0x02, status=0x41)
    assert found[1:3] == [vma(0x40000, 2), vma(0x50000, 32, flags=0x122)]
    assert found[3] == vma(0x80000, 16, pgoff=sharing.ROOM, shmid=42, flags=0x02, status=0x61)
    _, table = sharing._read(images / "files.img")
    regular = sharing._get(table[-1], 3)
    assert isinstance(regular, bytes)
    assert sharing._parse(regular) == [(1, 42), (2, 0), (3, 0), (5, b"\x08\x00"), (6, b"/run/rie/memory")]


def test_processes_have_rooms_and_a_file_of_their_own_each(images: Path) -> None:
    for kind in ("mm", "pagemap"):
        (images / f"{kind}-8.img").write_bytes((images / f"{kind}-7.img").read_bytes())
    magic, (_, *entries) = sharing._read(images / "pagemap-8.img")
    sharing._write(images / "pagemap-8.img", magic, [[(1, 2)], *entries])
    (images / "pages-2.img").write_bytes(pages(101, 23))
    assert sharing.share(images, images / "memory", "/run/rie/memory") == 4
    with (images / "memory").open("rb") as memory:
        for room, first in ((0, 1), (2, 101)):
            memory.seek(room * sharing.ROOM + PAGE)
            assert memory.read(3 * PAGE) == pages(first, 3)
    files = []
    for number in (7, 8):
        _, (message,) = sharing._read(images / f"mm-{number}.img")
        value = sharing._get(message, sharing.MM_VMAS)
        assert isinstance(value, bytes)
        files.append(sharing._get(sharing._parse(value), 4))
    assert files == [42, 43]
    _, table = sharing._read(images / "files.img")
    assert [sharing._get(entry, 2) for entry in table] == [41, 42, 43]


def test_images_of_another_kind_are_refused(images: Path) -> None:
    image(images / "pagemap-7.img", [(1, 1)], [(1, 0x11000), (2, 3), (3, 1), (4, 1), (5, 3)])
    with pytest.raises(ValueError, match="cannot share"):
        sharing.share(images, images / "memory", "/run/rie/memory")


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 1 << 35, (1 << 64) - 1])
def test_numbers_are_read_as_they_were_written(value: int) -> None:
    assert sharing._parse(sharing._encode([(5, value), (14, b"x" * 200)])) == [(5, value), (14, b"x" * 200)]


def madvise(advice: int, *, keeps_pages: bool) -> int:
    """What the filter says."""
    number = seccomp.RULED["x86_64"]["madvise"]
    data = struct.pack("=IIQ6Q", number, seccomp.AUDIT_ARCH["x86_64"], 0, 0, 1, advice, 0, 0, 0)
    program = seccomp.program("x86_64", keeps_pages=keeps_pages)
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at, accumulator = 0, 0
    while True:
        kind, yes, no, value = code[at]
        at += 1
        if kind == seccomp.LOAD:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif kind == seccomp.RETURN:
            return int(value)
        elif kind == 0x05:
            at += value
        else:
            holds = {seccomp.JUMP_EQUAL: accumulator == value, seccomp.JUMP_GREATER: accumulator > value}
            at += yes if holds.get(kind, accumulator & value) else no


@pytest.mark.parametrize(("advice", "is_refused"), [(3, False), (4, True), (8, False), (14, False), (24, True)])
def test_where_memory_is_shared_nobody_gives_pages_back_for_zeros(advice: int, is_refused: bool) -> None:
    assert madvise(advice, keeps_pages=False) == seccomp.ALLOW
    assert madvise(advice, keeps_pages=True) == (seccomp.FAIL | 22 if is_refused else seccomp.ALLOW)


# -- versions ------------------------------------------------------------------------------------------------------


class Engine:
    """As far as snapshots go."""

    def __init__(self, why: str | None = None) -> None:
        self.why = why

    def why_no_snapshots(self) -> str | None:
        return self.why

    def can_start_from(self, snapshot: Path) -> bool:
        return (snapshot / "whole").exists()


def names(directory: Path) -> list[str]:
    """What is in it."""
    return sorted(path.name for path in directory.iterdir())


def whole(directory: Path) -> None:
    """Make a snapshot that is one."""
    directory.mkdir()
    (directory / "whole").touch()


async def taking(function: Function, configuration: Configuration, directory: Path) -> None:
    """As a pool that can."""
    whole(directory)


def failing(error: Exception) -> Callable[[Function, Configuration, Path], Awaitable[None]]:
    async def take(function: Function, configuration: Configuration, directory: Path) -> None:
        raise error

    return take


def version(number: str = "1", configuration_id: str = "c") -> Function:
    configuration = Configuration(configuration_id, "role", "", None, snap_start="PublishedVersions")
    return Function(KEY, configuration, configuration, "r", "now", version=number, state="Active")


def test_a_snapshot_is_found_by_the_configuration_of_its_version_until_that_is_gone(tmp_path: Path) -> None:
    async def run() -> None:
        snapshots = Snapshots(Engine(), tmp_path, taking)  # type: ignore[arg-type]
        function = version()
        assert await snapshots.take(function)
        assert snapshots.find(function, function.configuration) == tmp_path / "c-1"
        assert snapshots.find(version("2"), function.configuration) is None
        snapshots.forget(KEY, "2")
        assert snapshots.find(function, function.configuration) is not None
        snapshots.forget(KEY, "$LATEST")
        assert snapshots.find(function, function.configuration) is None
        await asyncio.get_running_loop().shutdown_default_executor()
        assert names(tmp_path) == []

    asyncio.run(run())


def test_what_an_earlier_process_left_is_taken_over_if_it_is_whole_and_somebodys(tmp_path: Path) -> None:
    async def run() -> None:
        for name in ("c-1", "of-nobody"):
            await taking(version(), version().configuration, tmp_path / name)
        (tmp_path / "c-2").mkdir()
        snapshots = Snapshots(Engine(), tmp_path, taking)  # type: ignore[arg-type]
        lacking = await snapshots.open([version("1"), version("2")])
        assert [function.version for function in lacking] == ["2"]
        assert names(tmp_path) == ["c-1"]
        assert snapshots.find(version("1"), version().configuration) == tmp_path / "c-1"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("engine", "error", "words"),
    [
        (Engine("criu is not installed"), None, "criu is not installed"),
        (Engine(), SandboxFailed("cannot dump"), "cannot dump"),
        (Engine(), Throttled("x"), "does not fit"),
    ],
)
def test_where_there_is_no_snapshot_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, engine: Engine, error: Exception | None, words: str
) -> None:
    take = taking if error is None else failing(error)
    snapshots = Snapshots(engine, tmp_path, take)  # type: ignore[arg-type]
    assert not asyncio.run(snapshots.take(version()))
    assert "has no snapshot" in caplog.text and words in caplog.text
    assert snapshots.find(version(), version().configuration) is None


@pytest.mark.parametrize(
    ("error_type", "code"),
    [
        ("Sandbox.Timedout", "InitTimeout"),
        ("Runtime.InvalidEntrypoint", "InvalidEntryPoint"),
        ("Extension.Crash", "ExtensionInitError"),
        ("Runtime.ImportModuleError", "RuntimeInitError"),
    ],
)
def test_what_init_has_failed_with_is_the_versions_reason(error_type: str, code: str) -> None:
    assert init_failed(error_type).code == f"FunctionError.{code}"


def test_hooks_that_fail_are_the_services_errors() -> None:
    assert restore_failed("timeout", "Sandbox.Timedout").code == "SnapStartTimeoutException"
    failed = restore_failed("error", "Runtime.AfterRestoreError")
    assert failed.code == "SnapStartException"
    assert "Runtime.AfterRestoreError" in str(failed)


SNAPPING = {"Runtime": "python3.12", "SnapStart": {"ApplyOn": "PublishedVersions"}}
VERSIONS = "/2015-03-31/functions/f/versions"


def shown(world: World, qualifier: str = "1") -> tuple[str, str | None, str]:
    """State, its reason's code and OptimizationStatus of a version."""
    seen: Any = world.call("GET", f"/2015-03-31/functions/f/configuration?Qualifier={qualifier}").json
    return seen["State"], seen.get("StateReasonCode"), seen["SnapStart"]["OptimizationStatus"]


def snapping() -> World:
    """A function whose versions take snapshots, Active."""
    world = World()
    assert world.create_zip(**SNAPPING).status_code == 201
    world.settle()
    return world


@pytest.mark.parametrize("is_optimised", [True, False])
def test_a_version_is_pending_until_its_snapshot_is_there_or_can_not_be(is_optimised: bool) -> None:
    world = snapping()
    assert world.call("POST", VERSIONS, {}).status_code == 201
    assert shown(world) == ("Pending", "Creating", "Off")
    (function,) = world.submitted
    assert (function.version, function.serving) == ("1", None)
    world.catalog.mark_published(function, None, is_optimised=is_optimised)
    assert shown(world) == ("Active", None, "On" if is_optimised else "Off")
    assert shown(world, "$LATEST") == ("Active", None, "Off")
    assert world.call("POST", VERSIONS, {}).json["Version"] == "1"  # nothing has changed since


def test_a_version_that_is_published_with_the_function_waits_for_its_own_snapshot() -> None:
    world = World()
    assert world.create_zip(**SNAPPING, Publish=True).json["Version"] == "1"
    latest, version = world.submitted
    world.catalog.mark_deployed(latest.key, latest.configuration.configuration_id)
    assert shown(world, "$LATEST")[0] == "Active"
    assert shown(world)[0] == "Pending"
    world.catalog.mark_unpublished(version, "FunctionError.RuntimeInitError", "no")
    assert shown(world) == ("Failed", "FunctionError.RuntimeInitError", "Off")


def test_provisioned_concurrency_and_snapshots_exclude_each_other() -> None:
    world = snapping()
    world.call("POST", VERSIONS, {})
    world.settle()
    path = "/2019-09-30/functions/f/provisioned-concurrency?Qualifier=1"
    answer = world.call("PUT", path, {"ProvisionedConcurrentExecutions": 1})
    assert answer.status_code == 400
    assert "SnapStart" in answer.json["message"]


@pytest.mark.parametrize(("outcome", "state"), [(True, "Active"), (False, "Active"), (InitFailed("C", "x"), "Failed")])
def test_a_deployment_takes_the_snapshot_before_the_version_serves(outcome: bool | Exception, state: str) -> None:
    async def run() -> None:
        world = snapping()
        world.call("POST", VERSIONS, {})
        image = Image("reg/python@sha256:1", "sha256:1", "x86_64")
        taken: list[Function] = []

        async def prepare(configuration: Configuration) -> Image:
            return image

        async def take(function: Function) -> bool:
            taken.append(function)
            assert shown(world)[0] == "Pending"
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        deployment = Deployment(prepare, world.catalog, take_snapshot=take)
        deployment.submit(world.submitted[0])
        async with asyncio.timeout(10):
            while shown(world)[0] == "Pending":  # noqa: ASYNC110 - the condition is a database's
                await asyncio.sleep(0.005)
        assert shown(world)[0] == state
        assert shown(world)[2] == ("On" if outcome is True else "Off")
        assert taken[0].configuration.image == image
        await deployment.close()

    asyncio.run(run())


def test_a_version_that_waits_for_its_snapshot_can_not_be_invoked_yet() -> None:
    waiting = replace(version(), state="Pending", serving=None)
    with pytest.raises(ServiceError) as refused:
        serving(waiting)
    assert refused.value.code == "SnapStartNotReadyException"
    with pytest.raises(ServiceError) as refused:
        serving(replace(waiting, version="$LATEST"))
    assert refused.value.code == "ResourceConflictException"
