"""Content-Range and Range as text: what a part of a representation is called (RFC 9110 §14.4).

Read strictly. A Content-Range that is almost right is what tells apart a part from its
neighbour, so that leniency here would splice wrong bytes.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from forebay.model import Head, Interval
from forebay.rules.fields import POSITION_MAX, parse_digits, single

_RANGE_RESP: Final = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+|\*)", re.IGNORECASE)


class ContentRange(NamedTuple):
    """The bytes ``start`` to ``stop`` (not included) of ``complete_length``, None if unknown."""

    start: int
    stop: int
    complete_length: int | None

    @property
    def interval(self) -> Interval:
        return Interval(self.start, self.stop)


def parse_content_range(value: str) -> ContentRange | None:
    """The Content-Range of a part; None where it is malformed, impossible or beyond 2**63.

    The form without a part (``bytes */5``) gives None, too.
    """
    match = _RANGE_RESP.fullmatch(value.strip(" \t"))
    if match is None:
        return None
    first, last = parse_digits(match[1], POSITION_MAX), parse_digits(match[2], POSITION_MAX)
    length = None if match[3] == "*" else parse_digits(match[3], POSITION_MAX)
    if first is None or last is None or last < first or last >= POSITION_MAX:
        return None
    if length is not None and not last < length < POSITION_MAX:
        return None
    return ContentRange(first, last + 1, length)


def content_range_of(head: Head) -> ContentRange | None:
    """Which part a 206 brings; None where it is another status, multipart, or not certain."""
    if head.status != 206:
        return None
    value = single(head.fields, "content-range")
    return parse_content_range(value) if value is not None else None


def content_range(interval: Interval, complete_length: int | None) -> str:
    """The Content-Range value of this part."""
    length = "*" if complete_length is None else str(complete_length)
    return f"bytes {interval.start}-{interval.stop - 1}/{length}"


def unsatisfied_range(complete_length: int) -> str:
    """The Content-Range value of a 416 (RFC 9110 §15.5.17)."""
    return f"bytes */{complete_length}"


def format_range(interval: Interval) -> str:
    """The Range value that asks for this interval."""
    return f"bytes={interval.start}-{interval.stop - 1}"
