"""What may be kept of a response, and in what form (RFC 9111 §3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from forebay.model import Fields, Head, Policy, Request
from forebay.rules.content_range import content_range_of
from forebay.rules.dates import format_http_date, parse_http_date
from forebay.rules.directives import (
    CachingFields,
    caching_fields,
    parse_cache_control,
    parse_targeted,
)
from forebay.rules.fields import connection_specific, single
from forebay.rules.heads import (
    COOKIE_FIELDS,
    ORIGIN_WIDE_FIELDS,
    PROXY_FIELDS,
    SERVER_ORDERS,
    as_complete_head,
)
from forebay.rules.lifetimes import (
    HEURISTICALLY_CACHEABLE,
    NEGATIVE,
    mount_lifetime,
    request_directives,
)
from forebay.rules.vary import vary_names


@dataclass(frozen=True, slots=True)
class Store:
    """The response may be stored and shared."""


@dataclass(frozen=True, slots=True)
class DoNotStore:
    """The response is for whoever asked, and for nobody after; ``reason`` in a few words."""

    reason: str


Storable: TypeAlias = Store | DoNotStore

# Answers to the conditions or the range of one request, which say nothing to the next.
_ABOUT_THE_REQUEST: Final = frozenset({304, 412, 416})

# Final statuses whose caching requirements are known here (RFC 9110 §15, RFC 6585, RFC 7725).
_UNDERSTOOD: Final = frozenset(
    {200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 307, 308}
    | set(range(400, 412))
    | {413, 414, 415, 417, 421, 422, 426, 428, 429, 431, 451}
    | {500, 501, 502, 503, 504, 505, 511}
)


def storable(request: Request, head: Head, policy: Policy, path: str) -> Storable:
    """Whether this response to this request may be stored for others (RFC 9111 §3).

    ``head`` is the response's head as it came, all its fields still there; ``path`` the
    target's path and query.
    """
    caching = caching_fields(head.fields, policy)
    for refusal in (
        _refused_by_kind(request, head, caching),
        _refused_by_directive(request, caching),
        _refused_by_privacy(request, head, caching, policy),
        _refused_by_vary(head, policy),
    ):
        if refusal is not None:
            return DoNotStore(refusal)
    # Something must say that it may be kept: the mount, explicit freshness, public, or a status
    # that is cacheable by itself.
    if mount_lifetime(head, policy, path) is not None or _has_explicit_leave(head, caching):
        return Store()
    if head.status in NEGATIVE and policy.negative_ttl_seconds <= 0:
        return DoNotStore("an error without freshness")
    if head.status in HEURISTICALLY_CACHEABLE:
        return Store()
    return DoNotStore(f"status {head.status} without freshness")


def _refused_by_kind(request: Request, head: Head, caching: CachingFields) -> str | None:
    # The method is understood, and its response is the representation (a HEAD's is only the
    # head of one; see validation.head_updates).
    if request.method != "GET":
        return f"method {request.method}"
    # The status is final, and about the resource.
    if head.status < 200 or head.status in _ABOUT_THE_REQUEST:
        return f"status {head.status}"
    # Parts can be kept where it is certain which they are (§3.3).
    if head.status == 206 and content_range_of(head) is None:
        return "a partial response without one Content-Range"
    # must-understand: only with a status that is (§5.2.2.3).
    if "must-understand" in caching.directives and head.status not in _UNDERSTOOD:
        return "must-understand"
    return None


def _refused_by_directive(request: Request, caching: CachingFields) -> str | None:
    if "no-store" in request_directives(request):
        return "no-store in the request"
    # must-understand, by one that understands, sets no-store aside (§5.2.2.3).
    if "no-store" in caching.directives and not caching.directives.permits("must-understand"):
        return "no-store"
    return None


def _refused_by_privacy(
    request: Request, head: Head, caching: CachingFields, policy: Policy
) -> str | None:
    # private with field names is private without those fields (§5.2.2.7).
    if caching.directives.is_whole("private"):
        return "private"
    # Answers to credentials are shared by explicit leave only (§3.5).
    if "authorization" in request.fields and not policy.share_authorized:
        directives = caching.directives
        if not (
            directives.permits("public")
            or directives.permits("must-revalidate")
            or directives.shortest_seconds("s-maxage")
        ):
            return "authorization"
    # RFC 9111 §7.3 leaves cookies to directives; too many servers send none. One that is named
    # in private or no-cache is left out when storing, and then disturbs nobody.
    cookies = {name for name, _ in head.fields} & COOKIE_FIELDS
    if cookies - named_fields(head.fields):
        return "set-cookie"
    return None


def _refused_by_vary(head: Head, policy: Policy) -> str | None:
    if "*" in policy.ignore_vary or vary_names(head) is not None:
        return None
    return "vary: *"


def _has_explicit_leave(head: Head, caching: CachingFields) -> bool:
    directives = caching.directives
    if "s-maxage" in directives or "max-age" in directives or directives.permits("public"):
        return True
    return "expires" in head.fields and not (caching.targeted or caching.ignored)


_TARGETED: Final = "-cache-control"  # RFC 9213 §2.2


def named_fields(fields: Fields) -> frozenset[str]:
    """Field names that no-cache or private is limited to, in Cache-Control and in any targeted
    field: whichever is obeyed, leaving such a field out is right (RFC 9111 §5.2.2.4, §5.2.2.7)."""
    lines = tuple(
        [line for line in fields if line[0] == "cache-control" or line[0].endswith(_TARGETED)]
    )
    return _named_in(lines) if lines else frozenset()


@lru_cache(maxsize=512)
def _named_in(lines: tuple[tuple[str, str], ...]) -> frozenset[str]:
    """The same of the lines that matter, of which a site has few."""
    fields = Fields(lines)
    sources = [parse_cache_control(fields.get_all("cache-control"))]
    for name in sorted({n for n, _ in fields if n.endswith(_TARGETED)}):
        targeted = parse_targeted(fields.get_all(name))
        if targeted is not None:
            sources.append(targeted)
    return frozenset(
        field
        for directives in sources
        for directive in ("no-cache", "private")
        for field in directives.field_names(directive)
    )


def fields_to_store(head: Head, *, own_origin: bool = False) -> Fields:
    """The fields that an entry keeps (RFC 9111 §3.1), in their order.

    Left out: those of the connection and of proxies, those named in no-cache or private, cookies,
    orders to a server in front, Warning (obsolete), and, unless the mount has a web origin of its
    own (``own_origin``), what would speak for our whole origin. Cache-Status and Via of caches
    before us stay; ours is appended when the entry answers.
    """
    gone = connection_specific(head.fields) | named_fields(head.fields) | _NEVER_STORED
    if not own_origin:
        gone |= ORIGIN_WIDE_FIELDS
    if head.status == 304:
        gone |= {"content-length"}
    return head.fields.without(*gone)


_NEVER_STORED: Final = COOKIE_FIELDS | PROXY_FIELDS | SERVER_ORDERS | {"warning"}


def stored_head(head: Head, response_time: float, *, own_origin: bool = False) -> Head:
    """The head that an entry keeps of a response received at ``response_time``.

    A 206 becomes the head of the whole (RFC 9111 §3.3 and §3.4), and a Date that is missing or
    unreadable is when the response came (RFC 9110 §6.6.1).
    """
    whole = as_complete_head(head) if head.status == 206 else head
    fields = fields_to_store(whole, own_origin=own_origin)
    return Head(whole.status, with_date(fields, response_time), whole.reason)


def with_date(fields: Fields, received_time: float) -> Fields:
    """The fields with a readable Date: upstream's, or the time of receipt (RFC 9110 §6.6.1)."""
    value = single(fields, "date")
    if value is not None and parse_http_date(value) is not None:
        return fields
    return fields.with_field("date", format_http_date(received_time))
