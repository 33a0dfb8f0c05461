"""The server's numbers in Prometheus' format; no label of them names a person, a visit, a file or an address."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

Gauges = Mapping[str, tuple[str, Callable[[], float]]]
"""Name -> what it is, and how it is read."""

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Counts what ends, and reads the rest when it is asked.

    Args:
        gauges: numbers that are read each time.
    """

    def __init__(self, gauges: Gauges) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_Gauges(gauges))
        self._work = Counter(
            "a3tune_work",
            "Work that has ended, by its kind and how it ended",
            ["kind", "outcome"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "a3tune_work_seconds",
            "How long work took that was done",
            ["kind"],
            buckets=_SECONDS,
            registry=self._registry,
        )

    def count(self, kind: str, outcome: str, seconds: float) -> None:
        """Take note of work that has ended.

        Args:
            kind: what it was, one of a few words.
            outcome: "done", or why it was not.
            seconds: how long it took.
        """
        self._work.labels(kind, outcome).inc()
        if outcome == "done":
            self._seconds.labels(kind).observe(seconds)

    def text(self) -> tuple[bytes, str]:
        """All numbers, and the content type of that text."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _Gauges(Collector):
    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return [GaugeMetricFamily(f"a3tune_{name}", words) for name, (words, _) in self._gauges.items()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for name, (words, read) in self._gauges.items():
            yield GaugeMetricFamily(f"a3tune_{name}", words, value=read())
