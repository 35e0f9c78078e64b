"""Aliases: where they may point, and how their calls may be shared (lambda.md §4.2)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace

from rie.arn import function_arn
from rie.errors import ServiceError
from rie.functions import faults
from rie.functions.catalog import Catalog
from rie.functions.concurrency import already_provisioned
from rie.functions.ledger import Ledger
from rie.model.alias import ALIASES, Alias
from rie.model.concurrency import PROVISIONED
from rie.model.function import LATEST, Function, FunctionKey
from rie.model.record import place_of


@dataclass(frozen=True, slots=True)
class AliasChange:
    """Members to set; None leaves one as it is. `weights` by additional version: one at most, {} for none."""

    version: str | None = None
    description: str | None = None
    weights: Mapping[str, float] | None = None
    revision_id: str | None = None


class Aliases:
    """Every method blocks and may be called from any thread. Raises ServiceError, StoreFailed."""

    def __init__(self, catalog: Catalog, ledger: Ledger) -> None:
        self._catalog = catalog
        self._ledger = ledger

    def create(self, key: FunctionKey, name: str, change: AliasChange) -> Alias:
        """A new alias; `change` names its version."""
        version = change.version or LATEST
        with self._ledger.exclusively():
            target = self._catalog.get(key, version)
            place = place_of(key, name)
            if self._ledger.find(ALIASES, place) is not None:
                raise ServiceError("ResourceConflictException", f"Alias already exists: {function_arn(key, name)}")
            alias = Alias(version=version, description=change.description or "", revision_id=_random_id())
            return self._ledger.put(ALIASES, place, self._routed(alias, target, change.weights or {}))

    def update(self, key: FunctionKey, name: str, change: AliasChange) -> Alias:
        """Move an alias, describe it anew, or share its calls otherwise."""
        with self._ledger.exclusively():
            self._catalog.get(key)
            place = place_of(key, name)
            before = self._ledger.find(ALIASES, place)
            if before is None:
                raise ServiceError("ResourceNotFoundException", f"Alias not found: {function_arn(key, name)}")
            if change.revision_id not in (None, before.revision_id):
                raise faults.stale_revision()
            after = replace(
                before,
                version=change.version or before.version,
                description=before.description if change.description is None else change.description,
                revision_id=_random_id(),
            )
            target = self._catalog.get(key, after.version)
            self._check_provisioned(key, name, before, after)
            weights = weights_of(before) if change.weights is None else change.weights
            return self._ledger.put(ALIASES, place, self._routed(after, target, weights))

    def get(self, key: FunctionKey, name: str) -> Alias:
        """Raises ServiceError if there is no such alias."""
        alias = self._ledger.find(ALIASES, place_of(key, name))
        if alias is None:
            raise faults.alias_not_found(key, name)
        return alias

    def of_function(self, key: FunctionKey, version: str | None = None) -> list[tuple[str, Alias]]:
        """(name, alias) of all, or of those that send calls to a version, by name."""
        self._catalog.get(key)
        found = [(place.name, alias) for place, alias in self._ledger.of_function(ALIASES, key)]
        return sorted(each for each in found if version is None or version in each[1].versions)

    def delete(self, key: FunctionKey, name: str) -> None:
        """Remove an alias, if it is there, and all that hangs on it."""
        place = place_of(key, name)
        with self._ledger.exclusively():
            if self._ledger.find(ALIASES, place) is not None:
                self._ledger.clear(place)

    def _check_provisioned(self, key: FunctionKey, name: str, before: Alias, after: Alias) -> None:
        """What is provisioned for an alias moves with it, but not onto a version that has its own (lambda.md §7.3)."""
        if after.version == before.version or self._ledger.find(PROVISIONED, place_of(key, name)) is None:
            return
        if after.version == LATEST:
            raise faults.refused("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
        for place, _ in self._ledger.of_function(PROVISIONED, key):
            other = self._ledger.find(ALIASES, place)
            if place.name != name and after.version == (place.name if other is None else other.version):
                raise already_provisioned()

    def _routed(self, alias: Alias, target: Function, weights: Mapping[str, float]) -> Alias:
        """The alias with its calls shared as asked. Raises ServiceError, by the first rule that is broken."""
        if len(weights) > 1:
            raise faults.refused("Number of items in AdditionalVersionWeights cannot be greater than 1")
        for version, weight in weights.items():
            if version == target.version:
                raise faults.refused(
                    f"Invalid function version {version}. "
                    f"Function version {version} is already included in routing configuration."
                )
            if target.version == LATEST:
                raise faults.refused("$LATEST is not supported for an alias pointing to more than 1 version")
            _check_alike(target, self._catalog.get(target.key, version))
            return replace(alias, additional_version=version, additional_weight=weight)
        return replace(alias, additional_version="", additional_weight=0.0)


def weights_of(alias: Alias) -> Mapping[str, float]:
    """AdditionalVersionWeights, as `AliasChange` has them."""
    return {alias.additional_version: alias.additional_weight} if alias.additional_version else {}


def _check_alike(one: Function, other: Function) -> None:
    """Two versions that share calls have the same role and dead-letter target (lambda.md §4.2)."""
    if one.configuration.role != other.configuration.role:
        raise faults.refused(
            f"Versions {one.version} and {other.version} must have the same execution role to share an alias."
        )
    if one.dead_letter_arn != other.dead_letter_arn:
        raise faults.refused(
            f"Versions {one.version} and {other.version} must have the same dead-letter queue configuration, "
            "or none, to share an alias."
        )


def _random_id() -> str:
    return str(uuid.uuid4())
