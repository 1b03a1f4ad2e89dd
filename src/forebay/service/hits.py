"""What the fast lane knows of a request and of the hit that answers it.

A ``Question`` is what was asked, a ``Hit`` what the rules made of it, both good for as long as
nothing that they looked at has changed; an ``Answer`` is a hit at one moment. ``Ages`` hold for
the rest of a second: whoever has made something of them may keep it while they are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from forebay.model import CacheOutcome, CacheStatus, Entry, Interval, Request, Target
from forebay.ports import Reply
from forebay.rules.cache_status import format_cache_status
from forebay.rules.content_range import content_range
from forebay.rules.heads import format_age
from forebay.service.held import Content, HeldFile

SMALL_BYTES: Final = 64 * 1024
"""The longest body that is written together with its head. Longer ones leave by ``sendfile``."""
_CAUTION_SECONDS: Final = 0.001
"""So much before its end a second is asked for again: sums of floats are not exact."""


@dataclass(slots=True, eq=False)
class Question:
    """A request, its Range left out, that may be answered at once, and what was found for it
    last: ``whole`` without Range, ``part`` with any that asks for a single part."""

    request: Request
    target: Target
    entries: tuple[Entry, ...] | None = None
    whole: Hit | None = None
    part: Hit | None = None


class Ages(NamedTuple):
    """Age and time to live of a hit in whole seconds."""

    age_seconds: int
    ttl_seconds: int

    def fields(self) -> tuple[tuple[str, str], ...]:
        """The fields that tell of them."""
        status = CacheStatus(CacheOutcome.HIT, ttl_seconds=self.ttl_seconds)
        return (
            ("age", format_age(self.age_seconds)),
            ("cache-status", format_cache_status(status)),
        )


class Hit:
    """What the rules made of one request and one entry, good for as long as that is fresh.

    ``reply`` lacks a body, and its fields lack those of ``Answer.changing_fields``.
    ``length_bytes`` is the entry's, None where no body follows; ``whole`` is all that may
    follow. ``content`` is what the lane holds of a small entry.
    """

    __slots__ = (
        "_ages",
        "_begin_time",
        "_end_time",
        "_initial_age_seconds",
        "_lifetime_seconds",
        "content",
        "entry",
        "is_part",
        "is_small",
        "length_bytes",
        "reply",
        "whole",
    )

    def __init__(
        self, reply: Reply, entry: Entry, initial_age_seconds: float, lifetime_seconds: float,
        length_bytes: int | None, *, is_part: bool,
    ) -> None:  # fmt: skip
        """The age is that at the entry's response time."""
        self.reply = reply
        self.entry = entry
        self.length_bytes = length_bytes
        self.whole = Interval(0, length_bytes or 0)
        self.is_part = is_part
        self.is_small = not length_bytes or length_bytes <= SMALL_BYTES
        self.content: Content | None = None
        self._initial_age_seconds = initial_age_seconds
        self._lifetime_seconds = lifetime_seconds
        self._ages: Ages | None = None
        self._begin_time = self._end_time = 0.0

    def ages_at(self, now: float) -> Ages | None:
        """Age and time to live at this moment, the same object for the rest of the second; None
        where the entry is not fresh any more."""
        if self._begin_time <= now < self._end_time:
            return self._ages
        # The same arithmetic as in ``current_age``, so that both lanes give the same second.
        initial, lifetime = self._initial_age_seconds, self._lifetime_seconds
        born = self.entry.response_time
        age = initial + max(0.0, now - born)
        if age >= lifetime:
            return None
        ages = Ages(math.floor(age), math.floor(lifetime - age))
        next_age, next_ttl = ages.age_seconds + 1 - initial, lifetime - ages.ttl_seconds - initial
        self._begin_time = now
        self._end_time = born + min(next_age, next_ttl) - _CAUTION_SECONDS
        self._ages = ages
        return ages


class Answer(NamedTuple):
    """A hit at one moment. What follows the head are the octets of ``content``, good until the
    lane is asked again, or where that is None the ``interval`` of ``file``, which the caller
    releases."""

    hit: Hit
    ages: Ages
    interval: Interval
    content: bytes | memoryview | None
    file: HeldFile | None

    def changing_fields(self) -> tuple[tuple[str, str], ...]:
        """What is still to be added to the reply's fields, at their end."""
        return (*self.part_fields(), *self.ages.fields())

    def part_fields(self) -> tuple[tuple[str, str], ...]:
        """Those that a 206 has for its part (``ranges.part_fields``)."""
        if not self.hit.is_part:
            return ()
        start, stop = self.interval
        return (
            ("content-range", content_range(self.interval, self.hit.length_bytes)),
            ("content-length", str(stop - start)),
        )
