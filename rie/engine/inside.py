"""What every engine's sandboxes have in common: names, the function's user, the bootstrap's environment (pure)."""

from __future__ import annotations

import re

from bootstrap.packing import pack
from bootstrap.wire import (
    DIR_IN_SANDBOX,
    ENV_LOG,
    ENV_MEMORY_LIMIT,
    ENV_SOCKET,
    ENV_VARIABLES,
    LOG_NAME,
    SOCKET_NAME,
)
from rie.engine.base import SandboxSpec

ENV_WORKING_DIRECTORY = "RIE_WORKING_DIRECTORY"
MAX_HOSTNAME = 63
FUNCTION_USER = (993, 990)  # uid and gid, as on the service
ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")  # names of containers and directories are made from it


def hostname(sandbox_id: str) -> str:
    """The sandbox's own name, as far as it can be one."""
    return sandbox_id[:MAX_HOSTNAME].replace("_", "-").strip("-.")


def environment(spec: SandboxSpec, *, watches_memory: bool = False) -> dict[str, str]:
    """The bootstrap's own environment, with what the function shall see packed into one variable.

    `watches_memory`: nobody else keeps the function to its limit.
    """
    private = {ENV_SOCKET: f"{DIR_IN_SANDBOX}/{SOCKET_NAME}", ENV_LOG: f"{DIR_IN_SANDBOX}/{LOG_NAME}"}
    if spec.working_directory:
        private[ENV_WORKING_DIRECTORY] = spec.working_directory
    if watches_memory:
        private[ENV_MEMORY_LIMIT] = str(spec.memory_mb)
    # LD_PRELOAD and its like, of the function or of its image, are for the function's process, not for ours.
    private[ENV_VARIABLES] = pack(spec.environment)
    return private
