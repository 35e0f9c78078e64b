"""Records as the API shows them (lambda.md §1.2); pure."""

from __future__ import annotations

from typing import Any

from rie.arn import function_arn
from rie.model.function import Configuration, Function, ImageConfig, Logging, ManagedInstances, Vpc

View = dict[str, Any]
"""Members of a shape; those that are None are not sent."""


def configuration_view(function: Function, qualifier: str | None = None) -> View:
    """FunctionConfiguration; `qualifier` as the caller gave it, which the ARN echoes."""
    return {
        **listed_view(function, qualifier),
        "State": function.state,
        "StateReason": function.state_reason,
        "StateReasonCode": function.state_reason_code,
        "LastUpdateStatus": function.last_update_status,
        "LastUpdateStatusReason": function.last_update_status_reason,
        "LastUpdateStatusReasonCode": function.last_update_status_reason_code,
    }


def listed_view(function: Function, qualifier: str | None = None) -> View:
    """FunctionConfiguration as lists have it: without the state."""
    dead_letter = function.dead_letter_arn
    return {
        "FunctionName": function.key.name,
        "FunctionArn": function_arn(function.key, qualifier),
        "Description": function.description,
        "LastModified": function.last_modified,
        "Version": function.version,
        "TracingConfig": {"Mode": function.tracing_mode},
        "RevisionId": function.revision_id,
        "PackageType": "Image",
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "DeadLetterConfig": {"TargetArn": dead_letter} if dead_letter else None,
        "KMSKeyArn": function.kms_key_arn,
        "TenancyConfig": {"TenantIsolationMode": function.tenancy_mode} if function.tenancy_mode else None,
        "CapacityProviderConfig": None if function.managed is None else _managed_view(function.managed),
        **_environment_view(function.configuration),
    }


def code_view(function: Function) -> View:
    """FunctionCodeLocation."""
    configuration = function.configuration
    return {
        "RepositoryType": "ECR",
        "ImageUri": configuration.image_uri,
        "ResolvedImageUri": configuration.image.reference,
    }


def _environment_view(configuration: Configuration) -> View:
    """The part of FunctionConfiguration that environments are made from."""
    variables = configuration.variables
    return {
        "Role": configuration.role,
        "CodeSize": 0,
        "CodeSha256": configuration.code_sha256,
        "Timeout": configuration.timeout_s,
        "MemorySize": configuration.memory_mb,
        "Architectures": [configuration.architecture],
        "EphemeralStorage": {"Size": configuration.ephemeral_storage_mb},
        "LoggingConfig": _logging_view(configuration.logging),
        "Environment": None if variables is None else {"Variables": dict(variables)},
        "VpcConfig": None if configuration.vpc is None else _vpc_view(configuration.vpc),
        "ImageConfigResponse": _image_config_view(configuration.image_config),
    }


def _logging_view(logging: Logging) -> View:
    return {
        "LogFormat": logging.format,
        "LogGroup": logging.group,
        "ApplicationLogLevel": logging.application_level,
        "SystemLogLevel": logging.system_level,
    }


def _managed_view(managed: ManagedInstances) -> View:
    return {
        "LambdaManagedInstancesCapacityProviderConfig": {
            "CapacityProviderArn": managed.capacity_provider_arn,
            "PerExecutionEnvironmentMaxConcurrency": managed.max_concurrency,
            "ExecutionEnvironmentMemoryGiBPerVCpu": managed.memory_gib_per_vcpu,
        }
    }


def _vpc_view(vpc: Vpc) -> View:
    return {
        "SubnetIds": list(vpc.subnet_ids),
        "SecurityGroupIds": list(vpc.security_group_ids),
        "VpcId": "",  # nothing here knows which network a subnet belongs to
        "Ipv6AllowedForDualStack": vpc.ipv6_allowed,
    }


def _image_config_view(overrides: ImageConfig) -> View | None:
    """None unless something is overridden."""
    if overrides == ImageConfig():
        return None
    entry_point, command = overrides.entry_point, overrides.command
    return {
        "ImageConfig": {
            "EntryPoint": None if entry_point is None else list(entry_point),
            "Command": None if command is None else list(command),
            "WorkingDirectory": overrides.working_directory,
        }
    }
