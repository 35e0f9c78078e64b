"""Engines, which run sandboxes: `choose` makes one by its name."""

from __future__ import annotations

from rie.engine.base import Engine
from rie.engine.settings import EngineSettings
from rie.errors import SettingsError

__all__ = ["DEFAULT", "NAMES", "Engine", "EngineSettings", "choose"]

DEFAULT = "docker"
NAMES = ("docker", "stub")


def choose(name: str | None, settings: EngineSettings) -> Engine:
    """The engine of that name (None: the default); nothing is asked of it yet. Raises SettingsError."""
    # Imported here: the docker SDK costs 150 ms, which nobody pays who does not use it.
    if name in (None, "", DEFAULT):
        from rie.engine.docker import DockerEngine

        return DockerEngine(settings)
    if name == "stub":
        from rie.engine.stub import StubEngine

        return StubEngine()
    if name == "oci":
        raise SettingsError("cannot use engine oci: the daemonless engine is not part of this version; use docker")
    raise SettingsError(f"cannot use engine {name}: it must be one of {', '.join(NAMES)}")
