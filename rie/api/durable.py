"""Durable executions (lambda.md §13.1)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from rie.api.context import RequestContext
from rie.api.functions import addressed
from rie.api.paging import marker, read_marker
from rie.api.parse import Params
from rie.api.views import View
from rie.arn import locate
from rie.durable.draft import fault_view, read_fault
from rie.durable.handler_event import operation_view
from rie.durable.updates import invalid
from rie.errors import ServiceError
from rie.functions.domain import Domain
from rie.model.durable import Execution, Fault, HistoryEvent, Operation, Update
from rie.store.durable import Wanted

DEFAULT_PAGE = 100
MAX_CALLBACK = 262_144  # bytes of a callback's result, AWS limit
_LIST = "durable-executions"
_HISTORY = "durable-history"
_STATE = "durable-state"


def get_durable_execution(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetDurableExecution."""
    found = _mine(domain, context, params)
    includes = params.get("IncludeExecutionData", True)
    view = _listed(found)
    view |= {
        "Version": found.version,
        "TraceHeader": {"XAmznTraceId": found.trace_id} if found.trace_id else None,
        "ExecutionDataIncluded": includes,
        "DurableConfig": {"ExecutionTimeout": found.timeout_s, "RetentionPeriodInDays": found.retention_days},
        "ExpectedExecutionTimeoutTimestamp": None if found.is_closed else _instant(found.times_out_at),
    }
    if includes:
        error = None if found.error is None else fault_view(found.error)
        view |= {"InputPayload": found.payload, "Result": found.result, "Error": error}
    if found.pause is not None:
        view["PauseDetails"] = {
            "PauseRequestTimestamp": _instant(found.pause.asked_at),
            "Reason": found.pause.reason if includes else None,
            "ExecutionTimeoutPaused": found.pause.stops_timeout,
        }
    return view


def get_durable_execution_history(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetDurableExecutionHistory: the oldest event first, without payloads, unless asked otherwise."""
    found = _mine(domain, context, params)
    after = read_marker(_HISTORY, params)
    size = _size(params)
    events = domain.durable.history(
        found.arn,
        after=None if after is None else _number(after),
        limit=size + 1,
        is_newest_first=params.get("ReverseOrder", False),
    )
    page = events[:size]
    includes = params.get("IncludeExecutionData", False)
    return {
        "Events": [_event_view(event, includes) for event in page],
        "NextMarker": marker(_HISTORY, str(page[-1].number)) if len(events) > size else None,
    }


def get_durable_execution_state(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetDurableExecutionState: for the invocation that holds the newest token."""
    arn = _own_arn(context, params)
    # What the runtime was given is a plain position; what we give is as opaque as every other marker.
    given = params.get("Marker", "")
    after = given if given.isdecimal() else read_marker(_STATE, params) or "0"
    found, rest = domain.durable.operations(arn, params["CheckpointToken"], _number(after), params.get("MaxItems"))
    return {"Operations": [_operation_view(each) for each in found], "NextMarker": marker(_STATE, rest)}


def checkpoint_durable_execution(domain: Domain, context: RequestContext, params: Params) -> View:
    """CheckpointDurableExecution: all of the updates, or none."""
    updates = [_update(each, context) for each in params.get("Updates", ())]
    arn, token = _own_arn(context, params), params["CheckpointToken"]
    next_token, operations = domain.durable.checkpoint(arn, token, params.get("ClientToken"), updates)
    state = {"Operations": [_operation_view(each) for each in operations]}
    return {"CheckpointToken": next_token, "NewExecutionState": state}


def list_durable_executions_by_function(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListDurableExecutionsByFunction: the newest first, unless asked otherwise."""
    key, qualifier = addressed(context, params)
    function = domain.catalog.get(key, None)
    versions = None
    if qualifier is not None:
        versions = _versions(domain, context, params, function.version)
    wanted = Wanted(
        versions=versions,
        name=params.get("DurableExecutionName"),
        statuses=params.get("Statuses"),
        started_after=_seconds(params.get("StartedAfter")),
        started_before=_seconds(params.get("StartedBefore")),
        is_oldest_first=params.get("ReverseOrder", False),
    )
    size = _size(params)
    found = domain.durable.page(key, wanted, after=_after(params), limit=size + 1)
    page = found[:size]
    last = f"{page[-1].started_at!r}/{page[-1].execution_id}" if len(found) > size else None
    return {"DurableExecutions": [_listed(each) for each in page], "NextMarker": marker(_LIST, last)}


def stop_durable_execution(domain: Domain, context: RequestContext, params: Params) -> View:
    """StopDurableExecution; of one that has ended, when that was."""
    found = _mine(domain, context, params)
    return {"StopTimestamp": _instant(domain.durable.stop(found.arn, _fault(params.get("Error"))))}


def pause_durable_execution(domain: Domain, context: RequestContext, params: Params) -> View:
    """PauseDurableExecution: 202."""
    stops_timeout = params.get("ExecutionTimeoutPaused", True)
    arn, token = _own_arn(context, params), params.get("ClientToken", "")
    domain.durable.pause(arn, token, params.get("Reason"), stops_timeout=stops_timeout)
    return {}


def resume_durable_execution(domain: Domain, context: RequestContext, params: Params) -> View:
    """ResumeDurableExecution: 202."""
    domain.durable.resume(_own_arn(context, params), params.get("ClientToken", ""), params.get("Reason"))
    return {}


def delete_durable_execution(domain: Domain, context: RequestContext, params: Params) -> View:
    """DeleteDurableExecution: 202."""
    return {"DeletionRequestTimestamp": _instant(domain.durable.delete(_own_arn(context, params)))}


def send_durable_execution_callback_success(domain: Domain, context: RequestContext, params: Params) -> View:
    """SendDurableExecutionCallbackSuccess; the body is the result, as it is."""
    result: bytes = params.get("Result", b"")
    if len(result) > MAX_CALLBACK:
        raise invalid(f"Callback result size must be less than or equal to {MAX_CALLBACK} bytes.")
    try:
        text = result.decode()
    except UnicodeDecodeError:
        raise invalid("Callback result must be UTF-8 text.") from None
    domain.durable.succeed_callback(context.account, params["CallbackId"], text or None)
    return {}


def send_durable_execution_callback_failure(domain: Domain, context: RequestContext, params: Params) -> View:
    """SendDurableExecutionCallbackFailure."""
    domain.durable.fail_callback(context.account, params["CallbackId"], _fault(params.get("Error")) or Fault())
    return {}


def send_durable_execution_callback_heartbeat(domain: Domain, context: RequestContext, params: Params) -> View:
    """SendDurableExecutionCallbackHeartbeat."""
    domain.durable.keep_callback(context.account, params["CallbackId"])
    return {}


def _own_arn(context: RequestContext, params: Params) -> str:
    arn: str = params["DurableExecutionArn"]
    if arn.split(":")[4] != context.account:
        raise ServiceError("AccessDeniedException", f"Durable execution {arn} belongs to another account.")
    return arn


def _mine(domain: Domain, context: RequestContext, params: Params) -> Execution:
    return domain.durable.get(_own_arn(context, params))


def _versions(domain: Domain, context: RequestContext, params: Params, latest: str) -> tuple[str, ...]:
    """What a qualifier stands for now: a version, or those of an alias."""
    key, qualifier = addressed(context, params)
    assert qualifier is not None
    if qualifier == latest or qualifier.isdecimal():
        return (domain.catalog.get(key, qualifier).version,)
    return tuple(domain.aliases.get(key, qualifier).versions)


def _after(params: Params) -> tuple[float, str] | None:
    text = read_marker(_LIST, params)
    if text is None:
        return None
    at, _, execution_id = text.partition("/")
    try:
        return float(at), execution_id
    except ValueError:
        raise invalid(f"Invalid Marker: {params['Marker']}") from None


def _number(text: str) -> int:
    if not text.isdecimal():
        raise invalid(f"Invalid Marker: {text}")
    return int(text)


def _size(params: Params) -> int:
    return int(params.get("MaxItems") or DEFAULT_PAGE)


def _update(given: Mapping[str, Any], context: RequestContext) -> Update:
    chained = given.get("ChainedInvokeOptions", {})
    if chained:
        key, _ = locate(chained["FunctionName"], None, context)
        if key.account != context.account:
            raise invalid("Cannot invoke a function in a different account.")
    callback = given.get("CallbackOptions", {})
    return Update(
        operation_id=given["Id"],
        type=given["Type"],
        action=given["Action"],
        parent_id=given.get("ParentId"),
        name=given.get("Name"),
        sub_type=given.get("SubType"),
        payload=given.get("Payload"),
        error=_fault(given.get("Error")),
        replays_children=given.get("ContextOptions", {}).get("ReplayChildren", False),
        delay_s=given["StepOptions"].get("NextAttemptDelaySeconds", 0) if "StepOptions" in given else None,
        wait_s=given.get("WaitOptions", {}).get("WaitSeconds"),
        timeout_s=callback.get("TimeoutSeconds", 0),
        heartbeat_s=callback.get("HeartbeatTimeoutSeconds", 0),
        target=chained.get("FunctionName"),
        tenant_id=chained.get("TenantId"),
    )


def _fault(given: Mapping[str, Any] | None) -> Fault | None:
    try:
        return read_fault(given)
    except ValueError as error:
        raise invalid(f"Invalid error object: {error}.") from None


def _listed(execution: Execution) -> View:
    return {
        "DurableExecutionArn": execution.arn,
        "DurableExecutionName": execution.name,
        "FunctionArn": execution.function_arn,
        "Status": execution.status,
        "StartTimestamp": _instant(execution.started_at),
        "EndTimestamp": None if execution.ended_at is None else _instant(execution.ended_at),
    }


def _event_view(event: HistoryEvent, includes: bool) -> View:
    details = {
        name: {**({k: v for k, v in value.items() if k != "Payload" or includes}), "Truncated": not includes}
        if name in ("Input", "Result", "Error", "Reason")
        else value
        for name, value in orjson.loads(event.details).items()
    }
    return {
        "EventType": event.type,
        "EventId": event.number,
        "EventTimestamp": _instant(event.at),
        "Id": event.operation_id,
        "ParentId": event.parent_id,
        "Name": event.name,
        "SubType": event.sub_type,
        f"{event.type}Details": details,
    }


def _operation_view(operation: Operation) -> View:
    return operation_view(operation, _instant)


def _instant(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _seconds(instant: datetime | None) -> float | None:
    return None if instant is None else instant.timestamp()
