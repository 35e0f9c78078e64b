"""What changes of functions and records mean for what runs: drained, retired, reserved, started ahead."""

from __future__ import annotations

from rie.environments.pool import Pool
from rie.environments.provisioning import Provisioning, Wanted
from rie.invoke.directory import Directory
from rie.invoke.mirror import Mirror
from rie.model.alias import ALIASES, Alias
from rie.model.concurrency import PROVISIONED, RESERVED, Provisioned, Reserved
from rie.model.function import LATEST, Function, FunctionKey
from rie.model.record import Place, place_of


class Upkeep:
    """Owned by the event loop. Make it before the mirror is loaded: it hears of what is there as of any change."""

    def __init__(self, directory: Directory, mirror: Mirror, pool: Pool, provisioning: Provisioning) -> None:
        self._directory = directory
        self._mirror = mirror
        self._pool = pool
        self._provisioning = provisioning
        self._routes: dict[Place, tuple[str, ...]] = {}  # of aliases: the versions that they send calls to
        mirror.watch(ALIASES, self._alias_changed)
        mirror.watch(PROVISIONED, self._provisioned_changed)
        mirror.watch(RESERVED, self._reserved_changed)

    def function_changed(self, key: FunctionKey, version: str, function: Function | None) -> None:
        """A version's newest record; None when it is gone, with $LATEST the whole function."""
        if function is not None:
            self._directory.update(function)
            serving = function.serving
            self._pool.retire(key, version, keep=serving.configuration_id if serving is not None else None)
            self._provision(key)
            return
        self._directory.forget(key, version)
        if version == LATEST:
            self._mirror.forget(key)
            self._pool.forget(key)
        else:
            self._mirror.clear(place_of(key, version))
            self._pool.forget(key, version)

    def _alias_changed(self, place: Place, alias: Alias | None) -> None:
        """The environments of versions that no alias sends calls to any more drain (lambda.md §4.2)."""
        before = self._routes.pop(place, ())
        if alias is not None:
            self._routes[place] = alias.versions
        self._provision(place.key)
        left = {version for each, versions in self._routes.items() if each.key == place.key for version in versions}
        left |= {LATEST, *self._provisioned_versions(place.key)}
        for version in before:
            if version not in left:
                self._pool.retire(place.key, version)

    def _provisioned_changed(self, place: Place, record: Provisioned | None) -> None:
        self._provision(place.key)

    def _reserved_changed(self, place: Place, record: Reserved | None) -> None:
        self._pool.concurrency.share(place.key).reserve(None if record is None else record.slots)

    def _provision(self, key: FunctionKey) -> None:
        """Have what is provisioned for a function's versions and aliases stand where they do now."""
        versions = self._directory.versions(key)
        wanted = {}
        for place, record in self._mirror.of_function(PROVISIONED, key):
            function = versions.get(self._version(place))
            if function is not None:
                wanted[record.token] = Wanted(function, record.slots)
        self._provisioning.apply(key, wanted)

    def _provisioned_versions(self, key: FunctionKey) -> set[str]:
        return {self._version(place) for place, _ in self._mirror.of_function(PROVISIONED, key)}

    def _version(self, place: Place) -> str:
        alias = self._mirror.find(ALIASES, place)
        return place.name if alias is None else alias.version
