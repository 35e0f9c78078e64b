"""What the control plane's handlers may call: the domain's parts, built once, each a rule book over the store."""

from __future__ import annotations

from dataclasses import dataclass

from rie.clock import Clock
from rie.functions.aliases import Aliases
from rie.functions.catalog import Catalog
from rie.functions.event_invoke import EventInvokeConfigs
from rie.functions.ledger import Ledger
from rie.functions.mappings import EventSourceMappings, Inspect
from rie.functions.versions import Versions


@dataclass(frozen=True, slots=True)
class Domain:
    """`catalog`: functions and their versions; `ledger`: every other record; the rest: rules over both, by resource."""

    catalog: Catalog
    ledger: Ledger
    versions: Versions
    aliases: Aliases
    event_invoke: EventInvokeConfigs
    mappings: EventSourceMappings

    @classmethod
    def over(cls, catalog: Catalog, ledger: Ledger, clock: Clock, inspect: Inspect) -> Domain:
        """All parts, built; `inspect` looks at event sources before a mapping of them is taken on."""
        return cls(
            catalog=catalog,
            ledger=ledger,
            versions=Versions(catalog, ledger),
            aliases=Aliases(catalog, ledger),
            event_invoke=EventInvokeConfigs(catalog, ledger, clock),
            mappings=EventSourceMappings(catalog, ledger, clock, inspect),
        )
