"""Coverage behaves as the set of its bytes, and keeps its normal form."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Interval, Intervals
from forebay.rules import coverage

SIZE = 40
interval = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(lambda pair: Interval(*pair))
intervals = st.lists(interval, max_size=8)


def bytes_of(runs: Intervals | list[Interval]) -> set[int]:
    return {byte for start, stop in runs for byte in range(start, stop)}


def is_normal(runs: Intervals) -> bool:
    nonempty = all(start < stop for start, stop in runs)
    apart = all(a.stop < b.start for a, b in pairwise(runs))
    return nonempty and apart


@given(intervals)
def test_normal_form_holds_the_same_bytes(raw: list[Interval]) -> None:
    runs = coverage.normalise(raw)
    assert is_normal(runs)
    assert bytes_of(runs) == bytes_of(raw)


@given(intervals, interval)
def test_adding_is_set_union(raw: list[Interval], extra: Interval) -> None:
    runs = coverage.add(coverage.normalise(raw), extra)
    assert is_normal(runs)
    assert bytes_of(runs) == bytes_of([*raw, extra])


@given(intervals, interval)
def test_missing_is_set_difference(raw: list[Interval], within: Interval) -> None:
    gaps = coverage.missing(coverage.normalise(raw), within)
    assert is_normal(gaps)
    assert bytes_of(gaps) == bytes_of([within]) - bytes_of(raw)


@given(intervals, intervals)
def test_subtract_and_union_are_those_of_sets(one: list[Interval], other: list[Interval]) -> None:
    a, b = coverage.normalise(one), coverage.normalise(other)
    assert bytes_of(coverage.subtract(a, b)) == bytes_of(one) - bytes_of(other)
    assert is_normal(coverage.subtract(a, b))
    assert bytes_of(coverage.union(a, b)) == bytes_of(one) | bytes_of(other)
    assert is_normal(coverage.union(a, b))


@given(intervals, interval)
def test_contains_means_that_nothing_is_missing(raw: list[Interval], part: Interval) -> None:
    runs = coverage.normalise(raw)
    assert coverage.contains(runs, part) == (coverage.missing(runs, part) == ())


@given(intervals, st.integers(0, SIZE))
def test_covered_until_is_the_first_byte_not_held(raw: list[Interval], position: int) -> None:
    runs = coverage.normalise(raw)
    held = bytes_of(runs)
    expected = position
    while expected in held:
        expected += 1
    assert coverage.covered_until(runs, position) == expected


@given(intervals)
def test_total_counts_each_byte_once(raw: list[Interval]) -> None:
    assert coverage.total_bytes(coverage.normalise(raw)) == len(bytes_of(raw))
