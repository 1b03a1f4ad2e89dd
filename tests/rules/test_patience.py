"""How long a sender that hardly sends is waited for."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from forebay.rules.patience import Patience

GRACE = 30.0
RATE = 1000.0


@given(st.lists(st.floats(0.0, GRACE * 0.9), max_size=50))
def test_who_keeps_the_rate_is_waited_for_without_end(waits: list[float]) -> None:
    patience = Patience(GRACE, RATE)
    for wait in waits:
        patience.note(wait, math.ceil(wait * RATE))
        assert patience.left_seconds > 0


@given(st.floats(0.01, 5.0), st.floats(0.0, 0.9))
def test_who_does_not_has_the_grace_and_what_his_bytes_earn(wait: float, share: float) -> None:
    patience, seconds = Patience(GRACE, RATE), 0.0
    while patience.left_seconds > 0:
        patience.note(wait, int(wait * RATE * share))
        seconds += wait
        assert seconds <= GRACE / (1 - share) + wait


@given(st.integers(0, 10**12))
def test_a_burst_buys_no_more_than_the_grace(burst_bytes: int) -> None:
    patience = Patience(GRACE, RATE)
    patience.note(0.0, burst_bytes)
    assert patience.left_seconds == GRACE


def test_without_a_rate_nothing_is_used_up() -> None:
    patience = Patience(GRACE, 0.0)
    patience.note(1e9, 0)
    assert patience.left_seconds == math.inf
