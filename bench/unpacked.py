"""The benchmarks' image without Docker: from Docker's export into a directory, as one layer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from bench.containers import Workbench
from rie.errors import HostFault, ImageNotFound
from rie.model.image import Image

DIGEST = f"sha256:{'0' * 64}"


class Unpacked:
    """One image, as the daemonless engine asks for images (`rie.engine.oci.engine.Images`)."""

    def __init__(self, directory: Path, image: Image) -> None:
        self.image = image
        self.root = directory / "layer"
        self._empty = directory / "empty"

    def resolve(self, reference: str, architecture: str) -> Image:
        """There is one only."""
        if reference != self.image.reference:
            raise ImageNotFound(reference, "the benchmark has one image")
        return self.image

    def prepare(self, image: Image, on_progress: Callable[[str], None] | None = None) -> None:
        """It is here."""

    def layers(self, image: Image) -> tuple[Path, ...]:
        """Two, as the file system wants."""
        return self._empty, self.root

    def hold(self, image: Image) -> None:
        """It stays."""

    def release(self, image: Image) -> None:
        """It stays."""


def unpack(bench: Workbench, directory: Path) -> Unpacked:
    """The bench's image at `directory`. Raises HostFault."""
    for name in ("layer", "empty"):
        (directory / name).mkdir(parents=True)
    container = bench.call("create", "--label", bench.mark, bench.image)
    try:
        with subprocess.Popen([*bench.docker, "export", container], stdout=subprocess.PIPE) as export:
            done = subprocess.run(["tar", "-x", "-C", str(directory / "layer")], stdin=export.stdout, check=False)
        if export.returncode or done.returncode:
            raise HostFault(f"cannot unpack {bench.image}: docker export and tar ended badly")
    finally:
        bench.remove(container)
    config = json.loads(bench.call("image", "inspect", "--format", "{{json .Config}}", bench.image))
    variables = dict(line.partition("=")[::2] for line in config.get("Env") or ())
    entry_point = [part for part in config.get("Entrypoint") or () if part != "/opt/rie/bootstrap"]
    image = Image(
        reference=f"bench/image@{DIGEST}",
        digest=DIGEST,
        architecture="x86_64",
        entrypoint=tuple(entry_point),
        command=tuple(config.get("Cmd") or ()),
        working_directory=config.get("WorkingDir") or "/var/task",
        environment=variables,
    )
    return Unpacked(directory, image)
