"""Resource policies of functions (lambda.md §8): by statements, and as whole documents."""

from __future__ import annotations

from rie.api.context import RequestContext
from rie.api.functions import addressed
from rie.api.parse import Params
from rie.api.views import View
from rie.arn import parse_function_reference
from rie.errors import ServiceError
from rie.functions.domain import Domain
from rie.functions.policies import NOTHING_HERE, Grant, document
from rie.model.function import FunctionKey
from rie.model.policy import ResourcePolicy


def add_permission(domain: Domain, context: RequestContext, params: Params) -> View:
    """AddPermission: 201, the statement as JSON text."""
    key, qualifier = addressed(context, params)
    grant = Grant(
        statement_id=params["StatementId"],
        action=params["Action"],
        principal=params["Principal"],
        source_arn=params.get("SourceArn"),
        source_account=params.get("SourceAccount"),
        event_source_token=params.get("EventSourceToken"),
        organization=params.get("PrincipalOrgID"),
        url_auth_type=params.get("FunctionUrlAuthType"),
        via_url=params.get("InvokedViaFunctionUrl", False),
    )
    return {"Statement": domain.policies.add(key, qualifier, grant, params.get("RevisionId"))}


def get_policy(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetPolicy: the whole document as JSON text."""
    return _view(domain.policies.get(*addressed(context, params)))


def remove_permission(domain: Domain, context: RequestContext, params: Params) -> View:
    """RemovePermission: 204."""
    key, qualifier = addressed(context, params)
    domain.policies.remove(key, qualifier, params["StatementId"], params.get("RevisionId"))
    return {}


def put_resource_policy(domain: Domain, context: RequestContext, params: Params) -> View:
    """PutResourcePolicy: a whole document in the place of all statements that were there."""
    key, qualifier = _owner(context, params)
    return _view(domain.policies.put(key, qualifier, params["Policy"], params.get("RevisionId")))


def get_resource_policy(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetResourcePolicy: as GetPolicy, by ARN."""
    return _view(domain.policies.get(*_owner(context, params)))


def delete_resource_policy(domain: Domain, context: RequestContext, params: Params) -> View:
    """DeleteResourcePolicy: 204."""
    key, qualifier = _owner(context, params)
    domain.policies.drop(key, qualifier, params.get("RevisionId"))
    return {}


def _view(policy: ResourcePolicy) -> View:
    return {"Policy": document(policy), "RevisionId": policy.revision_id}


def _owner(context: RequestContext, params: Params) -> tuple[FunctionKey, str | None]:
    """The function that an ARN names; runtimes, which the service's ARNs name too, are nobody's here."""
    arn: str = params["ResourceArn"]
    if ":function:" not in arn:
        raise ServiceError("ResourceNotFoundException", NOTHING_HERE)
    return parse_function_reference(arn, None, context)
