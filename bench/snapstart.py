"""Environments made from a snapshot beside those that initialise: the same function and engine, cold both times."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench import peer
from bench.containers import ROOT, Workbench
from bench.effort import Effort
from bench.emulator import CACHE
from bench.figures import Report, compare
from bench.oci import QUIET_S, Quiet
from bench.unpacked import Unpacked, unpack
from rie import bundle
from rie.engine.base import Mount
from rie.engine.oci import OciEngine, snapshots
from rie.engine.settings import EngineSettings
from rie.environments.environment import Environment
from rie.environments.plan import Limits
from rie.environments.pool import Pool, PoolSettings
from rie.environments.snapshots import Snapshots
from rie.errors import HostFault
from rie.model.function import Configuration, Function, FunctionKey
from rie.model.invocation import Invocation

REQUEST = "11111111-2222-4333-8444-555555555555"
EVENT = b'{"a": 1}'
MEMORY_MB = 512
ROUNDS = {Effort.FULL: 20, Effort.QUICK: 2}
HANDLER = "\n\ndef handler(event, context):\n    return event\n"
FUNCTIONS = {
    "boto3 imported at init": "import boto3",
    "and a client made of it": "import boto3\n\ns3 = boto3.client('s3', region_name='us-east-1')",
    "nothing at init": "",
}


@dataclass(slots=True)
class _Variant:
    """One function with a snapshot of it, and how long the two have taken, by round."""

    name: str
    function: Function
    task: Path
    restored: list[list[float]]
    cold: list[list[float]]


def run(effort: Effort) -> Report:
    """All figures. Raises HostFault when there is no Docker, no criu, or we are not root."""
    why = snapshots.unavailable()
    if why is not None:
        raise HostFault(f"cannot measure snapshots: {why}; scripts/criu fetches it, RIE_CRIU says where it is")
    ours, rie = bundle.ensure(ROOT / "build" / "bundle"), peer.obtain(CACHE)
    with (
        tempfile.TemporaryDirectory(prefix="bench-snapstart-", dir=CACHE) as scratch,
        Workbench(CACHE, ours, rie) as bench,
    ):
        unpacked = unpack(bench, Path(scratch) / "image")
        shutil.copy(ROOT / "images" / "python" / "bootstrap.py", unpacked.root / "var" / "runtime")
        return asyncio.run(_measure(unpacked, ours, Path(scratch), ROUNDS[effort]))


async def _measure(unpacked: Unpacked, ours: Path, scratch: Path, rounds: int) -> Report:
    async with _world(unpacked, ours, scratch) as world:
        variants = [await world.variant(name, init) for name, init in FUNCTIONS.items()]
        for number in range(rounds):
            print(f"snapstart: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for variant in variants:
                variant.restored.append([await world.time(variant.function)])
                variant.cold.append([await world.time(replace(variant.function, version="$LATEST"))])
        notes = [await world.about(variant) for variant in variants]
    figures = [compare(f"cold start, {one.name}", "ms", one.restored, one.cold) for one in variants]
    return Report("snapstart", "the same cold start without a snapshot", tuple(figures), tuple(notes))


class _World:
    """An engine, a pool that makes environments from snapshots, and functions on it."""

    def __init__(self, engine: OciEngine, unpacked: Unpacked, scratch: Path) -> None:
        self._unpacked = unpacked
        self._scratch = scratch
        self._numbers = itertools.count()
        self._tasks: dict[str, Path] = {}  # by configuration: the code
        self._key = FunctionKey("123456789012", "us-east-1", "f")
        self._pool = Pool(
            engine,
            PoolSettings(Limits(100_000, 1 << 40)),
            lambda environment: Quiet(),
            mounts_of=self._mounts,
            snapshot_of=lambda function, configuration: self._snapshots.find(function, configuration),
        )
        self._snapshots = Snapshots(engine, scratch / "snapshots", self._pool.take_snapshot)

    async def _mounts(self, configuration: Configuration) -> tuple[Mount, ...]:
        return (Mount(self._tasks[configuration.configuration_id], "/var/task"),)

    async def open(self) -> None:
        """Before the first snapshot."""
        await self._snapshots.open([])

    async def variant(self, name: str, init: str) -> _Variant:
        """A version of a function with that code before its handler, and its snapshot."""
        configuration_id = f"c{next(self._numbers)}"
        task = self._tasks[configuration_id] = self._scratch / configuration_id
        task.mkdir()
        (task / "app.py").write_text(init + HANDLER)
        image = self._unpacked.image
        configuration = Configuration(
            configuration_id,
            "role",
            image.reference,
            image,
            timeout_s=60,
            memory_mb=MEMORY_MB,
            snap_start="PublishedVersions",
        )
        function = Function(self._key, configuration, configuration, "r", "now", version="1")
        if not await self._snapshots.take(function):
            raise HostFault("cannot measure: no snapshot could be taken")
        return _Variant(name, function, task, [], [])

    async def time(self, function: Function) -> float:
        """From a call to its answer, ms, in an environment of its own, which is gone afterwards."""
        await asyncio.sleep(QUIET_S)
        began = time.perf_counter()
        await self._invoke(function)
        took = (time.perf_counter() - began) * 1e3
        self._pool.retire(self._key)
        return took

    async def _invoke(self, function: Function) -> None:
        outcome = await self._pool.run(function, function.configuration, Invocation(REQUEST, EVENT, self._key.arn))
        if outcome.payload != EVENT:
            raise HostFault(f"cannot measure: the function answered {outcome.payload[:200]!r}")

    async def about(self, variant: _Variant) -> str:
        """How large the snapshot is, and what an environment made from it holds alone."""
        place = self._snapshots.find(variant.function, variant.function.configuration)
        assert place is not None
        size = sum(path.stat().st_blocks * 512 for path in place.rglob("*") if path.is_file()) / (1 << 20)
        held = [await self._held_mb(replace(variant.function, version=version)) for version in ("1", "$LATEST")]
        return (
            f"{variant.name}: its snapshot takes {size:.0f} MB of disk; an environment that has answered once "
            f"holds {held[0]:.1f} MB of its own, and without a snapshot {held[1]:.1f} MB"
        )

    async def _held_mb(self, function: Function) -> float:
        """Of the runtime's process: what it has written to, in MB."""
        await self._invoke(function)
        (environment,) = list(self._pool)
        held = await asyncio.to_thread(_private_mb, environment)
        self._pool.retire(self._key)
        return held

    async def close(self) -> None:
        """End what still runs."""
        await self._pool.close()


def _private_mb(environment: Environment) -> float:
    sandbox = environment._sandbox
    assert sandbox is not None
    first: int = getattr(sandbox, "pid")  # noqa: B009 - the engine's own sandboxes have one
    below = [first]
    for pid in below:
        below += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    lines = Path(f"/proc/{below[-1]}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")) / 1024


@asynccontextmanager
async def _world(unpacked: Unpacked, ours: Path, scratch: Path) -> AsyncIterator[_World]:
    settings = EngineSettings(bundle=ours, state_dir=scratch / "state", owner=f"bench-{os.getpid()}")
    engine = OciEngine(settings, unpacked)
    await engine.check()
    world = _World(engine, unpacked, scratch)
    try:
        await world.open()
        yield world
    finally:
        await world.close()
        await engine.close()
