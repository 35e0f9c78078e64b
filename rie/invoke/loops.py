"""Stops functions that call themselves without end, unless they are allowed to (lambda.md §2.9)."""

from __future__ import annotations

from rie.errors import ServiceError
from rie.invoke.lineage import MAX_PASSES, passed_on
from rie.invoke.mirror import Mirror
from rie.model.function import LATEST, FunctionKey
from rie.model.record import place_of
from rie.model.recursion import ALLOW, RECURSION


class LoopGuard:
    """Owned by the event loop. `mirror` has what functions are allowed."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    def pass_on(self, key: FunctionKey, trace_id: str) -> str:
        """The trace header that the function is given. Raises ServiceError RecursiveInvocationException."""
        header, passes = passed_on(trace_id, key.arn)
        if passes >= MAX_PASSES:
            allowed = self._mirror.find(RECURSION, place_of(key, LATEST))
            if allowed is None or allowed.mode != ALLOW:
                raise ServiceError(
                    "RecursiveInvocationException",
                    f"Lambda has detected your function {key.arn} being invoked in a recursive loop with other AWS "
                    "resources, and stopped it. Allow the loop with PutFunctionRecursionConfig if it is intended.",
                )
        return header
