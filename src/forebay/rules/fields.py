"""The grammar that field values share: tokens, lists, quoted strings, numbers, entity tags.

Each production stands here once, with its section, and nowhere else. Everything is linear in
the length of the value, whatever a stranger sends: the patterns are possessive and no digit
string is turned into a number before its length is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from forebay.model import Fields

DELTA_MAX_SECONDS: Final = 2**31
"""What a delta-seconds too large to represent counts as (RFC 9111 §1.2.2): 68 years."""

POSITION_MAX: Final = 2**63 - 1
"""The largest byte position, length or size that is told from larger ones: a file's limit."""

_OWS: Final = " \t"  # RFC 9110 §5.6.3

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 §5.6.2

# The text of a list element between quoted strings and commas (RFC 9110 §5.6.1).
_UNQUOTED: Final = re.compile(r'[^",]+')

# Alternatives that exclude each other: linear without possessive groups, which some patch releases
# of Python 3.11 match wrongly.
_QUOTED_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)  # RFC 9110 §5.6.4
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
_DIGITS: Final = re.compile(r"[0-9]+")

# entity-tag = [ weak ] opaque-tag (RFC 9110 §8.8.3); obs-text is Latin-1 here.
_ENTITY_TAG: Final = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*+")')
# What some servers send in its place: the opaque part without its quotes.
_BARE_TAG: Final = re.compile(r'[^\x00-\x20",\x7f*]++')
_TAG_ELEMENT: Final = re.compile(
    rf"(?:{_ENTITY_TAG.pattern}|(?P<bare>{_BARE_TAG.pattern}))[ \t]*+(?=,|\Z)"
)
_TAG_GAP: Final = re.compile(r"[ \t,]++")


_SECRET_FIELD = re.compile(r".*(auth|cookie|credential|key|password|secret|session|token).*")


def is_secret(name: str) -> bool:
    """Whether a field of this name, lower-case, is likely to carry a credential."""
    return _SECRET_FIELD.fullmatch(name) is not None


def is_token(value: str) -> bool:
    """Whether the whole value is one token (RFC 9110 §5.6.2)."""
    return _TOKEN.fullmatch(value) is not None


def tokens_in(value: str) -> tuple[str, ...]:
    """Every token in a piece of text, whatever stands between them."""
    return tuple(_TOKEN.findall(value))


def split_list(value: str) -> tuple[str, ...]:
    """The elements of a comma-separated list, trimmed, empty ones left out (RFC 9110 §5.6.1).

    A comma inside a quoted string does not separate. A quote that never closes is an ordinary
    character, so that it cannot hide the elements behind it.
    """
    elements: list[str] = []
    position = 0
    while position < len(value):
        end = _element_end(value, position)
        if end < len(value) and value[end] == '"':
            first, *rest = value[end:].split(",")
            elements.append(value[position:end] + first)
            elements.extend(rest)
            break
        elements.append(value[position:end])
        position = end + 1
    return tuple(trimmed for element in elements if (trimmed := element.strip(_OWS)))


def _element_end(value: str, position: int) -> int:
    """Where the element ends: at a comma, at a quote that never closes, or with the value."""
    while position < len(value) and value[position] != ",":
        pattern = _QUOTED_STRING if value[position] == '"' else _UNQUOTED
        match = pattern.match(value, position)
        if match is None:
            return position
        position = match.end()
    return position


def list_members(fields: Fields, name: str) -> tuple[str, ...]:
    """The elements of a list field over all its lines (RFC 9110 §5.3)."""
    return tuple(element for line in fields.get_all(name) for element in split_list(line))


def unquote(value: str) -> str | None:
    """What a token or quoted string says, its escapes undone; None if it is neither."""
    if is_token(value):
        return value
    match = _QUOTED_STRING.fullmatch(value)
    return _QUOTED_PAIR.sub(r"\1", match[1]) if match else None


def parse_digits(value: str, limit: int) -> int | None:
    """A run of ASCII digits as a number, at most ``limit``; None for anything else.

    Takes any number of digits, leading zeros included, without the cost of a huge integer.
    """
    if _DIGITS.fullmatch(value) is None:
        return None
    significant = value.lstrip("0")
    if len(significant) > len(str(limit)):
        return limit
    return min(int(significant or "0"), limit)


def parse_delta_seconds(value: str) -> int | None:
    """Delta-seconds (RFC 9111 §1.2.2), at most ``DELTA_MAX_SECONDS``; None where malformed."""
    return parse_digits(value, DELTA_MAX_SECONDS)


def single(fields: Fields, name: str) -> str | None:
    """The value of a field of which one line is allowed, trimmed; None for none or several."""
    values = fields.get_all(name)
    return values[0].strip(_OWS) if len(values) == 1 else None


def content_length(fields: Fields) -> int | None:
    """The declared length in bytes; None where missing or in doubt (RFC 9110 §8.6).

    The same number repeated, in a list or on several lines, counts once.
    """
    numbers = {
        parse_digits(element, POSITION_MAX) for element in list_members(fields, "content-length")
    }
    return numbers.pop() if len(numbers) == 1 else None


_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


# Fields for every recipient, which no sender may name in Connection (RFC 9110 §7.6.1). Losing
# one of these would change what the message means, or let it live longer than it may.
_NEVER_OPTIONS: Final = frozenset(
    {
        "age",
        "cache-control",
        "cdn-cache-control",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "date",
        "expires",
        "host",
        "vary",
    }
)


def connection_specific(fields: Fields) -> frozenset[str]:
    """Lower-case names of the fields meant for this connection only (RFC 9110 §7.6.1).

    Those known to be hop-by-hop, and each that Connection names and may name.
    """
    named = frozenset(element.lower() for element in list_members(fields, "connection"))
    return _HOP_BY_HOP | (named - _NEVER_OPTIONS)


@dataclass(frozen=True, slots=True)
class EntityTag:
    """An entity tag as it came (RFC 9110 §8.8.3).

    ``opaque`` keeps its double quotes, and any octet above them as one Latin-1 character. A tag
    that a server sent without quotes is kept so: it equals only itself and is never strong.
    """

    weak: bool
    opaque: str

    def __str__(self) -> str:
        return f"W/{self.opaque}" if self.weak else self.opaque

    @property
    def is_strong(self) -> bool:
        return not self.weak and self.opaque.startswith('"')

    def matches_strongly(self, other: EntityTag) -> bool:
        """Strong comparison (RFC 9110 §8.8.3.2): for ranges, and for If-Match."""
        return self.is_strong and other.is_strong and self.opaque == other.opaque

    def matches_weakly(self, other: EntityTag) -> bool:
        """Weak comparison (RFC 9110 §8.8.3.2): for If-None-Match."""
        return self.opaque == other.opaque


TagList: TypeAlias = Literal["*"] | tuple[EntityTag, ...]
"""What If-Match or If-None-Match says: any representation, or one of these."""


def parse_entity_tag(value: str) -> EntityTag | None:
    """One entity tag (RFC 9110 §8.8.3); None where the value is no tag by any reading."""
    trimmed = value.strip(_OWS)
    match = _ENTITY_TAG.fullmatch(trimmed)
    if match is not None:
        return EntityTag(match[1] is not None, match[2])
    return EntityTag(False, trimmed) if _BARE_TAG.fullmatch(trimmed) else None


def entity_tag_of(fields: Fields) -> EntityTag | None:
    """The tag in a response's ETag field; None where missing, doubled or malformed."""
    value = single(fields, "etag")
    return parse_entity_tag(value) if value else None


def parse_entity_tags(values: Iterable[str]) -> TagList:
    """The tags of If-Match or If-None-Match over all lines (RFC 9110 §13.1.1, §13.1.2).

    ``*`` counts only alone. What cannot be read is passed over: it matches nothing.
    """
    text = ",".join(values)
    if text.strip(_OWS) == "*":
        return "*"
    tags: list[EntityTag] = []
    position = 0
    while position < len(text):
        gap = _TAG_GAP.match(text, position)
        position = gap.end() if gap else position
        match = _TAG_ELEMENT.match(text, position)
        if match is None:
            comma = text.find(",", position)
            position = comma if comma >= 0 else len(text)
            continue
        position = match.end()
        opaque = match["bare"] if match[2] is None else match[2]
        tags.append(EntityTag(match[1] is not None, opaque))
    return tuple(tags)
