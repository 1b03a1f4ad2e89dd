"""Which fields go on, to a client or upstream, and how our own are added (RFC 9110 §7.6)."""

from __future__ import annotations

import math
import re
from typing import Final

from forebay.model import CacheStatus, Fields, Head
from forebay.rules.cache_status import CACHE_NAME, format_cache_status
from forebay.rules.content_range import content_range_of
from forebay.rules.dates import format_http_date, parse_http_date
from forebay.rules.fields import (
    DELTA_MAX_SECONDS,
    connection_specific,
    list_members,
    parse_digits,
    single,
)

COOKIE_FIELDS: Final = frozenset({"set-cookie", "set-cookie2"})

PROXY_FIELDS: Final = frozenset(
    {"proxy-authenticate", "proxy-authentication-info", "proxy-authorization"}
)
"""Between a client and its proxy; never stored (RFC 9111 §3.1)."""

SERVER_ORDERS: Final = frozenset(
    {
        "x-accel-buffering",
        "x-accel-charset",
        "x-accel-expires",
        "x-accel-limit-rate",
        "x-accel-redirect",
        "x-lighttpd-send-file",
        "x-sendfile",
        "x-sendfile2",
    }
)
"""What a server in front of us would take for orders of ours, to send files of its own."""

ORIGIN_WIDE_FIELDS: Final = frozenset(
    {
        "accept-ch",
        "alt-svc",
        "alternate-protocol",
        "attribution-reporting-register-source",
        "attribution-reporting-register-trigger",
        "clear-site-data",
        "critical-ch",
        "expect-ct",
        "nel",
        "origin-agent-cluster",
        "public-key-pins",
        "public-key-pins-report-only",
        "report-to",
        "reporting-endpoints",
        "sec-session-registration",
        "secure-session-registration",
        "service-worker-allowed",
        "set-login",
        "strict-transport-security",
        "use-as-dictionary",
    }
)
"""What a browser applies to a whole origin, and so, behind a shared one, to every upstream."""


_OF_A_PART: Final = frozenset(
    {"content-range", "content-length", "content-digest", "content-md5", "digest", "x-goog-hash"}
)

READING_FIELDS: Final = frozenset(
    {
        "accept",
        "authorization",
        "cache-control",
        "cookie",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "pragma",
        "range",
        "via",
    }
)
"""What a request that only reads may say to upstream; a mount's ``forward`` adds to it. Others
(``X-Original-URL``, ``X-Forwarded-Host``, tracing, whatever) have made servers answer for another
path or host, by which a cache was poisoned."""

_PROXYS_WORD: Final = re.compile(
    r"""(?:x-)?(?: forwarded | original | rewrite | real-?ip | client-?ip | cluster-client | host$
    | http-(?:host|method) | method-override | proxy | envoy | true-client | remote- | url$ )
    | (?: cf | fastly | fly | akamai | true )-client | cf-connecting""",
    re.VERBOSE,
)


def fields_to_pass(head: Head, *, cookies: bool = True, own_origin: bool = False) -> Fields:
    """The fields of a response that goes straight through to its one client.

    Without those of the connection, and without what speaks for our whole origin or to the
    server in front, unless the mount has an origin of its own. ``cookies`` is false where
    upstreams that do not trust each other share our origin.
    """
    gone = connection_specific(head.fields) | PROXY_FIELDS | SERVER_ORDERS | {"warning"}
    if not own_origin:
        gone |= ORIGIN_WIDE_FIELDS
        if not cookies:
            gone |= COOKIE_FIELDS
    return head.fields.without(*gone)


def fields_to_forward(method: str, fields: Fields) -> Fields:
    """The fields of a request that goes straight through to upstream (RFC 9110 §7.6.1).

    Host and Content-Length are left out, too: whoever sends the request sets them from what is
    really sent. Of Expect only 100-continue goes on
    (§10.1.1), with a body that can wait for it. A GET or HEAD takes along ``READING_FIELDS``
    alone, since its answer may say something of what is stored for all; other methods anything
    but what a server behind proxies takes for a proxy's word.
    """
    gone = connection_specific(fields) | PROXY_FIELDS | {"host", "content-length"}
    if not expects_continue(fields):
        gone |= {"expect"}
    reads = method in {"GET", "HEAD"}
    return Fields(
        (name, value)
        for name, value in fields.without(*gone)
        if (name in READING_FIELDS if reads else not _PROXYS_WORD.match(name))
    )


def expects_continue(fields: Fields) -> bool:
    """Whether the sender waits for 100 before its body (RFC 9110 §10.1.1)."""
    return (single(fields, "expect") or "").lower() == "100-continue"


def forwards_left(fields: Fields) -> int | None:
    """How many more recipients may forward a TRACE or OPTIONS (RFC 9110 §7.6.2); None where
    Max-Forwards is missing or unreadable."""
    value = single(fields, "max-forwards")
    return None if value is None else parse_digits(value, DELTA_MAX_SECONDS)


def with_fewer_forwards(fields: Fields) -> Fields:
    """The fields to forward, with one less in Max-Forwards (RFC 9110 §7.6.2)."""
    left = forwards_left(fields)
    return fields if left is None else fields.with_field("max-forwards", str(max(0, left - 1)))


def with_via(fields: Fields, pseudonym: str = CACHE_NAME, version: str = "1.1") -> Fields:
    """The fields with our member at the end of Via (RFC 9110 §7.6.3).

    ``version`` is that of the message as it was received.
    """
    return fields.with_line("via", f"{version} {pseudonym}")


def went_through(fields: Fields, pseudonym: str) -> bool:
    """Whether Via names this recipient already: a loop (RFC 9110 §7.6.3; then 508)."""
    wanted = pseudonym.lower()
    for member in list_members(fields, "via"):
        words = member.split()
        if len(words) > 1 and words[1].lower() == wanted:
            return True
    return False


def as_complete_head(head_206: Head) -> Head:
    """The head that a 200 would have had in place of this 206 (RFC 9110 §15.3.7.3).

    Content-Length is the complete length where Content-Range tells it. What is about the
    part's octets is gone, and so is what some servers let be about them (``Digest``, and checksums
    of S3 parts): of the digests only Repr-Digest is surely of the whole.
    """
    part = content_range_of(head_206)
    fields = Fields(
        (name, value)
        for name, value in head_206.fields
        if name not in _OF_A_PART and not name.startswith("x-amz-checksum-")
    )
    if part is not None and part.complete_length is not None:
        fields = fields.with_field("content-length", str(part.complete_length))
    return Head(200, fields, "OK")


def response_fields(
    fields: Fields,
    cache_status: CacheStatus,
    *,
    now: float,
    age_seconds: float | None = None,
    accept_ranges: bool = True,
) -> Fields:
    """The fields a client gets, made from those of an entry or of a passing response.

    Date stays upstream's and is ``now`` only where missing; ``age_seconds`` is set for every
    answer from the store (RFC 9111 §4), and None leaves upstream's own Age. Cache-Status and
    Via get our member behind those of others. Framing fields are the caller's to set.
    """
    finished = fields.without(*connection_specific(fields), "warning")
    date = single(finished, "date")
    if date is None or parse_http_date(date) is None:
        finished = finished.with_field("date", format_http_date(now))
    if age_seconds is not None:
        finished = finished.with_field("age", format_age(age_seconds))
    if accept_ranges:
        finished = finished.with_field("accept-ranges", "bytes")
    finished = with_via(finished)
    return finished.with_line("cache-status", format_cache_status(cache_status))


def format_age(age_seconds: float) -> str:
    """Age as whole seconds, fractions cut off (RFC 9111 §5.1)."""
    return str(min(max(math.floor(age_seconds), 0), DELTA_MAX_SECONDS))
