"""What becomes of an event after an attempt, or instead of one; pure (lambda.md §5.2)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from rie.model.event import DEFAULT_ATTEMPTS, DEFAULT_MAX_AGE_S, Event, EventInvokeConfig

RETRY_AFTER_S = (60.0, 120.0)  # AWS: before the second attempt, and before the third
BACKOFF_FIRST_S = 1.0  # AWS: throttles and system errors are tried again after 1 s …
BACKOFF_LONGEST_S = 300.0  # … doubling up to 5 min


class Condition(Enum):
    """How an event ended, as its record says."""

    SUCCESS = "Success"
    RETRIES_EXHAUSTED = "RetriesExhausted"
    AGE_EXCEEDED = "EventAgeExceeded"
    ZERO_CONCURRENCY = "ZeroReservedConcurrency"


@dataclass(frozen=True, slots=True)
class Later:
    """Try again then."""

    due_at: float


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more is tried."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits of one event: from its function's configuration, delays scaled for people who don't want to wait."""

    max_retries: int = DEFAULT_ATTEMPTS
    max_age_s: float = DEFAULT_MAX_AGE_S
    delay_scale: float = 1.0

    @classmethod
    def of(cls, config: EventInvokeConfig | None, delay_scale: float) -> Rules:
        """The rules that a configuration sets; the service's own where it says nothing."""
        retries = DEFAULT_ATTEMPTS if config is None or config.max_retries is None else config.max_retries
        age_s = DEFAULT_MAX_AGE_S if config is None or config.max_age_s is None else config.max_age_s
        return cls(retries, age_s * delay_scale, delay_scale)


def before_attempt(event: Event, rules: Rules, now: float) -> End | None:
    """The end of an event that is too old to be run, None to run it."""
    if now - event.accepted_at > rules.max_age_s:
        return End(Condition.AGE_EXCEEDED)
    return None


def after_error(event: Event, rules: Rules, now: float) -> Later | End:
    """The function failed; `event.attempts` counts that attempt.

    An event whose next attempt would come too late ends now, not then.
    """
    if event.attempts > rules.max_retries:
        return End(Condition.RETRIES_EXHAUSTED)
    wait_s = RETRY_AFTER_S[min(event.attempts, len(RETRY_AFTER_S)) - 1] * rules.delay_scale
    return _unless_too_late(event, rules, now + wait_s)


def after_refusal(event: Event, rules: Rules, now: float, refusals: int) -> Later | End:
    """The function was not run: a throttle, or a fault of this machine, the `refusals`th in a row (from 1)."""
    wait_s = min(BACKOFF_FIRST_S * 2.0 ** min(refusals - 1, 30), BACKOFF_LONGEST_S) * rules.delay_scale
    return _unless_too_late(event, rules, now + wait_s)


def _unless_too_late(event: Event, rules: Rules, due_at: float) -> Later | End:
    if due_at - event.accepted_at > rules.max_age_s:
        return End(Condition.AGE_EXCEEDED)
    return Later(due_at)
