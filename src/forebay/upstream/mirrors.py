"""What is remembered of each mirror, and which to ask first. Pure but for the clock it is given.

Mirrors are known by origin (scheme and authority), whatever path is asked there. Trouble
fades with a half-life, so that a mirror that was down comes back by itself; a measured rate
is forgotten after a while, so that one that was slow is tried again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from forebay.views import MirrorView

log = logging.getLogger("forebay.upstream")

FAILURE_HALF_LIFE_SECONDS = 60.0
UNHEALTHY_FAILURES = 0.5
"""A mirror with more (faded) failures than this is shown as unhealthy."""
WELL_FAILURES = 0.25
"""One that was told to fail is told to work again at a success that leaves it fewer than this, so
that one which works and fails by turns is told of once."""
FIRST_BACK_OFF_SECONDS = 1.0
MAX_BACK_OFF_SECONDS = 60.0
MAX_RETRY_AFTER_SECONDS = 3600.0
"""A longer Retry-After is not believed: it would take the mirror away for good."""
RATE_WEIGHT = 0.3
"""How much the latest measurement counts against those before it."""
RATE_KEPT_SECONDS = 600.0
MAX_MIRRORS = 1024
"""URL-in-path lets strangers name hosts; the least recently used idle ones are forgotten."""


@dataclass(slots=True)
class _Record:
    failures: float = 0.0
    failures_time: float = 0.0
    back_off_until: float = -math.inf
    rate_bytes_per_second: float | None = None
    rate_time: float = -math.inf
    in_use: int = 0
    is_told: bool = False
    """Whether the log says that it fails."""

    def faded_failures(self, now: float) -> float:
        half_lives = (now - self.failures_time) / FAILURE_HALF_LIFE_SECONDS
        return self.failures * math.pow(0.5, half_lives)

    def known_rate(self, now: float) -> float | None:
        return self.rate_bytes_per_second if now - self.rate_time < RATE_KEPT_SECONDS else None


class Mirrors:
    """The registry. ``clock`` gives seconds that never go back.

    When one of the origins in ``told`` begins to fail, and when it works again, the log says so;
    those that strangers name are told of in their own requests' lines.
    """

    def __init__(
        self, *, told: Collection[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._told = frozenset(told)
        self._records: dict[str, _Record] = {}  # least recently noted first

    def order(self, urls: Sequence[str]) -> tuple[str, ...]:
        """These URLs, the best to ask next first; equals stay in the order given.

        Those that are backing off come last, the one that will be ready first before others.
        Of the rest each counts by its rate, divided among the connections that already use it
        and lowered by failures; where no rate is known, a mirror gets the best that is.
        """
        if len(urls) == 1:
            return tuple(urls)
        now = self._clock()
        records = {url: self._records.get(mirror_of(url), _Record()) for url in urls}
        rates = [rate for r in records.values() if (rate := r.known_rate(now)) is not None]
        unknown_rate = max(rates, default=1.0)

        def merit(url: str) -> tuple[float, float]:
            record = records[url]
            rate = record.known_rate(now)
            worth = unknown_rate if rate is None else rate
            share = worth / (1 + record.in_use) / (1 + record.faded_failures(now)) ** 2
            return max(0.0, record.back_off_until - now), -share

        return tuple(sorted(urls, key=merit))

    def wait_seconds(self, url: str) -> float:
        """How long this mirror should be left alone from now; 0 when it may be asked."""
        record = self._records.get(mirror_of(url))
        return 0.0 if record is None else max(0.0, record.back_off_until - self._clock())

    def note_success(self, url: str, rate_bytes_per_second: float | None = None) -> None:
        """It answered well; with a rate where enough was fetched to measure one."""
        record = self._record(url)
        record.failures, record.failures_time = (
            record.faded_failures(self._clock()) / 2,
            self._clock(),
        )
        record.back_off_until = -math.inf
        if record.is_told and record.failures < WELL_FAILURES:
            record.is_told = False
            log.warning("The upstream %s works again.", mirror_of(url))
        if rate_bytes_per_second is None:
            return
        before = record.known_rate(self._clock())
        if before is not None:
            rate_bytes_per_second = before + RATE_WEIGHT * (rate_bytes_per_second - before)
        record.rate_bytes_per_second, record.rate_time = rate_bytes_per_second, self._clock()

    def note_failure(
        self, url: str, retry_after_seconds: float | None = None, *, why: str = ""
    ) -> None:
        """It failed: back off, longer each time, or as long as its Retry-After asked."""
        record = self._record(url)
        if not record.is_told and mirror_of(url) in self._told:
            record.is_told = True
            log.warning("The upstream %s fails. %s", mirror_of(url), why)
        now = self._clock()
        record.failures, record.failures_time = record.faded_failures(now) + 1, now
        if retry_after_seconds is None:
            wait = FIRST_BACK_OFF_SECONDS * 2 ** min(record.failures - 1, 16)
            wait = min(wait, MAX_BACK_OFF_SECONDS)
        else:
            wait = min(max(retry_after_seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
        record.back_off_until = max(record.back_off_until, now + wait)

    @contextmanager
    def using(self, url: str) -> Iterator[None]:
        """Count a connection to this mirror while the block runs."""
        record = self._record(url)
        record.in_use += 1
        try:
            yield
        finally:
            record.in_use -= 1

    def view(self) -> tuple[MirrorView, ...]:
        """A snapshot of every mirror that is remembered, by name."""
        now = self._clock()
        return tuple(
            MirrorView(
                url=name,
                healthy=record.faded_failures(now) <= UNHEALTHY_FAILURES
                and record.back_off_until <= now,
                rate_bytes_per_second=record.known_rate(now),
                failures=record.faded_failures(now),
                in_use=record.in_use,
            )
            for name, record in sorted(self._records.items())
        )

    def _record(self, url: str) -> _Record:
        name = mirror_of(url)
        record = self._records.pop(name, None) or _Record()
        self._records[name] = record
        if len(self._records) > MAX_MIRRORS:
            idle = next((n for n, r in self._records.items() if r.in_use == 0), None)
            if idle is not None:
                del self._records[idle]
        return record


def mirror_of(url: str) -> str:
    """The name under which the mirror of a URL is known: its origin."""
    return "/".join(url.split("/", 3)[:3])
