"""Event-invoke configurations (lambda.md §5.3)."""

from __future__ import annotations

from datetime import UTC, datetime

from rie.api.context import RequestContext
from rie.api.functions import addressed
from rie.api.paging import paged
from rie.api.parse import Params
from rie.api.views import View
from rie.arn import function_arn
from rie.functions.domain import Domain
from rie.functions.event_invoke import Wanted
from rie.model.event import EventInvokeConfig
from rie.model.function import LATEST, FunctionKey


def put_function_event_invoke_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """PutFunctionEventInvokeConfig: members that are not given are taken away."""
    key, qualifier = addressed(context, params)
    return _view(key, qualifier or LATEST, domain.event_invoke.put(key, qualifier, _wanted(params)))


def update_function_event_invoke_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """UpdateFunctionEventInvokeConfig: members that are not given stay."""
    key, qualifier = addressed(context, params)
    return _view(key, qualifier or LATEST, domain.event_invoke.update(key, qualifier, _wanted(params)))


def get_function_event_invoke_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetFunctionEventInvokeConfig."""
    key, qualifier = addressed(context, params)
    return _view(key, qualifier or LATEST, domain.event_invoke.get(key, qualifier))


def delete_function_event_invoke_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """DeleteFunctionEventInvokeConfig: 204."""
    domain.event_invoke.delete(*addressed(context, params))
    return {}


def list_function_event_invoke_configs(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListFunctionEventInvokeConfigs, by qualifier."""
    key, _ = addressed(context, params)
    page, last = paged("event-invoke-configs", params, domain.event_invoke.of_function(key), lambda each: each[0])
    return {"FunctionEventInvokeConfigs": [_view(key, name, config) for name, config in page], "NextMarker": last}


def _wanted(params: Params) -> Wanted:
    destinations = params.get("DestinationConfig", {})
    success, failure = destinations.get("OnSuccess", {}), destinations.get("OnFailure", {})
    return Wanted(
        max_retries=params.get("MaximumRetryAttempts"),
        max_age_s=params.get("MaximumEventAgeInSeconds"),
        # A destination given without a target says that there is to be none.
        on_success=success.get("Destination", "") if "OnSuccess" in destinations else None,
        on_failure=failure.get("Destination", "") if "OnFailure" in destinations else None,
    )


def _view(key: FunctionKey, qualifier: str, config: EventInvokeConfig) -> View:
    return {
        "FunctionArn": function_arn(key, qualifier),
        "LastModified": datetime.fromtimestamp(config.modified_at, UTC),
        "MaximumRetryAttempts": config.max_retries,
        "MaximumEventAgeInSeconds": config.max_age_s,
        "DestinationConfig": {
            "OnSuccess": {"Destination": config.on_success} if config.on_success else {},
            "OnFailure": {"Destination": config.on_failure} if config.on_failure else {},
        },
    }
