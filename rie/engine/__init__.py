"""Engines, which run sandboxes: `choose` makes one by its name."""

from __future__ import annotations

import os

from rie.engine.base import Engine
from rie.engine.settings import EngineSettings
from rie.errors import SettingsError

__all__ = ["NAMES", "Engine", "EngineSettings", "choose", "default"]

NAMES = ("oci", "docker", "stub")


def default() -> tuple[str, str]:
    """The engine of this machine if nobody names one, and why.

    "oci" on Linux with root; without root "docker" if it answers, because oci lacks much then, else "oci" if it can.
    """
    from rie.engine.oci.engine import unavailable

    is_root = os.geteuid() == 0
    if not is_root and _docker_answers():
        return "docker", "not root, and Docker answers"
    why_not = unavailable()
    if why_not:
        return "docker", f"oci: {why_not}"
    return "oci", "Linux with root" if is_root else "not root, Docker does not answer, and users may have namespaces"


def _docker_answers() -> bool:
    from rie.engine.docker.client import answers

    return answers()


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
