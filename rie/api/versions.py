"""Versions of functions; $LATEST is the only one so far (lambda.md §4)."""

from __future__ import annotations

from rie.api.context import RequestContext
from rie.api.functions import addressed
from rie.api.paging import read_marker
from rie.api.parse import Params
from rie.api.views import View, listed_view
from rie.functions.domain import Domain


def list_versions_by_function(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListVersionsByFunction: $LATEST first, every ARN qualified."""
    key, _ = addressed(context, params)
    function = domain.catalog.get(key)
    if read_marker("versions", params) is not None:
        return {"Versions": []}
    return {"Versions": [listed_view(function, function.version)]}
