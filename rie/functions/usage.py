"""What is recorded as using code, and how much an account has of it."""

from __future__ import annotations

from rie.functions.catalog import Catalog
from rie.functions.layers import Layers
from rie.functions.sweeper import Use, use_of
from rie.model.function import Configuration


class Usage:
    """Reads all records each time. Blocks; may be called from any thread."""

    def __init__(self, catalog: Catalog, layers: Layers) -> None:
        self._catalog = catalog
        self._layers = layers

    def stored_bytes(self, account: str, region: str) -> int:
        """The bytes of all zips of an account and region, those of every version counted."""
        place = (account, region)
        total = 0
        for function in self._catalog.all():
            archive = function.configuration.archive
            if archive is not None and (function.key.account, function.key.region) == place:
                total += archive.size
        for at, layer in self._layers.all():
            if (at.account, at.region) == place:
                total += sum(version.archive.size for version in layer.versions)
        return total

    def configurations(self) -> list[Configuration]:
        """Those of every version, and those that serve meanwhile."""
        functions = self._catalog.all()
        found = [function.configuration for function in functions]
        return found + [function.serving for function in functions if function.serving]

    def uses(self) -> list[Use]:
        """All that functions, what serves of them, and layers have unpacked."""
        uses = [use_of(configuration) for configuration in self.configurations()]
        uses += [((version.archive,), ()) for _, layer in self._layers.all() for version in layer.versions]
        return uses
