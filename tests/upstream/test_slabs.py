"""Buffers for reading: never given out while somebody can see them, used again otherwise."""

from __future__ import annotations

import pytest

from forebay.upstream.slabs import (
    LARGE_SLAB_BYTES,
    MOST_KEPT,
    MOST_LARGE,
    SLAB_BYTES,
    Slabs,
    is_view_worth,
)

SIZES = pytest.mark.parametrize("waiting_bytes", [0, LARGE_SLAB_BYTES])


@SIZES
def test_a_slab_that_nobody_looks_at_is_used_again(waiting_bytes: int) -> None:
    slabs = Slabs()
    first = slabs.take(waiting_bytes)
    view = memoryview(first)[:10]
    view.release()

    assert slabs.take(waiting_bytes) is first


@SIZES
def test_a_slab_is_not_given_out_while_a_piece_of_it_is_held(waiting_bytes: int) -> None:
    slabs = Slabs()
    first = slabs.take(waiting_bytes)
    piece = memoryview(memoryview(first)[:4096])[10:20]

    second = slabs.take(waiting_bytes)
    assert second is not first
    view = memoryview(second)
    del piece
    assert slabs.take(waiting_bytes) is first
    assert view.obj is second


def test_a_slab_has_its_length_however_often_it_was_used() -> None:
    slabs = Slabs()
    assert {len(slabs.take()) for _ in range(100)} == {SLAB_BYTES}
    assert {len(slabs.take(LARGE_SLAB_BYTES)) for _ in range(100)} == {LARGE_SLAB_BYTES}


def test_a_large_slab_is_for_whom_half_of_it_is_waiting() -> None:
    slabs = Slabs()
    assert len(slabs.take(LARGE_SLAB_BYTES // 2 - 1)) == SLAB_BYTES
    assert len(slabs.take(LARGE_SLAB_BYTES // 2)) == LARGE_SLAB_BYTES


def test_there_are_so_many_large_slabs_and_no_more() -> None:
    slabs = Slabs()
    held = [memoryview(slabs.take(LARGE_SLAB_BYTES)) for _ in range(MOST_LARGE + 3)]
    assert [len(view) for view in held].count(LARGE_SLAB_BYTES) == MOST_LARGE
    assert [len(view) for view in held].count(SLAB_BYTES) == 3


def test_what_many_hold_at_once_is_not_kept_for_ever() -> None:
    slabs = Slabs()
    held = [memoryview(slabs.take()) for _ in range(MOST_KEPT + 5)]
    assert len({id(view.obj) for view in held}) == MOST_KEPT + 5

    held.clear()
    again = [memoryview(slabs.take()) for _ in range(MOST_KEPT)]
    assert len({id(view.obj) for view in again}) == MOST_KEPT
    assert len(slabs) == MOST_KEPT


@SIZES
def test_bytes_that_wait_hold_at_most_twice_their_size(waiting_bytes: int) -> None:
    slab = Slabs().take(waiting_bytes)
    assert is_view_worth(len(slab) // 2, slab)
    assert not is_view_worth(len(slab) // 2 - 1, slab)
