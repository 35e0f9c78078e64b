"""The operations that are answered, and by what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rie.api import (
    account,
    aliases,
    code_signing,
    concurrency,
    event_invoke,
    functions,
    mappings,
    tags,
    versions,
)
from rie.api.context import RequestContext
from rie.api.parse import Params
from rie.api.service import Handler
from rie.api.views import View
from rie.functions.domain import Domain

_OPERATIONS: dict[str, Callable[[Domain, RequestContext, Params], View]] = {
    "CreateAlias": aliases.create_alias,
    "CreateEventSourceMapping": mappings.create_event_source_mapping,
    "CreateFunction": functions.create_function,
    "DeleteAlias": aliases.delete_alias,
    "DeleteEventSourceMapping": mappings.delete_event_source_mapping,
    "DeleteFunction": functions.delete_function,
    "DeleteFunctionEventInvokeConfig": event_invoke.delete_function_event_invoke_config,
    "GetAccountSettings": account.get_account_settings,
    "GetAlias": aliases.get_alias,
    "GetEventSourceMapping": mappings.get_event_source_mapping,
    "GetFunction": functions.get_function,
    "GetFunctionCodeSigningConfig": code_signing.get_function_code_signing_config,
    "GetFunctionConcurrency": concurrency.get_function_concurrency,
    "GetFunctionConfiguration": functions.get_function_configuration,
    "GetFunctionEventInvokeConfig": event_invoke.get_function_event_invoke_config,
    "ListAliases": aliases.list_aliases,
    "ListEventSourceMappings": mappings.list_event_source_mappings,
    "ListFunctionEventInvokeConfigs": event_invoke.list_function_event_invoke_configs,
    "ListFunctions": functions.list_functions,
    "ListTags": tags.list_tags,
    "ListVersionsByFunction": versions.list_versions_by_function,
    "PublishVersion": versions.publish_version,
    "PutFunctionEventInvokeConfig": event_invoke.put_function_event_invoke_config,
    "TagResource": tags.tag_resource,
    "UntagResource": tags.untag_resource,
    "UpdateAlias": aliases.update_alias,
    "UpdateEventSourceMapping": mappings.update_event_source_mapping,
    "UpdateFunctionCode": functions.update_function_code,
    "UpdateFunctionConfiguration": functions.update_function_configuration,
    "UpdateFunctionEventInvokeConfig": event_invoke.update_function_event_invoke_config,
}


def handlers(domain: Domain) -> dict[str, Handler]:
    """Handlers by operation, for `create_app`."""
    return {operation: partial(handler, domain) for operation, handler in _OPERATIONS.items()}
