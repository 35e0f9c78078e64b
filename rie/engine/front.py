"""Reaching a sandbox's front door while its bootstrap may still be starting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bootstrap.wire import SOCKET_NAME

CONNECT_TIMEOUT_S = 20.0
FIRST_PAUSE_S = 0.001
LONGEST_PAUSE_S = 0.005


async def reach(
    run: int, factory: Callable[[], asyncio.Protocol], is_over: Callable[[], bool]
) -> asyncio.Protocol | None:
    """A connection to the door in the directory of a descriptor; None once `is_over()`.

    Raises TimeoutError if nobody listens after 20 s, OSError for what waiting would not mend.
    """
    loop = asyncio.get_running_loop()
    gives_up_at = loop.time() + CONNECT_TIMEOUT_S
    pause = FIRST_PAUSE_S
    while not is_over():
        # Through the descriptor, because a socket's path is 107 bytes at most and state directories may be deep.
        path = f"/proc/self/fd/{run}/{SOCKET_NAME}"
        try:
            _, protocol = await loop.create_unix_connection(factory, path)
            return protocol
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            pass  # not bound, not listening, or no place in its queue yet
        if loop.time() > gives_up_at:
            raise TimeoutError(f"it does not listen after {CONNECT_TIMEOUT_S:.0f} s")
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE_S)
    return None
