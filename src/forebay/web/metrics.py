"""Numbers for Prometheus: what the door counts itself, and the service's statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from forebay.views import Statistics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


COLLAPSED = "collapsed"
"""The key of ``Statistics.requests`` that is no outcome."""

_TOLD = {
    "clients_left": "Clients that left before the end.",
    "responses_cut": "Responses broken off after their head because the body could not be "
    "finished.",
    "faults": "Exceptions that nobody foresaw.",
}


class Count:
    """A number of one process. The library's own cost what a hit may cost, and cannot be asked."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self) -> None:
        """One more."""
        self.value += 1

    def dec(self) -> None:
        """One less."""
        self.value -= 1


class Metrics(Collector):
    """The counters of one application, in a registry of their own.

    A registry of its own lets two applications live in one process, as tests do.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._responses: dict[int, int] = {}
        self.clients_left = Count()
        self.responses_cut = Count()
        self.faults = Count()
        self.running = Count()
        self._elsewhere: Mapping[str, int] = {}
        self._statistics: Statistics | None = None
        self.registry.register(self)

    def count_response(self, status: int) -> None:
        """One response head was sent with this status."""
        self._responses[status] = self._responses.get(status, 0) + 1

    def counts(self) -> dict[str, int]:
        """What is counted here, by name: for the other processes of the service."""
        counts = {f"responses.{status}": count for status, count in self._responses.items()}
        for name in (*_TOLD, "running"):
            counts[name] = getattr(self, name).value
        return counts

    def render(self, statistics: Statistics, elsewhere: Mapping[str, int]) -> bytes:
        """The exposition text with the service's statistics of this moment, and what the doors
        of its other processes have counted."""
        self._statistics, self._elsewhere = statistics, elsewhere
        return generate_latest(self.registry)

    def collect(self) -> Iterable[Metric]:
        """Our counts and the service's statistics as metric families (called by the registry)."""
        responses = CounterMetricFamily(
            "forebay_http_responses", "Responses by status.", labels=["status"]
        )
        counts = Counter(self.counts()) + Counter(self._elsewhere)
        for name, count in sorted(counts.items()):
            kind, _, status = name.partition(".")
            if kind == "responses":
                responses.add_metric([status], count)
        yield responses
        for name, text in _TOLD.items():
            yield CounterMetricFamily(f"forebay_{name}", text, value=counts[name])
        yield GaugeMetricFamily(
            "forebay_http_requests_running", "Requests being answered.", value=counts["running"]
        )
        statistics = self._statistics
        if statistics is None:
            return
        requests = CounterMetricFamily(
            "forebay_requests", "Replies by cache outcome.", labels=["outcome"]
        )
        for outcome, count in sorted(statistics.requests.items()):
            if outcome != COLLAPSED:  # counted by its outcome as well, and sums are to be right
                requests.add_metric([outcome], count)
        yield requests
        yield CounterMetricFamily(
            "forebay_collapsed_requests",
            "Replies that read along with a fetch that was under way already.",
            value=statistics.requests.get(COLLAPSED, 0),
        )
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
        ("forebay_evicted_bytes", "Bytes evicted for room.", statistics.evicted_bytes),
        (
            "forebay_verified_bytes",
            "Stored bytes compared with their checksums, and sound.",
            statistics.verified_bytes,
        ),
        (
            "forebay_damaged_blocks",
            "Stored blocks that were damaged, and are fetched again when wanted.",
            statistics.damaged_blocks,
        ),
    ]


def _gauges(statistics: Statistics) -> list[tuple[str, str, float]]:
    gauges: list[tuple[str, str, float]] = [
        ("forebay_saved_bytes", "Bytes that upstream was spared.", statistics.saved_bytes),
        ("forebay_store_objects", "Stored objects.", statistics.objects),
        ("forebay_store_size_bytes", "Bytes on disk.", statistics.size_bytes),
        ("forebay_store_free_bytes", "Bytes free on the disk.", statistics.free_bytes),
        ("forebay_store_healthy", "1 unless the disk refuses work.", statistics.healthy),
        ("forebay_running_transfers", "Transfers at work.", statistics.running_transfers),
        ("forebay_workers", "Server processes that live.", statistics.workers),
        ("forebay_uptime_seconds", "Seconds since start.", statistics.uptime_seconds),
    ]
    if statistics.limit_bytes is not None:
        gauges.append(("forebay_store_limit_bytes", "Most bytes on disk.", statistics.limit_bytes))
    return gauges
