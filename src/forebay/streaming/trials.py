"""What the tries of one transfer say of its mirrors, and when there have been enough of them."""

from __future__ import annotations

from forebay.ports import MirrorHealth
from forebay.streaming.roster import Roster
from forebay.streaming.segment import Segment

RETRY_FIRST_SECONDS = 0.05
RETRY_MOST_SECONDS = 2.0
RATE_FROM_BYTES = 256 * 1024
"""Less says nothing about a mirror's rate: it came before the connection was up to speed."""
NOT_AS_PROMISED = "What it sent is not what was promised."
"""Why a mirror counts as failing whose bytes have another digest."""


class Trials:
    """Counts tries in a row without one new byte, and remembers who has brought something."""

    def __init__(self, roster: Roster, health: MirrorHealth, max_tries: int) -> None:
        self._roster = roster
        self._health = health
        self._max_tries = max_tries
        self._helped: set[str] = set()
        self._fruitless = 0
        self._fetched_at_failure = 0

    def note_brought(self, segment: Segment, now: float) -> None:
        """A segment has ended: what its mirror gave, and how fast."""
        size_bytes, url = segment.meter.total_bytes, segment.source.url
        if not size_bytes:
            return
        self._helped.add(url)
        rate = size_bytes / max(now - segment.started, 1e-3)
        if size_bytes >= RATE_FROM_BYTES:
            self._roster.note_rate(segment.source.mirror, rate)
        self._health.note_success(url, rate if size_bytes >= RATE_FROM_BYTES else None)

    def count(self, segment: Segment, fetched_bytes: int, *, dripped: bool) -> bool:
        """A try has failed, with so many bytes of the whole transfer fetched by then; whether there
        have been enough of them. Its mirror is left alone for a moment.

        A try that brought nothing, while nobody else brought anything either, counts; so does
        one that dripped, lest drips in short connections go on for ever.
        """
        is_fruitless = dripped or fetched_bytes <= self._fetched_at_failure
        self._fetched_at_failure = fetched_bytes
        self._fruitless = self._fruitless + 1 if is_fruitless else 0
        delay = min(RETRY_FIRST_SECONDS * 2**self._fruitless, RETRY_MOST_SECONDS)
        self._roster.hold(segment.source.mirror, delay)
        return self._fruitless >= max(self._max_tries, len(self._roster.remaining))

    def blame(self) -> None:
        """The whole has proved false: remember that of every mirror that brought some of it."""
        for url in self._helped:
            self._health.note_failure(url, why=NOT_AS_PROMISED)
