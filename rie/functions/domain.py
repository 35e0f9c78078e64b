"""What the control plane's handlers may call: the domain's parts, built once, each a rule book over the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rie.clock import Clock
from rie.code.links import Links
from rie.code.store import CodeStore
from rie.functions.aliases import Aliases
from rie.functions.capacity import Capacity
from rie.functions.catalog import Catalog
from rie.functions.concurrency import FindAllocation, Quota, Reservations, no_allocation
from rie.functions.durable import DurableExecutions
from rie.functions.event_invoke import EventInvokeConfigs
from rie.functions.layers import Layers
from rie.functions.ledger import Ledger
from rie.functions.mappings import EventSourceMappings, Inspect
from rie.functions.policies import Policies
from rie.functions.signing import CodeSigning
from rie.functions.uploads import Fetches, Uploads
from rie.functions.urls import URL_PATTERN, Urls
from rie.functions.usage import Usage
from rie.functions.versions import Versions

CheckRole = Callable[[str, str], None]
"""(role's ARN, function's name): whether the role can be assumed. Blocks; raises ServiceError, HostFault."""


def any_role(role_arn: str, function_name: str) -> None:
    """Where nobody can tell which roles there are."""


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
    reservations: Reservations
    capacity: Capacity
    event_invoke: EventInvokeConfigs
    mappings: EventSourceMappings
    policies: Policies
    check_role: CheckRole
    durable: DurableExecutions
    layers: Layers
    signing: CodeSigning
    uploads: Uploads
    usage: Usage
    links: Links
    urls: Urls

    @classmethod
    def over(
        cls,
        catalog: Catalog,
        ledger: Ledger,
        clock: Clock,
        *,
        code: Code,
        inspect: Inspect,
        durable: DurableExecutions,
        check_role: CheckRole = any_role,
        quota: Quota = Quota(),  # noqa: B008 (it is frozen)
        find_allocation: FindAllocation = no_allocation,
        url_pattern: str = URL_PATTERN,
    ) -> Domain:
        """All parts, built.

        `inspect` looks at event sources before a mapping of them is taken on; `find_allocation` tells how far
        provisioned concurrency is; `url_pattern` as `Urls` has it.
        """
        layers = Layers(ledger, clock)
        usage = Usage(catalog, layers)
        return cls(
            catalog=catalog,
            ledger=ledger,
            versions=Versions(catalog, ledger),
            aliases=Aliases(catalog, ledger),
            reservations=Reservations(catalog, ledger, clock, quota, find_allocation),
            capacity=Capacity(catalog, ledger, clock),
            event_invoke=EventInvokeConfigs(catalog, ledger, clock),
            mappings=EventSourceMappings(catalog, ledger, clock, inspect),
            policies=Policies(catalog, ledger),
            check_role=check_role,
            durable=durable,
            layers=layers,
            signing=CodeSigning(ledger, clock),
            uploads=Uploads(code.store, code.s3, usage.stored_bytes),
            usage=usage,
            links=code.links,
            urls=Urls(catalog, ledger, clock, url_pattern),
        )
