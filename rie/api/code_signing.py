"""Code signing of functions; nothing is signed so far (lambda.md §12.4)."""

from __future__ import annotations

from rie.api.context import RequestContext
from rie.api.functions import addressed
from rie.api.parse import Params
from rie.api.views import View
from rie.functions.domain import Domain


def get_function_code_signing_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetFunctionCodeSigningConfig: {}, which terraform reads on every refresh."""
    key, _ = addressed(context, params)
    domain.catalog.get(key)
    return {}
