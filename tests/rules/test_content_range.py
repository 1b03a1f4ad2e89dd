"""RFC 9110 §14.4: Content-Range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Interval
from forebay.rules.content_range import (
    ContentRange,
    content_range,
    content_range_of,
    format_range,
    parse_content_range,
    unsatisfied_range,
)
from forebay.rules.ranges import IntRange, parse_range
from tests.rules.making import head


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("bytes 0-0/1", ContentRange(0, 1, 1)),
        ("bytes 2-4/10", ContentRange(2, 5, 10)),
        ("Bytes 2-4/*", ContentRange(2, 5, None)),
        (" bytes 002-4/10 ", ContentRange(2, 5, 10)),
        ("bytes 0-9223372036854775805/9223372036854775806", ContentRange(0, 2**63 - 2, 2**63 - 2)),
        ("bytes 4-2/10", None),
        ("bytes 2-10/10", None),
        ("bytes 0-0/0", None),
        ("bytes */10", None),
        ("bytes 2-/10", None),
        ("bytes -4/10", None),
        ("bytes 2-4", None),
        ("bytes 2-4/", None),
        ("bytes=2-4/10", None),
        ("bytes  2-4/10", None),
        ("bytes 2 - 4/10", None),
        ("bytes 2-4 / 10", None),
        ("items 2-4/10", None),
        ("bytes 2-4/10, bytes 5-6/10", None),
        ("bytes 0-9223372036854775807/*", None),
        ("bytes 0-4/9223372036854775807", None),
        ("bytes 0-" + "9" * 5000 + "/*", None),
        ("bytes +2-4/10", None),
        ("", None),
    ],
)
def test_content_range_is_read_strictly(value: str, parsed: ContentRange | None) -> None:
    assert parse_content_range(value) == parsed


def test_an_unsatisfied_range_tells_the_length() -> None:
    assert unsatisfied_range(0) == "bytes */0"
    assert unsatisfied_range(10) == "bytes */10"


@pytest.mark.parametrize("status", [200, 416])
def test_content_range_means_nothing_outside_a_206(status: int) -> None:
    assert content_range_of(head({"Content-Range": "bytes 0-0/1"}, status)) is None


@given(st.integers(0, 2**40), st.integers(1, 2**40), st.none() | st.integers(0, 2**40))
def test_what_is_printed_is_read_back(start: int, size: int, more: int | None) -> None:
    part = Interval(start, start + size)
    length = None if more is None else part.stop + more
    parsed = parse_content_range(content_range(part, length))
    assert parsed == ContentRange(part.start, part.stop, length)
    assert parsed.interval == part
    assert parse_range(format_range(part)) == (IntRange(start, start + size - 1),)
    assert parse_content_range(unsatisfied_range(size)) is None
