"""The functions as invocations see them: in memory, on the event loop, told of every change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rie.arn import function_arn
from rie.errors import ServiceError
from rie.model.function import LATEST, Configuration, Function, FunctionKey

PENDING_TEXT = "The operation cannot be performed at this time. The function is currently in the following state: {}"


class Directory:
    """Reads cost a dictionary look-up, because one stands in the way of every invocation."""

    def __init__(self, functions: Iterable[Function] = ()) -> None:
        self._functions = {function.key: function for function in functions}

    def __len__(self) -> int:
        return len(self._functions)

    def __iter__(self) -> Iterator[Function]:
        return iter(self._functions.values())

    def update(self, key: FunctionKey, function: Function | None) -> None:
        """A function was made or changed; None when it is gone."""
        if function is None:
            self._functions.pop(key, None)
        else:
            self._functions[key] = function

    def find(self, key: FunctionKey, qualifier: str | None) -> Function:
        """The function that a qualifier names. Raises ServiceError ResourceNotFoundException (spec §0.3)."""
        function = self._functions.get(key)
        if function is None or qualifier not in (None, LATEST):
            arn = function_arn(key, qualifier or LATEST)
            raise ServiceError("ResourceNotFoundException", f"Function not found: {arn}")
        return function


def serving(function: Function) -> Configuration:
    """What invocations of a function run. Raises ServiceError ResourceConflictException while there is nothing."""
    if function.serving is None:
        raise ServiceError("ResourceConflictException", PENDING_TEXT.format(function.state))
    return function.serving
