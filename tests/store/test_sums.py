"""The arithmetic of checksums: which blocks there are, and what a page of sums says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Interval, Intervals
from forebay.rules import coverage as cov
from forebay.store.sums import (
    BLOCK_BYTES,
    PAGE_BYTES,
    Sum,
    blocks_of,
    blocks_to_sum,
    by_page,
    merged,
    packed,
    pages_of,
    sum_of,
    sums_of,
    unpacked,
    without,
)

M = BLOCK_BYTES
positions = st.integers(0, 6 * M)
coverages = st.lists(st.builds(Interval, positions, positions), max_size=6).map(cov.normalise)


@pytest.mark.parametrize(
    ("coverage", "blocks"),
    [
        ((), []),
        ([(0, 1)], [(0, 1)]),
        ([(0, M)], [(0, M)]),
        ([(0, M + 1)], [(0, M), (M, M + 1)]),
        ([(5, 2 * M + 7)], [(5, M), (M, 2 * M), (2 * M, 2 * M + 7)]),
        ([(1, 2), (3, 4)], [(1, 2), (3, 4)]),
    ],
)
def test_a_coverage_is_cut_at_the_grid(
    coverage: list[tuple[int, int]], blocks: list[tuple[int, int]]
) -> None:
    assert list(blocks_of(tuple(Interval(*run) for run in coverage))) == blocks


@given(coverages)
def test_blocks_are_the_coverage_and_stay_in_their_cells(coverage: Intervals) -> None:
    blocks = list(blocks_of(coverage))
    assert cov.normalise(blocks) == coverage
    assert sum(block.length_bytes for block in blocks) == cov.total_bytes(coverage)
    assert all(start // M == (stop - 1) // M for start, stop in blocks)


@given(coverages, coverages)
def test_what_is_summed_again_is_what_has_grown_and_no_more(
    one: Intervals, more: Intervals
) -> None:
    grown = cov.union(one, more)
    fresh = blocks_to_sum(grown, one)
    earlier = set(blocks_of(one))
    assert set(blocks_of(grown)) - earlier == set(fresh)


@given(coverages, coverages)
def test_sums_kept_up_are_those_of_the_coverage(one: Intervals, more: Intervals) -> None:
    held = [Sum(*block, 1) for block in blocks_of(one)]
    grown = cov.union(one, more)
    held = merged(held, [Sum(*block, 2) for block in blocks_to_sum(grown, one)])
    assert [(each.start, each.stop) for each in held] == list(blocks_of(grown))


@given(coverages, coverages)
def test_discarding_leaves_the_sums_of_blocks_that_are_still_whole(
    one: Intervals, gone: Intervals
) -> None:
    left = without([Sum(*block, 1) for block in blocks_of(one)], gone)
    for each in left:
        assert cov.missing(gone, Interval(each.start, each.stop)) == ((each.start, each.stop),)


def test_pages_hold_the_sums_of_their_bytes() -> None:
    coverage = (Interval(0, M), Interval(PAGE_BYTES - 5, PAGE_BYTES + 5))
    sums = [Sum(*block, number) for number, block in enumerate(blocks_of(coverage))]
    pages = by_page(sums)
    assert tuple(pages) == pages_of(coverage) == (0, 1)
    assert [each.value for each in pages[0]] == [0, 1]
    assert unpacked(packed(pages[1])) == pages[1]
    assert pages_of((Interval(PAGE_BYTES, 3 * PAGE_BYTES),)) == (1, 2)


@pytest.mark.parametrize("page", [b"short", b"", None, "text", 5])
def test_a_damaged_page_is_no_page(page: object) -> None:
    assert unpacked(page) == []


@pytest.fixture
def fileno(tmp_path: Path) -> Iterator[int]:
    number = os.open(tmp_path / "blob", os.O_RDWR | os.O_CREAT)
    os.pwrite(number, b"some bytes", 0)
    yield number
    os.close(number)


def test_a_sum_tells_one_bit(fileno: int) -> None:
    before = sum_of(fileno, Interval(0, 10))
    assert before == sum_of(fileno, Interval(0, 10))
    os.pwrite(fileno, b"r", 0)
    assert sum_of(fileno, Interval(0, 10)) != before
    assert sum_of(fileno, Interval(1, 10)) == sum_of(fileno, Interval(1, 10))


def test_bytes_that_are_not_there_have_no_sum(fileno: int) -> None:
    assert sum_of(fileno, Interval(5, 11)) is None
    with pytest.raises(OSError, match="not in the file"):
        sums_of(fileno, [Interval(5, 11)])
