"""Whether an answer to our range request brings bytes of the representation we are filling.

Everything that cannot be proved is refused: never is a byte of one representation put beside
one of another (RFC 9110 §13.1.5, §14.4; RFC 9111 §3.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from forebay.model import Head, Identity, Interval
from forebay.rules.content_range import content_range_of
from forebay.rules.dates import parse_http_date
from forebay.rules.fields import content_length, entity_tag_of, parse_digits, single
from forebay.rules.ranges import IntRange, parse_range
from forebay.rules.validation import identity_of, same_identity

MAX_RETRY_AFTER_SECONDS = 3600
EVERY_PART = frozenset({"etag", "last-modified", "length"})


@dataclass(frozen=True, slots=True)
class Proven:
    """The body holds these bytes of our representation, the asked start first.

    ``whole`` says that it is the complete representation, from byte 0, because the upstream
    ignored the range.
    """

    interval: Interval
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """The upstream's representation is another one now."""

    why: str


@dataclass(frozen=True, slots=True)
class Unusable:
    """The answer brings nothing, and proves nothing about the representation."""

    why: str


@dataclass(frozen=True, slots=True)
class Busy:
    """The upstream asks for fewer requests: 429 or 503, with Retry-After where it said so."""

    retry_after_seconds: float | None


Verdict: TypeAlias = Proven | Changed | Unusable | Busy


def prove(
    answer: Head, asked: Interval, ours: Head, identity: Identity, which: frozenset[str], now: float
) -> Verdict:
    """What this answer to a request for ``asked`` is worth.

    ``ours`` and ``identity`` are of the representation being filled; ``which`` are the parts of
    an identity that count (``TransferPolicy.identity``); ``now`` is for a Retry-After date.
    """
    # 1. A server that is overloaded says nothing about the representation.
    if answer.status in (429, 503):
        return Busy(retry_after_seconds(answer, now))
    # 2. 416: the range lies beyond an end that has moved. 412 is the same to If-Match.
    if answer.status in (412, 416):
        return Changed(f"upstream answered {answer.status} to a range that was there before")
    if answer.status not in (200, 206):
        return Unusable(f"upstream answered {answer.status} to a range request")
    # 3. A different coding is a different representation (RFC 9110 §8.4).
    if answer.fields.combined("content-encoding") != ours.fields.combined("content-encoding"):
        return Changed("the content coding differs")
    # 4. Without a validator that tells representations apart there is nothing to prove by.
    if not may_join(ours, which):
        return Changed("it has no validator that could prove it the same")
    theirs = identity_of(answer)
    if answer.status == 200:
        if not same_identity(identity, theirs, which):
            return Changed("the validators or the length differ")
        return Proven(Interval(0, asked.stop), whole=True)
    return _prove_part(answer, asked, identity, theirs, which)


def _prove_part(
    answer: Head, asked: Interval, identity: Identity, theirs: Identity, which: frozenset[str]
) -> Verdict:
    # 5. A 206 must say which part it is, begin where we asked, and not go beyond.
    part = content_range_of(answer)
    if part is None:
        return Unusable("a 206 came without one certain Content-Range")
    if part.complete_length != identity.length_bytes:
        return Changed("the complete length differs")
    if not same_identity(identity, theirs, which):
        return Changed("the validators differ")
    if part.start != asked.start or part.stop > asked.stop:
        return Unusable("a 206 brought another range than was asked for")
    declared = content_length(answer.fields)
    if declared is not None and declared != part.interval.length_bytes:
        return Unusable("a 206 has another length than its Content-Range")
    return Proven(part.interval)


def brings_what_was_asked(answer: Head, asked: str | None) -> bool:
    """Whether a 206 is the part that this Range value of one spec asks for (RFC 9110 §14.4).

    False for one that nobody asked for, and where Content-Length tells of another length.
    """
    part, specs = content_range_of(answer), parse_range(asked or "")
    if part is None or specs is None or len(specs) != 1:
        return False
    if content_length(answer.fields) not in {None, part.interval.length_bytes}:
        return False
    spec = specs[0]
    if isinstance(spec, IntRange):
        return part.start == spec.first and (spec.last is None or part.stop <= spec.last + 1)
    length = part.complete_length
    return length is not None and part.start == max(0, length - spec.length_bytes)


def says_which_part(answer: Head, asked: str | None) -> bool:
    """Whether a 206 answers a Range at all, and says what of the whole it brings (RFC 9110
    §15.3.7): one part by Content-Range, or several, each with its own."""
    if asked is None:
        return False
    kind = (answer.fields.get("content-type") or "").partition(";")[0].strip().lower()
    return kind == "multipart/byteranges" or content_range_of(answer) is not None


def may_join(head: Head, which: frozenset[str]) -> bool:
    """Whether bytes of another response may ever be put beside those of this one.

    It takes a strong validator, unless the operator has said (by leaving the entity tag out of
    ``which``) that the other parts of an identity are proof enough for this upstream.
    """
    return "etag" not in which or joining_validator(head, which) is not None


def joining_validator(head: Head, which: frozenset[str] = EVERY_PART) -> str | None:
    """The If-Range value under which bytes of two responses may be joined, or None.

    A strong entity tag, or a Last-Modified that is a minute older than the response's Date,
    and so cannot stand for two representations of one second (RFC 9110 §8.8.2.2, §13.1.5);
    of these only what counts by ``which`` (``TransferPolicy.identity``).
    """
    tag = entity_tag_of(head.fields)
    if "etag" in which and tag is not None:
        return str(tag) if tag.is_strong else None
    if "last-modified" not in which:
        return None
    modified, date = single(head.fields, "last-modified"), single(head.fields, "date")
    at, now = parse_http_date(modified or ""), parse_http_date(date or "")
    return modified if at is not None and now is not None and now - at >= 60 else None


def retry_after_seconds(answer: Head, now: float) -> float | None:
    """Retry-After in seconds from now, bounded (RFC 9110 §10.2.3); None where there is none."""
    value = single(answer.fields, "retry-after")
    if value is None:
        return None
    seconds = parse_digits(value, MAX_RETRY_AFTER_SECONDS)
    if seconds is not None:
        return float(min(seconds, MAX_RETRY_AFTER_SECONDS))
    date = parse_http_date(value)
    return None if date is None else min(max(date - now, 0.0), MAX_RETRY_AFTER_SECONDS)
