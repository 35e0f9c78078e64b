"""Reserved concurrency of functions; none can be reserved so far (lambda.md §7.2)."""

from __future__ import annotations

from rie.api.context import RequestContext
from rie.api.functions import unqualified
from rie.api.parse import Params
from rie.api.views import View
from rie.functions.domain import Domain


def get_function_concurrency(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetFunctionConcurrency: {} while nothing is reserved."""
    domain.catalog.get(unqualified(context, params))
    return {}
