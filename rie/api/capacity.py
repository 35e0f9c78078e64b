"""Capacity providers, and the scaling of functions on them (lambda.md §13.3)."""

from __future__ import annotations

import orjson

from rie.api.context import RequestContext
from rie.api.functions import addressed
from rie.api.paging import paged
from rie.api.parse import Params
from rie.api.views import View
from rie.arn import function_arn
from rie.functions.capacity import provider_arn, provider_place
from rie.functions.domain import Domain
from rie.model.capacity import CapacityProvider, Scaling
from rie.model.record import Place

_APART = ("CapacityProviderName", "Tags")


def create_capacity_provider(domain: Domain, context: RequestContext, params: Params) -> View:
    """CreateCapacityProvider: 202, Pending; it is Active at once."""
    place = _place(context, params)
    document = {name: value for name, value in params.items() if name not in _APART}
    made = domain.capacity.create(place, document, params.get("Tags", {}))
    return {"CapacityProvider": _view(place, made, "Pending")}


def get_capacity_provider(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetCapacityProvider."""
    place = _place(context, params)
    return {"CapacityProvider": _view(place, domain.capacity.get(place))}


def update_capacity_provider(domain: Domain, context: RequestContext, params: Params) -> View:
    """UpdateCapacityProvider: 202."""
    place = _place(context, params)
    members = {name: value for name, value in params.items() if name not in _APART}
    return {"CapacityProvider": _view(place, domain.capacity.update(place, members))}


def delete_capacity_provider(domain: Domain, context: RequestContext, params: Params) -> View:
    """DeleteCapacityProvider: 202, Deleting."""
    place = _place(context, params)
    return {"CapacityProvider": _view(place, domain.capacity.delete(place), "Deleting")}


def list_capacity_providers(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListCapacityProviders; all are Active."""
    found = domain.capacity.all_of(context) if params.get("State", "Active") == "Active" else []
    page, last = paged("capacity", params, found, lambda each: each[0].name)
    return {"CapacityProviders": [_view(place, provider) for place, provider in page], "NextMarker": last}


def list_function_versions_by_capacity_provider(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListFunctionVersionsByCapacityProvider."""
    place = _place(context, params)
    domain.capacity.get(place)
    users = sorted(domain.capacity.users(place), key=lambda each: function_arn(each.key, each.version))
    page, last = paged("capacity-versions", params, users, lambda each: function_arn(each.key, each.version))
    listed = [{"FunctionArn": function_arn(each.key, each.version), "State": each.state} for each in page]
    return {"CapacityProviderArn": provider_arn(place), "FunctionVersions": listed, "NextMarker": last}


def get_function_scaling_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetFunctionScalingConfig."""
    key, qualifier = addressed(context, params)
    scaling = _scaling_view(domain.capacity.scaling(key, qualifier or ""))
    return {
        "FunctionArn": function_arn(key, qualifier),
        "AppliedFunctionScalingConfig": scaling,
        "RequestedFunctionScalingConfig": scaling,
    }


def put_function_scaling_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """PutFunctionScalingConfig: 202."""
    key, qualifier = addressed(context, params)
    given = params.get("FunctionScalingConfig", {})
    scaling = Scaling(given.get("MinExecutionEnvironments"), given.get("MaxExecutionEnvironments"))
    function = domain.capacity.scale(key, qualifier or "", scaling)
    return {"FunctionState": "Deactivating" if scaling.most == 0 else function.state}


def _place(context: RequestContext, params: Params) -> Place:
    return provider_place(context, params["CapacityProviderName"])


def _view(place: Place, provider: CapacityProvider, state: str = "Active") -> View:
    return {
        **orjson.loads(provider.document),
        "CapacityProviderArn": provider_arn(place),
        "State": state,
        "LastModified": provider.last_modified,
    }


def _scaling_view(scaling: Scaling) -> View:
    return {"MinExecutionEnvironments": scaling.least, "MaxExecutionEnvironments": scaling.most}
