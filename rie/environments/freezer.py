"""Freezes environments that have been idle for a while."""

from __future__ import annotations

import asyncio
import time

from rie.environments.environment import Environment
from rie.environments.lifecycle import State


class Freezer:
    """Of the event loop. One timer for an environment, not one for each of its invocations."""

    def __init__(self, after_s: float) -> None:
        """`after_s`: how long one runs on, idle; 0: for ever."""
        self._after_s = after_s
        self._freezing: set[asyncio.Task[None]] = set()

    def watch(self, environment: Environment) -> None:
        """It is idle."""
        if self._after_s and not environment.will_be_frozen:
            self._look_in(environment, self._after_s)

    def close(self) -> None:
        """Give up what is under way."""
        for task in list(self._freezing):
            task.cancel()

    def _look_in(self, environment: Environment, in_s: float) -> None:
        environment.will_be_frozen = True
        asyncio.get_running_loop().call_later(in_s, self._look_at, environment)

    def _look_at(self, environment: Environment) -> None:
        environment.will_be_frozen = False
        if environment.state is not State.IDLE:
            return  # whoever ends its work has it watched again
        left_s = environment.last_used_at + self._after_s - time.monotonic()
        if left_s > 0:
            self._look_in(environment, left_s)  # it has been used meanwhile
            return
        task = asyncio.get_running_loop().create_task(environment.freeze())
        self._freezing.add(task)
        task.add_done_callback(self._freezing.discard)
