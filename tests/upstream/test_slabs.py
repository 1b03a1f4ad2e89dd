"""Buffers for reading: never given out while somebody can see them, used again otherwise."""

from __future__ import annotations

from forebay.upstream.slabs import MOST_KEPT, SLAB_BYTES, Slabs


def test_a_slab_that_nobody_looks_at_is_used_again() -> None:
    slabs = Slabs()
    first = slabs.take()
    view = memoryview(first)[:10]
    view.release()

    assert slabs.take() is first


def test_a_slab_is_not_given_out_while_a_piece_of_it_is_held() -> None:
    slabs = Slabs()
    first = slabs.take()
    piece = memoryview(memoryview(first)[:4096])[10:20]

    second = slabs.take()
    assert second is not first
    view = memoryview(second)
    del piece
    assert slabs.take() is first
    assert view.obj is second


def test_a_slab_has_its_length_however_often_it_was_used() -> None:
    slabs = Slabs()
    assert {len(slabs.take()) for _ in range(100)} == {SLAB_BYTES}


def test_what_many_hold_at_once_is_not_kept_for_ever() -> None:
    slabs = Slabs()
    held = [memoryview(slabs.take()) for _ in range(MOST_KEPT + 5)]
    assert len({id(view.obj) for view in held}) == MOST_KEPT + 5

    held.clear()
    again = [memoryview(slabs.take()) for _ in range(MOST_KEPT)]
    assert len({id(view.obj) for view in again}) == MOST_KEPT
    assert len(slabs) == MOST_KEPT
