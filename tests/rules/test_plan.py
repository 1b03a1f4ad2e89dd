"""The plan serves who waits first, never asks for a byte twice, and comes to an end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Interval, TransferPolicy, WhenAlone
from forebay.rules import coverage as cov
from forebay.rules.plan import Cut, Limits, Open, Situation, Work, goes_on_alone, next_step

LENGTH = 200


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    most = draw(st.integers(1, 5))
    return Limits(
        max_segments=most,
        max_parallel=draw(st.integers(1, most)),
        min_segment_bytes=draw(st.integers(1, 40)),
        near_bytes=draw(st.integers(1, 30)),
        soon_seconds=draw(st.sampled_from([0.0, 0.25])),
    )


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    points = st.integers(0, LENGTH)
    pairs = st.tuples(points, points).map(lambda pair: Interval(*pair))
    goal = cov.normalise(draw(st.lists(pairs, min_size=1, max_size=3)))
    coverage = cov.normalise(draw(st.lists(pairs, max_size=4)))
    readers: list[int] = []
    for run in goal:
        readers += draw(st.lists(st.integers(run.start, run.stop - 1), max_size=3))
    waiting = tuple(p for p in readers if cov.covered_until(coverage, p) == p)
    return Situation(goal=goal, coverage=coverage, waiting=waiting, readers=tuple(readers))


rates = st.sampled_from([0.0, 1e-9, 10.0, 300.0, 1e9])
"""Bytes per second: not known yet, stalled, slow and fast for an object of 200 bytes."""


def serves(work: Work, position: int, limits: Limits) -> bool:
    """Whether the byte at ``position`` is near enough ahead of this segment to be waited for."""
    near_bytes = max(limits.near_bytes, int(work.rate * limits.soon_seconds))
    return work.position <= position < min(work.stop, work.position + near_bytes)


def settle(now: Situation, limits: Limits) -> tuple[Situation, list[Interval]]:
    """Do what the plan says until it says nothing."""
    opened: list[Interval] = []
    for _ in range(100):
        step = next_step(now, limits)
        if step is None:
            return now, opened
        running = list(now.running)
        if isinstance(step, Cut):
            del running[step.index]
        else:
            start, stop = step.interval
            running = [
                replace(w, stop=start) if w.position < start < w.stop else w for w in running
            ]
            running.append(Work(start, stop))
            opened.append(step.interval)
        now = Situation(now.goal, now.coverage, tuple(running), now.waiting, now.readers)
    raise AssertionError("the plan never came to rest")


@given(situations(), limits())
def test_the_plan_comes_to_rest_within_its_limits(now: Situation, bounds: Limits) -> None:
    rest, _ = settle(now, bounds)
    assert len(rest.running) <= bounds.max_segments


@given(situations(), limits())
def test_segments_never_overlap_and_never_hold_a_covered_or_unwanted_byte(
    now: Situation, bounds: Limits
) -> None:
    rest, _ = settle(now, bounds)
    work = [Interval(w.position, w.stop) for w in rest.running]
    assert all(start < stop for start, stop in work)
    assert cov.total_bytes(cov.normalise(work)) == sum(stop - start for start, stop in work)
    assert cov.subtract(cov.normalise(work), cov.subtract(now.goal, now.coverage)) == ()


@given(situations(), limits())
def test_the_first_segment_serves_the_earliest_waiting_reader(
    now: Situation, bounds: Limits
) -> None:
    step = next_step(now, bounds)
    if now.waiting:
        assert isinstance(step, Open)
        assert step.interval.start == min(now.waiting)


@given(situations(), limits())
def test_with_places_left_every_waiting_reader_is_served(now: Situation, bounds: Limits) -> None:
    rest, _ = settle(now, bounds)
    unserved = [p for p in rest.waiting if not any(serves(w, p, bounds) for w in rest.running)]
    if unserved:
        assert len(rest.running) == bounds.max_segments


@given(situations(), limits(), st.data())
def test_a_segment_that_nobody_waits_for_gives_way_to_a_reader(
    now: Situation, bounds: Limits, data: st.DataObject
) -> None:
    rest, _ = settle(Situation(now.goal, now.coverage), bounds)
    rest = replace(rest, running=tuple(replace(w, rate=data.draw(rates)) for w in rest.running))
    gaps = cov.subtract(now.goal, now.coverage)
    if not gaps:
        return
    last = gaps[-1].stop - 1
    after, _ = settle(Situation(rest.goal, rest.coverage, rest.running, (last,)), bounds)
    assert any(serves(w, last, bounds) for w in after.running)


@given(situations(), limits(), st.data())
def test_every_wanted_byte_is_fetched_once_whatever_the_segments_speeds(
    now: Situation, bounds: Limits, data: st.DataObject
) -> None:
    fetched = 0
    wanted = cov.total_bytes(cov.subtract(now.goal, now.coverage))
    for _ in range(2000):
        now, _ = settle(now, bounds)
        if not now.running:
            break
        index = data.draw(st.integers(0, len(now.running) - 1))
        work = now.running[index]
        step = min(work.stop - work.position, 17)
        coverage = cov.add(now.coverage, Interval(work.position, work.position + step))
        fetched += step
        running = list(now.running)
        running[index] = Work(work.position + step, work.stop, data.draw(rates))
        if running[index].position == work.stop:
            del running[index]
        waiting = tuple(p for p in now.waiting if cov.covered_until(coverage, p) == p)
        now = Situation(now.goal, coverage, tuple(running), waiting, now.readers)
    assert cov.subtract(now.goal, now.coverage) == ()
    assert fetched == wanted


def test_one_long_object_is_split_evenly_and_not_below_the_least_piece() -> None:
    whole = (Interval(0, 100),)
    bounds = Limits(max_segments=4, max_parallel=4, min_segment_bytes=10, near_bytes=5)
    rest, opened = settle(Situation(whole, (), waiting=(0,), readers=(0,)), bounds)
    assert opened == [(0, 100), (50, 100), (25, 50), (75, 100)]
    _, opened = settle(Situation((Interval(0, 19),), (), readers=(0,)), bounds)
    assert opened == [(0, 19)]
    assert len(rest.running) == 4


def test_without_leave_to_be_parallel_one_segment_runs_and_a_far_reader_gets_its_own() -> None:
    bounds = Limits(max_segments=3, max_parallel=1, min_segment_bytes=10, near_bytes=5)
    one = Situation((Interval(0, 100),), (), (Work(0, 100),), waiting=(0,), readers=(0,))
    assert next_step(one, bounds) is None
    far = Situation(one.goal, (), one.running, waiting=(0, 60), readers=(0, 60))
    assert next_step(far, bounds) == Open(Interval(60, 100))


@pytest.mark.parametrize(("rate", "waits"), [(0.0, False), (199.0, False), (204.0, True)])
def test_a_reader_waits_for_what_a_segment_brings_soon(rate: float, waits: bool) -> None:
    bounds = Limits(max_segments=3, max_parallel=1, near_bytes=5, soon_seconds=0.25)
    work = (Work(0, 100, rate),)
    now = Situation((Interval(0, 100),), (), work, waiting=(50,), readers=(0, 50))
    assert next_step(now, bounds) == (None if waits else Open(Interval(50, 100)))


@pytest.mark.parametrize(("rate", "is_split"), [(0.0, True), (399.0, True), (401.0, False)])
def test_what_one_segment_brings_soon_is_not_split(rate: float, is_split: bool) -> None:
    bounds = Limits(max_segments=2, max_parallel=2, min_segment_bytes=10, soon_seconds=0.25)
    now = Situation((Interval(0, 100),), (), (Work(0, 100, rate),), readers=(0,))
    assert next_step(now, bounds) == (Open(Interval(50, 100)) if is_split else None)


def test_what_will_take_longest_is_split_first() -> None:
    bounds = Limits(max_segments=4, max_parallel=4, min_segment_bytes=10)
    slow, fast = Work(0, 40, rate=1.0), Work(40, 200, rate=100.0)
    now = Situation((Interval(0, 200),), (), (fast, slow), readers=(0,))
    assert next_step(now, bounds) == Open(Interval(20, 40))


def test_two_readers_far_apart_do_not_take_one_place_from_each_other() -> None:
    bounds = Limits(max_segments=1, max_parallel=1, min_segment_bytes=10, near_bytes=5)
    first_is_sending = Situation(
        (Interval(0, 100),), (Interval(0, 20),), (Work(20, 100),), waiting=(60,), readers=(18, 60)
    )
    assert next_step(first_is_sending, bounds) is None


@pytest.mark.parametrize(
    ("when_alone", "length", "held", "goes_on"),
    [
        (WhenAlone.FINISH, 1000, 0, True),
        (WhenAlone.FINISH, None, 0, True),
        (WhenAlone.STOP, 1000, 999, False),
        (WhenAlone.FINISH_IF_NEAR, None, 999, False),
        (WhenAlone.FINISH_IF_NEAR, 1000, 499, False),
        (WhenAlone.FINISH_IF_NEAR, 1000, 500, True),
        (WhenAlone.FINISH_IF_NEAR, 110, 9, False),
        (WhenAlone.FINISH_IF_NEAR, 110, 10, True),
    ],
)
def test_whether_a_transfer_goes_on_without_readers_is_the_mounts_choice(
    when_alone: WhenAlone, length: int | None, held: int, goes_on: bool
) -> None:
    policy = TransferPolicy(when_alone=when_alone, finish_share=0.5, finish_bytes=100)
    assert goes_on_alone(policy, length, (Interval(0, held),) if held else ()) is goes_on
