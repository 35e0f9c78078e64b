"""Versions beside what hangs on them: which may be removed, and what goes with them (lambda.md §1.14, §4.1)."""

from __future__ import annotations

from rie.errors import ServiceError
from rie.functions import faults
from rie.functions.catalog import Catalog
from rie.functions.ledger import Ledger
from rie.model.alias import ALIASES
from rie.model.function import LATEST, FunctionKey


class Versions:
    """Removes functions and versions. Every method blocks and may be called from any thread."""

    def __init__(self, catalog: Catalog, ledger: Ledger) -> None:
        self._catalog = catalog
        self._ledger = ledger

    def delete(self, key: FunctionKey, qualifier: str | None = None) -> None:
        """Remove a function, or one version of it; a version that isn't there is removed already."""
        with self._ledger.exclusively():
            if qualifier is None:
                return self._catalog.delete(key)
            if self._catalog.find(key) is None:
                raise faults.not_found(key)
            self._check_removable(key, qualifier)
            return self._catalog.delete_version(key, qualifier)

    def _check_removable(self, key: FunctionKey, qualifier: str) -> None:
        if qualifier == LATEST:
            raise faults.refused("$LATEST version cannot be deleted without deleting the function.")
        if not qualifier.isdecimal():
            raise faults.refused("Deletion of aliases is not currently supported.")
        names = [place.name for place, alias in self._ledger.of_function(ALIASES, key) if qualifier in alias.versions]
        if names:
            raise ServiceError(
                "ResourceConflictException",
                f"The version {qualifier} cannot be deleted: it is referenced by these aliases: {', '.join(names)}.",
            )
