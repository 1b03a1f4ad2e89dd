"""RFC 9211 §2."""

from __future__ import annotations

from typing import cast

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import CacheOutcome, CacheStatus
from forebay.rules.cache_status import format_cache_status


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (CacheStatus(CacheOutcome.HIT), "forebay; hit"),
        (CacheStatus(CacheOutcome.HIT, ttl_seconds=-5), "forebay; hit; ttl=-5"),
        (
            CacheStatus(CacheOutcome.HIT, stored=True, collapsed=True, fwd_status=200),
            "forebay; hit",
        ),
        (
            CacheStatus(CacheOutcome.URI_MISS, stored=True, fwd_status=200, ttl_seconds=60),
            "forebay; fwd=uri-miss; fwd-status=200; stored; ttl=60",
        ),
        (
            CacheStatus(CacheOutcome.PARTIAL, collapsed=True),
            "forebay; fwd=partial; collapsed",
        ),
        (
            CacheStatus(CacheOutcome.BYPASS, detail="no-store"),
            "forebay; fwd=bypass; detail=no-store",
        ),
        (
            CacheStatus(CacheOutcome.STALE, detail='a "b\\" é'),
            'forebay; fwd=stale; detail="a \\"b\\\\\\" ?"',
        ),
        (CacheStatus(CacheOutcome.STALE, detail="1st"), 'forebay; fwd=stale; detail="1st"'),
    ],
)
def test_cache_status_says_what_happened(status: CacheStatus, text: str) -> None:
    assert format_cache_status(status) == text


@given(
    st.builds(
        CacheStatus,
        st.sampled_from(CacheOutcome),
        st.booleans(),
        st.booleans(),
        st.none() | st.integers(),
        st.none() | st.integers(),
        st.none() | st.text(max_size=300),
    )
)
def test_every_cache_status_is_a_structured_field(status: CacheStatus) -> None:
    parsed = http_sf.parse(format_cache_status(status).encode("ascii"), tltype="list")
    (member,) = cast("list[tuple[object, dict[str, object]]]", parsed)
    name, parameters = member
    assert name == "forebay"
    assert ("hit" in parameters) != ("fwd" in parameters)
