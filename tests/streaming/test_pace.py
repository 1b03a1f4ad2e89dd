"""Rates are unbiased, connections are added only where they help, limits hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.streaming.pace import (
    JUDGE_AFTER_SECONDS,
    LOOK_AFTER_SECONDS,
    RATE_MEMORY_SECONDS,
    WORTH_GAIN,
    Growth,
    Meter,
    Slots,
    Stage,
)
from forebay.streaming.roster import LAGGARD_AFTER_SECONDS, Roster, laggards
from forebay.streaming.segment import (
    BACKLOG_BYTES,
    LOOK_EVERY_SECONDS,
    Segment,
    Source,
    are_behind,
)
from tests.fakes.mirrors import RecordingMirrors

LATER = LOOK_AFTER_SECONDS + 0.01


@given(rate=st.floats(1e3, 1e9), seconds=st.floats(0.05, 20))
def test_a_steady_rate_is_measured_right_from_the_first_moment_on(
    rate: float, seconds: float
) -> None:
    meter, step = Meter(100.0), seconds / 2000
    for n in range(1, 2001):
        meter.add(round(rate * step), 100.0 + n * step)
    assert meter.rate(100.0 + seconds) == pytest.approx(round(rate * step) / step, rel=0.05)
    assert meter.total_bytes == 2000 * round(rate * step)


def test_silence_fades() -> None:
    meter = Meter(0.0)
    meter.add(10**6, 1.0)
    rates = [meter.rate(1.0 + n * RATE_MEMORY_SECONDS) for n in range(6)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0] / 100


def test_one_connection_is_watched_first() -> None:
    growth = Growth(4, 0.0)
    growth.tick(LOOK_AFTER_SECONDS / 2, 1.0, 10**9)
    assert (growth.stage, growth.allowed) == (Stage.LOOKING, 1)


@pytest.mark.parametrize(
    ("rate", "remaining", "stage"),
    [
        (1000.0, 10_000, Stage.TRYING),
        (1000.0, 900, Stage.LOOKING),
        (0.0, 10_000, Stage.LOOKING),
    ],
)
def test_more_are_tried_where_one_would_take_long(
    rate: float, remaining: int, stage: Stage
) -> None:
    growth = Growth(4, 0.0)
    growth.tick(LATER, rate, remaining)
    assert growth.stage is stage
    assert growth.allowed == (4 if stage is Stage.TRYING else 1)


def test_nothing_is_tried_while_upstream_is_ahead_of_us() -> None:
    growth = Growth(4, 0.0)
    growth.tick(LATER, 1000.0, 10**6, is_behind=True)
    assert (growth.stage, growth.allowed) == (Stage.LOOKING, 1)
    growth.tick(2 * LATER, 1000.0, 10**6)
    assert growth.stage is Stage.TRYING


@pytest.mark.parametrize(
    ("gain", "stage", "allowed"),
    [(WORTH_GAIN * 1.01, Stage.KEPT, 4), (WORTH_GAIN * 0.99, Stage.GIVEN_BACK, 1)],
)
def test_what_does_not_help_is_given_back_for_good(gain: float, stage: Stage, allowed: int) -> None:
    growth = Growth(4, 0.0)
    growth.tick(LATER, 1000.0, 10**6)
    growth.tick(LATER + JUDGE_AFTER_SECONDS / 2, 1.0, 10**6)
    assert growth.stage is Stage.TRYING
    for n in range(1, 4):
        growth.tick(LATER + n * JUDGE_AFTER_SECONDS, 1000.0 * gain, 10**6)
        assert (growth.stage, growth.allowed) == (stage, allowed)


def test_giving_back_leaves_one_at_least() -> None:
    growth = Growth(4, 0.0)
    growth.give_back(0)
    assert growth.allowed == 1


def test_slots_bound_added_connections_per_host_and_in_all() -> None:
    slots = Slots(3, 2)
    slots.take("a")
    assert slots.has_room("a")
    slots.take("a")
    assert not slots.has_room("a")
    assert slots.has_room("b")
    slots.take("b")
    assert not slots.has_room("c")
    slots.give("a")
    assert slots.has_room("a")
    slots.give("a")
    slots.give("b")
    assert slots.used == 0


# Mirrors.

A, B = Source("http://a/f", "a"), Source("http://b/f", "b")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_held_mirror_is_asked_again_when_its_time_has_come() -> None:
    clock = Clock()
    roster = Roster((A, B), RecordingMirrors(), Slots(9, 9), clock)
    assert roster.pick(added=False) == A
    roster.hold("a", 5)
    roster.hold("a", 1)
    assert roster.pick(added=False) == B
    roster.hold("b", 9)
    assert roster.pick(added=False) is None
    assert roster.wait_seconds() == 5
    clock.now = 5.0
    assert roster.pick(added=False) == A
    assert roster.wait_seconds() == 0


def test_an_excluded_mirror_is_never_asked_again() -> None:
    roster = Roster((A, B), RecordingMirrors(), Slots(9, 9), Clock())
    roster.exclude("a")
    assert roster.remaining == (B,)
    roster.exclude("b")
    assert roster.pick(added=False) is None
    assert roster.wait_seconds() == float("inf")


def test_a_mirror_without_room_gives_way_to_one_that_has_it() -> None:
    slots = Slots(9, 1)
    slots.take("a")
    roster = Roster((A, B), RecordingMirrors(), slots, Clock())
    assert roster.pick(added=True) == B
    assert roster.pick(added=False) == A
    slots.take("b")
    assert roster.pick(added=True) is None


@pytest.mark.parametrize(
    ("rates", "known", "age", "slow"),
    [
        ({"a": 1000, "b": 100}, {}, LAGGARD_AFTER_SECONDS, {"b"}),
        ({"a": 1000, "b": 100}, {}, LAGGARD_AFTER_SECONDS / 2, set()),
        ({"a": 1000, "b": 500}, {}, LAGGARD_AFTER_SECONDS, set()),
        ({"a": 10}, {}, LAGGARD_AFTER_SECONDS, set()),
        ({"a": 0, "b": 0}, {}, LAGGARD_AFTER_SECONDS, set()),
        ({"a": 100}, {"b": 9000}, LAGGARD_AFTER_SECONDS, {"a"}),
        ({"a": 100}, {"b": 9000}, LAGGARD_AFTER_SECONDS / 2, set()),
        ({"a": 100}, {"a": 9000}, LAGGARD_AFTER_SECONDS, set()),
    ],
)
def test_a_laggard_is_found_by_comparison_only(
    rates: dict[str, int], known: dict[str, float], age: float, slow: set[str]
) -> None:
    segments = []
    for mirror, rate in rates.items():
        segment = Segment(Source(f"http://{mirror}/f", mirror), 0, 10**9, 0.0)
        segment.meter.add(rate, age)
        segments.append(segment)
    assert laggards(segments, age, known) == slow


def test_we_are_behind_while_bytes_wait_for_us() -> None:
    segment, unread_bytes = Segment(A, 0, 10**9, 0.0), 0
    segment.unread_bytes = lambda: unread_bytes

    def look(times: int, since: float) -> bool:
        for n in range(1, times + 1):
            segment.look(since + n * LOOK_EVERY_SECONDS)
        return are_behind([segment])

    assert not are_behind([])
    assert not look(20, 0.0)
    unread_bytes = BACKLOG_BYTES
    assert are_behind([segment]), "at this moment"
    look(20, 1.0)
    unread_bytes = BACKLOG_BYTES - 1
    assert look(1, 2.0), "and lately"
    assert not look(20, 3.0)
