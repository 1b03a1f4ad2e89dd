"""Sizes and durations are read as people write them, exactly, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.units import (
    describe_size,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        (4096, 4096),
        ("12B", 12),
        ("1k", 1000),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("64kib", 65_536),
        ("500G", 500_000_000_000),
        ("500 GB", 500_000_000_000),
        ("1Gi", 2**30),
        ("1.5T", 1_500_000_000_000),
        ("0.5KiB", 512),
        (" 2P ", 2 * 10**15),
    ],
)
def test_a_size_is_read(text: str | int, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "G",
        "5X",
        "-1",
        "1,5G",
        "1.5",
        "0.3K3",
        "1e9",
        "5GG",
        "5iB",
        "５G",
        "nan",
        "10E",
        "9999P",
    ],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"size|whole number|more than"):
        parse_size(text)


def test_a_truth_value_is_no_size() -> None:
    with pytest.raises(ValueError, match="True"):
        parse_size(True)


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_a_formatted_size_reads_as_itself(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0"), (1000, "1K"), (65_536, "64KiB"), (50 * 10**9, "50G"), (1001, "1001")],
)
def test_a_size_is_written_in_its_shortest_exact_form(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_500_000, "1.5 MB"), (120 * 10**9, "120 GB"),
     (999_999, "1 MB"), (99_970, "100 kB"), (10**18, "1000 PB")],
)  # fmt: skip
def test_a_size_is_told_in_three_digits(size_bytes: int, text: str) -> None:
    assert describe_size(size_bytes) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        (45, 45.0),
        (1.5, 1.5),
        ("45", 45.0),
        ("250ms", 0.25),
        ("10m", 600.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("30D", 2_592_000.0),
        ("2w", 1_209_600.0),
        ("1.5h", 5400.0),
    ],
)
def test_a_duration_is_read(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "m", "-1s", "1y", "30m1h", "1h1h", "1h,30m", "inf", "nan", "1e3", "200000d", "１０m"],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|hundred years"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**11))
def test_a_formatted_duration_reads_as_itself(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (0.25, "250ms"), (5400.0, "1h30m"), (2_592_000.0, "30d"), (75.0, "1m15s")],
)
def test_a_duration_is_written_with_the_larger_units_first(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
