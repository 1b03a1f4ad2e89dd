"""From an entry and a request to a reply: conditions, ranges, fields (steps 5 to 8)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from forebay.model import CacheStatus, Entry, Fields, Interval, Request
from forebay.ports import Body, Reply
from forebay.rules import conditions, ranges
from forebay.rules.content_range import unsatisfied_range
from forebay.rules.digest_fields import repr_digest
from forebay.rules.heads import response_fields
from forebay.streaming.reader import BytesBody, SequenceBody


@dataclass(frozen=True, slots=True)
class Plain:
    """An answer without bytes of the entry: 304, 412, 416, or a HEAD."""

    status: int
    fields: Fields
    length_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Bytes:
    """An answer with bytes of the entry. ``intervals`` None means everything, however long."""

    status: int
    fields: Fields
    intervals: tuple[Interval, ...] | None
    length_bytes: int | None
    layout: ranges.Layout | None = None


def shape(request: Request, entry: Entry) -> Plain | Bytes:
    """What to answer from this entry, before anybody opens anything (RFC 9110 §13, §14)."""
    fields, length = told_fields(entry), entry.length_bytes
    match conditions.evaluate(request, entry.head):
        case conditions.NotModified():
            return Plain(304, conditions.not_modified_fields(fields))
        case conditions.PreconditionFailed():
            return Plain(412, Fields([("content-length", "0")]), 0)
        case conditions.Proceed():
            pass
    if request.method == "HEAD" or length is None:
        return _whole(request, entry, length)
    match ranges.select(request, entry.head, length):
        case ranges.Whole():
            return _whole(request, entry, length)
        case ranges.Unsatisfiable():
            unsatisfied = [("content-range", unsatisfied_range(length)), ("content-length", "0")]
            return Plain(416, Fields(unsatisfied), 0)
        case ranges.Part(interval):
            fields = ranges.part_fields(fields, interval, length)
            return Bytes(206, fields, (interval,), interval.length_bytes)
        case ranges.Parts(intervals):
            layout = ranges.multipart_layout(
                intervals, length, fields.get("content-type"), secrets.token_hex(16)
            )
            fields = ranges.parts_fields(fields, layout)
            return Bytes(206, fields, intervals, layout.length_bytes, layout)
        case unknown:
            assert_never(unknown)


def told_fields(entry: Entry) -> Fields:
    """The stored fields, with the digest of the whole where we know one (RFC 9530 §3).

    What we have computed takes the place of what upstream has told: it is of these very bytes.
    """
    fields = entry.head.fields
    value = repr_digest(entry.digests) if entry.complete else None
    return fields if value is None else fields.with_field("repr-digest", value)


def _whole(request: Request, entry: Entry, length: int | None) -> Plain | Bytes:
    fields = told_fields(entry).without("content-length")
    if length is not None and entry.head.status != 204:
        fields = fields.with_field("content-length", str(length))
    if request.method == "HEAD":
        return Plain(entry.head.status, fields)
    return Bytes(entry.head.status, fields, None, length)


async def finish(
    shaped: Plain | Bytes,
    entry: Entry,
    status: CacheStatus,
    now: float,
    age_seconds: float | None,
    open_part: Callable[[Interval | None], Body],
) -> Reply:
    """The reply, with its body opened by ``open_part``, for each interval once and in order.

    Raises what ``open_part`` raises, everything that it had opened then closed.
    """
    reply = headed(shaped, entry, status, now, age_seconds)
    if isinstance(shaped, Bytes):
        reply.body = await _open(shaped, open_part)
    return reply


def headed(
    shaped: Plain | Bytes, entry: Entry, status: CacheStatus, now: float, age_seconds: float | None
) -> Reply:
    """The reply without its body."""
    ranged = entry.head.status == 200 and entry.length_bytes is not None
    fields = response_fields(
        shaped.fields, status, now=now, age_seconds=age_seconds, accept_ranges=ranged
    )
    return Reply(
        shaped.status, fields, None, status, entry.name, shaped.length_bytes, _reason(shaped, entry)
    )


async def _open(shaped: Bytes, open_part: Callable[[Interval | None], Body]) -> Body:
    if shaped.layout is None:
        return open_part(shaped.intervals[0] if shaped.intervals else None)
    bodies: list[Body] = []
    try:
        # What was opened before one that cannot be is in the list, and is closed.
        bodies.extend(
            BytesBody(piece) if isinstance(piece, bytes) else open_part(piece)
            for piece in shaped.layout.pieces
        )
    except BaseException:
        await SequenceBody(bodies).aclose()
        raise
    return SequenceBody(bodies)


def _reason(shaped: Plain | Bytes, entry: Entry) -> str:
    return entry.head.reason if shaped.status == entry.head.status else ""


def needed(shaped: Plain | Bytes, entry: Entry) -> tuple[Interval, ...]:
    """The bytes of the entry that this answer takes, where the length is known."""
    if isinstance(shaped, Plain):
        return ()
    if shaped.intervals is not None:
        return shaped.intervals
    length = entry.length_bytes
    return () if not length else (Interval(0, length),)
