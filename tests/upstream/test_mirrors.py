"""The memory of mirrors: order, back-off, fading, bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.upstream import mirrors as module
from forebay.upstream.mirrors import Mirrors, mirror_of

A, B, C = "http://a.example/f", "http://b.example/x/f", "https://c.example:8443/f?q"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mirrors(clock: Clock) -> Mirrors:
    return Mirrors(clock=clock)


def test_unknown_mirrors_keep_the_order_they_are_given_in(mirrors: Mirrors) -> None:
    assert mirrors.order([B, A, C]) == (B, A, C)
    assert mirrors.view() == ()


def test_the_faster_mirror_comes_first(mirrors: Mirrors) -> None:
    mirrors.note_success(A, 1e6)
    mirrors.note_success(B, 5e6)
    assert mirrors.order([A, B]) == (B, A)


def test_a_mirror_without_a_measurement_is_worth_trying(mirrors: Mirrors) -> None:
    mirrors.note_success(B, 5e6)
    assert mirrors.order([B, A]) == (B, A)
    assert mirrors.order([A, B]) == (A, B)


def test_connections_are_spread_by_rate(mirrors: Mirrors) -> None:
    mirrors.note_success(A, 9e6)
    mirrors.note_success(B, 4e6)
    with mirrors.using(A):
        assert mirrors.order([A, B]) == (A, B)  # 4.5 against 4
        with mirrors.using(A):
            assert mirrors.order([A, B]) == (B, A)  # 3 against 4
    assert mirrors.order([A, B]) == (A, B)


def test_use_is_counted_on_every_way_out(mirrors: Mirrors) -> None:
    def fail_within() -> None:
        with mirrors.using(A):
            assert mirrors.view()[0].in_use == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_within()
    assert mirrors.view()[0].in_use == 0


def test_a_failed_mirror_backs_off_longer_each_time_and_comes_back(
    mirrors: Mirrors, clock: Clock
) -> None:
    waits = []
    for _ in range(12):
        mirrors.note_failure(A)
        waits.append(mirrors.wait_seconds(A))
    assert waits[0] == module.FIRST_BACK_OFF_SECONDS
    assert waits == sorted(waits)
    assert waits[-1] == module.MAX_BACK_OFF_SECONDS
    assert mirrors.order([A, B]) == (B, A)
    assert not mirrors.view()[0].healthy
    clock.now += 10 * module.FAILURE_HALF_LIFE_SECONDS
    assert mirrors.wait_seconds(A) == 0
    assert mirrors.view()[0].healthy


def test_failures_lower_a_mirror_after_its_back_off(mirrors: Mirrors, clock: Clock) -> None:
    for mirror in (A, B):
        mirrors.note_success(mirror, 1e6)
    mirrors.note_failure(A)
    clock.now += module.FIRST_BACK_OFF_SECONDS
    assert mirrors.wait_seconds(A) == 0
    assert mirrors.order([A, B]) == (B, A)


def test_of_mirrors_that_back_off_the_one_ready_first_comes_first(mirrors: Mirrors) -> None:
    mirrors.note_failure(A, retry_after_seconds=30)
    mirrors.note_failure(B, retry_after_seconds=10)
    assert mirrors.order([A, B, C]) == (C, B, A)


@pytest.mark.parametrize(("asked", "waited"), [(7, 7), (0, 0), (-5, 0), (1e9, 3600)])
def test_retry_after_is_obeyed_within_reason(mirrors: Mirrors, asked: float, waited: float) -> None:
    mirrors.note_failure(A, retry_after_seconds=asked)
    assert mirrors.wait_seconds(A) == waited


def test_success_ends_the_back_off_and_halves_the_blame(mirrors: Mirrors) -> None:
    mirrors.note_failure(A)
    mirrors.note_success(A)
    assert mirrors.wait_seconds(A) == 0
    assert mirrors.view()[0].failures == pytest.approx(0.5)


def test_rates_are_smoothed_and_forgotten(mirrors: Mirrors, clock: Clock) -> None:
    mirrors.note_success(A, 100.0)
    mirrors.note_success(A, 200.0)
    assert mirrors.view()[0].rate_bytes_per_second == pytest.approx(130.0)
    clock.now += module.RATE_KEPT_SECONDS
    assert mirrors.view()[0].rate_bytes_per_second is None


def test_mirrors_are_known_by_origin(mirrors: Mirrors) -> None:
    mirrors.note_failure("http://a.example/one")
    assert mirrors.wait_seconds("http://a.example/two?q") > 0
    assert mirrors.wait_seconds("https://a.example/one") == 0
    assert mirror_of(C) == "https://c.example:8443"


def test_the_registry_is_bounded_and_spares_those_in_use(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_MIRRORS", 2)
    with mirrors.using(A):
        for number in range(5):
            mirrors.note_failure(f"http://m{number}.example/")
        assert [view.url for view in mirrors.view()] == ["http://a.example", "http://m4.example"]


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.sampled_from("sf"), st.floats(0, 1e9))))
def test_order_is_always_a_permutation(events: list[tuple[str, str, float]]) -> None:
    clock = Clock()
    subject = Mirrors(clock=clock)
    for url, kind, value in events:
        clock.now += value / 1e7
        if kind == "s":
            subject.note_success(url, value)
        else:
            subject.note_failure(url)
        assert sorted(subject.order([A, B, C])) == [A, B, C]


def test_an_upstream_of_a_mount_that_fails_is_told_of_once_and_so_is_its_return(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mirrors = Mirrors(told={mirror_of(A)}, clock=Clock())
    for _ in range(3):  # fails and works by turns
        mirrors.note_failure(A, why="No connection could be made.")
        mirrors.note_success(A)
    mirrors.note_failure(B, why="A stranger named it.")
    fails, *more = [record.getMessage() for record in caplog.records]
    assert fails == f"The upstream {mirror_of(A)} fails. No connection could be made."
    assert more == []
    for _ in range(4):
        mirrors.note_success(A)
    assert [record.getMessage() for record in caplog.records][1:] == [
        f"The upstream {mirror_of(A)} works again."
    ]
