"""Records as the API shows them (lambda.md §1.2); pure."""

from __future__ import annotations

import hashlib
from typing import Any

from rie.arn import function_arn
from rie.model.code import FileSystem, UsedLayer
from rie.model.function import (
    Configuration,
    DurableConfig,
    Function,
    ImageConfig,
    Logging,
    ManagedInstances,
    Vpc,
)

View = dict[str, Any]
"""Members of a shape; those that are None are not sent."""


def configuration_view(function: Function, qualifier: str | None = None) -> View:
    """FunctionConfiguration; `qualifier` as the caller gave it, which the ARN echoes."""
    return {
        **listed_view(function, qualifier),
        "RuntimeVersionConfig": _runtime_view(function),
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
        "PackageType": function.configuration.package_type,
        "DeadLetterConfig": {"TargetArn": dead_letter} if dead_letter else None,
        "KMSKeyArn": function.kms_key_arn,
        "SnapStart": _snap_start_view(function),
        "TenancyConfig": {"TenantIsolationMode": function.tenancy_mode} if function.tenancy_mode else None,
        "CapacityProviderConfig": None if function.managed is None else _managed_view(function.managed),
        "DurableConfig": None if function.durable is None else durable_view(function.durable),
        **_environment_view(function.configuration),
    }


def durable_view(config: DurableConfig) -> View:
    """DurableConfig."""
    view = {"ExecutionTimeout": config.execution_timeout_s, "RetentionPeriodInDays": config.retention_days}
    return {**view, "KMSKeyArn": config.kms_key_arn} if config.kms_key_arn else view


def _snap_start_view(function: Function) -> View:
    apply_on = function.configuration.snap_start
    return {"ApplyOn": apply_on, "OptimizationStatus": "On" if function.is_optimised else "Off"}


def code_view(function: Function, location: str | None = None) -> View:
    """FunctionCodeLocation; `location` is where an archive can be downloaded."""
    configuration = function.configuration
    if configuration.is_zip:
        kms_key_arn = configuration.source_kms_key_arn
        return {"RepositoryType": "S3", "Location": location, "SourceKMSKeyArn": kms_key_arn}
    return {
        "RepositoryType": "ECR",
        "ImageUri": configuration.image_uri,
        "ResolvedImageUri": configuration.image.reference if configuration.image else None,
    }


def runtime_version_arn(function: Function) -> str:
    """What stands under a zip function: its image's digest, or a stand-in until that is known (lambda.md §12.7)."""
    configuration = function.configuration
    digest = configuration.image.digest.removeprefix("sha256:") if configuration.image else ""
    if not digest:
        digest = hashlib.sha256((configuration.runtime or "").encode()).hexdigest()
    return f"arn:aws:lambda:{function.key.region}::runtime:{digest}"


def _runtime_view(function: Function) -> View | None:
    return {"RuntimeVersionArn": runtime_version_arn(function)} if function.configuration.is_zip else None


def _environment_view(configuration: Configuration) -> View:
    """The part of FunctionConfiguration that environments are made from."""
    variables = configuration.variables
    return {
        "Role": configuration.role,
        "Runtime": configuration.runtime,
        "Handler": configuration.handler,
        "CodeSize": configuration.archive.size if configuration.archive else 0,
        "CodeSha256": configuration.code_sha256,
        "Layers": [_layer_view(layer) for layer in configuration.layers] or None,
        "FileSystemConfigs": [_file_system_view(each) for each in configuration.file_systems] or None,
        "Timeout": configuration.timeout_s,
        "MemorySize": configuration.memory_mb,
        "Architectures": [configuration.architecture],
        "EphemeralStorage": {"Size": configuration.ephemeral_storage_mb},
        "LoggingConfig": _logging_view(configuration.logging),
        "Environment": None if variables is None else {"Variables": dict(variables)},
        "VpcConfig": None if configuration.vpc is None else _vpc_view(configuration.vpc),
        "ImageConfigResponse": _image_config_view(configuration.image_config),
    }


def _layer_view(layer: UsedLayer) -> View:
    return {"Arn": layer.arn, "CodeSize": layer.archive.size}


def _file_system_view(file_system: FileSystem) -> View:
    return {"Arn": file_system.arn, "LocalMountPath": file_system.path}


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
