"""What a pool is told when it is made: limits, times, and who gives its environments what they need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from rie.engine.base import Mount
from rie.environments.plan import Limits
from rie.iam.sessions import Credentials
from rie.model.function import Configuration, Function

MountsOf = Callable[[Configuration], Awaitable[tuple[Mount, ...]]]
"""What sandboxes of a configuration see of the host; makes it if it is not there. Raises HostFault."""

CredentialsOf = Callable[[Function, Configuration], Awaitable[Credentials | None]]
"""The credentials of a function's role; None where functions get none. Raises ServiceError, HostFault."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """`idle_s`: how long an idle environment is kept; `variables`: for functions that don't have them otherwise.

    `freeze_s`: how long an idle one runs on before it is frozen, 0: for ever. Calls that follow each other closely then
    cost no freezing, and what is logged late is still written. `is_learned`: `idle_s` is for functions of which too
    little is known; others' are kept, and started ahead, by when their calls came (rie.environments.idle_times).
    """

    limits: Limits
    idle_s: float = 600.0
    variables: Mapping[str, str] = field(default_factory=dict)
    freeze_s: float = 0.0
    is_learned: bool = False


async def no_mounts(configuration: Configuration) -> tuple[Mount, ...]:
    """For functions that are images."""
    return ()


async def no_credentials(function: Function, configuration: Configuration) -> Credentials | None:
    """For managers that give functions none."""
    return None
