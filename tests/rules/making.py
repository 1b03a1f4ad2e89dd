"""Short ways to write the values that tables of cases are made of."""

from __future__ import annotations

from typing import Any

from forebay.model import Entry, Fields, Head, Identity, Interval, Request
from forebay.rules.dates import format_http_date

NOW = 1_700_000_000.0
"""A moment with a whole second, when every entry here was received unless it says otherwise."""

Lines = dict[str, str] | list[tuple[str, str]]


def fields(lines: Lines | None = None) -> Fields:
    return Fields(lines.items() if isinstance(lines, dict) else lines or [])


def request(lines: Lines | None = None, method: str = "GET") -> Request:
    return Request(method, "/f", fields=fields(lines))


def head(lines: Lines | None = None, status: int = 200) -> Head:
    return Head(status, fields(lines))


def date(offset_seconds: float = 0) -> str:
    return format_http_date(NOW + offset_seconds)


def entry(lines: Lines | None = None, status: int = 200, **changes: Any) -> Entry:
    """A complete entry of ten bytes, received at ``NOW`` without delay."""
    values: dict[str, Any] = {
        "key": "k",
        "entry_id": "e",
        "name": "http://up.example/f",
        "mount": "url",
        "head": head(lines, status),
        "identity": Identity(length_bytes=10),
        "request_time": NOW,
        "response_time": NOW,
        "coverage": (Interval(0, 10),),
        "complete": True,
    }
    return Entry(**{**values, **changes})
