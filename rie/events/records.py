"""What destinations and dead-letter queues are told of an event's end; pure (lambda.md §5.4, §5.5)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Any

import orjson

from rie.clock import iso_milliseconds
from rie.events.policy import Condition
from rie.model.event import Delivery, Event
from rie.payloads import check_json

MAX_ERROR_MESSAGE = 1_024  # characters of a dead letter's ErrorMessage, AWS limit
NEVER_RAN = "500"


@dataclass(frozen=True, slots=True)
class Targets:
    """Where the ends of a function's events go: ARNs, None for nowhere; `role` is whom they are sent as."""

    on_success: str | None = None
    on_failure: str | None = None
    dead_letter: str | None = None
    role: str = ""


def deliveries(event: Event, condition: Condition, targets: Targets, now: float) -> tuple[Delivery, ...]:
    """All that must be sent now that an event has ended."""
    made = []
    is_success = condition is Condition.SUCCESS
    destination = targets.on_success if is_success else targets.on_failure
    if destination:
        made.append(_delivery(event, destination, record(event, condition, now), targets.role, now, is_success))
    if targets.dead_letter and not is_success:
        made.append(_dead_letter(event, condition, targets.dead_letter, targets.role, now))
    return tuple(made)


def record(event: Event, condition: Condition, now: float) -> str:
    """The invocation record, as JSON text."""
    told: dict[str, Any] = {
        "version": "1.0",
        "timestamp": iso_milliseconds(now),
        "requestContext": {
            "requestId": event.event_id,
            "functionArn": event.qualified_arn,
            "condition": condition.value,
            "approximateInvokeCount": event.attempts,
        },
        "requestPayload": _value(event.payload),
    }
    if event.last is not None and condition is not Condition.ZERO_CONCURRENCY:
        response: dict[str, Any] = {"statusCode": 200, "executedVersion": event.last.executed_version}
        if event.last.function_error:
            response["functionError"] = event.last.function_error
        told["responseContext"] = response
        told["responsePayload"] = _value(event.last.payload)
    return orjson.dumps(told).decode()


def _dead_letter(event: Event, condition: Condition, target: str, role: str, now: float) -> Delivery:
    ran = event.last is not None
    message = _error_message(event.last.payload) if event.last is not None else condition.value
    delivery = _delivery(event, target, event.payload.decode("utf-8", "replace"), role, now, is_success=False)
    code = "200" if ran else NEVER_RAN
    return replace(delivery, is_dead_letter=True, error_code=code, error_message=message[:MAX_ERROR_MESSAGE])


def _delivery(event: Event, target: str, body: str, role: str, now: float, is_success: bool) -> Delivery:
    return Delivery(
        delivery_id=str(uuid.uuid4()),
        target=target,
        body=body,
        region=event.key.region,
        role=role,
        due_at=now,
        folder=f"async/{event.key.name}",
        function_arn=event.qualified_arn,
        is_success=is_success,
        request_id=event.event_id,
        trace_id=event.trace_id,
        created_at=now,
    )


def _error_message(payload: str) -> str:
    """The errorMessage of an error object; the payload itself where there is none."""
    try:
        answered = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return payload
    if not isinstance(answered, dict):
        return payload
    message = answered.get("errorMessage", answered.get("ErrorMessage"))  # the latter of a durable execution
    return message if isinstance(message, str) else payload


def _value(payload: bytes | str) -> object:
    """A payload as the JSON value that it is, byte for byte; as a string where a runtime answered something else."""
    if not payload:
        return {}
    try:
        check_json(payload if isinstance(payload, bytes) else payload.encode())
    except ValueError:  # no JSON, or no UTF-8
        return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else payload
    return orjson.Fragment(payload)
