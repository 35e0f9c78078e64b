"""The daemonless engine beside `docker run` and beside the bare process: one sandbox, a cold invocation, a thousand."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import bare, peer
from bench.containers import ROOT, Workbench
from bench.effort import Effort
from bench.emulator import CACHE, CLIENT, PEER, first_answer
from bench.figures import Report, compare
from bench.unpacked import Unpacked, unpack
from rie import bundle
from rie.engine.oci import OciEngine
from rie.engine.settings import EngineSettings
from rie.environments.environment import Environment
from rie.environments.plan import Limits
from rie.environments.pool import Pool
from rie.environments.pool_settings import PoolSettings
from rie.errors import HostFault
from rie.model.function import Configuration, Function, FunctionKey
from rie.model.invocation import Invocation

REQUEST = "11111111-2222-4333-8444-555555555555"
EVENT = b'{"a": 1}'
QUIET_S = 0.4  # between two cold starts: a machine that gets one now and then has its stock full


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much to measure."""

    rounds: int
    environments: int


SIZES = {Effort.FULL: Sizes(20, 1_000), Effort.QUICK: Sizes(2, 20)}


class Quiet:
    """A log that nobody reads."""

    def write(self, data: bytes) -> float:
        """Nowhere, and at once."""
        return 0.0

    def close(self) -> None:
        """Nothing."""


def run(effort: Effort) -> Report:
    """All figures. Raises HostFault when there is no Docker, no image or no peer, or we are not root."""
    sizes = SIZES[effort]
    ours, rie = bundle.ensure(ROOT / "build" / "bundle"), peer.obtain(CACHE)
    with (
        tempfile.TemporaryDirectory(prefix="bench-oci-", dir=CACHE) as scratch,
        Workbench(CACHE, ours, rie) as bench,
    ):
        unpacked = unpack(bench, Path(scratch) / "image")
        return asyncio.run(_measure(bench, unpacked, ours, Path(scratch), sizes))


async def _measure(bench: Workbench, unpacked: Unpacked, ours: Path, scratch: Path, sizes: Sizes) -> Report:
    figures = []
    alone: list[list[float]] = []
    cold: list[list[float]] = []
    containers: list[list[float]] = []
    runs: list[list[float]] = []
    bares: list[list[float]] = []
    async with _world(unpacked, ours, scratch) as world:
        await world.invoke()
        for number in range(sizes.rounds):
            print(f"oci: round {number + 1} of {sizes.rounds}", file=sys.stderr, flush=True)
            await asyncio.sleep(QUIET_S)
            alone.append([await world.time_alone()])
            await asyncio.sleep(QUIET_S)
            cold.append([await world.time_cold()])
            bares.append([await asyncio.to_thread(_bare, unpacked)])
            containers.append([_docker_alone(bench)])
            runs.append([_docker_cold(bench)])
        figures.append(compare("sandbox alone, beside docker run", "ms", alone, containers))
        figures.append(compare("cold invocation, beside docker run with AWS's emulator", "ms", cold, runs))
        figures.append(compare("cold invocation, beside the bare runtime", "ms", cold, bares))
        notes = await world.scale_out(sizes.environments)
    return Report("oci", f"docker run, {peer.NAME}, and the runtime bare in a chroot", tuple(figures), tuple(notes))


class _World:
    """An engine, a pool and one function on it."""

    def __init__(self, engine: OciEngine, unpacked: Unpacked) -> None:
        self._engine = engine
        self._unpacked = unpacked
        self._numbers = itertools.count()
        limits = Limits(100_000, 1 << 40)
        self._pool = Pool(engine, PoolSettings(limits), lambda environment: Quiet())
        self._key = FunctionKey("123456789012", "us-east-1", "f")

    async def invoke(self, number: int | None = None) -> None:
        """One invocation, in an environment of its own unless `number` names one."""
        number = next(self._numbers) if number is None else number
        image = self._unpacked.image
        configuration = Configuration(f"c{number}", "role", image.reference, image, timeout_s=60, memory_mb=128)
        function = Function(self._key, configuration, configuration, "r", "now")
        outcome = await self._pool.run(function, configuration, Invocation(REQUEST, EVENT, self._key.arn))
        if outcome.payload != EVENT:
            raise HostFault(f"cannot measure: the function answered {outcome.payload[:200]!r}")

    async def time_cold(self) -> float:
        """From a call to its answer, ms; the environment is gone afterwards."""
        began = time.perf_counter()
        await self.invoke()
        took = (time.perf_counter() - began) * 1e3
        self._pool.retire(self._key)
        return took

    async def time_alone(self) -> float:
        """From the start of a sandbox to the first instruction of its bootstrap, ms."""
        environment = _environment(self._key, self._unpacked)
        spec = environment._spec(())
        began = time.perf_counter()
        sandbox = await self._engine.start(spec)
        took = (time.perf_counter() - began) * 1e3
        await sandbox.destroy()
        return took

    async def scale_out(self, count: int) -> list[str]:
        """Start as many from zero, at once; what came of it."""
        print(f"oci: {count} environments at once", file=sys.stderr, flush=True)
        began = time.perf_counter()
        await asyncio.gather(*(self.invoke(1_000_000 + number) for number in range(count)))
        took = time.perf_counter() - began
        own, functions, kernel = await asyncio.to_thread(_memory_kb, self._engine)
        await self._pool.close()
        return [
            f"scale-out: {count} environments of one function from zero, each of them answering, in {took:.1f} s",
            f"idle: an environment's bootstrap holds {own / 1024 / count:.2f} MB (PSS), its kernel memory is "
            f"{kernel / 1024 / count:.2f} MB, the function's own runtime {functions / 1024 / count:.1f} MB",
        ]


def _environment(key: FunctionKey, unpacked: Unpacked) -> Environment:
    configuration = Configuration("alone", "role", unpacked.image.reference, unpacked.image, memory_mb=128)
    return Environment(Function(key, configuration, configuration, "r", "now"), configuration)


@asynccontextmanager
async def _world(unpacked: Unpacked, ours: Path, scratch: Path) -> AsyncIterator[_World]:
    settings = EngineSettings(bundle=ours, state_dir=scratch / "state", owner=f"bench-{os.getpid()}")
    engine = OciEngine(settings, unpacked)
    await engine.check()
    try:
        yield _World(engine, unpacked)
    finally:
        await engine.close()


def _bare(unpacked: Unpacked) -> float:
    return bare.time_to_answer(unpacked.root, CLIENT.peer, unpacked.image.environment)


def _docker_alone(bench: Workbench) -> float:
    began = time.perf_counter()
    container = bench.run(["60"], entrypoint="/bin/sleep")
    took = (time.perf_counter() - began) * 1e3
    bench.remove(container)
    return took


def _docker_cold(bench: Workbench) -> float:
    began = time.perf_counter()
    container = bench.run(CLIENT.peer, PEER)
    described = time.perf_counter()
    door = bench.describe(container).door
    described = time.perf_counter() - described  # asking for the port is ours, not the start's
    first_answer(door)
    took = (time.perf_counter() - began - described) * 1e3
    bench.remove(container)
    return took


def _memory_kb(engine: OciEngine) -> tuple[int, int, int]:
    """Of all sandboxes together: their bootstraps' share of memory, their functions', and the kernel's for them."""
    own = functions = kernel = 0
    groups, instance = engine._groups, engine._instance
    assert groups is not None and instance is not None
    for name in groups.names(instance.token):
        directory = groups.group(instance.token, name).memory
        pids = sorted(int(pid) for pid in (directory / "cgroup.procs").read_text().split())
        if len(pids) < 2:
            continue  # a blank
        own += _pss_kb(pids[0])
        functions += sum(_pss_kb(pid) for pid in pids[1:])
        kernel += _kernel_kb(directory)
    return own, functions, kernel


def _pss_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _kernel_kb(directory: Path) -> int:
    """Version 1 counts it in a file of its own, version 2 in a line of memory.stat."""
    legacy = directory / "memory.kmem.usage_in_bytes"
    if legacy.exists():
        return int(legacy.read_text()) // 1024
    lines = (directory / "memory.stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("kernel ")) // 1024
