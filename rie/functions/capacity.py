"""Capacity providers and the scaling of functions on them (lambda.md §13.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from rie.arn import Scope
from rie.clock import Clock, with_fraction
from rie.errors import ServiceError
from rie.functions import faults, rules
from rie.functions.catalog import Catalog
from rie.functions.ledger import Ledger
from rie.model.capacity import CAPACITY_PROVIDERS, SCALING, CapacityProvider, Scaling
from rie.model.function import Function, FunctionKey
from rie.model.record import Place, place_of

_NAME = -1  # of the parts of an ARN


class Capacity:
    """Every method blocks and may be called from any thread. Raises ServiceError, StoreFailed."""

    def __init__(self, catalog: Catalog, ledger: Ledger, clock: Clock) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._clock = clock

    def create(self, place: Place, document: Mapping[str, Any], tags: Mapping[str, str]) -> CapacityProvider:
        """A new one; `document` are the members that it was asked for with."""
        rules.check_tags(tags)

        def decide(before: CapacityProvider | None) -> CapacityProvider:
            if before is not None:
                raise ServiceError(
                    "ResourceConflictException", f"Capacity provider already exists: {provider_arn(place)}"
                )
            return CapacityProvider(orjson.dumps(document).decode(), self._now(), tags)

        made = self._ledger.change(CAPACITY_PROVIDERS, place, decide)
        assert made is not None
        return made

    def get(self, place: Place) -> CapacityProvider:
        """Raises ServiceError if there is none."""
        found = self._ledger.find(CAPACITY_PROVIDERS, place)
        if found is None:
            raise provider_not_found(place)
        return found

    def update(self, place: Place, members: Mapping[str, Any]) -> CapacityProvider:
        """Replace members of its document."""

        def decide(before: CapacityProvider) -> CapacityProvider:
            document = {**orjson.loads(before.document), **members}
            return replace(before, document=orjson.dumps(document).decode(), last_modified=self._now())

        return self._changed(place, decide)

    def tag(self, place: Place, decide: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
        """Give it the tags that `decide` makes of those it has."""

        def retagged(before: CapacityProvider) -> CapacityProvider:
            tags = decide(before.tags)
            rules.check_tags(tags)
            return replace(before, tags=tags)

        self._changed(place, retagged)

    def delete(self, place: Place) -> CapacityProvider:
        """Remove it, unless functions run on it."""
        with self._ledger.exclusively():
            found = self.get(place)
            users = self.users(place)
            if users:
                raise ServiceError(
                    "ResourceConflictException",
                    f"Capacity provider {provider_arn(place)} is in use by {users[0].key.arn}:{users[0].version}.",
                )
            self._ledger.remove(CAPACITY_PROVIDERS, place)
            return found

    def all_of(self, scope: Scope) -> list[tuple[Place, CapacityProvider]]:
        """All of an account and region, by name."""
        return self._ledger.page(CAPACITY_PROVIDERS, scope.account, scope.region)

    def users(self, place: Place) -> list[Function]:
        """Versions of functions that asked to run on it."""
        arn = provider_arn(place)
        return [each for each in self._catalog.all() if each.managed and each.managed.capacity_provider_arn == arn]

    def scaling(self, key: FunctionKey, qualifier: str) -> Scaling:
        """How far a version may scale."""
        self._check_version(key, qualifier)
        return self._ledger.find(SCALING, place_of(key, qualifier)) or Scaling()

    def scale(self, key: FunctionKey, qualifier: str, scaling: Scaling) -> Function:
        """Set how far a version may scale."""
        if scaling.least is not None and scaling.most is not None and scaling.least > scaling.most:
            raise faults.refused("MinExecutionEnvironments must not be greater than MaxExecutionEnvironments.")
        with self._ledger.exclusively():
            function = self._check_version(key, qualifier)
            self._ledger.put(SCALING, place_of(key, qualifier), scaling)
            return function

    def _check_version(self, key: FunctionKey, qualifier: str) -> Function:
        function = self._catalog.get(key, qualifier)
        if function.managed is None:
            raise faults.refused(f"{key.arn}:{qualifier} does not run on a capacity provider.")
        return function

    def _changed(self, place: Place, decide: Callable[[CapacityProvider], CapacityProvider]) -> CapacityProvider:
        def unless_gone(before: CapacityProvider | None) -> CapacityProvider:
            if before is None:
                raise provider_not_found(place)
            return decide(before)

        after = self._ledger.change(CAPACITY_PROVIDERS, place, unless_gone)
        assert after is not None
        return after

    def _now(self) -> str:
        return with_fraction(self._clock.now())


def provider_arn(place: Place) -> str:
    """`arn:aws:lambda:<region>:<account>:capacity-provider:<name>`."""
    return f"arn:aws:lambda:{place.region}:{place.account}:capacity-provider:{place.name}"


def provider_not_found(place: Place) -> ServiceError:
    """No such capacity provider (404)."""
    return ServiceError("ResourceNotFoundException", f"Capacity provider not found: {provider_arn(place)}")


def provider_place(scope: Scope, name_or_arn: str) -> Place:
    """Where a capacity provider lies that a request names."""
    return Place(scope.account, scope.region, "", name_or_arn.split(":")[_NAME])
