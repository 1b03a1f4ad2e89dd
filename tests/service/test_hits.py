"""What a hit remembers of its age is what it would be told anew."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from forebay.model import CacheOutcome, CacheStatus, Fields
from forebay.ports import Reply
from forebay.service.hits import Ages, Hit
from tests.rules.making import entry

SECONDS = st.one_of(st.integers(0, 100_000).map(float), st.floats(0, 100_000))
STEPS = st.lists(st.one_of(st.floats(-3, 3), st.floats(-0.01, 0.01)), min_size=1, max_size=30)


@given(SECONDS, SECONDS, st.floats(1.6e9, 2.0e9), STEPS)
def test_ages_are_those_of_the_moment_whatever_the_clock_does(
    initial: float, lifetime: float, born: float, steps: list[float]
) -> None:
    reply = Reply(200, Fields(), None, CacheStatus(CacheOutcome.HIT))
    hit = Hit(reply, entry(response_time=born), initial, lifetime, 10, is_part=False)
    now = born
    for step in steps:
        now += step
        age = initial + max(0.0, now - born)
        told = None if age >= lifetime else Ages(math.floor(age), math.floor(lifetime - age))
        assert hit.ages_at(now) == told


def test_ages_are_the_same_object_for_most_of_a_second() -> None:
    reply = Reply(200, Fields(), None, CacheStatus(CacheOutcome.HIT))
    hit = Hit(reply, entry(response_time=1000.0), 5.0, 600.0, 10, is_part=False)
    first = hit.ages_at(1000.25)
    assert hit.ages_at(1000.75) is first == Ages(5, 594)
    assert hit.ages_at(1001.0) == Ages(6, 594)
