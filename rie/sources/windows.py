"""Tumbling windows over a shard: which window a record is in, and the state that its invocations hand on (§6.6)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rie.model.invocation import Outcome
from rie.model.mapping import Checkpoint, Mapping
from rie.sources.shard_source import StreamRecord

MAX_STATE = 1_048_576  # bytes, AWS limit


@dataclass(frozen=True, slots=True)
class Window:
    """An open window; instants are epoch seconds, `state` any JSON value."""

    start: float
    end: float
    state: Any


def window_of(at: float, width_s: int, state: Any = None) -> Window:
    """The window that an instant lies in."""
    start = at - at % width_s
    return Window(start, start + width_s, {} if state is None else state)


def opened(checkpoint: Checkpoint, width_s: int) -> Window | None:
    """The window that a checkpoint left open."""
    if checkpoint.window_end is None or not width_s:
        return None
    end = checkpoint.window_end
    return Window(end - width_s, end, json.loads(checkpoint.state or "{}"))


def leading(records: Sequence[StreamRecord], window: Window) -> int:
    """How many of the first records belong to the window."""
    for number, each in enumerate(records):
        if each.arrived_at >= window.end:
            return number
    return len(records)


def members(window: Window, mapping: Mapping, shard: str, *, is_final: bool, is_early: bool = False) -> dict[str, Any]:
    """What an event has besides its records."""
    return {
        "window": {"start": _instant(window.start), "end": _instant(window.end)},
        "state": window.state,
        "shardId": shard,
        "eventSourceARN": mapping.source_arn,
        "isFinalInvokeForWindow": is_final,
        "isWindowTerminatedEarly": is_early,
    }


def state_of(outcome: Outcome) -> Any:
    """The state that a function handed back; None where it did not, which is a failure."""
    try:
        answer = json.loads(outcome.payload)
    except ValueError:
        return None
    return answer.get("state") if isinstance(answer, dict) else None


def is_too_large(state: Any) -> bool:
    """Whether a state ends its window early."""
    return len(json.dumps(state).encode()) > MAX_STATE


def _instant(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S}Z"
