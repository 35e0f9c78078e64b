"""`rie prune`: remove the images that no function has."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from rie.cli.pull import DATA_HELP, open_images

EXAMPLE = "Example: rie prune"
MB = 1_000_000


def prune(
    data: Annotated[Path | None, typer.Option(help=DATA_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help='{"freedBytes": …} instead of text.')] = False,
) -> None:
    """Remove the images that no function has and nothing runs, and what interrupted pulls have left.

    It waits for pulls, ten seconds at most, and removes nothing if they go on. May be used beside a running manager.
    """
    images = open_images(data)
    freed = images.collect(_wanted(data))
    print(json.dumps({"freedBytes": freed}) if as_json else f"freed {freed / MB:,.1f} MB")


def _wanted(data: Path | None) -> list[str]:
    """The images of all functions in the manager's database, if there is one."""
    from rie import settings
    from rie.store.sql import SqlStore

    found = settings.read(os.environ, data=data.absolute() if data else None)
    if found.database is None and not (found.data / "rie.db").exists():
        return []
    store = SqlStore(found.database_url)
    try:
        return [
            configuration.image.reference
            for function in store.all()
            for configuration in (function.configuration, function.serving)
            if configuration is not None and configuration.image is not None
        ]
    finally:
        store.close()
