"""What the control plane's handlers may call: the domain's parts, built once, each a rule book over the store."""

from __future__ import annotations

from dataclasses import dataclass

from rie.functions.aliases import Aliases
from rie.functions.catalog import Catalog
from rie.functions.ledger import Ledger
from rie.functions.versions import Versions


@dataclass(frozen=True, slots=True)
class Domain:
    """`catalog`: functions and their versions; `ledger`: every other record; the rest: rules over both, by resource."""

    catalog: Catalog
    ledger: Ledger
    versions: Versions
    aliases: Aliases

    @classmethod
    def over(cls, catalog: Catalog, ledger: Ledger) -> Domain:
        """All parts, built."""
        return cls(catalog, ledger, Versions(catalog, ledger), Aliases(catalog, ledger))
