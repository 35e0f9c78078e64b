"""What the control plane's handlers may call: the domain's parts, built once, each a rule book over the store."""

from __future__ import annotations

from dataclasses import dataclass

from rie.functions.catalog import Catalog
from rie.functions.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Domain:
    """`catalog`: functions and their versions; `ledger`: every other record."""

    catalog: Catalog
    ledger: Ledger
