"""Sandboxes made from a snapshot: as closed as others, gone without a trace, and sharing what they only read."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootstrap.wire import RESTORE_PATH
from rie.engine import choose
from rie.engine.base import Engine, Sandbox, SandboxSpec
from rie.engine.oci import snapshots
from rie.engine.oci.sandbox import OciSandbox
from rie.errors import SandboxFailed
from tests.contract.conftest import Case, connect, eventually, image_of, run
from tests.contract.door import Door
from tests.contract.test_oci_engine import FUNCTION_UID, open_files, status, status_of
from tests.registry import Registry

NEWS = json.dumps({"logStream": "2026/01/01/[1]0", "credentials": ""}).encode()


def below(pid: int) -> list[int]:
    """A process and its descendants: the keeper, the bootstrap, the function."""
    found = [pid]
    for each in found:
        found += [int(child) for child in Path(f"/proc/{each}/task/{each}/children").read_text().split()]
    return found


def text_of(pid: int, name: str) -> str:
    """A file of the kernel's about a process."""
    return Path(f"/proc/{pid}/{name}").read_text()


async def snapshot_of(case: Case, engine: Engine, directory: Path, function: str = "probe") -> SandboxSpec:
    """Take one; what to start for each sandbox of it."""
    assert engine.why_no_snapshots() is None, "these tests take criu: RIE_CRIU=$(scripts/criu)"
    spec = await case.spec(engine, function, "template", is_template=True)
    spec = replace(spec, environment={**spec.environment, "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"})
    template = await engine.start(spec)
    try:
        door = await connect(template)
        assert (await door.init()).json()["status"] == "success"
        door.close()
        await eventually(lambda: door.transport is not None and door.transport.is_closing())
        await _taken(template, directory)
    finally:
        await template.destroy()
    return replace(spec, is_template=False, snapshot=directory)


async def _taken(template: Sandbox, directory: Path) -> None:
    """The bootstrap may not have seen yet that the connection is closed, which can't be written down."""
    for _ in range(20):
        try:
            return await template.take_snapshot(directory)
        except SandboxFailed as error:
            why = error
    raise why


async def restored(engine: Engine, spec: SandboxSpec, name: str) -> tuple[OciSandbox, Door]:
    """A sandbox of it that has gone on, and its front door."""
    sandbox = await engine.start(replace(spec, sandbox_id=name))
    assert isinstance(sandbox, OciSandbox)
    door = await connect(sandbox)
    answer = await door.request("POST", RESTORE_PATH, NEWS)
    assert (answer.status, answer.json()["status"]) == (200, "success")
    return sandbox, door


def test_it_is_as_closed_as_any_other(oci_case: Case, tmp_path: Path) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            spec = await snapshot_of(oci_case, engine, tmp_path / "snapshot")
            sandbox, door = await restored(engine, spec, "one")
            event = {"read": "/proc/self/status", "attempt-list": "/run/rie", "attempt-write": "/run/x", "root": None}
            found = (await door.invoke({**event, "attempt-kill": 1, "processes": None})).json()
            seen = status_of(found["read"])
            assert seen["Uid"].split() == [str(FUNCTION_UID)] * 4
            assert (seen["NoNewPrivs"], seen["Seccomp"]) == ("1", "2")
            assert [int(seen[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")] == [0, 0, 0, 0]
            assert found["attempt-list"] == "Permission denied"
            assert found["attempt-write"] is not None
            assert found["attempt-kill"] == "Operation not permitted"
            assert len(found["processes"]) == 3  # nothing of criu is left
            keeper, bootstrap, function = below(sandbox.pid)
            for pid in (keeper, bootstrap):
                held = status(pid)
                for name in ("CapEff", "CapPrm", "CapBnd"):
                    assert int(held[name], 16) == 1 << 5 | 1 << 6 | 1 << 7, (pid, name)
                assert (held["NoNewPrivs"], held["Seccomp"]) == ("1", "2")
            namespaces = {os.readlink(f"/proc/{pid}/ns/mnt") for pid in (keeper, bootstrap, function)}
            assert len(namespaces) == 1
            assert namespaces.isdisjoint({os.readlink("/proc/self/ns/mnt")})
            assert [path for path in open_files(keeper) if path.startswith("/") and path != "/dev/null"] == []
            for pid in (bootstrap, function):
                assert [path for path in open_files(pid) if "criu" in path or "/lib" in path] == []

    run(test())


def test_two_of_one_snapshot_are_apart_and_share_what_they_only_read(oci_case: Case, tmp_path: Path) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            spec = await snapshot_of(oci_case, engine, tmp_path / "snapshot")
            (one, first), (other, second) = [await restored(engine, spec, name) for name in ("one", "other")]
            assert (await first.invoke({"attempt-write": "/tmp/mine"})).json()["attempt-write"] is None
            assert (await second.invoke({"exists": "/tmp/mine"})).json()["exists"] is False
            for sandbox in (one, other):
                mapped = text_of(below(sandbox.pid)[-1], "maps")
                assert f"/run/rie/{snapshots.MEMORY} (deleted)" in mapped
            answer = await first.invoke({"exists": f"/run/rie/{snapshots.MEMORY}"})
            assert answer.json() == {"exists": False}
            groups = {text_of(below(sandbox.pid)[-1], "cgroup") for sandbox in (one, other)}
            assert len(groups) == 2  # each is charged for its own

    run(test())


@pytest.mark.parametrize("place", [0, 1])
def test_whoever_of_it_is_killed_all_of_it_ends(oci_case: Case, tmp_path: Path, place: int) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            spec = await snapshot_of(oci_case, engine, tmp_path / "snapshot", "echo")
            sandbox, _ = await restored(engine, spec, "one")
            pids = below(sandbox.pid)
            ended: list[bool] = []
            sandbox.on_exit(lambda: ended.append(True))
            os.kill(pids[place], signal.SIGKILL)
            await eventually(lambda: bool(ended))
            await eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids[1:]))
            await sandbox.destroy()

    run(test())


def test_a_snapshot_that_is_damaged_is_an_error_that_leaves_nothing(oci_case: Case, tmp_path: Path) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            spec = await snapshot_of(oci_case, engine, tmp_path / "snapshot", "echo")
            assert engine.can_start_from(tmp_path / "snapshot")
            next((tmp_path / "snapshot" / "images").glob("core-*.img")).write_bytes(b"")
            with pytest.raises(SandboxFailed, match="cannot restore the snapshot"):
                await engine.start(replace(spec, sandbox_id="one"))
            shutil.rmtree(tmp_path / "snapshot")
            assert not engine.can_start_from(tmp_path / "snapshot")
            with pytest.raises(SandboxFailed, match="cannot read the snapshot"):
                await engine.start(replace(spec, sandbox_id="one"))

    run(test())


def test_criu_obeys_nothing_that_the_image_says(oci_case: Case, registry: Registry, tmp_path: Path) -> None:
    async def test() -> None:
        hostile = {
            "etc/criu/default.conf": b"action-script /bin/false\nno-such-option\n",
            "usr/lib/criu/evil.so": b"no library at all",
            "usr/lib/x86_64-linux-gnu/libprotobuf-c.so.1": b"no library at all",
            "etc/ld.so.preload": b"/usr/lib/criu/evil.so\n",
        }
        registry.push("hostile", "1", image_of("echo", more=hostile))
        async with oci_case.engine() as engine:
            spec = await snapshot_of(oci_case, engine, tmp_path / "snapshot", "hostile")
            _, door = await restored(engine, spec, "one")
            assert (await door.invoke({"a": 1})).json() == {"a": 1}

    run(test())


@pytest.mark.parametrize("name", ["docker", "stub"])
def test_other_engines_say_that_they_take_none(oci_case: Case, name: str) -> None:
    engine: Any = choose(name, oci_case.settings)
    assert engine.why_no_snapshots()
