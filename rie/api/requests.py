"""Members of requests about functions as the domain's records; pure."""

from __future__ import annotations

from rie.api.parse import Params
from rie.functions import rules
from rie.functions.changes import Changes
from rie.functions.package import ZIP, Package
from rie.model.function import ImageConfig, Logging, Vpc

# Each promises what nothing here keeps. An empty value asks for nothing, and is how clients take things away.
_UNAVAILABLE = (
    "AcceleratorConfig",
    "CapacityProviderConfig",
    "DurableConfig",
    "FileSystemConfigs",
    "PublishTo",
    "RuntimeConfig",
    "TenancyConfig",
)


def check_available(params: Params) -> None:
    """Raises ServiceError for members that can't be honoured."""
    rules.check_unavailable(name for name in _UNAVAILABLE if params.get(name))
    rules.check_signing(params.get("CodeSigningConfigArn"))
    rules.check_snap_start(params.get("SnapStart", {}).get("ApplyOn"))


def package(params: Params, code: Params) -> Package:
    """What a request says about code; `code` holds the places that it may come from."""
    return Package(
        package_type=params.get("PackageType", ZIP),
        runtime=params.get("Runtime"),
        handler=params.get("Handler"),
        layers=tuple(params.get("Layers", ())),
        image_uri=code.get("ImageUri"),
        has_zip=any(code.get(name) for name in ("ZipFile", "S3Bucket", "S3Key", "S3ObjectVersion")),
    )


def architecture(params: Params) -> str | None:
    """The only element of Architectures."""
    given: list[str] = params.get("Architectures", [])
    return given[0] if given else None


def changes(params: Params) -> Changes:
    """The members that CreateFunction and UpdateFunctionConfiguration share."""
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
    )


def _image_config(given: Params) -> ImageConfig:
    return ImageConfig(
        entry_point=tuple(given.get("EntryPoint", ())) or None,
        command=tuple(given.get("Command", ())) or None,
        working_directory=given.get("WorkingDirectory") or None,
    )


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
