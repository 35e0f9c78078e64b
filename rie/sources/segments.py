"""What becomes of a batch of stream records after an attempt: repeated, halved, given up; pure (lambda.md §6.6)."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rie.model.mapping import Mapping
from rie.sources.shard_source import StreamRecord

FOR_EVER = -1


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive records that are tried together; `attempts` counts those that have ended."""

    records: tuple[StreamRecord, ...]
    attempts: int = 0
    error: str | None = None  # functionError of the last attempt; None also for a partial failure
    version: str | None = None  # that ran last; None before the first


@dataclass(frozen=True, slots=True)
class GiveUp:
    """These records are written off; `condition` says why."""

    segment: Segment
    condition: str


def expired(segment: Segment, mapping: Mapping, now: float) -> tuple[Segment | None, Segment | None]:
    """(the records too old to be tried, the others); None where there are none."""
    if mapping.max_age_s == FOR_EVER:
        return None, segment
    old = tuple(each for each in segment.records if now - each.arrived_at > mapping.max_age_s)
    if not old:
        return None, segment
    left = segment.records[len(old) :] if old == segment.records[: len(old)] else ()
    kept = replace(segment, records=left) if left else None
    return replace(segment, records=segment.records[: len(segment.records) - len(left)]), kept


def after_failure(
    segment: Segment, failed: Collection[str], mapping: Mapping
) -> tuple[tuple[StreamRecord, ...], list[Segment], GiveUp | None]:
    """(records that are done, segments to try next in order, what is written off instead).

    `failed` are the sequence numbers that were reported, all of them after an error; the lowest counts: what lies
    before it is done, and it is tried again with all that follows. `segment.attempts` includes this attempt.
    """
    first = next(number for number, each in enumerate(segment.records) if each.sequence in failed)
    done, rest = segment.records[:first], segment.records[first:]
    if mapping.does_bisect and len(rest) > 1:
        # The reported record is where to cut; an error says nothing of where, so in the middle.
        middle = len(rest) // 2
        if not done:
            spared = replace(segment, attempts=segment.attempts - 1)
            return done, [replace(spared, records=rest[:middle]), replace(spared, records=rest[middle:])], None
    if mapping.max_retries != FOR_EVER and segment.attempts > mapping.max_retries:
        return done, [], GiveUp(replace(segment, records=rest), "RetryAttemptsExhausted")
    return done, [replace(segment, records=rest)], None


def failure_record(
    given_up: GiveUp,
    *,
    function_arn: str,
    request_id: str,
    now: str,
    batch_info: str,
    batch: dict[str, Any],
) -> dict[str, Any]:
    """What an on-failure destination is told."""
    segment = given_up.segment
    record: dict[str, Any] = {
        "requestContext": {
            "requestId": request_id,
            "functionArn": function_arn,
            "condition": given_up.condition,
            "approximateInvokeCount": max(segment.attempts, 1),
        },
        "version": "1.0",
        "timestamp": now,
        batch_info: batch,
    }
    if given_up.condition == "RetryAttemptsExhausted":
        record["responseContext"] = {
            "statusCode": 200,
            "executedVersion": segment.version,
            "functionError": segment.error,
        }
    return record


def lanes(records: Sequence[StreamRecord], count: int) -> list[tuple[StreamRecord, ...]]:
    """Records in so many lanes, each key in one of them and in its order."""
    if count == 1:
        return [tuple(records)]
    made: list[list[StreamRecord]] = [[] for _ in range(count)]
    for each in records:
        made[_hash(each.key) % count].append(each)
    return [tuple(lane) for lane in made if lane]


def _hash(key: str) -> int:
    """The same in every process."""
    return zlib.crc32(key.encode())


def fitting(records: Sequence[StreamRecord], most: int, octets: int) -> int:
    """How many of the first records make a batch: at most `most`, at most so many bytes, one at least."""
    size = 0
    for number, each in enumerate(records[:most]):
        size += each.size
        if number and size > octets:
            return number
    return min(len(records), most)
