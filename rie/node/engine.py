"""The engine that the settings name."""

from __future__ import annotations

from rie import bundle
from rie.engine import choose
from rie.engine.base import Engine
from rie.engine.settings import EngineSettings
from rie.node.data import owner_of
from rie.node.endpoints import told_to_functions
from rie.settings import Settings


def engine_for(settings: Settings) -> Engine:
    """The engine that the settings name, knowing this manager's sandboxes from others'. Raises SettingsError."""
    return choose(
        settings.engine,
        EngineSettings(
            bundle=bundle.ensure(settings.bundle),
            state_dir=settings.data / "sandboxes",
            owner=owner_of(settings.data),
            network=settings.network,
            host_urls=tuple(told_to_functions(settings).values()),
        ),
    )
