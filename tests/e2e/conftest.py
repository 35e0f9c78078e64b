"""The fixtures of the end-to-end tests, and which of them run over both real engines."""

from __future__ import annotations

import pytest

from tests.e2e.world import client, deploy, engine, engine_name, image, manager, registry

__all__ = ["client", "deploy", "engine", "engine_name", "image", "manager", "registry"]

# What functions see and how they fail is the engine's doing; the API's answers are not.
OVER_BOTH = ("test_functions",)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of some modules once for each engine."""
    name = metafunc.module.__name__.rpartition(".")[2]
    if "engine_name" in metafunc.fixturenames and name in OVER_BOTH:
        metafunc.parametrize("engine_name", ["oci", "docker"], scope="session")
