"""How many invocations of a function there were lately, and how long they took."""

from __future__ import annotations

WINDOW_S = 60


class Traffic:
    """Counts by the second, over the last minute. Instants are monotonic seconds."""

    __slots__ = ("_began_at", "_buckets")

    def __init__(self) -> None:
        self._began_at = 0.0
        self._buckets: list[list[float]] = []  # of a second: which one, how many ended in it, their durations' sum

    def note(self, now: float, duration_s: float) -> None:
        """An invocation has ended."""
        if not self._buckets:
            self._began_at = now - duration_s
            self._buckets = [[-1.0, 0, 0.0] for _ in range(WINDOW_S)]
        second = int(now)
        bucket = self._buckets[second % WINDOW_S]
        if bucket[0] != second:
            bucket[:] = (second, 0, 0.0)
        bucket[1] += 1
        bucket[2] += duration_s

    def rate(self, now: float) -> tuple[float, float]:
        """(requests per second, mean duration in seconds) over the last minute, or since the first if that is less.

        Their product is the concurrency that the function needed on average (lambda.md §7.1).
        """
        recent = [bucket for bucket in self._buckets if now - WINDOW_S < bucket[0]]
        count = sum(bucket[1] for bucket in recent)
        if not count:
            return 0.0, 0.0
        span_s = min(float(WINDOW_S), max(now - self._began_at, 1.0))
        return count / span_s, sum(bucket[2] for bucket in recent) / count
