"""GET /_rie/metrics: what the manager counts, in the text format of Prometheus (service specification §11.7)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from rie.environments.lifecycle import State
from rie.environments.pool import Pool
from rie.events.assembly import AsyncInvocations
from rie.invoke.counters import BUCKETS_MS, Counters
from rie.model.function import FunctionKey

CONTENT_TYPE = CONTENT_TYPE_LATEST
FUNCTION = ("function", "region", "account")


class Metrics:
    """Reads counters that others keep, when it is asked. On the event loop."""

    def __init__(
        self, counters: Counters, pool: Pool, events: AsyncInvocations, undelivered: Callable[[], int]
    ) -> None:
        """`undelivered`: bytes of logs that wait for CloudWatch Logs."""
        self._counters = counters
        self._pool = pool
        self._events = events
        self._undelivered = undelivered

    async def render(self) -> bytes:
        """The whole document; only reading the counters holds up the event loop."""
        return await asyncio.to_thread(_rendered, list(self._collect()))

    def _collect(self) -> Iterator[Metric]:
        yield from self._of_functions()
        yield from self._of_environments()
        yield from self._of_events()
        yield _gauge("rie_logs_undelivered_bytes", "Log lines that wait for CloudWatch Logs.", self._undelivered())

    def _of_functions(self) -> Iterator[Metric]:
        invocations = _counter("rie_invocations", "Invocations that ran.")
        errors = _counter("rie_errors", "Invocations that ended with an error of the function's, timeouts included.")
        cold = _counter("rie_cold_starts", "Invocations that waited for an environment's init.")
        billed = _counter("rie_billed_milliseconds", "Billed duration.")
        throttles = CounterMetricFamily(
            "rie_throttles", "Invocations that were refused for want of concurrency.", labels=(*FUNCTION, "reason")
        )
        duration = HistogramMetricFamily("rie_duration_milliseconds", "Duration of invocations.", labels=FUNCTION)
        for key, counters in self._counters:
            labels = _labels(key)
            invocations.add_metric(labels, counters.invocations)
            errors.add_metric(labels, counters.errors)
            cold.add_metric(labels, counters.cold_starts)
            billed.add_metric(labels, counters.billed_ms)
            for reason, count in counters.throttles.items():
                throttles.add_metric([*labels, reason], count)
            below, buckets = 0, []
            for bound, count in zip([*map(str, BUCKETS_MS), "+Inf"], counters.buckets, strict=True):
                below += count
                buckets.append((bound, below))
            duration.add_metric(labels, buckets, counters.duration_ms)
        yield from (invocations, errors, cold, billed, throttles, duration)

    def _of_environments(self) -> Iterator[Metric]:
        running: Tally[FunctionKey] = Tally()
        states: Tally[tuple[FunctionKey, str]] = Tally()
        for environment in self._pool:
            key = environment.function.key
            states[key, environment.state.value] += 1
            running[key] += environment.state is not State.IDLE
        yield _gauge("rie_account_concurrent_executions", "Invocations that run now.", self._pool.busy)
        concurrent = GaugeMetricFamily("rie_concurrent_executions", "Invocations that run now.", labels=FUNCTION)
        for key, count in running.items():
            concurrent.add_metric(_labels(key), count)
        environments = GaugeMetricFamily("rie_environments", "Execution environments.", labels=(*FUNCTION, "state"))
        for (key, state), count in states.items():
            environments.add_metric([*_labels(key), state], count)
        yield from (concurrent, environments)

    def _of_events(self) -> Iterator[Metric]:
        queue = self._events.queue
        received = _counter("rie_async_events_received", "Asynchronous events that were accepted.")
        dropped = _counter("rie_async_events_dropped", "Asynchronous events that never ran to a good end.")
        for family, tally in ((received, queue.received), (dropped, queue.dropped)):
            for key, count in tally.items():
                family.add_metric(_labels(key), count)
            yield family
        yield _gauge("rie_async_events_waiting", "Asynchronous events that wait or run.", len(queue))
        age_s = max(0.0, time.time() - queue.oldest_at) if queue.oldest_at is not None else 0.0
        yield _gauge("rie_async_event_age_seconds", "Age of the oldest of them.", age_s)
        destinations = _counter("rie_destination_delivery_failures", "Attempts to tell a destination that failed.")
        letters = _counter("rie_dead_letter_errors", "Attempts to write a dead letter that failed.")
        for (arn, is_dead_letter), count in self._events.deliverer.failures.items():
            (letters if is_dead_letter else destinations).add_metric(_labels(_key(arn)), count)
        yield from (destinations, letters)


class _Collected(Collector):
    """What the library renders: families that are there already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _rendered(families: list[Metric]) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Collected(families))
    return generate_latest(registry)


def _labels(key: FunctionKey) -> list[str]:
    return [key.name, key.region, key.account]


def _key(arn: str) -> FunctionKey:
    parts = arn.split(":")
    return FunctionKey(parts[4], parts[3], parts[6]) if len(parts) > 6 else FunctionKey("", "", arn)


def _counter(name: str, text: str) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=FUNCTION)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
