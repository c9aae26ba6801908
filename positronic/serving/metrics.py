"""What is counted, for Prometheus: the worker counts its forward passes, the API process everything else.

The worker sends what it has counted with each sign of life, about once a second, so that asking for metrics disturbs
nobody and is answered during a forward pass too. Counting an event costs about a microsecond. After the worker was
started anew its counts begin at zero, as Prometheus expects of a process that was started again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from positronic.serving.recorder import SECONDS, SIZES, WorkerState

PREFIX = "positronic"
INFINITE = "+Inf"
CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

prometheus_client.disable_created_metrics()  # a time for each series, which few read


class Metrics:
    """What the API process counts, and what the worker has last told."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._worker: WorkerState | None = None
        self._losses = 0
        self.sessions = self._gauge("sessions", "Open sessions.")
        self.opened = self._counter("sessions_opened", "Sessions that became ready.", "checkpoint")
        self.refused = self._counter("sessions_refused", "Sessions that were refused, and why.", "why")
        self.failed = self._counter("errors", "Observations that were answered with an error.", "checkpoint")
        self.answered = Histogram(
            f"{PREFIX}_answer_seconds",
            "From an observation's turn until its answer was sent.",
            ["checkpoint"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._registry.register(self)

    def text(self, worker: WorkerState | None, losses: int) -> bytes:
        """In Prometheus's text format. ``worker``: its last state, None if there is none at the moment. ``losses``: how
        often it died or hung."""
        self._worker, self._losses = worker, losses
        return prometheus_client.generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The worker's part. Prometheus's own registry calls this."""
        state = self._worker
        yield CounterMetricFamily(f"{PREFIX}_worker_losses", "How often the worker died or hung.", self._losses)
        yield GaugeMetricFamily(f"{PREFIX}_worker_up", "Whether the inference worker answers.", state is not None)
        if state is None:
            return
        yield GaugeMetricFamily(f"{PREFIX}_queue_depth", "Observations without a forward pass yet.", state.queued)
        yield _histogram("batch_size", "Observations in a forward pass.", SIZES, state.batches, state.batches_sum)
        yield _histogram("forward_seconds", "How long a forward pass took.", SECONDS, state.seconds, state.seconds_sum)
        loads = CounterMetricFamily(f"{PREFIX}_loads", "Checkpoints that were loaded, or could not be.", labels=["how"])
        loads.add_metric(["loaded"], state.store.loaded)
        loads.add_metric(["failed"], state.store.failed)
        yield loads
        yield CounterMetricFamily(f"{PREFIX}_evictions", "Checkpoints that made room for others.", state.store.evicted)
        yield GaugeMetricFamily(f"{PREFIX}_checkpoints_in_memory", "Checkpoints in memory.", state.store.in_memory)
        yield GaugeMetricFamily(f"{PREFIX}_checkpoints_bytes", "Memory that they take.", state.store.bytes_in_memory)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", meaning, registry=self._registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", meaning, labels, registry=self._registry)


def _histogram(
    name: str, meaning: str, bounds: tuple[float, ...], counts: list[int], total: float
) -> HistogramMetricFamily:
    edges = [*(prometheus_client.utils.floatToGoString(bound) for bound in bounds), INFINITE]
    buckets: list[Any] = list(zip(edges, accumulate(counts), strict=True))
    return HistogramMetricFamily(f"{PREFIX}_{name}", meaning, buckets=buckets, sum_value=total)
