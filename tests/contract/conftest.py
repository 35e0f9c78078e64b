"""What the contract suite runs against: every engine, with an image for each of the stub's functions."""

from __future__ import annotations

import asyncio
import itertools
import os
import select
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import uvloop

from rie import bundle
from rie.engine import EngineSettings, choose
from rie.engine.base import Engine, Sandbox, SandboxSpec
from rie.engine.oci import bridges
from rie.engine.oci.sandbox import OciSandbox
from rie.engine.stub import StubSandbox
from rie.limits import loop, share
from tests import postgres
from tests.contract.door import Door
from tests.registry import Registry, build, serving

FUNCTIONS = ("echo", "sleep", "fail", "environment", "slow-init", "probe", "talk")
RUNTIME = Path(__file__).with_name("runtime.py")
INTERPRETER = ["/opt/rie/bin/python3", "-IS", "-c"]
# The bundle's interpreter finds no library by itself: the bootstrap tells its own where it is, we do the same.
PRELUDE = (
    "import sys; v = f'python{sys.version_info[0]}.{sys.version_info[1]}'; "
    "sys.path[:] = [f'/opt/rie/lib/{v}', f'/opt/rie/lib/{v}/lib-dynload']; "
    "sys.argv[:] = sys.argv[:1] + [NAME]; exec(compile(open('/var/task/runtime.py').read(), 'runtime.py', 'exec'))"
)
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "AWS_LAMBDA_FUNCTION_NAME": "function",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
    "AWS_LAMBDA_FUNCTION_TIMEOUT": "20",
}
DOCKER = "/usr/bin/docker"
# Another one for each test: what one leaves behind must fail no other.
OWNERS = (f"test-{os.getpid()}-{number}" for number in itertools.count(1))


def image_of(function: str, more: Mapping[str, bytes] = MappingProxyType({}), **config: Any) -> Any:
    """An image that runs one of runtime.py's functions; a few kilobytes, without any library of its own.

    `more` are further files, by their paths in it.
    """
    layer = {"var/task/runtime.py": RUNTIME.read_bytes(), "tmp": None, "var/volume/file": b"from the image", **more}
    command = [*INTERPRETER, PRELUDE.replace("NAME", repr(function))]
    return build([layer], Cmd=command, WorkingDir="/var/task", Env=["PATH=/usr/bin:/bin", "IMAGE=yes"], **config)


@dataclass
class Case:
    """An engine with what a test needs of its world; `start` keeps track of what it starts."""

    name: str
    settings: EngineSettings
    host: str

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Engine]:
        """A new engine, closed in the end."""
        engine = choose(self.name, self.settings)
        try:
            yield engine
        finally:
            await engine.close()

    async def spec(self, engine: Engine, function: str, sandbox_id: str = "s-1", **changes: Any) -> SandboxSpec:
        """What to start for a function, its image prepared."""
        image = await engine.resolve(f"{self.host}/{function}:1", "x86_64")
        await engine.prepare(image)
        spec = SandboxSpec(
            sandbox_id=sandbox_id,
            image=image,
            argv=image.entrypoint + image.command,
            working_directory=image.working_directory,
            environment={**image.environment, **ENVIRONMENT},
            memory_mb=128,
            ephemeral_storage_mb=512,
            cpus=share.cpus(128),
        )
        return replace(spec, **changes)

    async def start(self, engine: Engine, function: str, sandbox_id: str = "s-1", **changes: Any) -> Sandbox:
        """A running sandbox of a function."""
        return await engine.start(await self.spec(engine, function, sandbox_id, **changes))

    def kill(self, sandbox: Sandbox) -> None:
        """End a sandbox's first process behind the engine's back."""
        if isinstance(sandbox, StubSandbox):
            sandbox.crash()
        elif isinstance(sandbox, OciSandbox):
            ending = os.pidfd_open(sandbox.pid)
            os.kill(sandbox.pid, signal.SIGKILL)
            readable, _, _ = select.select([ending], [], [], 20)  # until then its sockets may still take connections
            os.close(ending)
            assert readable, "it is killed, and does not end"
        else:
            docker("kill", container_of(self.settings.owner, sandbox.sandbox_id))


def docker(*arguments: str) -> str:
    """What the Docker CLI prints."""
    done = subprocess.run([DOCKER, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def containers(owner: str) -> list[str]:
    """Ids of every container of an owner."""
    return docker("ps", "-aq", "--no-trunc", "--filter", f"label=rie.owner={owner}").split()


def container_of(owner: str, sandbox_id: str) -> str:
    """The id of a sandbox's container."""
    filters = ("--filter", f"label=rie.owner={owner}", "--filter", f"label=rie.sandbox={sandbox_id}")
    return docker("ps", "-aq", "--no-trunc", *filters)


def begin(*command: str) -> subprocess.Popen[str]:
    """Start a program and wait for its first line, "ready"."""
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None and program.stdout.readline() == "ready\n"
    return program


async def probe(case: Case, engine: Engine, event: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What the probe function finds in a new sandbox."""
    sandbox = await case.start(engine, "probe", "probe", **changes)
    answer = await (await connect(sandbox)).invoke(event)
    await sandbox.destroy()
    found: dict[str, Any] = answer.json()
    return found


async def connect(sandbox: Sandbox) -> Door:
    """A connection to a sandbox's front door."""
    door = await sandbox.connect(Door)
    assert isinstance(door, Door)
    return door


async def read_log(sandbox: Sandbox, until: str, within_s: float = 10.0) -> str:
    """The sandbox's log up to a text."""
    log = b""

    def has_come() -> bool:
        nonlocal log
        with suppress(BlockingIOError):
            log += os.read(sandbox.log_fd, 65536)
        return until.encode() in log

    await eventually(has_come, within_s, lambda: f"no {until!r} in {log!r}")
    return log.decode()


async def eventually(
    condition: Callable[[], bool], within_s: float = 5.0, why: Callable[[], str] = lambda: "it never came true"
) -> float:
    """Wait for a condition; how long it took."""
    began_at = time.monotonic()
    while not condition():
        assert time.monotonic() - began_at < within_s, why()
        await asyncio.sleep(0.005)
    return time.monotonic() - began_at


def run(test: Awaitable[None], within_s: float = 240) -> None:
    """Run a test's coroutine on the product's event loop."""

    async def bounded() -> None:
        await asyncio.wait_for(test, within_s)

    uvloop.run(bounded())


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """A registry with an image for each function; its images are gone from Docker afterwards."""
    with serving() as registry:
        for function in FUNCTIONS:
            registry.push(function, "1", image_of(function))
        yield registry
        forget_images(registry.host)


def forget_images(host: str) -> None:
    """Remove a registry's images from Docker; by reference, because others may have the same content."""
    if not Path(DOCKER).exists():  # as in the virtual machine of scripts/test-cgroup2
        return
    listed = docker("images", "--digests", "--format", "{{.Repository}}@{{.Digest}}").splitlines()
    for reference in {line for line in listed if line.startswith(f"{host}/")}:
        docker("rmi", reference)


@pytest.fixture(scope="session")
def bundle_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real bootstrap, bundled."""
    return bundle.ensure(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is made once for all engines of this run: file systems for /tmp, and unpacked images."""
    directory = tmp_path_factory.mktemp("shared")
    (directory / "templates").mkdir()
    return directory


def settings_in(directory: Path, shared: Path, bundle_directory: Path, owner: str) -> EngineSettings:
    """Settings of an engine whose state lies in `directory`."""
    state = directory / "state"
    (state / owner).mkdir(parents=True)
    (state / owner / "templates").symlink_to(shared / "templates")
    return EngineSettings(bundle=bundle_directory, state_dir=state, owner=owner, images=shared / "images")


@pytest.fixture
def docker_case(registry: Registry, bundle_directory: Path, shared: Path, tmp_path: Path) -> Iterator[Case]:
    """The Docker engine; fails if the test leaves a container or a mount behind."""
    owner = next(OWNERS)
    settings = settings_in(tmp_path, shared, bundle_directory, owner)
    yield Case("docker", settings, registry.host)
    left = containers(owner)
    if left:
        docker("rm", "-f", "-v", *left)
    assert not left, "containers were left behind"
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text(), "mounts were left behind"


@pytest.fixture
def oci_case(registry: Registry, bundle_directory: Path, shared: Path, tmp_path: Path) -> Iterator[Case]:
    """The daemonless engine; fails if the test leaves anything behind."""
    owner = next(OWNERS)
    settings = settings_in(tmp_path, shared, bundle_directory, owner)
    yield Case("oci", settings, registry.host)
    left = leftovers(owner, tmp_path)
    assert not left, left


def leftovers(owner: str, directory: Path) -> list[str]:
    """What an engine has left: control groups, bridges, filter rules, mounts, loop devices, files of sandboxes."""
    found = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/rie-{owner}-*")]
    found += [f"bridge {token}" for token, alias in bridges.aliases().items() if alias.startswith(f"{owner}-")]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{directory}/" in line]
    found += [str(path) for path in directory.rglob("engine-*")]

    async def wait() -> None:
        # The kernel lets go of a file system a moment after the last process that saw it.
        await eventually(lambda: not loop.devices_under(directory), why=lambda: str(loop.devices_under(directory)))

    asyncio.run(wait())
    return found


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    """A PostgreSQL for the stores' tests."""
    with postgres.serving() as server:
        yield server


@pytest.fixture(params=["memory", "file", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of every kind in turn."""
    if request.param == "memory":
        return "sqlite://"
    if request.param == "file":
        return f"sqlite:///{tmp_path}/deep/rie.db"
    server: postgres.Postgres = request.getfixturevalue("postgres_server")
    return server.database()


@pytest.fixture(params=["stub", "oci", "docker"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """Every engine in turn."""
    if request.param == "stub":
        return Case("stub", EngineSettings(bundle=tmp_path, state_dir=tmp_path), "registry.test")
    real: Case = request.getfixturevalue(f"{request.param}_case")
    return real
