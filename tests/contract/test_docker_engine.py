"""What the Docker engine alone has to keep: isolation, limits, cleaning up, and faults of the daemon."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bootstrap.wire import SOCKET_NAME
from rie.engine.base import LOCAL, Mount
from rie.engine.docker import DockerEngine, client
from rie.errors import EngineUnavailable, HostFault, ImageInvalid, ImageNotFound, SandboxFailed
from rie.limits import cgroup, loop, share, storage
from tests.contract.conftest import (
    Case,
    connect,
    container_of,
    containers,
    docker,
    eventually,
    forget_images,
    image_of,
    probe,
    read_log,
    run,
)
from tests.registry import Registry

MB = 1024 * 1024
FUNCTION_UID = 993


def inspect(case: Case, sandbox_id: str) -> dict[str, Any]:
    """Docker's view of a sandbox."""
    found: dict[str, Any] = json.loads(docker("inspect", container_of(case.settings.owner, sandbox_id)))[0]
    return found


# -- isolation ---------------------------------------------------------------------------------------------------------


def test_the_function_has_no_privilege_and_sees_a_read_only_system(docker_case: Case) -> None:
    async def test() -> None:
        async with docker_case.engine() as engine:
            event = {
                "read": "/proc/self/status",
                "attempt-write": "/var/task/x",
                "attempt-list": "/run/rie",
                "stat": "/tmp",
            }
            found = await probe(docker_case, engine, event)
            status = dict(line.split(":\t", 1) for line in found["read"].splitlines() if ":\t" in line)
            assert status["Uid"].split() == [str(FUNCTION_UID)] * 4
            assert status["NoNewPrivs"] == "1"
            assert (int(status["CapEff"], 16), int(status["CapPrm"], 16)) == (0, 0)
            assert status["Seccomp"] == "2"
            assert found["attempt-write"] in ("Read-only file system", "Permission denied")
            assert found["attempt-list"] == "Permission denied"
            assert found["stat"] == {"mode": 0o1777, "uid": 0}

    run(test())


def test_the_container_is_made_as_tight_as_it_can_be(docker_case: Case) -> None:
    async def test() -> None:
        async with docker_case.engine() as engine:
            await docker_case.start(engine, "echo", labels={"function": "f"})
            host = inspect(docker_case, "s-1")["HostConfig"]
            assert host["ReadonlyRootfs"] and not host["Privileged"] and not host["PortBindings"]
            assert host["CapDrop"] == ["ALL"]
            assert sorted(host["CapAdd"]) in (["KILL", "SETGID", "SETUID"], ["CAP_KILL", "CAP_SETGID", "CAP_SETUID"])
            assert host["SecurityOpt"] == ["no-new-privileges"]
            assert host["RestartPolicy"]["Name"] == "no"
            assert host["LogConfig"] == {
                "Type": "local",
                "Config": {"max-size": "1m", "max-file": "1", "compress": "false"},
            }
            labels = inspect(docker_case, "s-1")["Config"]["Labels"]
            assert labels["function"] == "f" and labels["rie.sandbox"] == "s-1"

    run(test())


def test_layers_at_opt_are_read_only_and_hide_no_bundle(docker_case: Case, tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "opt" / "rie").mkdir(parents=True)
        (tmp_path / "opt" / "layer").write_text("from a layer")
        async with docker_case.engine() as engine:
            # The function itself runs on the bundle's interpreter.
            event = {"read": "/opt/layer", "attempt-write": "/opt/x", "attempt-list": "/opt/rie/lib"}
            found = await probe(docker_case, engine, event, mounts=(Mount(tmp_path / "opt", "/opt"),))
            assert found["read"] == "from a layer"
            assert found["attempt-write"] in ("Read-only file system", "Permission denied")
            assert found["attempt-list"] is None

    run(test())


def test_an_image_of_the_local_engines_runs_and_may_be_built_anew(docker_case: Case) -> None:
    async def test() -> None:
        async with docker_case.engine() as engine:
            spec = await docker_case.spec(engine, "echo")
            name = f"rie-test-{os.getpid()}/echo:1"
            docker("tag", spec.image.reference, name)
            try:
                image = await engine.resolve(f"{LOCAL}{name}", "x86_64")
                assert image.reference == f"{LOCAL}{name}@{image.digest}"
                assert (image.command, image.environment) == (spec.image.command, spec.image.environment)
                gone = replace(image, reference=f"{LOCAL}{name}@sha256:{'0' * 64}")
                for number, each in enumerate((image, gone)):
                    await engine.prepare(each)
                    sandbox = await engine.start(replace(spec, sandbox_id=f"s-{number}", image=each))
                    assert (await (await connect(sandbox)).invoke({"a": 1})).json() == {"a": 1}
                with pytest.raises(ImageInvalid, match="not linux/arm64"):
                    await engine.resolve(f"{LOCAL}{name}", "arm64")
            finally:
                docker("rmi", name)
            with pytest.raises(ImageNotFound):
                await engine.resolve(f"{LOCAL}{name}", "x86_64")
            with pytest.raises(ImageNotFound):
                await engine.prepare(gone)

    run(test())


def test_tmp_is_bounded_and_neither_suid_nor_devices_work_there(docker_case: Case) -> None:
    async def test() -> None:
        async with docker_case.engine() as engine:
            # 600 MB in a function with 128 MB of memory: /tmp is on disk.
            found = await probe(
                docker_case, engine, {"fill-tmp": 600, "read": "/proc/mounts"}, ephemeral_storage_mb=600
            )
            assert found["fill-tmp"] is None
            line = next(line for line in found["read"].splitlines() if line.split()[1] == "/tmp")
            assert line.split()[2] == "ext4"
            assert {"rw", "nosuid", "nodev"} <= set(line.split()[3].split(","))
            found = await probe(docker_case, engine, {"fill-tmp": 514}, ephemeral_storage_mb=512)
            assert found["fill-tmp"] == "No space left on device"

    run(test())


def test_without_loop_devices_tmp_is_a_bounded_tmpfs(docker_case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "unavailable", lambda: "told so")

    async def test() -> None:
        async with docker_case.engine() as engine:
            assert (await engine.check()).endswith("(told so)")
            event = {"fill-tmp": 11, "read": "/proc/mounts"}
            found = await probe(docker_case, engine, event, ephemeral_storage_mb=10)
            assert found["fill-tmp"] == "No space left on device"
            line = next(line for line in found["read"].splitlines() if line.split()[1] == "/tmp")
            assert {"nosuid", "nodev"} <= set(line.split()[3].split(","))
            assert "noexec" not in line

    run(test())


def test_memory_is_limited_without_swap_and_the_sandbox_survives_its_function(docker_case: Case) -> None:
    async def test() -> None:
        async with docker_case.engine() as engine:
            sandbox = await docker_case.start(engine, "probe")
            door = await connect(sandbox)
            assert (await door.invoke({"allocate": 60})).json() == {"allocate": 60 * MB}
            answer = await door.invoke({"allocate": 400})
            assert answer.headers["x-amz-function-error"] == "Unhandled"
            assert (await door.invoke({"allocate": 1})).json() == {"allocate": MB}
            host = inspect(docker_case, "s-1")["HostConfig"]
            assert host["Memory"] == host["MemorySwap"] == 128 * MB
            assert not host["OomKillDisable"]

    run(test())


def test_processes_and_open_files_are_limited(docker_case: Case) -> None:
    async def test() -> None:
        async with docker_case.engine() as engine:
            found = await probe(docker_case, engine, {"fork": 100, "open": 200}, pids=20, open_files=100)
            forked, error = found["fork"]
            assert forked < 20 and error == "Resource temporarily unavailable"
            opened, error = found["open"]
            assert opened < 100 and error == "Too many open files"

    run(test())


def test_the_cpu_quota_holds_from_the_moment_it_is_applied(docker_case: Case) -> None:
    async def test() -> None:
        async with docker_case.engine() as engine:
            sandbox = await docker_case.start(engine, "probe", cpus=0.1)
            door = await connect(sandbox)
            before = (await door.invoke({"spin": 0.2})).json()["spin"]
            await sandbox.limit_cpu()
            after = (await door.invoke({"spin": 1.0})).json()["spin"]
            assert after < 0.2 and after < before * 5

    run(test())


def test_the_cpu_quota_can_go_through_the_daemon(docker_case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "cpu_directory", lambda pid: None)

    async def test() -> None:
        async with docker_case.engine() as engine:
            sandbox = await docker_case.start(engine, "echo", cpus=0.5)
            await sandbox.limit_cpu()
            host = inspect(docker_case, "s-1")["HostConfig"]
            assert (host["CpuPeriod"], host["CpuQuota"]) == (share.PERIOD_US, share.PERIOD_US // 2)

    run(test())


def test_a_network_can_be_denied(docker_case: Case) -> None:
    docker_case.settings = replace(docker_case.settings, network="none")

    async def test() -> None:
        async with docker_case.engine() as engine:
            found = await probe(docker_case, engine, {"read": "/proc/net/dev"})
            names = [line.partition(":")[0].strip() for line in found["read"].splitlines()[2:]]
            assert "lo" in names and "eth0" not in names

    run(test())


def test_an_endpoint_on_the_hosts_loopback_is_looked_for_at_the_gateway(docker_case: Case) -> None:
    async def test() -> None:
        with socket.socket() as server:
            server.bind(("0.0.0.0", 0))
            server.listen()
            url = f"http://localhost:{server.getsockname()[1]}/x"
            docker_case.settings = replace(docker_case.settings, host_urls=(url,))
            async with docker_case.engine() as engine:
                await engine.check()
                inside = urlsplit(engine.url_inside(url))
                assert (inside.port, inside.path) == (server.getsockname()[1], "/x")
                found = await probe(docker_case, engine, {"connect": [inside.hostname, inside.port]})
                assert found["connect"] is None

    run(test())


def test_user_volumes_and_health_check_of_the_image_do_not_count(docker_case: Case, registry: Registry) -> None:
    health = {"Test": ["CMD", "/bin/false"], "Interval": 10**9}
    image = image_of("probe", User="nobody", Volumes={"/var/volume": {}, "/tmp": {}}, Healthcheck=health)
    registry.push("odd", "1", image)

    async def test() -> None:
        async with docker_case.engine() as engine:
            sandbox = await docker_case.start(engine, "odd")
            event = {"attempt-write": "/var/volume/x", "read": "/var/volume/file", "stat": "/tmp"}
            found = (await (await connect(sandbox)).invoke(event)).json()
            # As root too: it is the mount that is read-only, not only the directory's mode that forbids.
            mounts = {mount["Destination"]: mount["RW"] for mount in inspect(docker_case, "s-1")["Mounts"]}
            assert mounts["/var/volume"] is False
            assert found["attempt-write"] is not None
            assert found["read"] == "from the image"
            assert found["stat"]["mode"] == 0o1777
            assert "Health" not in inspect(docker_case, "s-1")["State"]

    volumes = docker("volume", "ls", "-q")
    run(test())
    assert docker("volume", "ls", "-q") == volumes


def test_a_missing_working_directory_is_reported_by_the_bootstrap(docker_case: Case) -> None:
    async def test() -> None:
        async with docker_case.engine() as engine:
            sandbox = await docker_case.start(engine, "echo", working_directory="/not/there")
            answer = await (await connect(sandbox)).invoke({})
            assert answer.json()["errorType"] == "Runtime.InvalidWorkingDir"

    run(test())


# -- starting and stopping ---------------------------------------------------------------------------------------------


def test_twenty_sandboxes_start_in_parallel(docker_case: Case) -> None:
    async def test() -> None:
        async with docker_case.engine() as engine:
            spec = await docker_case.spec(engine, "echo")
            specs = [replace(spec, sandbox_id=f"s-{number}") for number in range(20)]
            sandboxes = await asyncio.gather(*(engine.start(spec) for spec in specs))
            doors = await asyncio.gather(*(connect(sandbox) for sandbox in sandboxes))
            answers = await asyncio.gather(*(door.invoke(number) for number, door in enumerate(doors)))
            assert [answer.json() for answer in answers] == list(range(20))

    run(test())


def test_the_socket_is_reached_however_deep_the_state_directory_is(docker_case: Case, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    docker_case.settings = replace(docker_case.settings, state_dir=deep)
    assert len(str(deep / SOCKET_NAME)) > 107

    async def test() -> None:
        async with docker_case.engine() as engine:
            assert (await (await connect(await docker_case.start(engine, "echo"))).invoke(1)).json() == 1

    run(test())


def test_a_sandbox_that_cannot_begin_says_its_last_words(docker_case: Case, tmp_path: Path) -> None:
    async def test() -> None:
        async with docker_case.engine() as engine:
            environment = {"AWS_LAMBDA_FUNCTION_TIMEOUT": "soon"}
            sandbox = await docker_case.start(engine, "echo", environment=environment)
            words = "it ended with status 2: rie: cannot read AWS_LAMBDA_FUNCTION_TIMEOUT"
            with pytest.raises(SandboxFailed, match=words):
                await connect(sandbox)

    run(test())


def test_the_end_is_noticed_where_processes_cannot_be_seen(docker_case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise ProcessLookupError(pid)

    monkeypatch.setattr(os, "pidfd_open", refuse)

    async def test() -> None:
        async with docker_case.engine() as engine:
            sandboxes = [await docker_case.start(engine, "echo", f"s-{number}") for number in range(2)]
            ended: list[str] = []
            for sandbox in sandboxes:
                sandbox.on_exit(lambda name=sandbox.sandbox_id: ended.append(name))  # type: ignore[misc]
            await connect(sandboxes[1])
            docker_case.kill(sandboxes[1])
            assert await eventually(lambda: bool(ended)) < 0.6
            assert ended == ["s-1"]
            with pytest.raises(SandboxFailed, match="status 137"):
                await connect(sandboxes[1])
            assert (await (await connect(sandboxes[0])).invoke(1)).json() == 1

    run(test())


def test_a_start_that_fails_half_way_leaves_nothing(docker_case: Case) -> None:
    docker_case.settings = replace(docker_case.settings, network="no-such-network")

    async def test() -> None:
        async with docker_case.engine() as engine:
            with pytest.raises(SandboxFailed, match="no-such-network"):
                await docker_case.start(engine, "echo")
            assert containers(docker_case.settings.owner) == []
            assert not list(docker_case.settings.state_dir.glob("*/engine-*/*"))

    run(test())


def test_an_image_that_was_removed_is_not_found(docker_case: Case, registry: Registry) -> None:
    async def test() -> None:
        async with docker_case.engine() as engine:
            spec = await docker_case.spec(engine, "echo")
            forget_images(registry.host)
            with pytest.raises(ImageNotFound):
                await engine.start(spec)

    run(test())


def test_what_the_function_prints_reaches_the_log(docker_case: Case) -> None:
    async def test() -> None:
        async with docker_case.engine() as engine:
            sandbox = await docker_case.start(engine, "talk")
            door = await connect(sandbox)
            await door.invoke({"text": "a word"})
            assert "a word\n" in await read_log(sandbox, "REPORT RequestId")

    run(test())


# -- what kill -9 leaves behind ----------------------------------------------------------------------------------------

CHILD = """
import asyncio, dataclasses, os, pickle, sys
from rie.engine.docker import DockerEngine
settings, spec = pickle.load(sys.stdin.buffer)
async def main():
    engine = DockerEngine(settings)
    for number in range(2):
        await engine.start(dataclasses.replace(spec, sandbox_id=f"left-{number}"))
    print("started", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture
def other_manager(docker_case: Case) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds two sandboxes of the same owner."""
    import pickle

    async def make_spec() -> None:
        async with docker_case.engine() as engine:
            specs.append(await docker_case.spec(engine, "echo"))

    specs: list[Any] = []
    run(make_spec())
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdin and process.stdout
    process.stdin.write(pickle.dumps((docker_case.settings, specs[0])))
    process.stdin.close()
    assert process.stdout.readline() == b"started\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_reconcile_removes_what_a_killed_manager_left_and_nothing_else(
    docker_case: Case, other_manager: subprocess.Popen[bytes]
) -> None:
    async def test() -> None:
        async with docker_case.engine() as engine:
            sandbox = await docker_case.start(engine, "echo", "mine")
            assert await engine.reconcile() == 0
            assert len(containers(docker_case.settings.owner)) == 3
            other_manager.send_signal(signal.SIGKILL)
            other_manager.wait()
            assert await engine.reconcile() == 2
            assert len(containers(docker_case.settings.owner)) == 1
            assert len(loop.mounts_under(docker_case.settings.state_dir)) == 1
            assert len(list(docker_case.settings.state_dir.glob("*/engine-*"))) == 2  # ours and its lock
            assert await engine.reconcile() == 0
            assert (await (await connect(sandbox)).invoke(1)).json() == 1

    run(test())


def test_reconcile_leaves_other_owners_alone(docker_case: Case, other_manager: subprocess.Popen[bytes]) -> None:
    async def test() -> None:
        other_manager.send_signal(signal.SIGKILL)
        other_manager.wait()
        stranger = DockerEngine(replace(docker_case.settings, owner="stranger"))
        assert await stranger.reconcile() == 0
        await stranger.close()
        assert len(containers(docker_case.settings.owner)) == 2
        async with docker_case.engine() as engine:
            assert await engine.reconcile() == 2

    run(test())


# -- faults of the daemon ----------------------------------------------------------------------------------------------


def test_a_missing_daemon_is_named_at_once_with_what_to_do(docker_case: Case, tmp_path: Path) -> None:
    docker_case.settings = replace(docker_case.settings, docker_host=f"unix://{tmp_path}/none.sock")

    async def test() -> None:
        async with docker_case.engine() as engine:
            began_at = time.monotonic()
            with pytest.raises(EngineUnavailable, match="start it: systemctl start docker"):
                await engine.check()
            with pytest.raises(EngineUnavailable):
                await engine.reconcile()
            assert time.monotonic() - began_at < 5

    run(test())


def test_a_daemon_that_hangs_is_an_error_not_a_hang(
    docker_case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "QUICK_S", 0.3)

    async def test() -> None:
        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        path = tmp_path / "mute.sock"
        server = await asyncio.start_unix_server(say_nothing, str(path))
        docker_case.settings = replace(docker_case.settings, docker_host=f"unix://{path}")
        async with docker_case.engine() as engine:
            with pytest.raises(EngineUnavailable, match="restart it: systemctl restart docker"):
                await engine.check()
        server.close()

    run(test())


def test_a_bundle_that_is_not_there_is_named(docker_case: Case, tmp_path: Path) -> None:
    docker_case.settings = replace(docker_case.settings, bundle=tmp_path / "nothing")

    async def test() -> None:
        async with docker_case.engine() as engine:
            with pytest.raises(HostFault, match="there is no bundle at"):
                await engine.check()

    run(test())
