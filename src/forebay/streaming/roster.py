"""The mirrors of one transfer: which may be asked now, and which of them promises most."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

from forebay.ports import MirrorHealth
from forebay.streaming.pace import Slots
from forebay.streaming.segment import Segment, Source

LAGGARD_AFTER_SECONDS = 2.0
LAGGARD_SHARE = 0.25
"""A mirror that gives less than this share of another's rate is left in mid-body."""


class Roster:
    """Who is left, who is left alone for a while, and whom to ask next.

    Holds end by the clock alone; whoever was refused asks again a few times a second.
    """

    def __init__(
        self,
        sources: tuple[Source, ...],
        health: MirrorHealth,
        slots: Slots,
        clock: Callable[[], float],
    ) -> None:
        self._sources = sources
        self._health = health
        self._slots = slots
        self._clock = clock
        self._held_until: dict[str, float] = {}
        self._out: set[str] = set()
        self._rates: dict[str, float] = {}

    @property
    def remaining(self) -> tuple[Source, ...]:
        """The sources that are not out, held or not."""
        return tuple(source for source in self._sources if source.mirror not in self._out)

    def exclude(self, mirror: str) -> None:
        """Ask this mirror no more: it has another representation."""
        self._out.add(mirror)

    def hold(self, mirror: str, seconds: float) -> None:
        """Leave this mirror alone for so long at least."""
        until = self._clock() + seconds
        self._held_until[mirror] = max(until, self._held_until.get(mirror, -math.inf))

    def wait_seconds(self) -> float:
        """How long until some mirror may be asked; 0 for now, infinite where none is left."""
        now = self._clock()
        waits = [self._held_until.get(s.mirror, now) - now for s in self.remaining]
        return max(0.0, min(waits, default=math.inf))

    def note_rate(self, mirror: str, rate_bytes_per_second: float) -> None:
        """Remember what a connection to this mirror has brought that has ended."""
        self._rates[mirror] = rate_bytes_per_second

    def laggards(self, segments: Iterable[Segment]) -> set[str]:
        """The mirrors at work that are far slower than another, at work or free to be asked."""
        now = self._clock()
        free = {s.mirror for s in self.remaining if self._held_until.get(s.mirror, now) <= now}
        known = {mirror: rate for mirror, rate in self._rates.items() if mirror in free}
        return laggards(segments, now, known)

    def pick(self, *, added: bool) -> Source | None:
        """The mirror from which one more connection promises most, by what was measured.

        ``added`` says that others are at work: then there must be room for one more.
        """
        now = self._clock()
        free = [s for s in self.remaining if self._held_until.get(s.mirror, now) <= now]
        if added:
            free = [s for s in free if self._slots.has_room(host_of(s))]
        if not free:
            return None
        best = self._health.order([source.url for source in free])[0]
        return next(source for source in free if source.url == best)


def host_of(source: Source) -> str:
    """The host and port under which connections are counted."""
    return urlsplit(source.url).netloc


def laggards(segments: Iterable[Segment], now: float, known: Mapping[str, float]) -> set[str]:
    """The mirrors at work that are far slower than another is now, or was when ``known``."""
    rates: dict[str, float] = {}
    for segment in segments:
        if now - segment.started >= LAGGARD_AFTER_SECONDS:
            rate = segment.meter.rate(now)
            rates[segment.source.mirror] = max(rate, rates.get(segment.source.mirror, 0.0))
    # A mirror that was faster itself once is not left for that.
    others = {**known, **rates}
    fastest = max(others.values(), default=0.0)
    return {mirror for mirror, rate in rates.items() if rate < LAGGARD_SHARE * fastest}
