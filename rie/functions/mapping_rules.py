"""The rules of event source mappings: what goes with which source, in the service's words; pure (lambda.md §6.1)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping as Dict
from typing import Any

from rie.errors import ServiceError
from rie.functions.faults import refused
from rie.model.mapping import Mapping

STREAMS = ("kinesis", "dynamodb")
BATCH_SIZES = {"sqs": 10, "kinesis": 100, "dynamodb": 100}
DEFAULT_BATCH_SIZE = 100
MOST = {"kinesis": 10_000, "dynamodb": 10_000}
USER_INITIATED = "USER_INITIATED"
USER_ACTION = "User action"

UNRECOGNISED = "Unrecognized event source."
NO_FUNCTION = "Function does not exist"
WINDOW_NEEDED = "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"

_SERVICES = {"sqs": "sqs", "kinesis": "kinesis", "dynamodb": "dynamodb", "kafka": "kafka", "mq": "mq", "rds": "docdb"}
_STREAM = re.compile(r"arn:[^:]+:(kinesis:[^:]+:\d+:stream/.+|dynamodb:[^:]+:\d+:table/.+/stream/.+)")

# Members that are kept and shown as they were given.
KEPT = (
    "AmazonManagedKafkaEventSourceConfig",
    "DocumentDBEventSourceConfig",
    "KMSKeyArn",
    "LoggingConfig",
    "MetricsConfig",
    "ProvisionedPollerConfig",
    "Queues",
    "SelfManagedEventSource",
    "SelfManagedKafkaEventSourceConfig",
    "SourceAccessConfigurations",
    "Topics",
)


def service_of(arn: str | None, params: Dict[str, Any]) -> str:
    """What kind of source it is. Raises ServiceError."""
    if not arn:
        if params.get("SelfManagedEventSource"):
            return "self-managed-kafka"
        raise refused(UNRECOGNISED)
    service = _SERVICES.get(arn.split(":")[2])
    if service is None or (service in STREAMS and not _STREAM.fullmatch(arn)):
        raise refused(UNRECOGNISED)
    return service


def check_new(service: str, params: Dict[str, Any]) -> None:
    """What a caller gives with a new mapping. Raises ServiceError."""
    if service in (*STREAMS, "kafka", "self-managed-kafka") and not params.get("StartingPosition"):
        raise refused(
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: "
            "Member must not be null."
        )
    if service == "dynamodb" and params.get("StartingPosition") == "AT_TIMESTAMP":
        raise refused(f"Unsupported starting position for arn type: {params['EventSourceArn']}")
    if params.get("StartingPosition") == "AT_TIMESTAMP" and "StartingPositionTimestamp" not in params:
        raise refused("StartingPositionTimestamp must be given with the starting position AT_TIMESTAMP.")
    if service == "self-managed-kafka" and not params.get("SourceAccessConfigurations"):
        raise refused("Required 'sourceAccessConfigurations' parameter is missing.")
    if service == "sqs" and params.get("StartingPosition"):
        raise refused("Unsupported StartingPosition parameter for given event source mapping type.")


def check_given(service: str, params: Dict[str, Any]) -> None:
    """What a caller gives with a new mapping or an update. Raises ServiceError."""
    if service == "sqs":
        destinations = params.get("DestinationConfig", {})
        if any(each.get("Destination") for each in destinations.values()):
            raise refused("Unsupported DestinationConfig parameter for given event source mapping type.")
        for name in ("ParallelizationFactor", "BisectBatchOnFunctionError", "TumblingWindowInSeconds"):
            if params.get(name):
                raise refused(f"Unsupported {name} parameter for given event source mapping type.")
    elif params.get("ScalingConfig", {}).get("MaximumConcurrency") is not None:
        raise refused("Unsupported ScalingConfig parameter for given event source mapping type.")
    if params.get("ProvisionedPollerConfig") and params.get("ScalingConfig", {}).get("MaximumConcurrency"):
        raise refused("Provisioned mode and MaximumConcurrency cannot be used together.")
    age_s = params.get("MaximumRecordAgeInSeconds")
    if age_s is not None and age_s != -1 and age_s < 60:
        raise refused("MaximumRecordAgeInSeconds must be -1, or between 60 and 604800.")


def check_whole(mapping: Mapping) -> None:
    """What must hold of a mapping, however it came to be. Raises ServiceError."""
    if mapping.is_fifo:
        if mapping.batch_size > 10:
            raise refused("Maximum batch size for FIFO queues is 10.")
        if mapping.window_s:
            raise refused("Batching window is not supported for FIFO queues.")
    if mapping.service == "sqs" and mapping.batch_size > 10 and not mapping.window_s:
        raise refused(WINDOW_NEEDED)
    if mapping.tumbling_window_s and mapping.parallelization > 1:
        raise refused("Tumbling windows cannot be used with a parallelization factor above 1.")


def filters_of(params: Dict[str, Any]) -> tuple[str, ...]:
    """The patterns that were given; an empty list takes them away."""
    return tuple(each["Pattern"] for each in params.get("FilterCriteria", {}).get("Filters", ()) if "Pattern" in each)


def kept_of(params: Dict[str, Any], before: str = "{}") -> str:
    """The members that are only kept, with what was given in them."""
    kept = {**json.loads(before), **{name: params[name] for name in KEPT if name in params}}
    return json.dumps({name: value for name, value in kept.items() if value not in ("", None, {})}, default=str)


def is_same_source(one: Mapping, other: Mapping) -> bool:
    """Whether two mappings read the same: one ARN, or a topic of Kafka clusters that share a server."""
    if one.source_arn or other.source_arn:
        return one.source_arn == other.source_arn
    (servers, topics), (other_servers, other_topics) = _cluster_of(one), _cluster_of(other)
    return topics == other_topics and not set(servers).isdisjoint(other_servers)


def _cluster_of(mapping: Mapping) -> tuple[list[str], list[str]]:
    """(bootstrap servers, topics) of a self-managed Kafka."""
    kept = json.loads(mapping.more)
    endpoints = kept["SelfManagedEventSource"].get("Endpoints", {})
    return endpoints.get("KAFKA_BOOTSTRAP_SERVERS", []), kept.get("Topics", [])


def conflict(existing: Mapping, function_name: str) -> ServiceError:
    """The same source feeds the same function already (409)."""
    if not existing.source_arn:
        servers, topics = _cluster_of(existing)
        what = (
            f'An event source mapping with event source ("{",".join(servers)}"), '
            f'function ("{existing.function_arn}"), topics ("{",".join(topics)}")'
        )
        return _already(what, existing)
    what = (
        f'An event source mapping with SQS arn (" {existing.source_arn} ") and function (" {function_name} ")'
        if existing.service == "sqs"
        else f'The event source arn (" {existing.source_arn} ") and function (" {function_name} ") provided mapping'
    )
    return _already(what, existing)


def _already(what: str, existing: Mapping) -> ServiceError:
    return ServiceError(
        "ResourceConflictException",
        f"{what} already exists. Please update or delete the existing mapping with UUID {existing.uuid}",
    )


def in_use(doing: str) -> ServiceError:
    """A change is under way (400)."""
    return ServiceError("ResourceInUseException", f"Cannot {doing} the event source mapping because it is in use.")


def absent() -> ServiceError:
    """There is no such mapping (404)."""
    return ServiceError("ResourceNotFoundException", "The resource you requested does not exist.")
