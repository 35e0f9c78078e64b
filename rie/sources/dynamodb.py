"""DynamoDB streams as shards (lambda.md §6.6)."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rie.model.mapping import Mapping
from rie.sources.shard_source import Shard, StreamRecord


class DynamoDbShards:
    """Implements `ShardSource`."""

    idle_s = 0.25
    batch_info = "DDBStreamBatchInfo"
    payload = None

    def __init__(self, client: Any, mapping: Mapping) -> None:
        self._client = client
        self._mapping = mapping

    def shards(self) -> list[Shard]:
        """See `ShardSource`."""
        found = []
        call: dict[str, Any] = {"StreamArn": self._mapping.source_arn}
        while True:
            told = self._client.describe_stream(**call)["StreamDescription"]
            for shard in told["Shards"]:
                parent = shard.get("ParentShardId")
                found.append(Shard(shard["ShardId"], (parent,) if parent else ()))
            if not told.get("LastEvaluatedShardId"):
                return found
            call["ExclusiveStartShardId"] = told["LastEvaluatedShardId"]

    def iterator(self, shard: str, *, after: str | None, position: str, at: float | None) -> str:
        """See `ShardSource`."""
        call: dict[str, Any] = {"StreamArn": self._mapping.source_arn, "ShardId": shard}
        if after:
            call |= {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": after}
        else:
            # DynamoDB knows no instants: reading begins at the oldest, and the reader skips what came before.
            call["ShardIteratorType"] = "TRIM_HORIZON" if position == "AT_TIMESTAMP" else position
        return str(self._client.get_shard_iterator(**call)["ShardIterator"])

    def read(self, shard: str, iterator: str, most: int) -> tuple[Sequence[StreamRecord], str | None]:
        """See `ShardSource`."""
        answer = self._client.get_records(ShardIterator=iterator, Limit=min(most, 1_000))
        return [self._record(each) for each in answer["Records"]], answer.get("NextShardIterator")

    def instant(self, at: float) -> str:
        """`2022-07-13T13:48:01Z`"""
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S}Z"

    def _record(self, given: dict[str, Any]) -> StreamRecord:
        told = _plain(given["dynamodb"])
        event = {
            "eventID": given["eventID"],
            "eventName": given["eventName"],
            "eventVersion": "1.1",  # the service's, whatever version compatible endpoints say they are at
            "eventSource": "aws:dynamodb",
            "awsRegion": given.get("awsRegion", self._mapping.source_arn.split(":")[3]),
            "dynamodb": told,
            "eventSourceARN": self._mapping.source_arn,
        }
        identity = given.get("userIdentity")
        if identity:
            event["userIdentity"] = {"type": identity.get("Type"), "principalId": identity.get("PrincipalId")}
        made_at = given["dynamodb"].get("ApproximateCreationDateTime")
        return StreamRecord(
            sequence=told["SequenceNumber"],
            key=json.dumps(told.get("Keys", {}), sort_keys=True),
            arrived_at=made_at.timestamp() if isinstance(made_at, datetime) else float(made_at or 0),
            event=event,
            seen=event,
            size=int(told.get("SizeBytes", 0)) * 2 + 1_024,
        )


def _plain(value: Any) -> Any:
    """boto3's values as JSON has them: instants in whole seconds, as the service has them, bytes in base64."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | set | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return int(value.timestamp())
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(bytes(value)).decode()
    return value
