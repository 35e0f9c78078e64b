"""Kinesis data streams as shards (lambda.md §6.6)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rie.clock import iso_milliseconds
from rie.model.mapping import Mapping
from rie.sources.shard_source import Shard, StreamRecord


class KinesisShards:
    """Implements `ShardSource`; a consumer's ARN reads its stream."""

    idle_s = 1.0
    batch_info = "KinesisBatchInfo"
    payload = "data"

    def __init__(self, client: Any, mapping: Mapping, role: str) -> None:
        self._client = client
        self._mapping = mapping
        self._role = role
        self._stream_arn = mapping.source_arn.partition("/consumer/")[0]

    def shards(self) -> list[Shard]:
        """See `ShardSource`."""
        found = []
        for page in self._client.get_paginator("list_shards").paginate(StreamARN=self._stream_arn):
            for shard in page["Shards"]:
                parents = (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
                found.append(Shard(shard["ShardId"], tuple(each for each in parents if each)))
        return found

    def iterator(self, shard: str, *, after: str | None, position: str, at: float | None) -> str:
        """See `ShardSource`."""
        call: dict[str, Any] = {"StreamARN": self._stream_arn, "ShardId": shard}
        if after:
            call |= {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after}
        elif position == "AT_TIMESTAMP" and at is not None:
            call |= {"ShardIteratorType": position, "Timestamp": datetime.fromtimestamp(at, UTC)}
        else:
            call["ShardIteratorType"] = position
        return str(self._client.get_shard_iterator(**call)["ShardIterator"])

    def read(self, shard: str, iterator: str, most: int) -> tuple[Sequence[StreamRecord], str | None]:
        """See `ShardSource`."""
        answer = self._client.get_records(ShardIterator=iterator, Limit=most, StreamARN=self._stream_arn)
        return [self._record(shard, each) for each in answer["Records"]], answer.get("NextShardIterator")

    def instant(self, at: float) -> str:
        """`2022-07-13T13:48:01.000Z`"""
        return iso_milliseconds(at)

    def _record(self, shard: str, given: dict[str, Any]) -> StreamRecord:
        arrived_at = given["ApproximateArrivalTimestamp"].timestamp()
        told = {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": given["PartitionKey"],
            "sequenceNumber": given["SequenceNumber"],
            "data": base64.b64encode(given["Data"]).decode(),
            "approximateArrivalTimestamp": arrived_at,
        }
        event = {
            "kinesis": told,
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{shard}:{given['SequenceNumber']}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": self._role,
            "awsRegion": self._mapping.source_arn.split(":")[3],
            "eventSourceARN": self._mapping.source_arn,
        }
        text = given["Data"].decode("utf-8", "replace")
        return StreamRecord(
            sequence=given["SequenceNumber"],
            key=given["PartitionKey"],
            arrived_at=arrived_at,
            event=event,
            seen={**told, "data": text},
            size=len(told["data"]) + 1_024,
        )
