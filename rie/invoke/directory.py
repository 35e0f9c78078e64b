"""The functions as invocations see them: in memory, on the event loop, told of every change."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping

from rie.arn import function_arn
from rie.errors import ServiceError
from rie.invoke.mirror import Mirror
from rie.model.alias import ALIASES, Alias
from rie.model.function import LATEST, LATEST_PUBLISHED, Configuration, Function, FunctionKey
from rie.model.record import Place

PENDING_TEXT = "The operation cannot be performed at this time. The function is currently in the following state: {}"

NOT_READY_TEXT = (
    "Lambda is initializing your function. It will be ready to invoke once your function state becomes ACTIVE."
)


class Directory:
    """Reads cost two dictionary look-ups, because one stands in the way of every invocation; aliases two more.

    `mirror` has the aliases; `draw` a random number from 0 up to 1, which shares an alias's calls between versions.
    """

    def __init__(
        self,
        functions: Iterable[Function] = (),
        mirror: Mirror | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._functions: dict[FunctionKey, dict[str, Function]] = {}
        self._mirror = mirror or Mirror()
        self._draw = draw
        for function in functions:
            self.update(function)

    def __len__(self) -> int:
        return len(self._functions)

    def __iter__(self) -> Iterator[Function]:
        """Every function: its $LATEST."""
        return (versions[LATEST] for versions in list(self._functions.values()) if LATEST in versions)

    def update(self, function: Function) -> None:
        """A function, or a version of it, was made or changed."""
        self._functions.setdefault(function.key, {})[function.version] = function

    def forget(self, key: FunctionKey, version: str = LATEST) -> None:
        """A version is gone; with $LATEST the function is."""
        if version == LATEST:
            self._functions.pop(key, None)
        elif key in self._functions:
            self._functions[key].pop(version, None)

    def find(self, key: FunctionKey, qualifier: str | None) -> Function:
        """The version to run for a qualifier: of an alias that shares its calls, the one that the draw falls on.

        Raises ServiceError ResourceNotFoundException (spec §0.3).
        """
        versions = self._functions.get(key)
        if versions is not None:
            function = versions.get(qualifier or LATEST)
            if function is None and qualifier is not None:
                function = self._behind(qualifier, key, versions)
            elif function is not None and function.managed is not None and function.version == LATEST:
                function = _latest_published(versions)  # of these, only what was published can be invoked
            if function is not None:
                return function
        arn = function_arn(key, qualifier or LATEST)
        raise ServiceError("ResourceNotFoundException", f"Function not found: {arn}")

    def versions(self, key: FunctionKey) -> Mapping[str, Function]:
        """All that there are of a function, by number, $LATEST among them."""
        return self._functions.get(key, {})

    def _behind(self, qualifier: str, key: FunctionKey, versions: Mapping[str, Function]) -> Function | None:
        if qualifier == LATEST_PUBLISHED:
            return _latest_published(versions)
        alias = self._mirror.find(ALIASES, Place(key.account, key.region, key.name, qualifier))
        return versions.get(self._drawn(alias)) if alias is not None else None

    def _drawn(self, alias: Alias) -> str:
        if alias.additional_version and self._draw() < alias.additional_weight:
            return alias.additional_version
        return alias.version


def _latest_published(versions: Mapping[str, Function]) -> Function:
    """What $LATEST.PUBLISHED is. Raises ServiceError NoPublishedVersionException (spec §13.3)."""
    latest = versions.get(LATEST)
    found = versions.get(latest.latest_published) if latest is not None else None
    if found is None:
        raise ServiceError("NoPublishedVersionException", "The function has no published version to invoke.")
    return found


def serving(function: Function) -> Configuration:
    """What invocations of a function run.

    Raises ServiceError ResourceConflictException while there is nothing, of a version whose snapshot is being taken
    SnapStartNotReadyException.
    """
    if function.serving is None and function.takes_snapshot and function.is_pending:
        raise ServiceError("SnapStartNotReadyException", NOT_READY_TEXT)
    if function.serving is None:
        raise ServiceError("ResourceConflictException", PENDING_TEXT.format(function.state))
    return function.serving
