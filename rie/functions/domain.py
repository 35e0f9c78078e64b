"""What the control plane's handlers may call: the domain's parts, built once, each a rule book over the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rie.functions.catalog import Catalog
from rie.functions.ledger import Ledger
from rie.functions.policies import Policies

CheckRole = Callable[[str, str], None]
"""(role's ARN, function's name): whether the role can be assumed. Blocks; raises ServiceError, HostFault."""


def _any_role(role_arn: str, function_name: str) -> None:
    """Where nobody can tell which roles there are."""


@dataclass(frozen=True, slots=True)
class Domain:
    """`catalog`: functions and their versions; `ledger`: every other record; the rest: rules over both, by resource."""

    catalog: Catalog
    ledger: Ledger
    policies: Policies
    check_role: CheckRole

    @classmethod
    def over(cls, catalog: Catalog, ledger: Ledger, check_role: CheckRole = _any_role) -> Domain:
        """All parts, built."""
        return cls(catalog, ledger, Policies(catalog, ledger, lambda key, name: False), check_role)
