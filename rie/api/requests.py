"""Members of requests about functions as the domain's records; pure."""

from __future__ import annotations

from rie.api.parse import Params
from rie.functions import rules
from rie.functions.changes import Changes, DurableChanges
from rie.functions.package import Package
from rie.model.code import FileSystem, UsedLayer
from rie.model.function import ZIP, ImageConfig, Logging, ManagedInstances, Vpc

# Each promises what nothing here keeps. An empty value asks for nothing, and is how clients take things away.
_UNAVAILABLE = (
    "AcceleratorConfig",
    "RuntimeConfig",
)


def check_available(params: Params) -> None:
    """Raises ServiceError for members that can't be honoured."""
    rules.check_unavailable(name for name in _UNAVAILABLE if params.get(name))


def package(params: Params, code: Params) -> Package:
    """What a request says about code; `code` holds the places that it may come from."""
    return Package(
        package_type=params.get("PackageType", ZIP),
        runtime=params.get("Runtime"),
        handler=params.get("Handler"),
        layers=tuple(params.get("Layers", ())),
        image_uri=code.get("ImageUri"),
        zip_file=code.get("ZipFile"),
        s3_bucket=code.get("S3Bucket"),
        s3_key=code.get("S3Key"),
        s3_version=code.get("S3ObjectVersion"),
        has_image_config=bool(params.get("ImageConfig")),
    )


def architecture(params: Params) -> str | None:
    """The only element of Architectures."""
    given: list[str] = params.get("Architectures", [])
    return given[0] if given else None


def changes(params: Params, layers: tuple[UsedLayer, ...] | None = None) -> Changes:
    """The members that CreateFunction and UpdateFunctionConfiguration share; `layers` those that Layers names."""
    return Changes(
        role=params.get("Role"),
        description=params.get("Description"),
        timeout_s=params.get("Timeout"),
        memory_mb=params.get("MemorySize"),
        ephemeral_storage_mb=params.get("EphemeralStorage", {}).get("Size"),
        variables=params["Environment"].get("Variables", {}) if "Environment" in params else None,
        image_config=_image_config(params["ImageConfig"]) if "ImageConfig" in params else None,
        logging=_logging(params["LoggingConfig"]) if "LoggingConfig" in params else None,
        vpc=_vpc(params["VpcConfig"]) if "VpcConfig" in params else None,
        dead_letter_arn=params.get("DeadLetterConfig", {}).get("TargetArn"),
        kms_key_arn=params.get("KMSKeyArn"),
        tracing_mode=params.get("TracingConfig", {}).get("Mode"),
        runtime=params.get("Runtime") or None,
        handler=params.get("Handler") or None,
        layers=layers,
        file_systems=_file_systems(params["FileSystemConfigs"]) if "FileSystemConfigs" in params else None,
        snap_start=params.get("SnapStart", {}).get("ApplyOn"),
        managed=_managed(params["CapacityProviderConfig"]) if "CapacityProviderConfig" in params else None,
        durable=_durable(params["DurableConfig"]) if params.get("DurableConfig") else None,
    )


def is_published(params: Params) -> bool:
    """Whether a version is asked for, by one member or the other."""
    return bool(params.get("Publish", False)) or is_latest_published(params)


def is_latest_published(params: Params) -> bool:
    """Whether that version becomes $LATEST.PUBLISHED."""
    return params.get("PublishTo") == "LATEST_PUBLISHED"


def _managed(given: Params) -> ManagedInstances:
    config = given["LambdaManagedInstancesCapacityProviderConfig"]
    return ManagedInstances(
        capacity_provider_arn=config["CapacityProviderArn"],
        max_concurrency=config.get("PerExecutionEnvironmentMaxConcurrency"),
        memory_gib_per_vcpu=config.get("ExecutionEnvironmentMemoryGiBPerVCpu"),
    )


def _durable(given: Params) -> DurableChanges:
    return DurableChanges(given.get("ExecutionTimeout"), given.get("RetentionPeriodInDays"), given.get("KMSKeyArn"))


def _image_config(given: Params) -> ImageConfig:
    return ImageConfig(
        entry_point=tuple(given.get("EntryPoint", ())) or None,
        command=tuple(given.get("Command", ())) or None,
        working_directory=given.get("WorkingDirectory") or None,
    )


def _file_systems(given: list[Params]) -> tuple[FileSystem, ...]:
    return tuple(FileSystem(each["Arn"], each["LocalMountPath"]) for each in given)


def _logging(given: Params) -> Logging:
    return Logging(
        group=given.get("LogGroup", ""),
        format=given.get("LogFormat", ""),
        application_level=given.get("ApplicationLogLevel"),
        system_level=given.get("SystemLogLevel"),
    )


def _vpc(given: Params) -> Vpc:
    return Vpc(
        subnet_ids=tuple(given.get("SubnetIds", ())),
        security_group_ids=tuple(given.get("SecurityGroupIds", ())),
        ipv6_allowed=given.get("Ipv6AllowedForDualStack", False),
    )
