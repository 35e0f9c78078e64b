"""The seam to streams: what a stream poller needs to know of Kinesis and of DynamoDB streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard; `parents` must be worked off before it."""

    shard_id: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """One record: `event` as the function sees it, `seen` as filters do, `arrived_at` in epoch seconds."""

    sequence: str
    key: str
    arrived_at: float
    event: dict[str, Any]
    seen: dict[str, Any]
    size: int


class ShardSource(Protocol):
    """Every method blocks and may be called from any thread; botocore's errors pass through."""

    @property
    def idle_s(self) -> float:
        """Seconds between two reads of a shard that has nothing."""

    @property
    def batch_info(self) -> str:
        """Under which name failure records have their batch."""

    @property
    def payload(self) -> str | None:
        """Which member of a record filters read as JSON."""

    def shards(self) -> list[Shard]:
        """Those there are, and have been within the stream's retention."""

    def iterator(self, shard: str, *, after: str | None, position: str, at: float | None) -> str:
        """Where reading goes on: after a sequence number, else at a position (TRIM_HORIZON, LATEST, AT_TIMESTAMP)."""

    def read(self, shard: str, iterator: str, most: int) -> tuple[Sequence[StreamRecord], str | None]:
        """(records, the next iterator; None at the end of a closed shard)."""

    def instant(self, at: float) -> str:
        """An instant as this service's failure records spell it."""
