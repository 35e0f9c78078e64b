"""Event source mappings (lambda.md §6.1)."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from rie.api.context import RequestContext
from rie.api.paging import paged
from rie.api.parse import Params
from rie.api.views import View
from rie.functions.domain import Domain
from rie.functions.mapping_rules import STREAMS
from rie.model.mapping import Mapping
from rie.model.scope import Scope

MAX_PAGE = 100


def create_event_source_mapping(domain: Domain, context: RequestContext, params: Params) -> View:
    """CreateEventSourceMapping: 202, Creating."""
    return _view(domain, domain.mappings.create(_scope(context), params))


def update_event_source_mapping(domain: Domain, context: RequestContext, params: Params) -> View:
    """UpdateEventSourceMapping: 202, Updating, Enabling or Disabling."""
    return _view(domain, domain.mappings.update(_scope(context), params["UUID"], params))


def delete_event_source_mapping(domain: Domain, context: RequestContext, params: Params) -> View:
    """DeleteEventSourceMapping: 202, Deleting."""
    return _view(domain, domain.mappings.delete(_scope(context), params["UUID"]))


def get_event_source_mapping(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetEventSourceMapping."""
    return _view(domain, domain.mappings.get(_scope(context), params["UUID"]))


def list_event_source_mappings(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListEventSourceMappings: of a source, of a function, or all."""
    found = domain.mappings.list(_scope(context), params.get("EventSourceArn"), params.get("FunctionName"))
    page, following = paged("mappings", params, found, lambda mapping: mapping.uuid, longest=MAX_PAGE)
    return {"EventSourceMappings": [_view(domain, mapping) for mapping in page], "NextMarker": following}


def _scope(context: RequestContext) -> Scope:
    return Scope(context.account, context.region)


def _view(domain: Domain, mapping: Mapping) -> View:
    shown: View = {
        "UUID": mapping.uuid,
        "EventSourceMappingArn": mapping.arn,
        "EventSourceArn": mapping.source_arn or None,
        "FunctionArn": mapping.function_arn,
        "BatchSize": mapping.batch_size,
        "MaximumBatchingWindowInSeconds": mapping.window_s,
        "LastModified": datetime.fromtimestamp(mapping.modified_at, UTC),
        "State": mapping.state,
        "StateTransitionReason": mapping.state_reason,
        "FunctionResponseTypes": ["ReportBatchItemFailures"] if mapping.reports_failures else [],
        "FilterCriteria": {"Filters": [{"Pattern": each} for each in mapping.filters]} if mapping.filters else None,
        **json.loads(mapping.more),
    }
    if mapping.max_concurrency is not None:
        shown["ScalingConfig"] = {"MaximumConcurrency": mapping.max_concurrency}
    if mapping.service != "sqs":
        shown |= _stream_view(domain, mapping)
    return shown


def _stream_view(domain: Domain, mapping: Mapping) -> View:
    shown: View = {
        "StartingPosition": mapping.starting_position,
        "LastProcessingResult": domain.mappings.last_result(mapping),
    }
    if mapping.starting_at is not None:
        shown["StartingPositionTimestamp"] = datetime.fromtimestamp(mapping.starting_at, UTC)
    if mapping.service in STREAMS:
        shown |= {
            "ParallelizationFactor": mapping.parallelization,
            "BisectBatchOnFunctionError": mapping.does_bisect,
            "MaximumRecordAgeInSeconds": mapping.max_age_s,
            "MaximumRetryAttempts": mapping.max_retries,
            "TumblingWindowInSeconds": mapping.tumbling_window_s,
            "DestinationConfig": {"OnFailure": {"Destination": mapping.on_failure} if mapping.on_failure else {}},
        }
    if mapping.service == "self-managed-kafka":
        given = json.loads(mapping.more).get("SelfManagedKafkaEventSourceConfig") or {}
        shown["SelfManagedKafkaEventSourceConfig"] = {"ConsumerGroupId": mapping.uuid, **given}
    return shown
