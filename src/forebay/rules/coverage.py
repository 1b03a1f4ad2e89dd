"""The algebra of what a blob holds: sets of half-open intervals in normal form.

A coverage is a tuple of ``Interval`` that is sorted, disjoint, not touching, and holds no empty
interval; equal sets are equal tuples. Every function takes and gives that form. A coverage
of an object in transfer has a handful of members, so that copying one is cheaper than being
clever.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from forebay.model import Interval, Intervals


def normalise(intervals: Iterable[Interval]) -> Intervals:
    """The same bytes in normal form; empty intervals vanish, neighbours join."""
    runs: list[Interval] = []
    for start, stop in sorted(intervals):
        if stop <= start:
            continue
        if runs and start <= runs[-1].stop:
            runs[-1] = Interval(runs[-1].start, max(runs[-1].stop, stop))
        else:
            runs.append(Interval(start, stop))
    return tuple(runs)


def add(coverage: Intervals, interval: Interval) -> Intervals:
    """The coverage with these bytes as well."""
    start, stop = interval
    if stop <= start:
        return coverage
    first = bisect_left(coverage, start, key=lambda run: run.stop)
    last = bisect_right(coverage, stop, key=lambda run: run.start)
    if first < last:
        start = min(start, coverage[first].start)
        stop = max(stop, coverage[last - 1].stop)
    return (*coverage[:first], Interval(start, stop), *coverage[last:])


def union(one: Intervals, other: Intervals) -> Intervals:
    """The bytes that either holds."""
    return normalise((*one, *other)) if one and other else one or other


def missing(coverage: Intervals, within: Interval) -> Intervals:
    """The bytes of ``within`` that the coverage lacks."""
    gaps: list[Interval] = []
    position = within.start
    first = bisect_right(coverage, within.start, key=lambda run: run.stop)
    for start, stop in coverage[first:]:
        if start >= within.stop:
            break
        if start > position:
            gaps.append(Interval(position, start))
        position = max(position, stop)
    if position < within.stop:
        gaps.append(Interval(position, within.stop))
    return tuple(gaps)


def subtract(wanted: Intervals, coverage: Intervals) -> Intervals:
    """The bytes of ``wanted`` that the coverage lacks."""
    return tuple(gap for run in wanted for gap in missing(coverage, run))


def contains(coverage: Intervals, interval: Interval) -> bool:
    """Whether every byte of the interval is held; true for an empty one."""
    return interval.stop <= interval.start or covered_until(coverage, interval.start) >= (
        interval.stop
    )


def covered_until(coverage: Intervals, position: int) -> int:
    """Where the held run that begins at or before ``position`` ends; ``position`` if none does."""
    index = bisect_right(coverage, position, key=lambda run: run.start) - 1
    return max(position, coverage[index].stop) if index >= 0 else position


def total_bytes(coverage: Intervals) -> int:
    """How many bytes are held."""
    return sum(stop - start for start, stop in coverage)
