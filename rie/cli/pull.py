"""`rie pull`: have an image on this machine before a function needs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rie.model.image import Image
    from rie.rootfs.images import Images
    from rie.rootfs.progress import Step

EXAMPLE = "Example: rie pull 127.0.0.1:5000/hello:latest --json | jq -r .digest"
REFERENCE_HELP = (
    "HOST/REPOSITORY:TAG or @sha256:…; oci:DIRECTORY[:TAG] for an OCI layout; docker-archive:FILE[:NAME] for what "
    "`docker save` has written."
)
DATA_HELP = "Where the manager keeps its data; images are below it. [default: RIE_DATA, or as `rie serve`]"


def pull(
    reference: Annotated[str, typer.Argument(help=REFERENCE_HELP)],
    architecture: Annotated[str | None, typer.Option(help="x86_64 or arm64. [default: this machine's]")] = None,
    data: Annotated[Path | None, typer.Option(help=DATA_HELP)] = None,
    insecure: Annotated[list[str] | None, typer.Option(help="A registry to speak to by plain HTTP.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The image as JSON; progress goes to standard error.")
    ] = False,
) -> None:
    """Download, verify and unpack an image.

    It goes on where an earlier attempt ended. Layers that other images have brought are not fetched again. A tag is
    asked for anew each time; what is printed is the digest that it stands for.
    """
    images = open_images(data, tuple(insecure or ()))
    image = images.resolve(reference, architecture or machine_architecture())
    images.hold(image)
    _prepare(images, image)
    images.settle()
    if as_json:
        print(json.dumps({"reference": image.reference, "digest": image.digest, "architecture": image.architecture}))
    else:
        print(image.reference)


def open_images(data: Path | None, insecure: tuple[str, ...] = ()) -> Images:
    """The images that the manager with this data directory has too."""
    import os

    from rie import settings
    from rie.rootfs.images import Images

    found = settings.read(os.environ, data=data.absolute() if data else None)
    return Images(found.data / "images", insecure=insecure)


def machine_architecture() -> str:
    """This machine's architecture as the service calls it."""
    import platform

    return "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"


def _prepare(images: Images, image: Image) -> None:
    """With bars in a terminal, with lines elsewhere; both on standard error."""
    if not sys.stderr.isatty():
        images.prepare(image, lambda line: print(line, file=sys.stderr, flush=True))
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.fields[layer]}"), BarColumn(), DownloadColumn(), TextColumn("{task.fields[phase]}"))
    with Progress(*columns, console=Console(stderr=True)) as bars:
        images.prepare(image, watch=_Bars(bars))


class _Bars:
    """A bar for each layer, which fills once as it is downloaded and again as it is unpacked."""

    def __init__(self, bars: object) -> None:
        from rich.progress import Progress, TaskID

        assert isinstance(bars, Progress)
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: Step) -> None:
        from rie.rootfs.progress import short

        if step.digest not in self._tasks:
            self._tasks[step.digest] = self._bars.add_task(
                "", layer=short(step.digest), phase=step.phase, total=step.total_bytes
            )
        self._bars.update(self._tasks[step.digest], completed=step.done_bytes, phase=step.phase)
