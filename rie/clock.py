"""The time, as something that is passed in, and the spellings of it that the Lambda API uses."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time; a test passes one that it moves by hand."""

    def now(self) -> datetime:
        """The instant, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""


class SystemClock:
    """This machine's clock."""

    def now(self) -> datetime:
        """The instant, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        return time.monotonic()


class ManualClock:
    """A clock that stands still until `advance` is called; for tests."""

    def __init__(self, start: datetime = datetime(2025, 11, 25, 2, 26, 54, 123456, tzinfo=UTC)) -> None:
        self._start = self._now = start

    def now(self) -> datetime:
        """The instant, aware, in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return (self._now - self._start).total_seconds()

    def advance(self, seconds: float) -> None:
        """Move on."""
        self._now += timedelta(seconds=seconds)


def with_milliseconds(instant: datetime) -> str:
    """`2025-11-25T02:26:54.123+0000`, as functions and layers have it (lambda.md §0.1)."""
    utc = instant.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}+0000"


def with_seconds(instant: datetime) -> str:
    """`2025-11-25T02:42:49+0000`, as provisioned concurrency has it (lambda.md §0.1)."""
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%S}+0000"


def with_fraction(instant: datetime) -> str:
    """`2025-11-25T02:43:27.123456000Z`, as function URLs and code signing have it (lambda.md §0.1)."""
    utc = instant.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond:06d}000Z"


def iso_milliseconds(at: float) -> str:
    """Epoch seconds as `2025-11-25T22:18:25.568Z`, as records of events have it (lambda.md §5.4, §6.6)."""
    utc = datetime.fromtimestamp(at, UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"
