"""Event source mappings as they are stored, and how far their pollers have come."""

from __future__ import annotations

from collections.abc import Mapping as Dict
from dataclasses import dataclass, field

from rie.model.function import FunctionKey
from rie.model.record import Kind, Place

SETTLED = ("Enabled", "Disabled")


@dataclass(frozen=True, slots=True)
class Mapping:
    """One event source mapping (lambda.md §6.1).

    `function_arn` is as the API shows it, with the qualifier that was given; `key` and `qualifier` what it means.
    `service` is "sqs", "kinesis", "dynamodb", or what can be kept but not polled ("kafka", "mq" …). `state` as the API
    spells it; `is_enabled` what the user wants. Instants are epoch seconds. `more` is JSON text of the members that are
    only kept and shown, by their names in the API.
    """

    uuid: str
    key: FunctionKey
    qualifier: str | None
    function_arn: str
    service: str
    source_arn: str
    modified_at: float
    state: str = "Creating"
    state_reason: str = ""
    is_enabled: bool = True
    batch_size: int = 10
    window_s: int = 0
    filters: tuple[str, ...] = ()
    reports_failures: bool = False
    max_concurrency: int | None = None
    starting_position: str | None = None
    starting_at: float | None = None
    parallelization: int = 1
    does_bisect: bool = False
    max_age_s: int = -1
    max_retries: int = -1
    tumbling_window_s: int = 0
    on_failure: str | None = None
    tags: Dict[str, str] = field(default_factory=dict)
    more: str = "{}"

    @property
    def arn(self) -> str:
        """The mapping's own ARN."""
        return f"arn:aws:lambda:{self.key.region}:{self.key.account}:event-source-mapping:{self.uuid}"

    @property
    def is_fifo(self) -> bool:
        """Whether its queue keeps an order."""
        return self.service == "sqs" and self.source_arn.endswith(".fifo")

    @property
    def place(self) -> Place:
        """Where it is stored: beside its function, because it outlives it."""
        return Place(self.key.account, self.key.region, "", self.uuid)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far one shard has been worked off: after `sequence` ("" for nothing yet), to its end if `is_done`.

    `begun_at` is when a shard was first read at LATEST, in epoch seconds: without a sequence it goes on from there.
    `state` is the JSON text of an open tumbling window's state, `window_end` its end.
    """

    sequence: str = ""
    is_done: bool = False
    begun_at: float | None = None
    state: str | None = None
    window_end: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """LastProcessingResult."""

    text: str


MAPPINGS = Kind("mapping", Mapping)
CHECKPOINTS = Kind("checkpoint", Checkpoint)
"""Placed beside their mapping, named "<uuid>/<shard>"."""
RESULTS = Kind("mapping-result", Result)
"""Placed and named as their mapping."""
