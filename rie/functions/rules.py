"""The rules that a function's members must meet beyond the model's constraints; pure, one check per rule."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from rie.code.archive import MAX_UNPACKED
from rie.functions.faults import refused
from rie.model.function import Configuration, Logging

MAX_NAME = 64  # AWS limit; the model allows 140 because a name may be an ARN
MAX_MEMORY_MB = 10_240  # AWS limit; the model's 32,768 is for managed instances
MAX_ENVIRONMENT = 4_096  # bytes of compact JSON, AWS limit
MAX_TAGS = 50  # AWS limit
SNAP_START_STORAGE_MB = 512  # AWS limit
SNAP_START_RUNTIMES = frozenset(
    ("java11", "java17", "java21", "java25", "python3.12", "python3.13", "python3.14", "dotnet8", "dotnet10")
)

RESERVED_VARIABLES = frozenset(
    (
        *("_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV"),
        *("AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION"),
        *("AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"),
        *("AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
        *("AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR"),
        *("AWS_LAMBDA_MAX_CONCURRENCY", "AWS_LAMBDA_METADATA_API"),
    )
)
"""Names that the service sets itself (lambda.md §1.8)."""

_QUEUE_OR_TOPIC = re.compile(r"arn:[a-z-]+:(sqs|sns):[^:]+:\d{12}:[^:]+")


def check_name(name: str) -> None:
    """Raises ServiceError for a name that no function may have (lambda.md §0.3)."""
    if len(name) > MAX_NAME:
        raise refused(
            f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MAX_NAME}"
        )
    if "." in name:  # a name of the model's namespaced family, which reads accept
        raise refused(f"The function name {name} must consist of letters, digits, hyphens and underscores.")


def check_memory(memory_mb: int) -> None:
    """Raises ServiceError above the account's limit."""
    if memory_mb > MAX_MEMORY_MB:
        raise refused(
            "'MemorySize' value failed to satisfy constraint: "
            f"Member must have value less than or equal to {MAX_MEMORY_MB}"
        )


def check_variables(variables: Mapping[str, str]) -> None:
    """Raises ServiceError for reserved keys, and past 4 KB (lambda.md §1.8)."""
    reserved = [name for name in variables if name in RESERVED_VARIABLES]
    if reserved:
        raise refused(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            "provided contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )
    measured = json.dumps(dict(variables), separators=(",", ":"), ensure_ascii=False)
    if len(measured.encode()) > MAX_ENVIRONMENT:
        raise refused(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            f"provided exceeded the 4KB limit. String measured: {measured}"
        )


def check_tags(tags: Mapping[str, str]) -> None:
    """Raises ServiceError for more than 50 tags, and for keys that are the service's own (lambda.md §12.6)."""
    own = [name for name in tags if name.lower().startswith("aws:")]
    if own:
        raise refused(
            f"Tag keys that begin with aws: are reserved. Reserved keys used in this request: {', '.join(own)}"
        )
    if len(tags) > MAX_TAGS:
        raise refused("Number of tags exceeds resource tag limit.")


def check_dead_letter(arn: str) -> None:
    """Raises ServiceError unless the target is a standard queue or topic; empty clears it."""
    if arn and (not _QUEUE_OR_TOPIC.fullmatch(arn) or arn.endswith(".fifo")):
        raise refused(
            f"The dead letter target {arn} must be the ARN of a standard Amazon SQS queue "
            "or a standard Amazon SNS topic."
        )


def check_together(configuration: Configuration) -> None:
    """Raises ServiceError where members that are fine alone don't go together (lambda.md §1.1, §1.6, §1.10)."""
    _check_representable(configuration)
    _check_snap_start(configuration)
    for each in configuration.file_systems:
        if configuration.vpc is None or not configuration.vpc.subnet_ids:
            raise refused(f"Function must be configured to execute in a VPC to reference access point {each.arn}.")
    unpacked = sum(archive.unpacked_size for archive in configuration.archives)
    if unpacked > MAX_UNPACKED:
        raise refused(
            f"Function code combined with layers exceeds the maximum allowed size of {MAX_UNPACKED} bytes. "
            f"The actual size is {unpacked} bytes."
        )


def _check_representable(configuration: Configuration) -> None:
    """No argument, variable or path of a process can hold NUL: better told now than at every invocation."""
    image = configuration.image_config
    texts = {
        "Handler": (configuration.handler,),
        "Environment": tuple((configuration.variables or {}).values()),
        "ImageConfig": (*(image.entry_point or ()), *(image.command or ()), image.working_directory),
    }
    for member, values in texts.items():
        if any("\0" in value for value in values if value):
            raise refused(f"{member} cannot contain the character NUL.")


def _check_snap_start(configuration: Configuration) -> None:
    if configuration.snap_start == "None":
        return
    if not configuration.is_zip:
        raise refused("SnapStart is not supported for functions with PackageType Image.")
    if configuration.runtime not in SNAP_START_RUNTIMES:
        raise refused(f"{configuration.runtime} is not supported for SnapStart enabled functions.")
    if configuration.ephemeral_storage_mb > SNAP_START_STORAGE_MB:
        raise refused(f"SnapStart is not supported with more than {SNAP_START_STORAGE_MB} MB of EphemeralStorage.")
    if configuration.file_systems:
        raise refused("SnapStart is not supported with FileSystemConfigs.")


def check_unavailable(given: Iterable[str]) -> None:
    """Raises ServiceError for members whose promises (isolation, mounts, durability …) nothing here keeps."""
    names = sorted(given)
    if names:
        raise refused(f"These parameters are not available here: {', '.join(names)}.")


def merge_logging(current: Logging, change: Logging) -> Logging:
    """The new logging configuration; empty members of `change` keep what is there (lambda.md §1.9).

    JSON without levels means INFO; Text drops them. Raises ServiceError for levels with Text.
    """
    group = change.group or current.group
    if (change.format or current.format) == "Text":
        if change.application_level or change.system_level:
            raise refused("ApplicationLogLevel and SystemLogLevel can only be set when LogFormat is JSON.")
        return Logging(group=group)
    return Logging(
        group=group,
        format="JSON",
        application_level=change.application_level or current.application_level or "INFO",
        system_level=change.system_level or current.system_level or "INFO",
    )
