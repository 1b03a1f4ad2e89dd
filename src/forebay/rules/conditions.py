"""A client's preconditions, answered from what we hold (RFC 9110 §13, RFC 9111 §4.3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from forebay.model import Fields, Head, Request
from forebay.rules.dates import parse_http_date
from forebay.rules.fields import EntityTag, TagList, entity_tag_of, parse_entity_tags, single


@dataclass(frozen=True, slots=True)
class Proceed:
    """No condition stands in the way; If-Range is left to ``ranges.select``."""


@dataclass(frozen=True, slots=True)
class NotModified:
    """The client has this already: 304."""


@dataclass(frozen=True, slots=True)
class PreconditionFailed:
    """The client wants another representation than this: 412."""


Outcome: TypeAlias = Proceed | NotModified | PreconditionFailed


def evaluate(request: Request, head: Head) -> Outcome:
    """The outcome of the request's conditions for this head (RFC 9110 §13.2.2).

    ``head`` is the current one of the selected representation, complete or partial.
    """
    # Conditions count only where the answer would be a success (§13.2.1), and here only for the
    # methods that are answered from what is stored.
    if request.method not in {"GET", "HEAD"} or not 200 <= head.status < 300:
        return Proceed()
    asked, tag = request.fields, entity_tag_of(head.fields)

    # 1. If-Match, compared strongly.
    if "if-match" in asked:
        if not _any_matches(parse_entity_tags(asked.get_all("if-match")), tag, strongly=True):
            return PreconditionFailed()
    # 2. If-Unmodified-Since, only without If-Match. What cannot be read or compared is ignored.
    elif _modified_since(asked, "if-unmodified-since", _last_modified(head.fields)) is True:
        return PreconditionFailed()

    # 3. If-None-Match, compared weakly.
    if "if-none-match" in asked:
        if _any_matches(parse_entity_tags(asked.get_all("if-none-match")), tag, strongly=False):
            return NotModified()
    # 4. If-Modified-Since, only without If-None-Match.
    elif _modified_since(asked, "if-modified-since", _change_time(head.fields)) is False:
        return NotModified()

    # 5. If-Range and 6. the method itself are not ours to look at.
    return Proceed()


def _any_matches(tags: TagList, ours: EntityTag | None, *, strongly: bool) -> bool:
    if tags == "*":
        return True  # there is a representation, or we would not be asked
    if ours is None:
        return False
    return any(ours.matches_strongly(tag) if strongly else ours.matches_weakly(tag) for tag in tags)


def _modified_since(asked: Fields, name: str, changed: float | None) -> bool | None:
    """Whether the change came after the date in this field; None where that has no answer:
    no field, more than one, no HTTP-date, or no known time of change (§13.1.3, §13.1.4)."""
    value = single(asked, name)
    if value is None or changed is None:
        return None
    since = parse_http_date(value, now=changed)
    return None if since is None else changed > since


def _last_modified(fields: Fields) -> float | None:
    value = single(fields, "last-modified")
    return None if value is None else parse_http_date(value)


def _change_time(fields: Fields) -> float | None:
    """Last-Modified, or where there is none Date: it cannot have changed after that
    (RFC 9111 §4.3.2)."""
    if "last-modified" in fields:
        return _last_modified(fields)
    value = single(fields, "date")
    return None if value is None else parse_http_date(value)


# Representation metadata that a 304 leaves out, since the client has it (RFC 9110 §15.4.5).
_NOT_IN_304: Final = (
    "content-digest",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-range",
    "content-type",
    "digest",
    "repr-digest",
    "trailer",
    "transfer-encoding",
)


def not_modified_fields(fields: Fields) -> Fields:
    """The fields of a 304, from those of the 200 in its place (RFC 9110 §15.4.5).

    Cache-Control, Content-Location, Date, ETag, Expires, Vary and all that is no metadata of
    the representation stay; Last-Modified only where no ETag can take its part.
    """
    remaining = fields.without(*_NOT_IN_304)
    return remaining.without("last-modified") if "etag" in remaining else remaining
