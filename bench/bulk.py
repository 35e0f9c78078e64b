"""Images of many megabytes: layers made or taken once, and images out of them that nobody has seen."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from rie.errors import HostFault
from tests.registry import OCI_MANIFEST, Built, assemble, gzipped

MB = 1_000_000
WORDS = 3_000  # different ones, so that text compresses as programs and libraries do: to two fifths
POOL = 8 * MB  # bytes of text that files are cut from


@dataclass(frozen=True, slots=True)
class Layer:
    """An archive without its beginning, as it is and compressed."""

    archive: bytes
    blob: bytes


def made(count: int, layer_mb: float, files_per_layer: int) -> list[Layer]:
    """So many layers of text of that size each."""
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz_", k=chance.randint(2, 9))) for _ in range(WORDS)]
    pool = " ".join(chance.choices(words, k=POOL // 6)).encode()
    with ThreadPoolExecutor() as threads:
        return list(threads.map(lambda number: _made(layer_mb, files_per_layer, number, pool), range(count)))


def taken(docker: Sequence[str], image: str) -> tuple[list[Layer], dict[str, Any]]:
    """The layers of an image of Docker's, the lowest first, and its configuration. Raises HostFault."""
    with tempfile.TemporaryDirectory(prefix="rie-bench-") as directory:
        saved = Path(directory, "image.tar")
        done = subprocess.run([*docker, "save", "--output", str(saved), image], capture_output=True, check=False)
        if done.returncode:
            raise HostFault(f"cannot measure: docker save ended with {done.returncode}: {done.stderr.decode().strip()}")
        with tarfile.open(saved) as archive:
            (entry,) = json.loads(_member(archive, "manifest.json"))
            configuration: dict[str, Any] = json.loads(_member(archive, entry["Config"]))["config"]
            archives = [_member(archive, name) for name in entry["Layers"]]
    with ThreadPoolExecutor() as threads:
        return list(threads.map(lambda content: Layer(content, _packed(content)), archives)), configuration


def image_of(layers: Sequence[Layer], number: int, **configuration: Any) -> Built:
    """The same image with another first file in each layer: nobody has seen it, and nothing is compressed again."""
    first = tarfile.TarInfo(f"round-{number}-{os.getpid()}").tobuf(tarfile.GNU_FORMAT)
    blobs = [gzipped(first) + layer.blob for layer in layers]
    digests = [f"sha256:{hashlib.sha256(first + layer.archive).hexdigest()}" for layer in layers]
    pattern = assemble(blobs, compress=lambda blob: blob, **configuration)
    config = {**json.loads(pattern.blobs[0]), "rootfs": {"type": "layers", "diff_ids": digests}}
    document = json.dumps(config).encode()
    manifest = json.loads(pattern.manifest)
    manifest["config"] |= {"digest": f"sha256:{hashlib.sha256(document).hexdigest()}", "size": len(document)}
    return Built(json.dumps(manifest).encode(), OCI_MANIFEST, (document, *blobs))


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise HostFault(f"cannot measure: docker save gave no {name}")
    return file.read()


def _made(layer_mb: float, files: int, number: int, pool: bytes) -> Layer:
    """Files of the sizes that file systems have: many small ones, a few large ones."""
    chance = random.Random(number)
    weights = [chance.paretovariate(1.1) for _ in range(files)]
    scale = layer_mb * MB / sum(weights)
    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for index, weight in enumerate(weights):
            entry = tarfile.TarInfo(f"usr/lib/part{number}/dir{index // 40}/file{index}")
            entry.size = int(weight * scale)
            at = chance.randrange(len(pool))
            content = (pool[at:] + pool * (entry.size // len(pool) + 1))[: entry.size]
            archive.addfile(entry, BytesIO(content))
    content = stream.getvalue()
    return Layer(content, _packed(content))


def _packed(content: bytes) -> bytes:
    packer = zlib.compressobj(6, wbits=31)
    return packer.compress(content) + packer.flush()
