"""Engines, which run sandboxes: `choose` makes one by its name."""

from __future__ import annotations

from rie.engine.base import Engine
from rie.engine.settings import EngineSettings
from rie.errors import SettingsError

__all__ = ["NAMES", "Engine", "EngineSettings", "choose", "default"]

NAMES = ("oci", "docker", "stub")


def default() -> tuple[str, str]:
    """The engine of this machine if nobody names one, and why: "oci" on Linux with root, else "docker"."""
    from rie.engine.oci.engine import unavailable

    why_not = unavailable()
    return ("docker", f"oci: {why_not}") if why_not else ("oci", "Linux with root")


def choose(name: str | None, settings: EngineSettings) -> Engine:
    """The engine of that name (None: the default); nothing is asked of it yet. Raises SettingsError."""
    # Imported here: the docker SDK costs 150 ms, which nobody pays who does not use it.
    name = name or default()[0]
    if name == "docker":
        from rie.engine.docker import DockerEngine

        return DockerEngine(settings)
    if name == "oci":
        from rie.engine.oci import OciEngine

        return OciEngine(settings)
    if name == "stub":
        from rie.engine.stub import StubEngine

        return StubEngine()
    raise SettingsError(f"cannot use engine {name}: it must be one of {', '.join(NAMES)}")
