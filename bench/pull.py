"""Pulling and unpacking an image, beside `docker pull` and, where they are installed, skopeo with umoci."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from bench.effort import Effort
from bench.figures import Figure, Report, compare
from rie.errors import HostFault
from rie.rootfs.images import Images
from scripts import images as builder
from tests.registry import OCI_MANIFEST, Built, Registry, assemble, gzipped, serving

MB = 1_000_000
WORDS = 3_000  # different ones, so that text compresses as programs and libraries do: to two fifths
POOL = 8 * MB  # bytes of text that files are cut from
REPOSITORY = "bench/pull"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rounds, and what the image is made of."""

    rounds: int
    layers: int
    layer_mb: int
    files_per_layer: int


SIZES = {Effort.FULL: Sizes(5, 6, 43, 2_400), Effort.QUICK: Sizes(2, 3, 4, 200)}


@dataclass(frozen=True, slots=True)
class Layer:
    """An archive without its beginning, as it is and compressed."""

    archive: bytes
    blob: bytes


def run(effort: Effort) -> Report:
    """All figures. Raises HostFault when there is no Docker."""
    sizes = SIZES[effort]
    layers = _layers(sizes)
    total_mb, blob_mb = sum(len(one.archive) for one in layers) / MB, sum(len(one.blob) for one in layers) / MB
    scratch = Path(tempfile.mkdtemp(prefix="rie-bench-"))
    others = {"docker": _docker} | ({"skopeo + umoci": _skopeo} if shutil.which("umoci") else {})
    try:
        with serving() as registry:
            for number in range(sizes.rounds):
                registry.push(REPOSITORY, str(number), _image(layers, number))
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


# -- the image ---------------------------------------------------------------------------------------------------------


def _layers(sizes: Sizes) -> list[Layer]:
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz_", k=chance.randint(2, 9))) for _ in range(WORDS)]
    pool = " ".join(chance.choices(words, k=POOL // 6)).encode()
    with ThreadPoolExecutor() as threads:
        return list(threads.map(lambda number: _layer(sizes, number, pool), range(sizes.layers)))


def _layer(sizes: Sizes, number: int, pool: bytes) -> Layer:
    """Files of the sizes that file systems have: many small ones, a few large ones."""
    chance = random.Random(number)
    weights = [chance.paretovariate(1.1) for _ in range(sizes.files_per_layer)]
    scale = sizes.layer_mb * MB / sum(weights)
    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for index, weight in enumerate(weights):
            entry = tarfile.TarInfo(f"usr/lib/part{number}/dir{index // 40}/file{index}")
            entry.size = int(weight * scale)
            at = chance.randrange(len(pool))
            content = (pool[at:] + pool * (entry.size // len(pool) + 1))[: entry.size]
            archive.addfile(entry, BytesIO(content))
    made = stream.getvalue()
    packer = zlib.compressobj(6, wbits=31)
    return Layer(made, packer.compress(made) + packer.flush())


def _image(layers: Sequence[Layer], number: int) -> Built:
    """The same image with another first file in each layer: nobody has seen it, and nothing is compressed again."""
    first = tarfile.TarInfo(f"round-{number}-{os.getpid()}").tobuf(tarfile.GNU_FORMAT)
    blobs = [gzipped(first) + layer.blob for layer in layers]
    digests = [f"sha256:{hashlib.sha256(first + layer.archive).hexdigest()}" for layer in layers]
    pattern = assemble(blobs, compress=lambda blob: blob, Cmd=["/none"])
    config = {**json.loads(pattern.blobs[0]), "rootfs": {"type": "layers", "diff_ids": digests}}
    configuration = json.dumps(config).encode()
    manifest = json.loads(pattern.manifest)
    manifest["config"] |= {
        "digest": f"sha256:{hashlib.sha256(configuration).hexdigest()}",
        "size": len(configuration),
    }
    return Built(json.dumps(manifest).encode(), OCI_MANIFEST, (configuration, *blobs))
