"""Which image stands under zip functions of which runtime: a table with defaults that settings outdo."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Mapping
from pathlib import Path

from rie.errors import RuntimeUnavailable, SettingsError

FILE = "runtimes.toml"
DEFAULTS = {
    "python3.*": "docker-daemon:rie/python:3.11",
    "nodejs*": "docker-daemon:rie/nodejs:22",
    "provided.*": "docker-daemon:rie/provided:latest",
}
"""Images that `scripts/images.py` builds. They stand in for neighbours too: nodejs20.x runs on 22."""


class RuntimeImages:
    """Patterns of runtimes ("python3.12", "python3.*") and the images for them; the longest that fits holds."""

    def __init__(self, table: Mapping[str, str]) -> None:
        self._table = dict(table)

    def reference(self, runtime: str) -> str:
        """What `Engine.resolve` takes for a runtime. Raises RuntimeUnavailable, which says what to set."""
        fitting = [pattern for pattern in self._table if fnmatch.fnmatchcase(runtime, pattern)]
        exact = [pattern for pattern in fitting if pattern == runtime]
        image = self._table[max(exact or fitting, key=len)] if fitting else ""
        if not image:
            raise RuntimeUnavailable(f"cannot run {runtime}: no image is set for it; {how_to_set(runtime)}")
        return image


def how_to_set(runtime: str) -> str:
    """What to do about a runtime without an image."""
    return f"give one with rie serve --runtime {runtime}=IMAGE, with RIE_RUNTIMES, or in {FILE} in the data directory"


def read_table(data: Path, setting: str) -> RuntimeImages:
    """The defaults, over them the file `runtimes.toml` in the data directory, over that the setting.

    The file is TOML of `"runtime" = "image"`; the setting "runtime=image", several with commas or spaces between. An
    empty image takes a default away. Raises SettingsError.
    """
    return RuntimeImages({**DEFAULTS, **_from_file(data / FILE), **_from_setting(setting)})


def _from_file(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from None
    for runtime, image in table.items():
        if not isinstance(image, str):
            raise SettingsError(f'cannot read {path}: {runtime} must be quoted, as in "python3.12" = "IMAGE"')
    return table


def _from_setting(setting: str) -> dict[str, str]:
    table = {}
    for entry in setting.replace(",", " ").split():
        runtime, equals, image = entry.partition("=")
        if not runtime or not equals:
            raise SettingsError(f"cannot read the runtime {entry!r}: it is not RUNTIME=IMAGE")
        table[runtime] = image
    return table
