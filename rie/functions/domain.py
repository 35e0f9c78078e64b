"""What the control plane's handlers may call: the domain's parts, built once, each a rule book over the store."""

from __future__ import annotations

from dataclasses import dataclass

from rie.clock import Clock
from rie.code.links import Links
from rie.code.store import CodeStore
from rie.functions.aliases import Aliases
from rie.functions.catalog import Catalog
from rie.functions.event_invoke import EventInvokeConfigs
from rie.functions.layers import Layers
from rie.functions.ledger import Ledger
from rie.functions.signing import CodeSigning
from rie.functions.uploads import Fetches, Uploads
from rie.functions.usage import Usage
from rie.functions.versions import Versions


@dataclass(frozen=True, slots=True)
class Code:
    """What the domain is given for the code of zip functions and layers: where it is kept, fetched and downloaded."""

    store: CodeStore
    s3: Fetches
    links: Links


@dataclass(frozen=True, slots=True)
class Domain:
    """`catalog`: functions and their versions; `ledger`: every other record; the rest: rules over both, by resource;
    `uploads`, `usage` and `links`: code on its way in, what there is of it, its way out."""

    catalog: Catalog
    ledger: Ledger
    versions: Versions
    aliases: Aliases
    event_invoke: EventInvokeConfigs
    layers: Layers
    signing: CodeSigning
    uploads: Uploads
    usage: Usage
    links: Links

    @classmethod
    def over(cls, catalog: Catalog, ledger: Ledger, clock: Clock, code: Code) -> Domain:
        """All parts, built."""
        layers = Layers(ledger, clock)
        usage = Usage(catalog, layers)
        return cls(
            catalog=catalog,
            ledger=ledger,
            versions=Versions(catalog, ledger),
            aliases=Aliases(catalog, ledger),
            event_invoke=EventInvokeConfigs(catalog, ledger, clock),
            layers=layers,
            signing=CodeSigning(ledger, clock),
            uploads=Uploads(code.store, code.s3, usage.stored_bytes),
            usage=usage,
            links=code.links,
        )
