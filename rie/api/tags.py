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

_RESOURCE_TYPE = 5  # arn:aws:lambda:<region>:<account>:<type>:…
_OTHERS = {
    "event-source-mapping": "Event source mapping not found: {}",
    "capacity-provider": "Capacity provider not found: {}",
    "network-connector": "Network connector not found: {}",
    "code-signing-config": "The Lambda code signing configuration {} can not be found.",
}


def list_tags(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListTags."""
    return {"Tags": dict(domain.catalog.get(_function(context, params["Resource"])).tags)}


def tag_resource(domain: Domain, context: RequestContext, params: Params) -> View:
    """TagResource: 204."""
    domain.catalog.tag(_function(context, params["Resource"]), params["Tags"])
    return {}


def untag_resource(domain: Domain, context: RequestContext, params: Params) -> View:
    """UntagResource: 204."""
    domain.catalog.untag(_function(context, params["Resource"]), params["TagKeys"])
    return {}


def _function(context: RequestContext, arn: str) -> FunctionKey:
    """The function of an ARN. Raises ServiceError for a qualified one, and for other resources: there are none."""
    kind = arn.split(":")[_RESOURCE_TYPE]
    if kind in _OTHERS:
        raise ServiceError("ResourceNotFoundException", _OTHERS[kind].format(arn))
    key, qualifier = parse_function_reference(arn, None, context)
    if qualifier is not None:
        raise refused("Tags on function aliases and versions are not supported. Please specify a function ARN.")
    return key
