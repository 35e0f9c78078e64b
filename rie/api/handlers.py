"""The operations that are answered, and by what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rie.api import account, code_signing, concurrency, functions, policies, tags, versions
from rie.api.context import RequestContext
from rie.api.parse import Params
from rie.api.service import Handler
from rie.api.views import View
from rie.functions.domain import Domain

_OPERATIONS: dict[str, Callable[[Domain, RequestContext, Params], View]] = {
    "AddPermission": policies.add_permission,
    "CreateFunction": functions.create_function,
    "DeleteFunction": functions.delete_function,
    "GetAccountSettings": account.get_account_settings,
    "GetFunction": functions.get_function,
    "GetFunctionCodeSigningConfig": code_signing.get_function_code_signing_config,
    "GetFunctionConcurrency": concurrency.get_function_concurrency,
    "GetFunctionConfiguration": functions.get_function_configuration,
    "GetPolicy": policies.get_policy,
    "ListFunctions": functions.list_functions,
    "ListTags": tags.list_tags,
    "ListVersionsByFunction": versions.list_versions_by_function,
    "RemovePermission": policies.remove_permission,
    "TagResource": tags.tag_resource,
    "UntagResource": tags.untag_resource,
    "UpdateFunctionCode": functions.update_function_code,
    "UpdateFunctionConfiguration": functions.update_function_configuration,
}


def handlers(domain: Domain) -> dict[str, Handler]:
    """Handlers by operation, for `create_app`."""
    return {operation: partial(handler, domain) for operation, handler in _OPERATIONS.items()}
