"""Tags of functions (lambda.md §12.6)."""

from __future__ import annotations

from rie.api.context import RequestContext
from rie.api.parse import Params
from rie.api.views import View
from rie.arn import parse_function_reference
from rie.errors import ServiceError
from rie.functions.domain import Domain
from rie.functions.faults import refused
from rie.model.function import FunctionKey
from rie.model.mapping import Mapping
from rie.model.scope import Scope

_RESOURCE_TYPE = 5  # arn:aws:lambda:<region>:<account>:<type>:…
_OTHERS = {
    "event-source-mapping": "Event source mapping not found: {}",
    "capacity-provider": "Capacity provider not found: {}",
    "network-connector": "Network connector not found: {}",
    "code-signing-config": "The Lambda code signing configuration {} can not be found.",
}


def list_tags(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListTags."""
    uuid = _mapping(params["Resource"])
    if uuid is not None:
        return {"Tags": dict(_found(domain, context, uuid, params["Resource"]).tags)}
    return {"Tags": dict(domain.catalog.get(_function(context, params["Resource"])).tags)}


def tag_resource(domain: Domain, context: RequestContext, params: Params) -> View:
    """TagResource: 204."""
    uuid = _mapping(params["Resource"])
    if uuid is not None:
        _found(domain, context, uuid, params["Resource"])
        domain.mappings.tag(Scope(context.account, context.region), uuid, params["Tags"])
        return {}
    domain.catalog.tag(_function(context, params["Resource"]), params["Tags"])
    return {}


def untag_resource(domain: Domain, context: RequestContext, params: Params) -> View:
    """UntagResource: 204."""
    uuid = _mapping(params["Resource"])
    if uuid is not None:
        _found(domain, context, uuid, params["Resource"])
        domain.mappings.untag(Scope(context.account, context.region), uuid, set(params["TagKeys"]))
        return {}
    domain.catalog.untag(_function(context, params["Resource"]), params["TagKeys"])
    return {}


def _mapping(arn: str) -> str | None:
    """The UUID of an event source mapping's ARN; None for other resources."""
    parts = arn.split(":")
    return parts[-1] if parts[_RESOURCE_TYPE] == "event-source-mapping" else None


def _found(domain: Domain, context: RequestContext, uuid: str, arn: str) -> Mapping:
    try:
        return domain.mappings.get(Scope(context.account, context.region), uuid)
    except ServiceError:
        raise ServiceError("ResourceNotFoundException", _OTHERS["event-source-mapping"].format(arn)) from None


def _function(context: RequestContext, arn: str) -> FunctionKey:
    """The function of an ARN. Raises ServiceError for a qualified one, and for other resources: there are none."""
    kind = arn.split(":")[_RESOURCE_TYPE]
    if kind in _OTHERS:
        raise ServiceError("ResourceNotFoundException", _OTHERS[kind].format(arn))
    key, qualifier = parse_function_reference(arn, None, context)
    if qualifier is not None:
        raise refused("Tags on function aliases and versions are not supported. Please specify a function ARN.")
    return key
