"""What to fetch next: the choice of segments as a function of values.

A transfer asks ``next_step`` again and again, and does what it says, until it says nothing.
The order of concerns:

1. A reader that waits for a byte which no segment will bring soon gets a segment there, the
   earliest such byte first. If the limit is reached, a segment that no waiting reader needs is
   cut to make place.
2. Missing bytes that nobody fetches get a segment, those ahead of the readers first.
3. While more connections are believed to help, the longest remaining piece is split, and the
   second half gets a segment of its own (work stealing: few, long requests; RFC 9110 §14.2
   asks clients not to send many small ones).

What a segment will bring *soon*, by its measured rate, is left to it: a request for that would
hardly be sooner, and a connection that is cut short has more in its sockets than it has brought.

Steps never overlap: opening inside the work of a running segment means that this segment now
ends where the new one starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from forebay.model import Interval, Intervals, TransferPolicy, WhenAlone
from forebay.rules import coverage as cov


@dataclass(frozen=True, slots=True)
class Work:
    """What a running segment still has to bring: bytes ``position`` to ``stop``, lately at
    ``rate`` bytes per second (0 where that is not known yet)."""

    position: int
    stop: int
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a transfer may use.

    ``max_segments`` bounds the connections at work; ``max_parallel`` (at most that) how many
    may be opened only to be faster; ``min_segment_bytes`` is the least that is worth a
    request for speed's sake; a reader waits for a segment that is at most ``near_bytes``, or
    ``soon_seconds`` by its rate, before him. What one segment brings within ``soon_seconds`` is
    not split.
    """

    max_segments: int
    max_parallel: int
    min_segment_bytes: int = 4 * 1024 * 1024
    near_bytes: int = 1024 * 1024
    soon_seconds: float = 0.25


@dataclass(frozen=True, slots=True)
class Situation:
    """A transfer at one moment. ``goal`` is all that is to be fetched in the end; ``waiting``
    are the positions of readers that wait for a byte now, each of them inside the goal;
    ``readers`` are the positions of all readers."""

    goal: Intervals
    coverage: Intervals
    running: tuple[Work, ...] = ()
    waiting: tuple[int, ...] = ()
    readers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Open:
    """Open a segment for this interval; a running one that reaches into it ends at its start."""

    interval: Interval


@dataclass(frozen=True, slots=True)
class Cut:
    """End the running segment with this index now, to make place."""

    index: int


Step: TypeAlias = Open | Cut | None


def next_step(now: Situation, limits: Limits) -> Step:
    """The next thing to do, or None when all that should run is running."""
    unserved = _first_unserved(now, limits)
    if unserved is not None:
        if len(now.running) < limits.max_segments:
            return Open(_piece_at(now, unserved))
        idle = _dispensable(now, limits)
        # Cutting pays only if the place goes to the reader: _first_unserved then comes first.
        return None if idle is None else Cut(idle)
    if not now.running or len(now.running) < limits.max_parallel:
        return _fill_a_gap(now) or _split(now, limits)
    return None


def goes_on_alone(policy: TransferPolicy, length_bytes: int | None, coverage: Intervals) -> bool:
    """Whether a transfer goes on when nobody reads it any more."""
    if policy.when_alone is WhenAlone.FINISH:
        return True
    if policy.when_alone is WhenAlone.STOP or length_bytes is None:
        return False
    held_bytes = cov.total_bytes(coverage)
    is_near = length_bytes - held_bytes <= policy.finish_bytes
    return is_near or held_bytes >= policy.finish_share * length_bytes


def _first_unserved(now: Situation, limits: Limits) -> int | None:
    for position in sorted(set(now.waiting)):
        held = cov.covered_until(now.coverage, position) > position
        if not held and not any(_serves(work, position, limits) for work in now.running):
            return position
    return None


def _serves(work: Work, position: int, limits: Limits) -> bool:
    """Whether this segment will bring the byte at ``position`` soon."""
    return work.position <= position < min(work.stop, work.position + _near_bytes(work, limits))


def _near_bytes(work: Work, limits: Limits) -> int:
    """What this segment brings so soon that another would hardly be sooner."""
    return max(limits.near_bytes, int(work.rate * limits.soon_seconds))


def _dispensable(now: Situation, limits: Limits) -> int | None:
    """The segment that works farthest ahead of everybody, or None if all are needed.

    A reader that follows close behind needs its segment too, even at a moment when it has
    something to send: else two readers far apart would take one place from each other in turn.
    """
    unneeded = [
        index
        for index, work in enumerate(now.running)
        if not any(_is_followed(work, position, limits) for position in now.readers)
        and not any(_serves(work, position, limits) for position in now.waiting)
    ]
    return max(unneeded, key=lambda index: now.running[index].position, default=None)


def _is_followed(work: Work, position: int, limits: Limits) -> bool:
    return work.position - _near_bytes(work, limits) <= position < work.position


def _piece_at(now: Situation, position: int) -> Interval:
    """From ``position`` to the first byte that is held, fetched by another, or not wanted."""
    stop = cov.covered_until(now.goal, position)
    stop = min([stop, *(run.start for run in now.coverage if run.start > position)])
    for work in now.running:
        if work.position > position:
            stop = min(stop, work.position)
        elif work.stop > position:
            stop = min(stop, work.stop)
    return Interval(position, stop)


def _fill_a_gap(now: Situation) -> Open | None:
    fetched = cov.normalise(Interval(work.position, work.stop) for work in now.running)
    gaps = cov.subtract(cov.subtract(now.goal, now.coverage), fetched)
    if not gaps:
        return None
    first_reader = min(now.readers, default=0)
    ahead = next((gap for gap in gaps if gap.stop > first_reader), gaps[0])
    return Open(ahead)


def _split(now: Situation, limits: Limits) -> Open | None:
    """The second half of what will take longest; what has no rate yet is taken for average."""
    known = [work.rate for work in now.running if work.rate > 0]
    usual = sum(known) / len(known) if known else 1.0

    def seconds_left(work: Work) -> float:
        return (work.stop - work.position) / (work.rate or usual)

    large = [w for w in now.running if w.stop - w.position >= 2 * limits.min_segment_bytes]
    longest = max(large, key=seconds_left, default=None)
    if longest is None or (known and seconds_left(longest) <= limits.soon_seconds):
        return None
    middle = longest.position + (longest.stop - longest.position + 1) // 2
    return Open(Interval(middle, longest.stop))
