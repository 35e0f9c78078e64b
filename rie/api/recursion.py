"""What becomes of a function that calls itself without end (lambda.md §12.8)."""

from __future__ import annotations

from rie.api.context import RequestContext
from rie.api.functions import unqualified
from rie.api.parse import Params
from rie.api.views import View
from rie.functions.domain import Domain
from rie.model.function import LATEST
from rie.model.record import place_of
from rie.model.recursion import RECURSION, TERMINATE, Recursion


def get_function_recursion_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetFunctionRecursionConfig."""
    key = unqualified(context, params)
    domain.catalog.get(key)
    found = domain.ledger.find(RECURSION, place_of(key, LATEST))
    return {"RecursiveLoop": TERMINATE if found is None else found.mode}


def put_function_recursion_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """PutFunctionRecursionConfig."""
    key = unqualified(context, params)
    with domain.ledger.exclusively():
        domain.catalog.get(key)
        domain.ledger.put(RECURSION, place_of(key, LATEST), Recursion(params["RecursiveLoop"]))
    return {"RecursiveLoop": params["RecursiveLoop"]}
