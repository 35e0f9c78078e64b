"""What the pool asks others for when it starts an environment, and the answers where there is nothing to ask for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from rie.engine.base import Mount
from rie.iam.sessions import Credentials
from rie.model.function import Configuration, Function

MountsOf = Callable[[Configuration], Awaitable[tuple[Mount, ...]]]
"""What sandboxes of a configuration see of the host; makes it if it is not there. Raises HostFault."""


async def no_mounts(configuration: Configuration) -> tuple[Mount, ...]:
    """For functions that are images."""
    return ()


SnapshotOf = Callable[[Function, Configuration], Path | None]
"""The snapshot that environments of a version are made from, if there is one."""


def no_snapshots(function: Function, configuration: Configuration) -> Path | None:
    """Where none are taken."""
    return None


CredentialsOf = Callable[[Function, Configuration], Awaitable[Credentials | None]]
"""The credentials of a function's role; None where functions get none. Raises ServiceError, HostFault."""


async def no_credentials(function: Function, configuration: Configuration) -> Credentials | None:
    """For managers that give functions none."""
    return None
