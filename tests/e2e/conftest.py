"""The fixtures of the end-to-end tests."""

from tests.e2e.world import client, deploy, engine, image, manager, registry

__all__ = ["client", "deploy", "engine", "image", "manager", "registry"]
