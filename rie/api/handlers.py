"""The operations that are answered, and by what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rie.api import (
    account,
    aliases,
    capacity,
    code_signing,
    concurrency,
    event_invoke,
    functions,
    layers,
    mappings,
    policies,
    recursion,
    runtime_management,
    tags,
    urls,
    versions,
)
from rie.api.context import RequestContext
from rie.api.parse import Params
from rie.api.service import Handler
from rie.api.views import View
from rie.functions.domain import Domain

_OPERATIONS: dict[str, Callable[[Domain, RequestContext, Params], View]] = {
    "AddLayerVersionPermission": layers.add_layer_version_permission,
    "AddPermission": policies.add_permission,
    "CreateAlias": aliases.create_alias,
    "CreateCapacityProvider": capacity.create_capacity_provider,
    "CreateCodeSigningConfig": code_signing.create_code_signing_config,
    "CreateEventSourceMapping": mappings.create_event_source_mapping,
    "CreateFunction": functions.create_function,
    "CreateFunctionUrlConfig": urls.create_function_url_config,
    "DeleteAlias": aliases.delete_alias,
    "DeleteCapacityProvider": capacity.delete_capacity_provider,
    "DeleteCodeSigningConfig": code_signing.delete_code_signing_config,
    "DeleteEventSourceMapping": mappings.delete_event_source_mapping,
    "DeleteFunction": functions.delete_function,
    "DeleteFunctionCodeSigningConfig": code_signing.delete_function_code_signing_config,
    "DeleteFunctionConcurrency": concurrency.delete_function_concurrency,
    "DeleteFunctionEventInvokeConfig": event_invoke.delete_function_event_invoke_config,
    "DeleteFunctionUrlConfig": urls.delete_function_url_config,
    "DeleteLayerVersion": layers.delete_layer_version,
    "DeleteProvisionedConcurrencyConfig": concurrency.delete_provisioned_concurrency_config,
    "GetAccountSettings": account.get_account_settings,
    "GetAlias": aliases.get_alias,
    "GetCapacityProvider": capacity.get_capacity_provider,
    "GetCodeSigningConfig": code_signing.get_code_signing_config,
    "GetEventSourceMapping": mappings.get_event_source_mapping,
    "GetFunction": functions.get_function,
    "GetFunctionCodeSigningConfig": code_signing.get_function_code_signing_config,
    "GetFunctionConcurrency": concurrency.get_function_concurrency,
    "GetFunctionConfiguration": functions.get_function_configuration,
    "GetFunctionEventInvokeConfig": event_invoke.get_function_event_invoke_config,
    "GetFunctionRecursionConfig": recursion.get_function_recursion_config,
    "GetFunctionScalingConfig": capacity.get_function_scaling_config,
    "GetFunctionUrlConfig": urls.get_function_url_config,
    "GetLayerVersion": layers.get_layer_version,
    "GetLayerVersionByArn": layers.get_layer_version_by_arn,
    "GetLayerVersionPolicy": layers.get_layer_version_policy,
    "GetPolicy": policies.get_policy,
    "GetProvisionedConcurrencyConfig": concurrency.get_provisioned_concurrency_config,
    "GetRuntimeManagementConfig": runtime_management.get_runtime_management_config,
    "ListAliases": aliases.list_aliases,
    "ListCapacityProviders": capacity.list_capacity_providers,
    "ListCodeSigningConfigs": code_signing.list_code_signing_configs,
    "ListEventSourceMappings": mappings.list_event_source_mappings,
    "ListFunctionEventInvokeConfigs": event_invoke.list_function_event_invoke_configs,
    "ListFunctionVersionsByCapacityProvider": capacity.list_function_versions_by_capacity_provider,
    "ListFunctionUrlConfigs": urls.list_function_url_configs,
    "ListFunctions": functions.list_functions,
    "ListFunctionsByCodeSigningConfig": code_signing.list_functions_by_code_signing_config,
    "ListLayerVersions": layers.list_layer_versions,
    "ListLayers": layers.list_layers,
    "ListProvisionedConcurrencyConfigs": concurrency.list_provisioned_concurrency_configs,
    "ListTags": tags.list_tags,
    "ListVersionsByFunction": versions.list_versions_by_function,
    "PublishLayerVersion": layers.publish_layer_version,
    "PublishVersion": versions.publish_version,
    "PutFunctionCodeSigningConfig": code_signing.put_function_code_signing_config,
    "PutFunctionConcurrency": concurrency.put_function_concurrency,
    "PutFunctionEventInvokeConfig": event_invoke.put_function_event_invoke_config,
    "PutFunctionRecursionConfig": recursion.put_function_recursion_config,
    "PutFunctionScalingConfig": capacity.put_function_scaling_config,
    "PutProvisionedConcurrencyConfig": concurrency.put_provisioned_concurrency_config,
    "PutRuntimeManagementConfig": runtime_management.put_runtime_management_config,
    "RemoveLayerVersionPermission": layers.remove_layer_version_permission,
    "RemovePermission": policies.remove_permission,
    "TagResource": tags.tag_resource,
    "UntagResource": tags.untag_resource,
    "UpdateAlias": aliases.update_alias,
    "UpdateCapacityProvider": capacity.update_capacity_provider,
    "UpdateCodeSigningConfig": code_signing.update_code_signing_config,
    "UpdateEventSourceMapping": mappings.update_event_source_mapping,
    "UpdateFunctionCode": functions.update_function_code,
    "UpdateFunctionConfiguration": functions.update_function_configuration,
    "UpdateFunctionEventInvokeConfig": event_invoke.update_function_event_invoke_config,
    "UpdateFunctionUrlConfig": urls.update_function_url_config,
}


def handlers(domain: Domain) -> dict[str, Handler]:
    """Handlers by operation, for `create_app`."""
    return {operation: partial(handler, domain) for operation, handler in _OPERATIONS.items()}
