"""Asking whether a stored response still holds, and what an answer does to it (RFC 9111 §4.3).

Also what proves two responses to be of one representation, and what an unsafe request makes
invalid (§4.4).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from urllib.parse import urldefrag, urljoin, urlsplit

from forebay.model import Entry, Fields, Head, Identity
from forebay.rules.content_range import content_range_of
from forebay.rules.dates import parse_http_date
from forebay.rules.fields import content_length, entity_tag_of, single
from forebay.rules.storing import fields_to_store, with_date

SAFE_METHODS: Final = frozenset(
    {"GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "REPORT", "SEARCH"}
)
"""Methods known to change nothing (RFC 9110 §9.2.1 and the registry); any other may."""


def conditional_fields(entry: Entry) -> Fields:
    """The fields that make our request upstream a conditional one (RFC 9111 §4.3.1).

    Empty where the entry has no validator, or is no success: a 304 stands for a 200 only, so
    that such an entry is asked for anew.
    """
    if not 200 <= entry.head.status < 300:
        return Fields()
    conditions: list[tuple[str, str]] = []
    tag = entity_tag_of(entry.head.fields)
    if tag is not None:
        conditions.append(("if-none-match", str(tag)))
    modified = _last_modified(entry.head.fields)
    if modified is not None:
        conditions.append(("if-modified-since", modified))
    return Fields(conditions)


def _last_modified(fields: Fields) -> str | None:
    """Last-Modified as it came, where it is a date at all."""
    value = single(fields, "last-modified")
    return value if value is not None and parse_http_date(value) is not None else None


def freshens(entry: Entry, head304: Head) -> bool:
    """Whether this 304, an answer to ``conditional_fields(entry)``, is about this entry.

    RFC 9111 §4.3.4: its strong validator must be the entry's strongly, a weak one weakly.
    Without any validator it is believed: our request named this one entry's and no others.
    """
    tag, ours = entity_tag_of(head304.fields), entity_tag_of(entry.head.fields)
    if tag is not None and ours is not None:
        return tag.matches_strongly(ours) if tag.is_strong else tag.matches_weakly(ours)
    modified, our_modified = _last_modified(head304.fields), _last_modified(entry.head.fields)
    if modified is None or our_modified is None:
        # A strong tag that the entry cannot match, and nothing else that does.
        return tag is None or not tag.is_strong
    return parse_http_date(modified) == parse_http_date(our_modified)


def refreshed(
    entry: Entry,
    head304: Head,
    request_time: float,
    response_time: float,
    *,
    own_origin: bool = False,
) -> Entry:
    """The entry with fields and times of the response that validated it (RFC 9111 §3.2).

    Bytes, status, identity and selecting values stay. Only for a response that ``freshens`` the
    entry. ``own_origin`` as for ``storing.fields_to_store``. The result may have become one that
    is not to be kept: ``storing.storable`` says so of its head.
    """
    news = fields_to_store(head304, own_origin=own_origin)
    fields = _updated(entry.head.fields, news, response_time)
    head = replace(entry.head, fields=fields)
    return replace(entry, head=head, request_time=request_time, response_time=response_time)


# What the stored bytes depend on: how many they are, how they are coded, which part of what
# (RFC 9111 §3.2, second and fourth exception). Content-Digest is about the 304's own content.
_NEVER_UPDATED: Final = (
    "content-digest",
    "content-encoding",
    "content-length",
    "content-range",
)


def _updated(stored: Fields, news: Fields, response_time: float) -> Fields:
    news = news.without(*_NEVER_UPDATED)
    # A weak spelling of the tag we hold would cost clients their ranges and say nothing new.
    tag, ours = entity_tag_of(news), entity_tag_of(stored)
    if tag is not None and ours is not None and tag.weak and ours.is_strong:
        news = news.without("etag")
    # Age and Date are of the response that came now; what it lacks must not be left from before.
    kept = stored.without("age", "date", *(name for name, _ in news))
    merged = Fields((*kept, *news))
    # The new directives may name fields that are already here (§5.2.2.4, §5.2.2.7).
    cleaned = fields_to_store(Head(200, merged), own_origin=True)
    return with_date(cleaned, response_time)


def head_updates(
    entry: Entry, head: Head, request_time: float, response_time: float
) -> Entry | None:
    """What a response to HEAD does to a stored response to GET (RFC 9111 §4.3.5).

    The updated entry where every validator it has, and its Content-Length, agree; None where
    one does not, and the entry is to be forgotten. Another status than 200 says nothing.
    """
    if head.status != 200 or entry.head.status != 200:
        return entry
    for name in ("etag", "last-modified"):
        if name in head.fields and head.fields.get_all(name) != entry.head.fields.get_all(name):
            return None
    length = content_length(head.fields)
    known = entry.length_bytes is not None and "content-length" in head.fields
    if known and length != entry.length_bytes:
        return None
    return refreshed(entry, head, request_time, response_time)


def identity_of(head: Head, *, complete_length: int | None = None) -> Identity:
    """What proves a response to be of one representation.

    ``complete_length`` where the caller knows it; else it is that of Content-Range for a 206
    and of Content-Length for others. A weak or malformed tag is no proof and left out.
    """
    length = complete_length
    if length is None and head.status == 206:
        part = content_range_of(head)
        length = part.complete_length if part is not None else None
    elif length is None:
        length = content_length(head.fields)
    tag = entity_tag_of(head.fields)
    return Identity(
        length_bytes=length,
        etag=str(tag) if tag is not None and tag.is_strong else None,
        last_modified=_last_modified(head.fields),
    )


def same_identity(a: Identity, b: Identity, which: frozenset[str]) -> bool:
    """Whether both are of one representation, as far as ``which`` of etag, last-modified and
    length counts.

    What one side lacks proves no difference; but something must agree, and a length alone is
    enough only where nothing else counts.
    """
    agreed: set[str] = set()
    pairs: tuple[tuple[str, str | int | None, str | int | None], ...] = (
        ("etag", a.etag, b.etag),
        ("last-modified", a.last_modified, b.last_modified),
        ("length", a.length_bytes, b.length_bytes),
    )
    for name, ours, theirs in pairs:
        if name not in which or ours is None or theirs is None:
            continue
        if ours != theirs:
            return False
        agreed.add(name)
    return bool(agreed - {"length"}) or agreed == which == {"length"}


def invalidated_urls(request_method: str, target_url: str, head: Head) -> tuple[str, ...]:
    """The URLs whose entries this response to an unsafe request makes invalid (RFC 9111 §4.4).

    The target, and what Location and Content-Location name on the same origin; none where the
    method is safe or the response an error. Absolute, without fragment, each once.
    """
    if request_method in SAFE_METHODS or not 200 <= head.status < 400:
        return ()
    urls = [urldefrag(target_url).url]
    for name in ("location", "content-location"):
        value = single(head.fields, name)
        resolved = _resolve(target_url, value) if value else None
        if resolved is not None and _origin(resolved) == _origin(target_url):
            urls.append(resolved)
    return tuple(dict.fromkeys(urls))


def _resolve(base: str, reference: str) -> str | None:
    try:
        return urldefrag(urljoin(base, reference)).url
    except ValueError:
        return None


def _origin(url: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port (RFC 9110 §4.3.1); None for what is no http or https URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    default = {"http": 80, "https": 443}.get(parts.scheme)
    if default is None or not parts.hostname:
        return None
    return parts.scheme, parts.hostname.lower(), port or default
