"""SQS messages as a function sees them, and cut into batches; pure (lambda.md §6.5)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from rie.model.mapping import Mapping

OVERHEAD = 1_024  # bytes of a record besides its body and attributes, generously


def record(message: dict[str, Any], mapping: Mapping) -> dict[str, Any]:
    """One element of Records."""
    made = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes", {}),
        "messageAttributes": {name: _attribute(value) for name, value in message.get("MessageAttributes", {}).items()},
        "md5OfBody": message.get("MD5OfBody", ""),
        "eventSource": "aws:sqs",
        "eventSourceARN": mapping.source_arn,
        "awsRegion": mapping.source_arn.split(":")[3],
    }
    if message.get("MD5OfMessageAttributes"):
        made["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
    return made


def size_of(message: dict[str, Any]) -> int:
    """About how many bytes a received message takes in an event."""
    attributes = message.get("MessageAttributes", {})
    return OVERHEAD + len(message["Body"].encode()) + sum(len(str(value)) for value in attributes.values())


def batch(records: list[dict[str, Any]], most: int, octets: int) -> Iterator[list[dict[str, Any]]]:
    """Cut records, in their order, into batches of at most so many records and so many bytes; one at least in each."""
    current: list[dict[str, Any]] = []
    size = 0
    for each in records:
        needed = OVERHEAD + len(each["body"].encode()) + len(str(each["messageAttributes"]))
        if current and (len(current) == most or size + needed > octets):
            yield current
            current, size = [], 0
        current.append(each)
        size += needed
    if current:
        yield current


def _attribute(value: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if "StringValue" in value:
        shown["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        shown["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    return {**shown, "stringListValues": [], "binaryListValues": [], "dataType": value.get("DataType", "String")}
