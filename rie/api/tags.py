"""Tags of functions and of code signing configurations (lambda.md §12.6)."""

from __future__ import annotations

from rie.api.context import RequestContext
from rie.api.parse import Params
from rie.api.views import View
from rie.arn import parse_function_reference
from rie.errors import ServiceError
from rie.functions.capacity import provider_place
from rie.functions.domain import Domain
from rie.functions.faults import refused
from rie.model.function import FunctionKey
from rie.model.mapping import Mapping
from rie.model.scope import Scope

_RESOURCE_TYPE = 5  # arn:aws:lambda:<region>:<account>:<type>:…
_SIGNING = "code-signing-config"
_MAPPING = "event-source-mapping"
_PROVIDER = "capacity-provider"
_OTHERS = {
    "event-source-mapping": "Event source mapping not found: {}",
    "network-connector": "Network connector not found: {}",
}


def list_tags(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListTags."""
    arn = params["Resource"]
    kind = _kind(arn)
    if kind == _SIGNING:
        return {"Tags": dict(domain.signing.get(arn)[1].tags)}
    if kind == _MAPPING:
        return {"Tags": dict(_mapping(domain, context, arn).tags)}
    if kind == _PROVIDER:
        return {"Tags": dict(domain.capacity.get(provider_place(context, arn)).tags)}
    return {"Tags": dict(domain.catalog.get(_function(context, arn)).tags)}


def tag_resource(domain: Domain, context: RequestContext, params: Params) -> View:
    """TagResource: 204."""
    arn, tags = params["Resource"], params["Tags"]
    kind = _kind(arn)
    if kind in (_SIGNING, _MAPPING, _PROVIDER) and not tags:
        raise refused("An error occurred and the request cannot be processed.")
    if kind == _SIGNING:
        domain.signing.tag(arn, tags)
    elif kind == _MAPPING:
        domain.mappings.tag(_scope(context), _mapping(domain, context, arn).uuid, tags)
    elif kind == _PROVIDER:
        domain.capacity.tag(provider_place(context, arn), lambda before: {**before, **tags})
    else:
        domain.catalog.tag(_function(context, arn), tags)
    return {}


def untag_resource(domain: Domain, context: RequestContext, params: Params) -> View:
    """UntagResource: 204."""
    arn, names = params["Resource"], params["TagKeys"]
    kind = _kind(arn)
    if kind == _SIGNING:
        domain.signing.untag(arn, names)
    elif kind == _MAPPING:
        domain.mappings.untag(_scope(context), _mapping(domain, context, arn).uuid, set(names))
    elif kind == _PROVIDER:
        domain.capacity.tag(
            provider_place(context, arn), lambda before: {name: before[name] for name in before if name not in names}
        )
    else:
        domain.catalog.untag(_function(context, arn), names)
    return {}


def _kind(arn: str) -> str:
    return arn.split(":")[_RESOURCE_TYPE]


def _scope(context: RequestContext) -> Scope:
    return Scope(context.account, context.region)


def _mapping(domain: Domain, context: RequestContext, arn: str) -> Mapping:
    try:
        return domain.mappings.get(_scope(context), arn.split(":")[-1])
    except ServiceError:
        raise ServiceError("ResourceNotFoundException", _OTHERS[_MAPPING].format(arn)) from None


def _function(context: RequestContext, arn: str) -> FunctionKey:
    """The function of an ARN. Raises ServiceError for a qualified one, and for other resources: there are none."""
    kind = _kind(arn)
    if kind in _OTHERS:
        raise ServiceError("ResourceNotFoundException", _OTHERS[kind].format(arn))
    key, qualifier = parse_function_reference(arn, None, context)
    if qualifier is not None:
        raise refused("Tags on function aliases and versions are not supported. Please specify a function ARN.")
    return key
