"""From the control plane's threads to the event loop: what they tell it, and what they ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from rie.engine.base import Engine
from rie.errors import HostFault
from rie.functions.durable import Plan
from rie.model.function import Function, FunctionKey
from rie.model.image import Image
from rie.model.record import Kind, Place

RESOLVE_LIMIT_S = 60.0

FunctionChanged = Callable[[FunctionKey, str, Function | None], None]
"""A version's newest record; None when it is gone, with $LATEST the whole function."""


class Crossing:
    """Made on the event loop; its methods are called on any thread, in the order of commits.

    Whoever lives on the event loop is told there, each in a turn of its own. What `records` and `executions` are is set
    before the control plane begins.
    """

    def __init__(self, engine: Engine) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine = engine
        self.functions: list[FunctionChanged] = []
        self.records: Callable[[Kind[Any], Place, Any], None]
        self.executions: Callable[[Plan], None]

    def function_changed(self, key: FunctionKey, version: str, function: Function | None) -> None:
        """A version was made, changed or removed."""
        for tell in self.functions:
            self._loop.call_soon_threadsafe(tell, key, version, function)

    def record_changed(self, kind: Kind[Any], place: Place, record: Any) -> None:
        """A record was made or changed; None when it is gone."""
        self._loop.call_soon_threadsafe(self.records, kind, place, record)

    def execution_changed(self, plan: Plan) -> None:
        """A durable execution has something to do, or nothing any more."""
        self._loop.call_soon_threadsafe(self.executions, plan)

    def resolve(self, reference: str, architecture: str) -> Image:
        """The engine's answer to what an image's URI means now. Blocks; raises ImageFault, HostFault."""
        future = asyncio.run_coroutine_threadsafe(self._engine.resolve(reference, architecture), self._loop)
        try:
            return future.result(RESOLVE_LIMIT_S)
        except TimeoutError:
            future.cancel()
            raise HostFault(f"cannot resolve {reference}: no answer within {RESOLVE_LIMIT_S:.0f} s") from None
