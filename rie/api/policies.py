"""Resource policies of functions (lambda.md §8)."""

from __future__ import annotations

from rie.api.context import RequestContext
from rie.api.functions import addressed
from rie.api.parse import Params
from rie.api.views import View
from rie.functions.domain import Domain
from rie.functions.policies import Grant, document


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
    policy = domain.policies.get(*addressed(context, params))
    return {"Policy": document(policy), "RevisionId": policy.revision_id}


def remove_permission(domain: Domain, context: RequestContext, params: Params) -> View:
    """RemovePermission: 204."""
    key, qualifier = addressed(context, params)
    domain.policies.remove(key, qualifier, params["StatementId"], params.get("RevisionId"))
    return {}
