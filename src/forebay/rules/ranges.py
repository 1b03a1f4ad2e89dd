"""Which bytes of a representation a request wants (RFC 9110 §14).

The work is bounded by the length of the field, the number of parts by ``MAX_PARTS``, and parts
never overlap, so that no request gets more bytes than the representation has, plus framing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from forebay.model import Fields, Head, Interval, Request
from forebay.rules.content_range import content_range
from forebay.rules.dates import parse_http_date
from forebay.rules.fields import (
    POSITION_MAX,
    entity_tag_of,
    parse_digits,
    parse_entity_tag,
    single,
    split_list,
)

MAX_SPECS: Final = 256
"""Range-specs in one field beyond which it is ignored (RFC 9110 §14.2). httpd's limit is 200,
nginx has none; zchunk clients ask for many at once, and take the whole as well."""

MAX_PARTS: Final = 64
"""Parts of one answer, after coalescing, beyond which the whole is sent."""

COALESCE_GAP_BYTES: Final = 128
"""Gaps shorter than this are sent along: the framing of one more part costs as much
(RFC 9110 §15.3.7.2)."""

# range-unit "=" range-set (RFC 9110 §14.1); units are case-insensitive.
_SPECIFIER: Final = re.compile(r"bytes=(.*)", re.IGNORECASE)
_RANGE_SPEC: Final = re.compile(r"([0-9]*)-([0-9]*)")
# What nearly every request for a part says, in numbers that cannot be too large.
_ONE_INTERVAL: Final = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})")

# bcharsnospace (RFC 2046 §5.1.1), those that need no quoting in a parameter.
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'+_.-]{1,70}")


@dataclass(frozen=True, slots=True)
class IntRange:
    """From byte ``first`` to byte ``last``, included, or to the end (RFC 9110 §14.1.1)."""

    first: int
    last: int | None = None


@dataclass(frozen=True, slots=True)
class SuffixRange:
    """The last ``length_bytes`` bytes (RFC 9110 §14.1.1)."""

    length_bytes: int


RangeSpec: TypeAlias = IntRange | SuffixRange
RangeSpecs: TypeAlias = tuple[RangeSpec, ...]


@dataclass(frozen=True, slots=True)
class Whole:
    """No range applies: the whole representation, 200."""


@dataclass(frozen=True, slots=True)
class Part:
    """One interval: 206 with Content-Range."""

    interval: Interval


@dataclass(frozen=True, slots=True)
class Parts:
    """At least two intervals, disjoint, in the order they are sent: 206 multipart/byteranges."""

    intervals: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """Nothing of what was asked for exists: 416 with the complete length."""


Selected: TypeAlias = Whole | Part | Parts | Unsatisfiable


def parse_range(value: str) -> RangeSpecs | None:
    """The range-specs of a Range field in their order; None where it is to be ignored.

    That is: another unit, anything malformed or reversed, no spec at all, or too many of them
    (RFC 9110 §14.2). Numbers beyond 2**63 - 1 count as that.
    """
    match = _ONE_INTERVAL.fullmatch(value)
    if match is not None:
        first, last = int(match[1]), int(match[2])
        return (IntRange(first, last),) if first <= last else None
    match = _SPECIFIER.fullmatch(value.strip(" \t"))
    if match is None or match[1].count(",") >= 2 * MAX_SPECS:
        return None
    specs = tuple(_parse_spec(element) for element in split_list(match[1]))
    if not 0 < len(specs) <= MAX_SPECS:
        return None
    valid = tuple(spec for spec in specs if spec is not None)
    return valid if len(valid) == len(specs) else None


def _parse_spec(element: str) -> RangeSpec | None:
    match = _RANGE_SPEC.fullmatch(element)
    if match is None:
        return None
    first, last = parse_digits(match[1], POSITION_MAX), parse_digits(match[2], POSITION_MAX)
    if first is None:
        return None if last is None else SuffixRange(last)
    if last is not None and last < first:
        return None
    return IntRange(first, last)


def format_specs(specs: RangeSpecs) -> str:
    """The Range value that says this."""
    return "bytes=" + ", ".join(
        f"-{spec.length_bytes}"
        if isinstance(spec, SuffixRange)
        else f"{spec.first}-{'' if spec.last is None else spec.last}"
        for spec in specs
    )


def range_bounds_hint(request: Request) -> RangeSpecs | None:
    """What the request asks for, before length and validators are known; None for the whole.

    Says where to begin fetching, and nothing about the answer: that is ``select``'s.
    """
    # Only GET has ranges, and only one Range field can be meant (RFC 9110 §14.2).
    value = single(request.fields, "range") if request.method == "GET" else None
    return None if value is None else parse_range(value)


def select(request: Request, head: Head, length_bytes: int) -> Selected:
    """What to send of a representation of this length (RFC 9110 §14.2, §13.2.2 step 5).

    ``head`` is what would be sent without Range, with its validators and Date.
    """
    # 1. Range applies to a GET whose answer would be 200.
    specs = range_bounds_hint(request)
    if specs is None or head.status != 200:
        return Whole()
    # 2. If-Range that does not hold.
    if not if_range_holds(request, head):
        return Whole()
    return select_specs(specs, length_bytes)


def plain_part(value: str, length_bytes: int) -> Interval | None:
    """What ``select_specs`` makes of a value that plainly names one part that exists, which is
    what downloads in parts ask for. None says nothing: ``parse_range`` is to be asked."""
    match = _ONE_INTERVAL.fullmatch(value)
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    return Interval(first, last + 1) if first <= last < length_bytes else None


def select_specs(specs: RangeSpecs, length_bytes: int) -> Selected:
    """The same where Range is known to apply: its specs alone against the length."""
    # 3. Nothing of it exists. Of an empty representation a suffix does, and it is the whole.
    satisfiable = _satisfiable(specs, length_bytes)
    if not satisfiable:
        has_suffix = any(isinstance(s, SuffixRange) and s.length_bytes for s in specs)
        return Whole() if length_bytes == 0 and has_suffix else Unsatisfiable()
    # 4. As few parts as will do.
    intervals = satisfiable if len(satisfiable) == 1 else _coalesced(satisfiable)
    if len(intervals) == 1:
        return Part(intervals[0])
    return Parts(tuple(intervals)) if len(intervals) <= MAX_PARTS else Whole()


def if_range_holds(request: Request, head: Head) -> bool:
    """Whether If-Range lets Range apply; true where there is none (RFC 9110 §13.1.5)."""
    if "if-range" not in request.fields:
        return True
    value = single(request.fields, "if-range")
    if value is None:
        return False
    date = parse_http_date(value)
    if date is None:
        # An entity tag, compared strongly: bytes of two representations must never be joined.
        asked, ours = parse_entity_tag(value), entity_tag_of(head.fields)
        return asked is not None and ours is not None and asked.matches_strongly(ours)
    # A date, which must be the very Last-Modified, and that one strong.
    return date == strong_last_modified(head.fields)


def strong_last_modified(fields: Fields) -> float | None:
    """Last-Modified in seconds where it is a strong validator, else None (RFC 9110 §8.8.2.2).

    It is strong where Date shows that the second it names was over when the response was made:
    nothing can have changed twice within it unseen.
    """
    modified_text, date_text = single(fields, "last-modified"), single(fields, "date")
    if modified_text is None or date_text is None:
        return None
    date = parse_http_date(date_text)
    modified = parse_http_date(modified_text, now=date)
    if date is None or modified is None or date < modified + 1:
        return None
    return modified


def _satisfiable(specs: RangeSpecs, length_bytes: int) -> list[Interval]:
    """The bytes that each spec means, in their order; specs with none left out (§14.1.1)."""
    intervals: list[Interval] = []
    for spec in specs:
        if isinstance(spec, SuffixRange):
            interval = Interval(max(0, length_bytes - spec.length_bytes), length_bytes)
        else:
            last = length_bytes - 1 if spec.last is None else min(spec.last, length_bytes - 1)
            interval = Interval(spec.first, last + 1)
        if interval.start < interval.stop:
            intervals.append(interval)
    return intervals


def _coalesced(asked: Sequence[Interval]) -> tuple[Interval, ...]:
    """The intervals with overlapping and nearly touching ones joined (RFC 9110 §15.3.7.2).

    In the order asked for, each at the place of the first of its members: a client that asks out
    of order wants them so.
    """
    merged: list[Interval] = []
    places: list[int] = []
    for place, (start, stop) in sorted(enumerate(asked), key=lambda numbered: numbered[1]):
        if merged and start < merged[-1].stop + COALESCE_GAP_BYTES:
            merged[-1] = Interval(merged[-1].start, max(stop, merged[-1].stop))
            places[-1] = min(places[-1], place)
        else:
            merged.append(Interval(start, stop))
            places.append(place)
    return tuple(interval for _, interval in sorted(zip(places, merged, strict=True)))


@dataclass(frozen=True, slots=True)
class Layout:
    """A multipart/byteranges body (RFC 9110 §14.6): framing bytes and intervals of the
    representation in the order they are sent, with the length of the whole."""

    pieces: tuple[bytes | Interval, ...]
    length_bytes: int
    content_type: str


def multipart_layout(
    parts: Sequence[Interval], complete_length: int, content_type: str | None, boundary: str
) -> Layout:
    """How these parts are framed; ``content_type`` is the representation's own.

    ``boundary`` must not occur in the body: at least 16 random characters, made by the caller.
    Raises ``ValueError`` where it is not 1 to 70 characters that need no quoting.
    """
    if _BOUNDARY.fullmatch(boundary) is None:
        raise ValueError("A multipart boundary has 1 to 70 letters, digits or '+_.-.")
    type_line = "" if content_type is None else f"Content-Type: {content_type}\r\n"
    pieces: list[bytes | Interval] = []
    for number, interval in enumerate(parts):
        opening = (
            f"{'' if number == 0 else chr(13) + chr(10)}--{boundary}\r\n{type_line}"
            f"Content-Range: {content_range(interval, complete_length)}\r\n\r\n"
        )
        pieces += [opening.encode("latin-1"), interval]
    pieces.append(f"\r\n--{boundary}--\r\n".encode("ascii"))
    length_bytes = sum(p.length_bytes if isinstance(p, Interval) else len(p) for p in pieces)
    return Layout(tuple(pieces), length_bytes, f"multipart/byteranges; boundary={boundary}")


# Statements about the content as a whole message, false of a part of it (RFC 9530 §2).
_ABOUT_WHOLE_CONTENT: Final = ("content-digest", "content-md5", "content-length", "content-range")


def part_fields(fields: Fields, interval: Interval, complete_length: int) -> Fields:
    """The fields of a 206 with one part, from those of the 200 (RFC 9110 §15.3.7.1)."""
    return (
        fields.without(*_ABOUT_WHOLE_CONTENT)
        .with_field("content-range", content_range(interval, complete_length))
        .with_field("content-length", str(interval.length_bytes))
    )


def parts_fields(fields: Fields, layout: Layout) -> Fields:
    """The fields of a 206 with several parts, from those of the 200 (RFC 9110 §15.3.7.2)."""
    return (
        fields.without(*_ABOUT_WHOLE_CONTENT)
        .with_field("content-type", layout.content_type)
        .with_field("content-length", str(layout.length_bytes))
    )
