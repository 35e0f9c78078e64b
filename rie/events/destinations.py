"""Sends a delivery to where its ARN points: SQS, SNS, EventBridge, S3, and functions elsewhere (lambda.md §5.4)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from rie.aws import Clients
from rie.model.event import Delivery

# What no repetition mends: the target or the right to use it is not there.
PERMANENT = frozenset(
    (
        *("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "NonExistentQueue", "NotFound"),
        *("NotFoundException", "NoSuchBucket", "ResourceNotFoundException", "AccessDenied", "AccessDeniedException"),
        *("InvalidParameterValue", "InvalidParameter", "ValidationError", "ValidationException", "AuthorizationError"),
        *("MissingParameter", "InvalidMessageContents", "UnsupportedOperation"),
    )
)


class Undeliverable(Exception):
    """A target can't be sent to, now or ever; `is_permanent` tells which."""

    def __init__(self, why: str, *, is_permanent: bool) -> None:
        super().__init__(why)
        self.is_permanent = is_permanent


class Destinations:
    """Blocks; from any thread."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._senders: dict[str, Callable[[Any, Delivery], None]] = {
            "sqs": _to_sqs,
            "sns": _to_sns,
            "events": _to_bus,
            "s3": _to_s3,
            "lambda": _to_function,
        }

    def send(self, delivery: Delivery) -> None:
        """Send it once. Raises Undeliverable."""
        service, region = service_of(delivery.target)
        sender = self._senders.get(service)
        if sender is None:
            raise Undeliverable(f"{delivery.target} is no destination", is_permanent=True)
        try:
            sender(self._clients.client(service, region or delivery.region, delivery.role), delivery)
        except Exception as error:  # botocore's errors have no common root but Exception
            code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
            raise Undeliverable(str(error), is_permanent=code in PERMANENT) from error


def service_of(arn: str) -> tuple[str, str]:
    """(service, region) of an ARN; the region of a bucket is empty."""
    parts = arn.split(":", 5)
    return (parts[2], parts[3]) if len(parts) > 3 else ("", "")


def _to_sqs(client: Any, delivery: Delivery) -> None:
    _, _, _, _, account, name = delivery.target.split(":", 5)
    url = client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
    extra: dict[str, Any] = {}
    if delivery.is_dead_letter:
        extra["MessageAttributes"] = _attributes(delivery)
    elif delivery.trace_id:
        extra["MessageSystemAttributes"] = {
            "AWSTraceHeader": {"DataType": "String", "StringValue": delivery.trace_id},
        }
    client.send_message(QueueUrl=url, MessageBody=delivery.body, **extra)


def _to_sns(client: Any, delivery: Delivery) -> None:
    extra = {"MessageAttributes": _attributes(delivery)} if delivery.is_dead_letter else {}
    client.publish(TopicArn=delivery.target, Message=delivery.body, **extra)


def _to_bus(client: Any, delivery: Delivery) -> None:
    kind = "Success" if delivery.is_success else "Failure"
    answer = client.put_events(
        Entries=[
            {
                "EventBusName": delivery.target,
                "Source": "lambda",
                "DetailType": f"Lambda Function Invocation Result - {kind}",
                "Detail": delivery.body,
                "Resources": [delivery.target, delivery.function_arn],
            }
        ]
    )
    if answer.get("FailedEntryCount"):
        raise RuntimeError(f"EventBridge refused: {answer['Entries'][0].get('ErrorMessage')}")


def _to_s3(client: Any, delivery: Delivery) -> None:
    at = datetime.fromtimestamp(delivery.created_at, UTC)
    # The same key at every attempt: a repetition overwrites what may have arrived.
    name = uuid.uuid5(uuid.NAMESPACE_URL, delivery.delivery_id)
    key = f"aws/lambda/{delivery.folder}/{at:%Y/%m/%d}/{at:%Y-%m-%dT%H.%M.%S}-{name}"
    client.put_object(Bucket=delivery.target.split(":")[-1], Key=key, Body=delivery.body.encode())


def _to_function(client: Any, delivery: Delivery) -> None:
    client.invoke(FunctionName=delivery.target, InvocationType="Event", Payload=delivery.body.encode())


def _attributes(delivery: Delivery) -> dict[str, dict[str, str]]:
    if delivery.attributes:
        return {name: {"DataType": "String", "StringValue": value} for name, value in delivery.attributes.items()}
    given = {
        "RequestID": ("String", delivery.request_id),
        "ErrorCode": ("Number", delivery.error_code or ""),
        "ErrorMessage": ("String", delivery.error_message or ""),
    }
    return {name: {"DataType": kind, "StringValue": value} for name, (kind, value) in given.items() if value}
