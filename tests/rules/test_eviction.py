"""Who makes way: ``rules.eviction``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.rules.eviction import Candidate, gdsf_rank, shortfall_bytes, victims

candidates = st.lists(
    st.builds(
        Candidate,
        entry_id=st.uuids().map(lambda made: made.hex),
        size_bytes=st.integers(0, 1000),
        rank=st.integers(0, 20).map(float),
    ),
    max_size=30,
    unique_by=lambda one: one.entry_id,
)


def order(one: Candidate) -> tuple[float, str]:
    return one.rank, one.entry_id


@given(candidates, st.integers(1, 10_000))
def test_victims_free_enough_or_there_are_none(found: list[Candidate], needed: int) -> None:
    chosen = victims(found, needed)
    available = sum(one.size_bytes for one in found)
    if available < needed:
        assert chosen == ()
    else:
        assert sum(one.size_bytes for one in chosen) >= needed


@given(candidates, st.integers(1, 10_000))
def test_no_victim_was_used_after_a_survivor(found: list[Candidate], needed: int) -> None:
    chosen = victims(found, needed)
    survivors = [one for one in found if one not in chosen]
    if chosen and survivors:
        assert max(map(order, chosen)) < min(map(order, survivors))


@given(candidates, st.integers(1, 10_000))
def test_no_victim_more_than_needed(found: list[Candidate], needed: int) -> None:
    chosen = victims(found, needed)
    if chosen:
        assert sum(one.size_bytes for one in chosen[:-1]) < needed


@given(candidates, st.integers(1, 10_000))
def test_the_choice_does_not_depend_on_the_order_of_candidates(
    found: list[Candidate], needed: int
) -> None:
    assert victims(reversed(found), needed) == victims(found, needed)


@pytest.mark.parametrize("needed", [0, -1])
def test_nobody_goes_when_nothing_is_needed(needed: int) -> None:
    assert victims([Candidate("a", 10, 0.0)], needed) == ()


@pytest.mark.parametrize(
    ("used", "limit", "free", "min_free", "wanted", "expected"),
    [
        (0, None, 100, 0, 100, 0),
        (0, None, 100, 0, 101, 1),
        (0, None, 100, 50, 60, 10),
        (0, None, 10, 50, 0, 40),
        (90, 100, 1000, 0, 10, 0),
        (90, 100, 1000, 0, 11, 1),
        (120, 100, 1000, 0, 0, 20),
        (90, 100, 20, 10, 15, 5),
        (95, 100, 20, 10, 15, 10),
        (0, 100, -5, 0, 0, 5),
    ],
)
def test_the_larger_of_both_needs_counts(
    used: int, limit: int | None, free: int, min_free: int, wanted: int, expected: int
) -> None:
    missing = shortfall_bytes(
        used_bytes=used,
        limit_bytes=limit,
        free_bytes=free,
        min_free_bytes=min_free,
        wanted_bytes=wanted,
    )
    assert missing == expected


@given(st.floats(0, 100), st.integers(1, 1000), st.integers(0, 1 << 50))
def test_gdsf_ranks_by_use_by_smallness_and_by_age(floor: float, uses: int, size: int) -> None:
    rank = gdsf_rank(floor, uses, size)
    assert rank > floor
    assert gdsf_rank(floor, uses + 1, size) > rank
    assert gdsf_rank(floor, uses, size + 1) <= rank
    assert gdsf_rank(floor + 1, uses, size) > rank
