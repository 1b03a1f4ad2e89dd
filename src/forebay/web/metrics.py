"""Numbers for Prometheus: what the door counts itself, and the service's statistics."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from forebay.views import Statistics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(Collector):
    """The counters of one application, in a registry of their own.

    A registry of its own lets two applications live in one process, as tests do.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._responses: dict[int, int] = {}
        self.clients_left = Counter(
            "forebay_clients_left", "Clients that left before the end.", registry=self.registry
        )
        self.responses_cut = Counter(
            "forebay_responses_cut",
            "Responses broken off after their head because the body could not be finished.",
            registry=self.registry,
        )
        self.faults = Counter(
            "forebay_faults", "Exceptions that nobody foresaw.", registry=self.registry
        )
        self.running = Gauge(
            "forebay_http_requests_running", "Requests being answered.", registry=self.registry
        )
        self._statistics: Statistics | None = None
        self.registry.register(self)

    def count_response(self, status: int) -> None:
        """One response head was sent with this status."""
        # A plain count, because a labelled counter of the library costs what a hit may cost.
        self._responses[status] = self._responses.get(status, 0) + 1

    def render(self, statistics: Statistics) -> bytes:
        """The exposition text with the service's statistics of this moment."""
        self._statistics = statistics
        return generate_latest(self.registry)

    def collect(self) -> Iterable[Metric]:
        """Our counts and the service's statistics as metric families (called by the registry)."""
        responses = CounterMetricFamily(
            "forebay_http_responses", "Responses by status.", labels=["status"]
        )
        for status, count in sorted(self._responses.items()):
            responses.add_metric([str(status)], count)
        yield responses
        statistics = self._statistics
        if statistics is None:
            return
        requests = CounterMetricFamily(
            "forebay_requests", "Replies by cache outcome.", labels=["outcome"]
        )
        for outcome, count in sorted(statistics.requests.items()):
            requests.add_metric([outcome], count)
        yield requests
        for name, text, value in _counters(statistics):
            yield CounterMetricFamily(name, text, value=value)
        for name, text, value in _gauges(statistics):
            yield GaugeMetricFamily(name, text, value=value)
        version = GaugeMetricFamily("forebay_build_info", "Always 1.", labels=["version"])
        version.add_metric([statistics.version], 1)
        yield version


def _counters(statistics: Statistics) -> list[tuple[str, str, float]]:
    return [
        ("forebay_served_bytes", "Body bytes sent to clients.", statistics.served_bytes),
        ("forebay_upstream_bytes", "Body bytes fetched.", statistics.upstream_bytes),
        ("forebay_evicted_objects", "Objects evicted for room.", statistics.evicted_objects),
    ]


def _gauges(statistics: Statistics) -> list[tuple[str, str, float]]:
    gauges: list[tuple[str, str, float]] = [
        ("forebay_saved_bytes", "Bytes that upstream was spared.", statistics.saved_bytes),
        ("forebay_store_objects", "Stored objects.", statistics.objects),
        ("forebay_store_size_bytes", "Bytes on disk.", statistics.size_bytes),
        ("forebay_store_free_bytes", "Bytes free on the disk.", statistics.free_bytes),
        ("forebay_store_healthy", "1 unless the disk refuses work.", statistics.healthy),
        ("forebay_running_transfers", "Transfers at work.", statistics.running_transfers),
        ("forebay_uptime_seconds", "Seconds since start.", statistics.uptime_seconds),
    ]
    if statistics.limit_bytes is not None:
        gauges.append(("forebay_store_limit_bytes", "Most bytes on disk.", statistics.limit_bytes))
    return gauges
