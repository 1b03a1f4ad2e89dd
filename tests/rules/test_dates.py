"""RFC 9110 §5.6.7, RFC 9111 §4.2: HTTP dates."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.rules.dates import format_http_date, parse_http_date

MOMENT = 784_111_777.0  # the RFC's own example


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "sun, 06 nov 1994 08:49:37 gmt",
        " Sun, 06 Nov 1994 08:49:37 GMT\t",
    ],
)
def test_the_three_forms_name_the_same_moment(value: str) -> None:
    assert parse_http_date(value) == MOMENT


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0",
        "-1",
        "784111777",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 EST",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun,  06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994  08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06 November 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun Nov 06 08:49:37 1994 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "1994-11-06T08:49:37Z",
        "Sun, 06 Nov 1994 08:49:37 GMT" + " " * 9999 + "x",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
    ],
)
def test_nothing_else_is_a_date(value: str) -> None:
    assert parse_http_date(value) is None


@pytest.mark.parametrize(
    ("two_digits", "this_year", "year"),
    [
        (94, 1994, 1994),
        (94, 2026, 1994),
        (76, 2026, 2076),
        (77, 2026, 1977),
        (0, 1999, 1900),
        (49, 1999, 1949),
        (5, 2026, 2005),
        (69, None, 2069),
        (70, None, 1970),
    ],
)
def test_a_two_digit_year_more_than_fifty_years_ahead_is_past(
    two_digits: int, this_year: int | None, year: int
) -> None:
    now = datetime(this_year, 6, 1, tzinfo=UTC).timestamp() if this_year else None
    parsed = parse_http_date(f"Monday, 01-Jan-{two_digits:02} 00:00:00 GMT", now=now)
    assert parsed == datetime(year, 1, 1, tzinfo=UTC).timestamp()


def test_a_leap_second_is_one_after_the_last() -> None:
    leap = parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT")
    assert leap == parse_http_date("Sun, 01 Jan 2017 00:00:00 GMT")


@given(st.integers(0, 253_402_300_799))
def test_what_is_printed_is_read_back(second: int) -> None:
    printed = format_http_date(second)
    assert parse_http_date(printed) == second
    assert printed == format_datetime(datetime.fromtimestamp(second, UTC), usegmt=True)


@given(st.floats(allow_nan=False))
def test_any_moment_can_be_printed(moment: float) -> None:
    assert parse_http_date(format_http_date(moment)) is not None


@given(st.text(max_size=40))
def test_any_text_can_be_read(value: str) -> None:
    assert parse_http_date(value) is None or "GMT" in value.upper() or value[-1:].isdigit()
