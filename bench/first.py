"""The first response of an image never seen before: pulled, unpacked, started and invoked, beside Docker and RIE."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import peer
from bench.bulk import MB, image_of, made, taken
from bench.containers import ROOT, Workbench
from bench.effort import Effort
from bench.emulator import CACHE, CLIENT, PEER, first_answer
from bench.figures import Report, compare
from bench.oci import EVENT, REQUEST, Quiet
from rie import bundle
from rie.engine.oci import OciEngine
from rie.engine.settings import EngineSettings
from rie.environments.plan import Limits
from rie.environments.pool import Pool, PoolSettings
from rie.errors import HostFault
from rie.model.function import Configuration, Function, FunctionKey
from rie.model.invocation import Invocation
from rie.rootfs.images import Images
from tests.registry import Registry, serving

REPOSITORY = "bench/first"
ARCHITECTURE = "x86_64"
FILLERS = 4  # layers beside those of the function's own image
KEY = FunctionKey("123456789012", "us-east-1", "f")

Party = Callable[[str], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rounds, of images of `image_mb` in all."""

    rounds: int
    image_mb: int
    files_per_layer: int


SIZES = {Effort.FULL: Sizes(6, 260, 2_400), Effort.QUICK: Sizes(1, 0, 20)}


def run(effort: Effort) -> Report:
    """The one figure. Raises HostFault when there is no Docker, no image or no peer, or we are not root."""
    sizes = SIZES[effort]
    ours, rie = bundle.ensure(ROOT / "build" / "bundle"), peer.obtain(CACHE)
    with (
        tempfile.TemporaryDirectory(prefix="bench-first-", dir=CACHE) as scratch,
        Workbench(CACHE, ours, rie) as bench,
        serving() as registry,
    ):
        layers, configuration = taken(bench.docker, bench.image)
        own_mb = sum(len(layer.archive) for layer in layers) / MB
        layers += made(FILLERS, max(1.0, (sizes.image_mb - own_mb) / FILLERS), sizes.files_per_layer)
        configuration = {name: value for name, value in configuration.items() if value}
        for number in range(sizes.rounds + 1):
            registry.push(REPOSITORY, str(number), image_of(layers, number, **configuration))
        try:
            times = asyncio.run(_measure(bench, registry, ours, Path(scratch), sizes.rounds))
        finally:
            for number in range(sizes.rounds + 1):
                _forget(bench, registry.reference(REPOSITORY, str(number)))
        total_mb, blob_mb = (
            sum(map(len, each)) / MB for each in zip(*((x.archive, x.blob) for x in layers), strict=True)
        )
    figure = compare("first response of an image never seen", "s", [[a] for a, _ in times], [[b] for _, b in times])
    note = (
        f"{total_mb:.0f} MB in {len(layers)} layers, {blob_mb:.0f} MB compressed, each round's unseen by both parties"
    )
    return Report(
        "first", f"docker pull, docker run and {peer.NAME}", (figure,), (f"{note}; a registry on this machine",)
    )


async def _measure(
    bench: Workbench, registry: Registry, ours: Path, scratch: Path, rounds: int
) -> list[tuple[float, float]]:
    """Seconds of ours and of Docker's, by round; who goes first changes. Our first round does not count."""
    images = Images(scratch / "images")
    engine = OciEngine(EngineSettings(bundle=ours, state_dir=scratch / "state", owner=f"bench-{os.getpid()}"), images)
    await engine.check()
    pool = Pool(engine, PoolSettings(Limits(1_000, 1 << 40)), lambda environment: Quiet())
    times = []

    async def with_ours(reference: str) -> None:
        image = await engine.resolve(reference, ARCHITECTURE)
        await engine.prepare(image)
        configuration = Configuration(reference, "role", reference, image, timeout_s=60, memory_mb=1_769)
        function = Function(KEY, configuration, configuration, "r", "now")
        outcome = await pool.run(function, configuration, Invocation(REQUEST, EVENT, KEY.arn))
        if outcome.payload != EVENT:
            raise HostFault(f"cannot measure: the function answered {outcome.payload[:200]!r}")

    async def with_docker(reference: str) -> None:
        await asyncio.to_thread(_with_docker, bench, reference)

    try:
        for number in range(rounds + 1):
            reference = registry.reference(REPOSITORY, str(number))
            took = {}
            parties: list[Party] = [with_ours, with_docker] if number % 2 else [with_docker, with_ours]
            for party in parties:
                began = time.perf_counter()
                await party(reference)
                took[party] = time.perf_counter() - began
                await asyncio.to_thread(images.settle)
            pool.retire(KEY)
            await asyncio.to_thread(_forget, bench, reference)
            print(f"first: round {number}: {took[with_ours]:.2f} and {took[with_docker]:.2f} s", file=sys.stderr)
            times.append((took[with_ours], took[with_docker]))
    finally:
        await pool.close()
        await engine.close()
    return times[1:]


def _with_docker(bench: Workbench, reference: str) -> None:
    bench.call("pull", "--quiet", reference)
    flags = ["--detach", "--publish", "127.0.0.1::8080", "--label", bench.mark, "--entrypoint", PEER]
    first_answer(bench.describe(bench.call("run", *flags, reference, *CLIENT.peer)).door)


def _forget(bench: Workbench, reference: str) -> None:
    """What Docker has of an image, if it has anything; outside of what is timed."""
    if not bench.call("image", "ls", "--quiet", reference):
        return
    containers = bench.call("ps", "--all", "--quiet", "--filter", f"ancestor={reference}").split()
    if containers:
        bench.remove(*containers)
    bench.forget(reference, reference.partition("/")[0])
