"""What the daemonless engine alone has to keep: isolation, limits, networks, freezing, cleaning up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rie.engine.base import LOCAL, Mount
from rie.engine.oci import OciEngine, bridges, rootless
from rie.engine.oci.sandbox import OciSandbox
from rie.errors import EngineUnavailable, HostFault, ImageNotFound, SandboxFailed
from rie.limits import storage
from rie.limits.groups import Group
from tests.contract.conftest import (
    Case,
    begin,
    connect,
    docker,
    eventually,
    image_of,
    leftovers,
    probe,
    read_log,
    run,
    settings_in,
)
from tests.registry import Registry

MB = 1024 * 1024
FUNCTION_UID = 993


def status_of(text: str) -> dict[str, str]:
    """/proc/PID/status as a mapping."""
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def status(pid: int) -> dict[str, str]:
    """The same of a process of the host."""
    return status_of(Path(f"/proc/{pid}/status").read_text())


def open_files(pid: int) -> list[str]:
    """What a process has open."""
    return [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]


# -- isolation ---------------------------------------------------------------------------------------------------------


def test_the_function_has_no_privilege_and_sees_a_read_only_system(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            event = {"read": "/proc/self/status", "stat": "/tmp", "attempt-list": "/run/rie", "root": None}
            found = await probe(oci_case, engine, event)
            seen = status_of(found["read"])
            assert seen["Uid"].split() == [str(FUNCTION_UID)] * 4
            assert (seen["NoNewPrivs"], seen["Seccomp"]) == ("1", "2")
            assert [int(seen[name], 16) for name in ("CapEff", "CapPrm", "CapInh")] == [0, 0, 0]
            assert found["attempt-list"] == "Permission denied"
            assert found["stat"] == {"mode": 0o1777, "uid": 0}
            assert found["root"] == ["dev", "etc", "opt", "proc", "run", "sys", "tmp", "var"]

    run(test())


def test_the_bootstrap_keeps_three_capabilities(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            sandbox = await oci_case.start(engine, "echo")
            assert isinstance(sandbox, OciSandbox)
            found = status(sandbox.pid)
            for name in ("CapEff", "CapPrm", "CapBnd"):
                assert int(found[name], 16) == 1 << 5 | 1 << 6 | 1 << 7, name
            assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")

    run(test())


@pytest.mark.parametrize(
    "path",
    [
        *("/x", "/var/task/x", "/etc/passwd", "/dev/x", "/dev/shm/x", "/run/x", "/opt/rie/x", "/opt/rie/bootstrap"),
        *("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/net/ipv4/ip_forward", "/proc/1/mem"),
        *("/sys/x", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/cgroup.procs", "/run/rie/front"),
        *("/sys/fs/cgroup/memory/cgroup.procs", "/run/rie/log", "/etc/resolv.conf", "/etc/hosts"),
    ],
)
def test_nothing_can_be_written_outside_tmp(shared_probe: Any, path: str) -> None:
    assert shared_probe({"attempt-write": path}) is not None


def test_other_processes_and_the_bootstraps_secrets_are_out_of_reach(shared_probe: Any) -> None:
    pids = shared_probe({"processes": None})
    assert pids[0] == 1 and len(pids) <= 3
    assert shared_probe({"attempt-kill": 1}) == "Operation not permitted"
    for name in ("environ", "mem", "maps", "root", "cwd", "exe", "fd"):
        assert shared_probe({"attempt-list": f"/proc/1/{name}"}) is not None, name
    assert shared_probe({"read": "/proc/1/cmdline"}).startswith("/opt/rie/bootstrap")
    assert shared_probe({"exists": "/var/run/docker.sock"}) is False


def test_raw_sockets_are_refused(shared_probe: Any) -> None:
    assert shared_probe({"attempt-raw": None}) == "Operation not permitted"
    assert shared_probe({"attempt-packet": None}) == "Address family not supported by protocol"


def test_what_tells_of_the_host_is_hidden(shared_probe: Any) -> None:
    assert shared_probe({"read": "/proc/interrupts"}) == ""
    assert shared_probe({"exists": "/sys/class"}) is False
    mounts = shared_probe({"read": "/proc/self/mountinfo"})
    for line in mounts.splitlines():
        # Only the bundle's and the run directory's mounts say where they come from; nothing lies below the old root.
        assert line.split()[4].startswith("/"), line
    assert "docker" not in mounts
    assert "0::/\n" in shared_probe({"read": "/proc/self/cgroup"}) or ":memory:/\n" in shared_probe(
        {"read": "/proc/self/cgroup"}
    )


@pytest.fixture(scope="module")
def shared_probe(
    registry: Registry, bundle_directory: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """One sandbox that many tests ask, a verb each."""
    owner = f"shared-{os.getpid()}"
    directory = tmp_path_factory.mktemp("probe")
    settings = settings_in(directory, shared, bundle_directory, owner)
    case = Case("oci", settings, registry.host)
    event_loop = asyncio.new_event_loop()

    async def begin() -> tuple[OciEngine, Any]:
        engine = OciEngine(settings)
        return engine, await connect(await case.start(engine, "probe"))

    engine, door = event_loop.run_until_complete(begin())

    def ask(event: dict[str, Any]) -> Any:
        (verb,) = event
        return event_loop.run_until_complete(door.invoke(event)).json()[verb]

    yield ask
    event_loop.run_until_complete(engine.close())
    event_loop.close()
    left = leftovers(owner, directory)
    assert not left, left


def test_the_sandbox_has_a_name_and_knows_it(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            found = await probe(oci_case, engine, {"hostname": None, "read": "/etc/hosts"})
            assert found["hostname"] == "probe"
            assert found["read"].splitlines()[-1].split()[1] == "probe"

    run(test())


def test_links_of_the_image_lead_nowhere(oci_case: Case, registry: Registry, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "file").write_text("given")

    async def test() -> None:
        async with oci_case.engine() as engine:
            mounts = (Mount(given, "/var/volume"),)
            event = {"read": "/var/volume/file", "attempt-write": "/var/volume/x"}
            found = await probe(oci_case, engine, event, mounts=mounts)
            assert found["read"] == "given"
            assert found["attempt-write"] is not None
            for target in ("/", "/etc", "/proc/self", "/run/rie", "/opt/rie", "/opt/rie/lib", "/tmp"):
                with pytest.raises(SandboxFailed, match="the sandbox has its own there"):
                    await oci_case.start(engine, "probe", mounts=(Mount(given, target),))

    run(test())


def test_layers_may_lie_over_opt_above_the_bundle(oci_case: Case, tmp_path: Path) -> None:
    given = tmp_path / "given"
    (given / "python").mkdir(parents=True)
    (given / "python" / "lib.py").write_text("a layer")

    async def test() -> None:
        async with oci_case.engine() as engine:
            found = await probe(oci_case, engine, {"read": "/opt/python/lib.py"}, mounts=(Mount(given, "/opt"),))
            assert found["read"] == "a layer"

    run(test())


# -- limits ------------------------------------------------------------------------------------------------------------


def test_tmp_is_bounded_and_neither_suid_nor_devices_work_there(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            # 600 MB in a function with 128 MB of memory: /tmp is on disk.
            event = {"fill-tmp": 600, "read": "/proc/mounts"}
            found = await probe(oci_case, engine, event, ephemeral_storage_mb=600)
            assert found["fill-tmp"] is None
            line = next(line for line in found["read"].splitlines() if line.split()[1] == "/tmp")
            assert line.split()[2] == "ext4"
            assert {"rw", "nosuid", "nodev"} <= set(line.split()[3].split(","))
            for line in found["read"].splitlines():
                assert "nosuid" in line.split()[3].split(","), line
            found = await probe(oci_case, engine, {"fill-tmp": 514}, ephemeral_storage_mb=512)
            assert found["fill-tmp"] == "No space left on device"

    run(test())


def test_without_loop_devices_tmp_is_a_bounded_tmpfs(oci_case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "unavailable", lambda: "told so")

    async def test() -> None:
        async with oci_case.engine() as engine:
            assert "(told so)" in await engine.check()
            found = await probe(oci_case, engine, {"fill-tmp": 11, "stat": "/tmp"}, ephemeral_storage_mb=10)
            assert found["fill-tmp"] == "No space left on device"
            assert found["stat"]["mode"] == 0o1777

    run(test())


def test_memory_is_limited_and_the_sandbox_survives_its_function(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            door = await connect(await oci_case.start(engine, "probe"))
            assert (await door.invoke({"allocate": 60})).json() == {"allocate": 60 * MB}
            answer = await door.invoke({"allocate": 400})
            assert answer.headers["x-amz-function-error"] == "Unhandled"
            assert answer.headers["x-rie-report"].split(";")[2] == "128"
            assert (await door.invoke({"allocate": 1})).json() == {"allocate": MB}

    run(test())


def test_want_of_memory_is_told_apart(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            sandbox = await oci_case.start(engine, "probe")
            door = await connect(sandbox)
            await door.invoke({"allocate": 400})
            assert "Error Type: Runtime.OutOfMemory" in await read_log(sandbox, "REPORT RequestId")

    run(test())


def test_processes_and_open_files_are_limited(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            found = await probe(oci_case, engine, {"fork": 100, "open": 200}, pids=20, open_files=100)
            forked, error = found["fork"]
            assert 10 < forked < 20 and error == "Resource temporarily unavailable"
            opened, error = found["open"]
            assert 80 < opened < 100 and error == "Too many open files"

    run(test())


def test_the_cpu_quota_holds_from_the_moment_it_is_applied(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            sandbox = await oci_case.start(engine, "probe", cpus=0.1)
            door = await connect(sandbox)
            await sandbox.limit_cpu()
            assert (await door.invoke({"spin": 1.0})).json()["spin"] < 0.2

    run(test())


# -- freezing ----------------------------------------------------------------------------------------------------------


def test_a_frozen_sandbox_stands_still_and_goes_on_where_it_was(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            sandbox = await oci_case.start(engine, "probe")
            door = await connect(sandbox)
            await door.init()
            await sandbox.freeze()
            await sandbox.freeze()
            asked = asyncio.ensure_future(door.invoke({"time": None}))
            await asyncio.sleep(0.2)
            assert not asked.done()
            await sandbox.thaw()
            assert (await asked).json()["time"] > 0
            await sandbox.freeze()
            await sandbox.destroy()
            await sandbox.thaw()

    run(test())


# -- starting and stopping ---------------------------------------------------------------------------------------------


def test_twenty_sandboxes_start_at_once(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            spec = await oci_case.spec(engine, "echo")
            specs = [replace(spec, sandbox_id=f"s-{number}") for number in range(20)]
            sandboxes = await asyncio.gather(*(engine.start(spec) for spec in specs))
            doors = await asyncio.gather(*(connect(sandbox) for sandbox in sandboxes))
            answers = await asyncio.gather(*(door.invoke(number) for number, door in enumerate(doors)))
            assert [answer.json() for answer in answers] == list(range(20))

    run(test())


def test_a_sandbox_that_cannot_begin_says_its_last_words(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            environment = {"AWS_LAMBDA_FUNCTION_TIMEOUT": "soon"}
            sandbox = await oci_case.start(engine, "echo", environment=environment)
            words = "it ended with status 2: rie: cannot read AWS_LAMBDA_FUNCTION_TIMEOUT"
            with pytest.raises(SandboxFailed, match=words):
                await connect(sandbox)

    run(test())


def test_a_start_that_fails_half_way_leaves_nothing(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            spec = await oci_case.spec(engine, "echo")
            with pytest.raises(SandboxFailed, match="No such file or directory"):
                await engine.start(replace(spec, mounts=(Mount(Path("/not/there"), "/var/volume"),)))
            assert not list(oci_case.settings.state_dir.glob("*/engine-*/s-1"))
            assert (await (await connect(await engine.start(spec))).invoke(1)).json() == 1

    run(test())


def test_closing_waits_for_a_blank_that_is_being_given_back(oci_case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    remove = Group.remove
    is_removing = threading.Event()

    def remove_the_first_slowly(group: Group) -> None:
        if not is_removing.is_set():
            is_removing.set()
            time.sleep(1.0)
        remove(group)

    monkeypatch.setattr(Group, "remove", remove_the_first_slowly)

    async def test() -> None:
        async with oci_case.engine() as engine:
            assert isinstance(engine, OciEngine)
            await oci_case.start(engine, "echo", sandbox_id="first")
            stock = engine._stock
            assert stock is not None
            await eventually(lambda: bool(stock._ready), 20)
            # What is ready does not fit the next: the stock changes it, and the engine closes meanwhile.
            await oci_case.start(engine, "echo", sandbox_id="second", ephemeral_storage_mb=600)
            await eventually(is_removing.is_set, 20)

    run(test())


def test_an_image_that_is_not_there_is_not_found(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            spec = await oci_case.spec(engine, "echo")
            digest = f"sha256:{'0' * 64}"
            gone = replace(spec.image, digest=digest, reference=f"{oci_case.host}/echo@{digest}")
            with pytest.raises(ImageNotFound):
                await engine.start(replace(spec, image=gone))

    run(test())


def test_an_image_that_only_docker_has_is_taken_over_and_again_when_it_is_gone(oci_case: Case) -> None:
    name = f"{oci_case.host}/echo:1"
    docker("pull", "-q", name)

    async def test() -> None:
        async with oci_case.engine() as engine:
            with pytest.raises(ImageNotFound):
                await engine.resolve(f"{LOCAL}nobody/nothing:1", "x86_64")
            image = await engine.resolve(f"{LOCAL}{name}", "x86_64")
            assert image.reference.startswith(f"{LOCAL}{name}@sha256:")
            spec = replace(await oci_case.spec(engine, "echo"), image=image)
            with pytest.raises(ImageNotFound):
                await engine.start(spec)
            await engine.prepare(image)
            assert (await (await connect(await engine.start(spec))).invoke(1)).json() == 1
        async with oci_case.engine() as another:
            await another.prepare(image)
            assert (await (await connect(await another.start(spec))).invoke(2)).json() == 2

    run(test())


def test_the_bootstrap_of_another_interpreter_is_executed(oci_case: Case, tmp_path: Path) -> None:
    """A bundle that was built elsewhere has another interpreter than this host: no fork can become its bootstrap."""
    import shutil

    foreign = tmp_path / "bundle"
    shutil.copytree(oci_case.settings.bundle, foreign, symlinks=True)
    manifest = json.loads((foreign / "BUNDLE").read_text())
    (foreign / "BUNDLE").write_text(json.dumps({**manifest, "python": "another"}))
    oci_case.settings = replace(oci_case.settings, bundle=foreign)

    async def test() -> None:
        async with oci_case.engine() as engine:
            assert (await (await connect(await oci_case.start(engine, "echo"))).invoke(1)).json() == 1

    run(test())


def test_when_the_launcher_dies_its_sandboxes_do_and_the_next_start_has_another(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            sandbox = await oci_case.start(engine, "echo")
            assert isinstance(sandbox, OciSandbox)
            ended: list[int] = []
            sandbox.on_exit(lambda: ended.append(1))
            os.kill(int(status(sandbox.pid)["PPid"]), signal.SIGKILL)
            await eventually(lambda: bool(ended))
            with pytest.raises(SandboxFailed):
                await connect(sandbox)
            again = await oci_case.start(engine, "echo", "s-2")
            assert (await (await connect(again)).invoke(1)).json() == 1

    run(test())


OTHER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from rie.engine import EngineSettings
from tests.contract.conftest import Case, connect

async def main():
    settings = EngineSettings(bundle=Path({bundle!r}), state_dir=Path({state!r}), owner={owner!r})
    case = Case("oci", settings, {host!r})
    async with case.engine() as engine:
        for name in ("a", "b"):
            await (await connect(await case.start(engine, "echo", name))).invoke(1)
        print("ready", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def test_reconcile_removes_what_a_killed_manager_left(oci_case: Case) -> None:
    settings = oci_case.settings
    program = OTHER.format(
        root=str(Path(__file__).parents[2]),
        bundle=str(settings.bundle),
        state=str(settings.state_dir),
        owner=settings.owner,
        host=oci_case.host,
    )

    async def test() -> None:
        async with oci_case.engine() as engine:
            sandbox = await oci_case.start(engine, "echo", "mine")
            other = begin(sys.executable, "-c", program)
            assert await engine.reconcile() == 0
            other.kill()
            other.wait()
            assert other.stdout is not None
            other.stdout.close()
            assert await engine.reconcile() == 2
            assert await engine.reconcile() == 0
            assert len(list(settings.state_dir.glob("*/engine-*"))) == 2  # ours and its lock
            mine = {token for token, alias in bridges.aliases().items() if settings.owner in alias}
            assert len(mine) == 1
            assert (await (await connect(sandbox)).invoke(1)).json() == 1

    run(test())


def test_nothing_of_the_host_is_left_open_in_a_sandbox(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            sandbox = await oci_case.start(engine, "echo")
            assert isinstance(sandbox, OciSandbox)
            await (await connect(sandbox)).init()
            links = open_files(sandbox.pid)
            plain = [link for link in links if not link.startswith(("socket:", "pipe:", "anon_inode:", "/proc/"))]
            assert sorted(set(plain)) == ["/dev/null", "/run/rie/log"], links
            for kind in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
                assert os.readlink(f"/proc/{sandbox.pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind

    run(test())


def test_what_is_missing_is_named(oci_case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            monkeypatch.setattr(os, "geteuid", lambda: 1000)
            monkeypatch.setattr(rootless, "find", lambda: rootless.Found(None, "the kernel says no"))
            with pytest.raises(EngineUnavailable, match="not root, and the kernel says no; use --engine docker"):
                await engine.check()
            monkeypatch.undo()
            monkeypatch.setattr("rie.engine.oci.engine._capabilities", lambda: 0x00000000A80425FB)  # Docker's default
            with pytest.raises(EngineUnavailable, match="root without NET_ADMIN, SYS_ADMIN, as in a container"):
                await engine.check()
            monkeypatch.undo()
            oci_case.settings = replace(oci_case.settings, bundle=tmp_path / "nothing")
        async with oci_case.engine() as engine:
            with pytest.raises(HostFault, match="there is no bundle at"):
                await engine.check()

    run(test())


def test_odd_images_do_not_count(oci_case: Case, registry: Registry) -> None:
    """User, volumes and working directory of the image: the service has its own."""
    registry.push("odd-oci", "1", image_of("probe", User="nobody", Volumes={"/var/volume": {}, "/tmp": {}}))

    async def test() -> None:
        async with oci_case.engine() as engine:
            sandbox = await oci_case.start(engine, "odd-oci")
            event = {"attempt-write": "/var/volume/x", "read": "/var/volume/file", "stat": "/tmp"}
            found = (await (await connect(sandbox)).invoke(event)).json()
            assert found["attempt-write"] is not None
            assert found["read"] == "from the image"
            assert found["stat"]["mode"] == 0o1777
            missing = await oci_case.start(engine, "echo", "s-2", working_directory="/not/there")
            answer = await (await connect(missing)).invoke({})
            assert answer.json()["errorType"] == "Runtime.InvalidWorkingDir"

    run(test())
