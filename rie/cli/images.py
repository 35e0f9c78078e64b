"""`rie images`: what is on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rie.cli.pull import DATA_HELP, open_images

EXAMPLE = "Example: rie images --json | jq -r '.[].reference'"
MB = 1_000_000


def images(
    data: Annotated[Path | None, typer.Option(help=DATA_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list instead of a table.")] = False,
) -> None:
    """List the images that are unpacked on this machine.

    A layer is kept once however many images share it: SIZE is what an image needs, SHARED what others need too.
    """
    from rich.console import Console
    from rich.table import Table

    kept = open_images(data).list()
    if as_json:
        rows = [
            {
                "reference": one.image.reference,
                "digest": one.image.digest,
                "architecture": one.image.architecture,
                "layers": one.layers,
                "bytes": one.data_bytes,
                "sharedBytes": one.shared_bytes,
            }
            for one in kept
        ]
        print(json.dumps(rows))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("REPOSITORY", "DIGEST", "ARCHITECTURE"):
        table.add_column(heading, no_wrap=True)
    for heading in ("LAYERS", "SIZE", "SHARED"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in kept:
        name, _, digest = one.image.reference.rpartition("@")
        sizes = f"{one.data_bytes / MB:.1f} MB", f"{one.shared_bytes / MB:.1f} MB"
        table.add_row(name, digest[:19], one.image.architecture, str(one.layers), *sizes)
    console = Console()
    # In a pipe there is no width to keep to: a line for each image, whole.
    console.print(table) if console.is_terminal else Console(width=300).print(table)
