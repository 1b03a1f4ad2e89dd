"""RFC 9111 §4.2, §5.1, §5.3, §5.4: age and freshness lifetime."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Policy
from forebay.rules.fields import DELTA_MAX_SECONDS
from forebay.rules.lifetimes import (
    Failure,
    current_age,
    forbids_stale,
    freshness_lifetime,
    stale_while_revalidate_seconds,
)
from forebay.rules.lifetimes import may_serve_stale_on_error as may_serve
from tests.rules.making import NOW, Lines, date, entry, head, request

DAY = 86_400


@pytest.mark.parametrize(
    ("lines", "times", "age"),
    [
        ({}, (0, 0, 0), 0),
        ({}, (0, 0, 7), 7),
        ({}, (0, 3, 10), 10),  # response delay counts
        ({"Age": "30"}, (0, 0, 5), 35),
        ({"Age": "30"}, (0, 3, 10), 40),
        ({"Date": date(-50)}, (0, 0, 5), 55),  # apparent age
        ({"Date": date(-50), "Age": "30"}, (0, 0, 5), 55),  # the larger of both
        ({"Date": date(-50), "Age": "80"}, (0, 0, 5), 85),
        ({"Date": date(500)}, (0, 0, 5), 5),  # upstream's clock is ahead
        ({"Date": "yesterday"}, (0, 0, 5), 5),
        ({}, (0, 0, -100), 0),  # our clock went back
        ({}, (9, 0, 5), 5),  # and while we waited
        ({"Age": "2147483649"}, (0, 0, 0), DELTA_MAX_SECONDS),
        ({"Age": "9" * 5000}, (0, 0, 0), DELTA_MAX_SECONDS),
        ({"Age": "-1"}, (0, 0, 0), 0),
        ({"Age": "1.5"}, (0, 0, 0), 0),
        ({"Age": '"30"'}, (0, 0, 0), 0),
        ({"Age": "30 s"}, (0, 0, 0), 0),
        ({"Age": ""}, (0, 0, 0), 0),
        ({"Age": "30, 7"}, (0, 0, 0), 30),
        ([("Age", "30"), ("Age", "7")], (0, 0, 0), 30),
        ({"Age": "x, 7"}, (0, 0, 0), 0),
    ],
)
def test_age_counts_all_that_is_known(
    lines: Lines, times: tuple[float, float, float], age: float
) -> None:
    asked, received, now = times
    stored = entry(lines, request_time=NOW + asked, response_time=NOW + received)
    assert current_age(stored, NOW + now) == age


def test_the_resolution_of_date_makes_nothing_older() -> None:
    stored = entry({"Date": date()}, request_time=NOW + 0.9, response_time=NOW + 0.95)
    assert current_age(stored, NOW + 0.95) < 0.1


OFFSETS = st.floats(-1e6, 1e6)


@given(
    st.integers(0, 2**40),
    st.integers(-(10**6), 10**6),
    OFFSETS,
    OFFSETS,
    OFFSETS,
    st.floats(0, 1e6),
)
def test_age_never_decreases(
    age: int, dated: int, asked: float, received: float, now: float, later: float
) -> None:
    stored = entry(
        {"Age": str(age), "Date": date(dated)},
        request_time=NOW + asked,
        response_time=NOW + received,
    )
    first = current_age(stored, NOW + now)
    assert 0 <= first <= current_age(stored, NOW + now + later)
    assert first >= min(age, DELTA_MAX_SECONDS)


def lifetime(lines: Lines, status: int = 200, path: str = "/f", **policy: Any) -> float:
    return freshness_lifetime(head(lines, status), Policy(**policy), path, NOW)


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        ({"Cache-Control": "max-age=60"}, 60),
        ({"Cache-Control": "max-age=60, s-maxage=5"}, 5),
        ({"Cache-Control": "max-age=5, s-maxage=60"}, 60),
        ({"Cache-Control": "max-age=60, s-maxage=x"}, 0),
        ({"Cache-Control": "max-age=60", "Expires": date(5)}, 60),
        ({"Cache-Control": "max-age=x", "Expires": date(5)}, 0),
        ({"Cache-Control": "max-age=0", "Expires": date(5)}, 0),
        ({"Expires": date(60)}, 60),
        ({"Expires": date(60), "Date": date(-10)}, 70),
        ({"Expires": date(60), "Date": date(10)}, 50),
        ({"Expires": date(60), "Date": "bad"}, 60),
        ({"Expires": date(-60)}, 0),
        ({"Expires": date()}, 0),
        ({"Expires": "0"}, 0),
        ({"Expires": "-1"}, 0),
        ({"Expires": ""}, 0),
        ({"Expires": date(60).replace("GMT", "UTC")}, 0),
        ({"Expires": f"{date(60)}, {date(60)}"}, 0),
        ([("Expires", date(60)), ("Expires", date(60))], 0),
        ({"Expires": date(60), "Cache-Control": "public"}, 60),
        ({"Expires": "Fri, 31 Dec 9999 23:59:59 GMT"}, DELTA_MAX_SECONDS),
        ({"Cache-Control": "no-store", "CDN-Cache-Control": "max-age=9"}, 9),
        ({"Expires": date(60), "CDN-Cache-Control": "public"}, 0),
        ({"Expires": date(60), "CDN-Cache-Control": "malformed="}, 60),
        ({}, 0),
    ],
)
def test_explicit_freshness_is_what_upstream_says(lines: Lines, seconds: float) -> None:
    assert lifetime(lines) == seconds


@pytest.mark.parametrize(
    ("lines", "status", "seconds"),
    [
        ({"Last-Modified": date(-1000)}, 200, 100),
        ({"Last-Modified": date(-1000), "Date": date(-500)}, 200, 50),
        ({"Last-Modified": date(-100 * DAY)}, 200, DAY),  # the cap
        ({"Last-Modified": date(1000)}, 200, 0),
        ({"Last-Modified": "bad"}, 200, 0),
        ({"Last-Modified": date(-1000)}, 203, 100),
        ({"Last-Modified": date(-1000)}, 301, 100),
        ({"Last-Modified": date(-1000)}, 501, 100),
        ({"Last-Modified": date(-1000)}, 201, 0),
        ({"Last-Modified": date(-1000)}, 302, 0),
        ({"Last-Modified": date(-1000)}, 403, 0),
        ({"Last-Modified": date(-1000)}, 500, 0),
        ({"Last-Modified": date(-1000)}, 599, 0),
        ({"Last-Modified": date(-1000), "Cache-Control": "public"}, 599, 100),
        ({"Last-Modified": date(-1000), "Cache-Control": "max-age=0"}, 200, 0),
        ({"Last-Modified": date(-1000), "Expires": "bad"}, 200, 0),
        ({"Last-Modified": date(-1000), "Pragma": "no-cache"}, 200, 0),
        ({"Last-Modified": date(-1000), "Pragma": "foo"}, 200, 100),
        ({"Last-Modified": date(-1000), "Pragma": "no-cache", "Cache-Control": "a"}, 200, 100),
    ],
)
def test_heuristic_freshness_only_where_nothing_forbids_it(
    lines: Lines, status: int, seconds: float
) -> None:
    assert lifetime(lines, status) == seconds


@pytest.mark.parametrize(
    ("lines", "status", "policy", "seconds"),
    [
        ({}, 200, {"default_ttl_seconds": 30.0}, 30),
        ({}, 500, {"default_ttl_seconds": 30.0}, 0),
        ({"Last-Modified": date(-1000)}, 200, {"default_ttl_seconds": 30.0}, 100),
        ({"Cache-Control": "max-age=5"}, 200, {"default_ttl_seconds": 30.0}, 5),
        ({"Cache-Control": "max-age=5"}, 200, {"force_ttl_seconds": 30.0}, 30),
        ({"Cache-Control": "max-age=5"}, 404, {"force_ttl_seconds": 30.0}, 5),
        ({"Cache-Control": "max-age=5"}, 500, {"force_ttl_seconds": 30.0}, 5),
        ({"Cache-Control": "max-age=5"}, 200, {"force_ttl_seconds": -1.0}, 0),
        ({"Cache-Control": "max-age=5"}, 200, {"ignore_cache_control": True}, 0),
        (
            {"Cache-Control": "max-age=5", "Expires": date(7), "Last-Modified": date(-1000)},
            200,
            {"ignore_cache_control": True},
            100,
        ),
        (
            {"Pragma": "no-cache", "Last-Modified": date(-1000)},
            200,
            {"ignore_cache_control": True},
            100,
        ),
        ({}, 404, {"negative_ttl_seconds": 9.0}, 9),
        ({}, 410, {"negative_ttl_seconds": 9.0}, 9),
        ({}, 405, {"negative_ttl_seconds": 9.0}, 0),
        ({"Cache-Control": "max-age=5"}, 404, {"negative_ttl_seconds": 9.0}, 5),
        ({"Last-Modified": date(-1000)}, 404, {"negative_ttl_seconds": 9.0}, 9),
        ({"Cache-Control": "no-cache"}, 200, {"immutable_patterns": (r"/f",)}, DELTA_MAX_SECONDS),
        ({"Cache-Control": "max-age=5"}, 404, {"immutable_patterns": (r"/f",)}, 5),
        ({"Cache-Control": "max-age=5"}, 200, {"immutable_patterns": (r"/",)}, 5),
        (
            {"Cache-Control": "max-age=5"},
            200,
            {"ttl_patterns": ((r"/g", 1.0), (r"/.", 2.0), (r"/f", 3.0)), "force_ttl_seconds": 4.0},
            2,
        ),
    ],
)
def test_a_mount_may_set_the_lifetime(
    lines: Lines, status: int, policy: dict[str, Any], seconds: float
) -> None:
    assert lifetime(lines, status, **policy) == seconds


@given(
    st.lists(
        st.sampled_from(
            [
                ("Cache-Control", "max-age=60"),
                ("Cache-Control", "s-maxage=50, foo"),
                ("Cache-Control", "no-cache"),
                ("Expires", date(30)),
                ("Age", "7"),
                ("Date", date(-3)),
                ("Last-Modified", date(-5000)),
                ("CDN-Cache-Control", "max-age=20"),
                ("X", "y"),
            ]
        ),
        unique=True,
    ),
    st.randoms(use_true_random=False),
)
def test_field_order_and_case_of_names_mean_nothing(
    lines: list[tuple[str, str]], random: Any
) -> None:
    shuffled = [(name.swapcase(), value) for name, value in lines]
    random.shuffle(shuffled)
    assert lifetime(shuffled) == lifetime(lines)
    assert current_age(entry(shuffled), NOW + 5) == current_age(entry(lines), NOW + 5)


@pytest.mark.parametrize("status", [200, 203, 204, 206, 300, 301, 308])
def test_a_mount_s_times_are_for_successes_and_lasting_redirects(status: int) -> None:
    assert lifetime({}, status, default_ttl_seconds=30.0) == 30
    assert lifetime({}, status, force_ttl_seconds=30.0) == 30


@pytest.mark.parametrize(
    ("control", "forbidden"),
    [
        ("max-age=9", False),
        ('no-cache="x"', False),
        ("no-cache", True),
        ("must-revalidate", True),
        ("proxy-revalidate", True),
        ("s-maxage=9", True),
    ],
)
def test_some_directives_forbid_every_stale_use(control: str, forbidden: bool) -> None:
    stored = head({"Cache-Control": f"{control}, stale-while-revalidate=5"})
    assert forbids_stale(stored, Policy(), "/f") is forbidden
    window = stale_while_revalidate_seconds(stored, Policy(), "/f")
    assert window == (0 if forbidden else 5)


ERROR, SILENCE = Failure.ERROR_STATUS, Failure.NO_ANSWER


@pytest.mark.parametrize(
    ("control", "failure", "age", "policy", "allowed"),
    [
        ("max-age=10", ERROR, 5, {}, True),  # fresh, validated at the client's wish
        ("max-age=10", ERROR, 20, {}, False),
        ("max-age=10", SILENCE, 20, {}, True),
        ("max-age=10", SILENCE, 20 + 7 * DAY, {}, False),
        ("max-age=10, stale-if-error=30", ERROR, 40, {}, True),
        ("max-age=10, stale-if-error=30", ERROR, 41, {}, False),
        ("max-age=10", ERROR, 40, {"stale_if_error_seconds": 30.0}, True),
        ("max-age=10", ERROR, 41, {"stale_if_error_seconds": 30.0}, False),
        ("max-age=10, stale-if-error=5", ERROR, 40, {"stale_if_error_seconds": 30.0}, True),
        ("max-age=10, stale-if-error=x", ERROR, 11, {}, False),
        ("max-age=10, must-revalidate, stale-if-error=30", ERROR, 20, {}, False),
        ("max-age=10, must-revalidate", SILENCE, 20, {}, False),
        ("max-age=10, must-revalidate", SILENCE, 5, {}, True),
        ("max-age=10, proxy-revalidate", SILENCE, 20, {}, False),
        ("s-maxage=10", SILENCE, 20, {}, False),
        ("max-age=10, no-cache", SILENCE, 5, {}, False),
        ('max-age=10, no-cache="x"', SILENCE, 20, {}, True),
        ("no-cache", SILENCE, 20, {"force_ttl_seconds": 10.0}, True),
        ("must-revalidate", SILENCE, 20, {"force_ttl_seconds": 10.0}, False),
    ],
)
def test_stale_answers_for_a_failing_upstream_only_where_allowed(
    control: str, failure: Failure, age: float, policy: dict[str, Any], allowed: bool
) -> None:
    stored = entry({"Cache-Control": control})
    asked = request({"Cache-Control": "no-cache"})
    assert may_serve(stored, NOW + age, Policy(**policy), "/f", asked, failure) is allowed


def test_a_client_may_accept_staleness_on_error() -> None:
    stored = entry({"Cache-Control": "max-age=10"})
    asked = request({"Cache-Control": "stale-if-error=30"})
    assert may_serve(stored, NOW + 40, Policy(), "/f", asked, ERROR)
    assert not may_serve(stored, NOW + 41, Policy(), "/f", asked, ERROR)


def test_a_mount_s_patience_is_not_for_errors() -> None:
    stored = entry({"Cache-Control": "max-age=10"}, status=404)
    policy = Policy(stale_if_error_seconds=100.0)
    assert not may_serve(stored, NOW + 40, policy, "/f", request(), ERROR)
