"""Pulling and unpacking an image, beside `docker pull` and, where they are installed, skopeo with umoci."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.bulk import MB, image_of, made
from bench.effort import Effort
from bench.figures import Figure, Report, compare
from rie.errors import HostFault
from rie.rootfs.images import Images
from scripts import images as builder
from tests.registry import Registry, serving

REPOSITORY = "bench/pull"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rounds, and what the image is made of."""

    rounds: int
    layers: int
    layer_mb: int
    files_per_layer: int


SIZES = {Effort.FULL: Sizes(5, 6, 43, 2_400), Effort.QUICK: Sizes(2, 3, 4, 200)}


def run(effort: Effort) -> Report:
    """All figures. Raises HostFault when there is no Docker."""
    sizes = SIZES[effort]
    layers = made(sizes.layers, sizes.layer_mb, sizes.files_per_layer)
    total_mb, blob_mb = sum(len(one.archive) for one in layers) / MB, sum(len(one.blob) for one in layers) / MB
    scratch = Path(tempfile.mkdtemp(prefix="rie-bench-"))
    others = {"docker": _docker} | ({"skopeo + umoci": _skopeo} if shutil.which("umoci") else {})
    try:
        with serving() as registry:
            for number in range(sizes.rounds):
                registry.push(REPOSITORY, str(number), image_of(layers, number, Cmd=["/none"]))
            try:
                times = _measure(registry, scratch, sizes.rounds, {"ours": _ours, **others})
            finally:
                _forget(registry, sizes.rounds)
    finally:
        shutil.rmtree(scratch)
    figures = [_figure(f"pull, beside {name}", times["ours"], times[name]) for name in others]
    note = f"{total_mb:.0f} MB in {sizes.layers * sizes.files_per_layer:,} files, {blob_mb:.0f} MB compressed, "
    return Report(
        "pull",
        "docker pull",
        tuple(figures),
        (f"{note}{sizes.layers} layers; each round an image that no party has seen; from a registry on this machine",),
    )


SETTLING: list[Images] = []
"""Images whose layers are still being written to the disk, which `_measure` waits for outside of what it times."""


def _figure(name: str, ours: Sequence[float], peer: Sequence[float]) -> Figure:
    return compare(name, "s", [[one] for one in ours], [[one] for one in peer])


def _measure(
    registry: Registry, scratch: Path, rounds: int, parties: dict[str, Callable[[str, Path], None]]
) -> dict[str, list[float]]:
    """Seconds by party and round; who goes first changes from round to round."""
    times: dict[str, list[float]] = {name: [] for name in parties}
    names = list(parties)
    for number in range(rounds):
        for name in names if number % 2 else reversed(names):
            # Nothing is deleted between the rounds: ext4 is slow to give out what was just freed.
            began_at = time.monotonic()
            parties[name](registry.reference(REPOSITORY, str(number)), scratch / f"{number}-{name.partition(' ')[0]}")
            times[name].append(time.monotonic() - began_at)
            while SETTLING:
                SETTLING.pop().settle()
            print(f"round {number + 1}: {name} {times[name][-1]:.2f} s", file=sys.stderr)
    return times


def _ours(reference: str, place: Path) -> None:
    """As the manager does it."""
    images = Images(place)
    images.prepare(images.resolve(reference, "x86_64"))
    SETTLING.append(images)


def _docker(reference: str, place: Path) -> None:
    _call([*builder.docker(), "pull", "--quiet", reference])


def _skopeo(reference: str, place: Path) -> None:
    _call(["skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{reference}", f"oci:{place}:image"])
    _call(["umoci", "unpack", "--image", f"{place}:image", f"{place}-bundle"])


def _call(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostFault(f"cannot measure: {command[0]} ended with {done.returncode}: {done.stderr.strip()}")


def _forget(registry: Registry, rounds: int) -> None:
    references = [registry.reference(REPOSITORY, str(number)) for number in range(rounds)]
    subprocess.run([*builder.docker(), "image", "rm", "--force", *references], capture_output=True, check=False)
