"""Tags of functions and of code signing configurations (lambda.md §12.6)."""

from __future__ import annotations

from rie.api.context import RequestContext
from rie.api.parse import Params
from rie.api.views import View
from rie.arn import parse_function_reference
from rie.errors import ServiceError
from rie.functions.domain import Domain
from rie.functions.faults import refused
from rie.model.function import FunctionKey

_RESOURCE_TYPE = 5  # arn:aws:lambda:<region>:<account>:<type>:…
_SIGNING = "code-signing-config"
_OTHERS = {
    "event-source-mapping": "Event source mapping not found: {}",
    "capacity-provider": "Capacity provider not found: {}",
    "network-connector": "Network connector not found: {}",
}


def list_tags(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListTags."""
    arn = params["Resource"]
    if _kind(arn) == _SIGNING:
        return {"Tags": dict(domain.signing.get(arn)[1].tags)}
    return {"Tags": dict(domain.catalog.get(_function(context, arn)).tags)}


def tag_resource(domain: Domain, context: RequestContext, params: Params) -> View:
    """TagResource: 204."""
    arn, tags = params["Resource"], params["Tags"]
    if _kind(arn) == _SIGNING:
        if not tags:
            raise refused("An error occurred and the request cannot be processed.")
        domain.signing.tag(arn, tags)
    else:
        domain.catalog.tag(_function(context, arn), tags)
    return {}


def untag_resource(domain: Domain, context: RequestContext, params: Params) -> View:
    """UntagResource: 204."""
    arn, names = params["Resource"], params["TagKeys"]
    if _kind(arn) == _SIGNING:
        domain.signing.untag(arn, names)
    else:
        domain.catalog.untag(_function(context, arn), names)
    return {}


def _kind(arn: str) -> str:
    return arn.split(":")[_RESOURCE_TYPE]


def _function(context: RequestContext, arn: str) -> FunctionKey:
    """The function of an ARN. Raises ServiceError for a qualified one, and for other resources: there are none."""
    kind = _kind(arn)
    if kind in _OTHERS:
        raise ServiceError("ResourceNotFoundException", _OTHERS[kind].format(arn))
    key, qualifier = parse_function_reference(arn, None, context)
    if qualifier is not None:
        raise refused("Tags on function aliases and versions are not supported. Please specify a function ARN.")
    return key
