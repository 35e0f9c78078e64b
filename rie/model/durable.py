"""Durable executions: what is asked of them, and their records as they are stored (lambda.md §13.1)."""

from __future__ import annotations

from dataclasses import dataclass

from rie.model.function import FunctionKey

RUNNING = "RUNNING"
PAUSING = "PAUSING"
PAUSED = "PAUSED"
OPEN = (RUNNING, PAUSING, PAUSED)
"""Statuses of executions that have not ended."""
LONGEST_S = 31_622_400
"""After so long, 366 days, an execution times out however long it was held; AWS limit."""
CONTEXT = "CONTEXT"
EXECUTION = "EXECUTION"
ENDED = frozenset(("SUCCEEDED", "FAILED", "CANCELLED", "TIMED_OUT", "STOPPED"))
"""Statuses of operations that nothing changes any more."""


@dataclass(frozen=True, slots=True)
class Fault:
    """ErrorObject of the service model; None where a member was not given."""

    message: str | None = None
    type: str | None = None
    data: str | None = None
    trace: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of an execution; instants are epoch seconds.

    `touched` is the execution's count of changes when it changed last. `payload` is what it was started with
    (EXECUTION, CHAINED_INVOKE), `due_at` when a WAIT ends or a STEP that is PENDING may be tried again, `timeout_at`
    and `heartbeat_at` when a CALLBACK gives up; `target` and `tenant_id` what a CHAINED_INVOKE calls.
    """

    operation_id: str
    type: str
    status: str
    started_at: float
    touched: int
    ended_at: float | None = None
    parent_id: str | None = None
    name: str | None = None
    sub_type: str | None = None
    payload: str | None = None
    result: str | None = None
    error: Fault | None = None
    attempt: int = 0
    due_at: float | None = None
    replays_children: bool = False
    callback_id: str | None = None
    timeout_at: float | None = None
    heartbeat_s: int = 0
    heartbeat_at: float | None = None
    target: str | None = None
    tenant_id: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing changes it any more."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class Replay:
    """The newest checkpoint, to be answered again when its caller asks again (15 minutes)."""

    client_token: str
    token: str
    next_token: str
    operation_ids: tuple[str, ...]
    at: float


@dataclass(frozen=True, slots=True)
class Parent:
    """The chained invocation that an execution was started by."""

    execution_id: str
    operation_id: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Why an execution is held, and since when, None while its invocation still runs.

    `stops_timeout`: the time that it is held for is not counted.
    """

    asked_at: float
    reason: str | None
    stops_timeout: bool
    began_at: float | None = None


@dataclass(frozen=True, slots=True)
class Control:
    """A request to hold an execution or to let it go on; `client_token` "" for none."""

    verb: str
    client_token: str
    at: float


@dataclass(frozen=True, slots=True)
class Execution:
    """One durable execution; instants are epoch seconds, `payload` and `result` JSON texts.

    `touched` counts changes of operations, `seen` is the count that the function knows. `sequence` numbers checkpoint
    tokens; `invocation_id` names the invocation that is running, "" for none. `failures` counts invocations that failed
    one after the other; `retry_at` is when the next one may be. `updated` are the operations that ended since the
    function last ran. `events` is the number of the newest event of the history. `paused_s` is how long it was held
    in all, as far as that is not counted.
    """

    execution_id: str
    key: FunctionKey
    version: str
    name: str
    payload: str
    started_at: float
    timeout_s: int
    retention_days: int
    trace_id: str = ""
    tenant_id: str = ""
    status: str = RUNNING
    ended_at: float | None = None
    result: str | None = None
    error: Fault | None = None
    touched: int = 0
    seen: int = 0
    sequence: int = 0
    invocation_id: str = ""
    failures: int = 0
    retry_at: float | None = None
    updated: tuple[str, ...] = ()
    events: int = 0
    newest: Replay | None = None
    parent: Parent | None = None
    pause: Pause | None = None
    paused_s: float = 0.0
    controls: tuple[Control, ...] = ()

    @property
    def times_out_at(self) -> float:
        """When it is over, as things stand."""
        last = self.started_at + LONGEST_S
        if self.pause is not None and self.pause.stops_timeout and self.pause.began_at is not None:
            return last
        return min(last, self.started_at + self.timeout_s + self.paused_s)

    @property
    def arn(self) -> str:
        """DurableExecutionArn."""
        return f"{self.function_arn}/durable-execution/{self.name}/{self.execution_id}"

    @property
    def function_arn(self) -> str:
        """That of the version that it runs."""
        return f"{self.key.arn}:{self.version}"

    @property
    def is_closed(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.status not in OPEN


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One event of an execution's history; `details` is the JSON text of its <EventType>Details."""

    number: int
    type: str
    at: float
    details: str
    operation_id: str | None = None
    parent_id: str | None = None
    name: str | None = None
    sub_type: str | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """One element of CheckpointDurableExecution's Updates."""

    operation_id: str
    type: str
    action: str
    parent_id: str | None = None
    name: str | None = None
    sub_type: str | None = None
    payload: str | None = None
    error: Fault | None = None
    replays_children: bool = False
    delay_s: int | None = None
    wait_s: int | None = None
    timeout_s: int = 0
    heartbeat_s: int = 0
    target: str | None = None
    tenant_id: str | None = None
