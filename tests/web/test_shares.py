"""What one client may take: arithmetic over a clock of the test's own."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import Overloaded, TooManyRequests
from forebay.web import shares
from forebay.web.shares import Bucket, ClientLimits, Share, Shares


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(
    rate=st.floats(0.1, 1e6),
    burst=st.floats(0.1, 100),
    steps=st.lists(st.tuples(st.floats(0, 5), st.floats(0.01, 50)), max_size=50),
)
def test_no_more_passes_than_rate_and_burst_allow(
    rate: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    bucket, now, taken = Bucket(rate, burst), 0.0, 0.0
    for pause, amount in steps:
        now += pause
        if bucket.wait_seconds(now, amount) == 0:
            bucket.take(now, amount)
            taken += amount
        assert taken <= (rate * now + burst) * (1 + 1e-6) + 1e-6


def test_what_waits_long_enough_may_pass() -> None:
    bucket = Bucket(2.0, 4.0)
    for _ in range(4):
        assert bucket.wait_seconds(0.0, 1.0) == 0
        bucket.take(0.0, 1.0)
    assert bucket.wait_seconds(0.0, 1.0) == pytest.approx(0.5)
    assert bucket.wait_seconds(0.5, 1.0) == pytest.approx(0.0)


def test_requests_beyond_the_rate_are_told_when_to_come_back() -> None:
    clock = Clock()
    share = Share(ClientLimits(requests_per_second=0.25, request_burst=3), clock)
    for _ in range(3):
        share.take_request()
    with pytest.raises(TooManyRequests) as caught:
        share.take_request()
    assert caught.value.retry_after_seconds == 4
    clock.now += 4
    share.take_request()


async def test_downloads_beyond_the_bound_are_refused_when_their_turn_does_not_come() -> None:
    share = Share(ClientLimits(max_downloads=1, queue_seconds=0.0), Clock())
    async with share.download():
        assert not share.take_at_once(1)
        with pytest.raises(Overloaded):
            async with share.download():
                pass
    assert share.take_at_once(1)


async def test_all_connections_of_a_client_draw_on_one_rate() -> None:
    rate = 1_000_000
    share = Share(ClientLimits(rate_bytes_per_second=rate), asyncio.get_running_loop().time)
    begin = asyncio.get_running_loop().time()

    async def connection() -> None:
        for _ in range(2):
            await share.pay(share.slice_bytes)

    await asyncio.gather(*(connection() for _ in range(4)))
    took = asyncio.get_running_loop().time() - begin
    # Lower bound only: what the burst allows beyond the rate is two slices.
    assert took >= (8 * share.slice_bytes - 2 * share.slice_bytes) / rate - 0.01


def test_small_answers_at_once_are_counted_too() -> None:
    clock = Clock()
    share = Share(ClientLimits(rate_bytes_per_second=1000), clock)
    assert share.take_at_once(5000)
    assert not share.take_at_once(1)
    clock.now += 5
    assert share.take_at_once(1)


def test_one_client_does_not_wait_for_another() -> None:
    clients = Shares(ClientLimits(requests_per_second=0.01, request_burst=1), Clock())
    one, other = clients.of("one"), clients.of("other")
    assert one is not None
    assert other is not None
    one.take_request()
    with pytest.raises(TooManyRequests):
        one.take_request()
    other.take_request()
    assert clients.of("one") is one


def test_without_limits_nobody_has_a_share() -> None:
    assert Shares(ClientLimits()).of("one") is None


def test_clients_that_take_nothing_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "MAX_SHARES", 16)
    clients = Shares(ClientLimits(requests_per_second=1.0), Clock())
    busy = clients.of("busy")
    assert busy is not None
    busy.take_request()
    for number in range(100):
        clients.of(f"client {number}")
    assert len(clients) <= 16
