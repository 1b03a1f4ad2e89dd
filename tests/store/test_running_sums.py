"""Sums taken on the way to disk are those that reading the file would give, or none."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Interval
from forebay.rules import coverage as cov
from forebay.store.blobs import write_pieces
from forebay.store.running_sums import RunningSums
from forebay.store.sums import BLOCK_BYTES, Sum, blocks_of, sums_of

M = BLOCK_BYTES
BYTES = random.Random(7).randbytes(8 * M)

# Positions near the grid and at a few others, so that runs meet, overlap and leave holes.
positions = st.sampled_from([0, 1, M // 2, M - 1, M, M + 1, 2 * M, 2 * M + 7, 3 * M])
writes = st.lists(st.tuples(positions, positions, st.integers(0, 3 * M)), max_size=8)


@pytest.fixture
def fileno() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def write(fileno: int, sums: RunningSums, position: int, *pieces: bytes) -> None:
    write_pieces(fileno, position, pieces)
    sums.add(position, pieces)


@given(writes)
def test_whatever_was_written_in_whatever_order_no_sum_differs_from_the_files(
    writes: list[tuple[int, int, int]],
) -> None:
    sums, coverage = RunningSums(), cov.normalise([])
    with tempfile.TemporaryFile() as file:
        for one, other, offset in writes:
            start, stop = min(one, other), max(one, other)
            write(file.fileno(), sums, start, BYTES[offset : offset + stop - start])
            coverage = cov.add(coverage, Interval(start, stop))
        known, unknown = sums.take(blocks_of(coverage))
        assert known == sums_of(file.fileno(), [Interval(one.start, one.stop) for one in known])
    assert cov.normalise([Interval(one.start, one.stop) for one in known] + unknown) == coverage


def test_bytes_that_come_in_order_are_never_read_again() -> None:
    sums = RunningSums()
    whole = BYTES[: 3 * M + 10]
    for start in range(0, len(whole), 300_000):
        sums.add(start, [whole[start : start + 100_000], whole[start + 100_000 : start + 300_000]])

    known, unknown = sums.take(blocks_of((Interval(0, len(whole)),)))

    assert unknown == []
    assert [(one.start, one.stop) for one in known] == list(blocks_of((Interval(0, len(whole)),)))


def test_a_block_has_a_sum_at_each_of_its_sizes(fileno: int) -> None:
    sums = RunningSums()
    for start, stop in ((0, 10), (10, M // 2), (M // 2, M)):
        write(fileno, sums, start, BYTES[start:stop])
        block = Interval(0, stop)
        assert sums.take([block]) == (sums_of(fileno, [block]), [])


def test_a_block_that_has_grown_since_it_was_asked_for_is_left_to_the_file() -> None:
    sums = RunningSums()
    sums.add(0, [BYTES[:20]])
    assert sums.take([Interval(0, 10)]) == ([], [Interval(0, 10)])


def test_a_cell_filled_from_both_sides_is_left_to_the_file() -> None:
    sums = RunningSums()
    sums.add(M // 2, [BYTES[: M // 2]])
    sums.add(0, [BYTES[: M // 2]])
    assert sums.take([Interval(0, M)]) == ([], [Interval(0, M)])


def test_what_is_taken_and_can_grow_no_more_is_forgotten() -> None:
    sums = RunningSums()
    sums.add(0, [BYTES[: 5 * M + 1]])
    assert len(sums) == 6
    known, _ = sums.take(blocks_of((Interval(0, 5 * M + 1),)))
    assert len(known) == 6
    assert len(sums) == 1
    assert Sum(0, M, known[0].value) == known[0]
