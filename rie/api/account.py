"""The account's limits and use (lambda.md §12.5)."""

from __future__ import annotations

from rie.api.context import RequestContext
from rie.api.parse import Params
from rie.api.views import View
from rie.functions.domain import Domain

# AWS limits; image code does not count.
_LIMITS = {
    "TotalCodeSize": 80_530_636_800,
    "CodeSizeUnzipped": 262_144_000,
    "CodeSizeZipped": 52_428_800,
}


def get_account_settings(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetAccountSettings."""
    count = domain.catalog.count(context.account, context.region)
    stored = domain.usage.stored_bytes(context.account, context.region)
    limits = {
        **_LIMITS,
        "ConcurrentExecutions": domain.reservations.quota.concurrency,
        "UnreservedConcurrentExecutions": domain.reservations.unreserved(context.account, context.region),
    }
    return {"AccountLimit": limits, "AccountUsage": {"TotalCodeSize": stored, "FunctionCount": count}}
