"""Aliases: create, read, move, list, delete (lambda.md §4.2)."""

from __future__ import annotations

from rie.api.context import RequestContext
from rie.api.functions import addressed, unqualified
from rie.api.paging import paged
from rie.api.parse import Params
from rie.api.views import View
from rie.arn import function_arn
from rie.functions.aliases import AliasChange, weights_of
from rie.functions.domain import Domain
from rie.model.alias import Alias
from rie.model.function import FunctionKey


def create_alias(domain: Domain, context: RequestContext, params: Params) -> View:
    """CreateAlias: 201."""
    key, name = unqualified(context, params), params["Name"]
    return _view(key, name, domain.aliases.create(key, name, _change(params)))


def get_alias(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetAlias."""
    key, _ = addressed(context, params)
    return _view(key, params["Name"], domain.aliases.get(key, params["Name"]))


def update_alias(domain: Domain, context: RequestContext, params: Params) -> View:
    """UpdateAlias: members that are left out stay."""
    key, name = unqualified(context, params), params["Name"]
    return _view(key, name, domain.aliases.update(key, name, _change(params)))


def list_aliases(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListAliases, by name; FunctionVersion keeps those that send calls to it."""
    key, _ = addressed(context, params)
    found = domain.aliases.of_function(key, params.get("FunctionVersion"))
    page, last = paged("aliases", params, found, lambda each: each[0])
    return {"Aliases": [_view(key, name, alias) for name, alias in page], "NextMarker": last}


def delete_alias(domain: Domain, context: RequestContext, params: Params) -> View:
    """DeleteAlias: 204, also when it is not there."""
    domain.aliases.delete(unqualified(context, params), params["Name"])
    return {}


def _change(params: Params) -> AliasChange:
    routing = params.get("RoutingConfig")
    return AliasChange(
        version=params.get("FunctionVersion"),
        description=params.get("Description"),
        weights=None if routing is None else routing.get("AdditionalVersionWeights", {}),
        revision_id=params.get("RevisionId"),
    )


def _view(key: FunctionKey, name: str, alias: Alias) -> View:
    weights = weights_of(alias)
    return {
        "AliasArn": function_arn(key, name),
        "Name": name,
        "FunctionVersion": alias.version,
        "Description": alias.description,
        "RoutingConfig": {"AdditionalVersionWeights": dict(weights)} if weights else None,
        "RevisionId": alias.revision_id,
    }
