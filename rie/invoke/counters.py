"""What each function's invocations have come to since the start: plain counters, owned by the event loop."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from rie.model.function import FunctionKey
from rie.model.invocation import Outcome

# Upper bounds of the durations that are counted together, in ms; one more takes the rest.
BUCKETS_MS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000)


class FunctionCounters:
    """Of one function (service specification §11.7): `invocations` are those that ran, `errors` those among them that
    ended with one of the function's, `throttles` those that did not run; `buckets` has one count more than BUCKETS_MS.
    """

    __slots__ = ("billed_ms", "buckets", "cold_starts", "duration_ms", "errors", "invocations", "throttles")

    def __init__(self) -> None:
        self.invocations = 0
        self.errors = 0
        self.cold_starts = 0
        self.duration_ms = 0.0
        self.billed_ms = 0
        self.throttles: Counter[str] = Counter()  # by reason
        self.buckets = [0] * (len(BUCKETS_MS) + 1)

    def ran(self, outcome: Outcome) -> None:
        """An invocation has ended, well or with an error."""
        self.invocations += 1
        self.errors += outcome.function_error is not None
        self.cold_starts += outcome.init_ms is not None
        self.duration_ms += outcome.duration_ms
        self.billed_ms += outcome.billed_ms
        self.buckets[bisect_left(BUCKETS_MS, outcome.duration_ms)] += 1

    def throttled(self, reason: str) -> None:
        """One was refused; `reason` is the service's."""
        self.throttles[reason] += 1


class Counters:
    """Of all functions."""

    def __init__(self) -> None:
        self._functions: dict[FunctionKey, FunctionCounters] = {}

    def __iter__(self) -> Iterator[tuple[FunctionKey, FunctionCounters]]:
        return iter(self._functions.items())

    def of(self, key: FunctionKey) -> FunctionCounters:
        """Those of one function, which begin with the first question."""
        found = self._functions.get(key)
        if found is None:
            found = self._functions[key] = FunctionCounters()
        return found

    def forget(self, key: FunctionKey) -> None:
        """It is gone."""
        self._functions.pop(key, None)
