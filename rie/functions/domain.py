"""What the control plane's handlers may call: the domain's parts, built once, each a rule book over the store."""

from __future__ import annotations

from dataclasses import dataclass

from rie.functions.catalog import Catalog
from rie.functions.event_invoke import EventInvokeConfigs
from rie.functions.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Domain:
    """`catalog`: functions and their versions; `ledger`: every other record; the rest: the rules of one
    kind of record each."""

    catalog: Catalog
    ledger: Ledger
    event_invoke: EventInvokeConfigs
