"""How old a stored response is and how long it stays fresh (RFC 9111 §4.2)."""

from __future__ import annotations

import enum
import math
import re
from functools import lru_cache
from typing import Final

from forebay.model import Entry, Fields, Head, Policy, Request
from forebay.rules.dates import parse_http_date
from forebay.rules.directives import (
    CachingFields,
    Directives,
    caching_fields,
    parse_cache_control,
)
from forebay.rules.fields import DELTA_MAX_SECONDS, parse_delta_seconds, single, split_list

HEURISTICALLY_CACHEABLE: Final = frozenset(
    {200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501}
)
"""Statuses that may be stored without explicit freshness (RFC 9110 §15.1)."""

SUCCESSES: Final = frozenset({200, 203, 204, 206, 300, 301, 308})
"""Those among them that a mount's own times speak of: never an error kept for a month because
wheels are."""

NEGATIVE: Final = frozenset({404, 410})

DISCONNECTED_STALE_SECONDS: Final = 7 * 86_400.0
"""How stale an answer may be when no answer at all comes from upstream (RFC 9111 §4.2.4).

The RFC sets no bound. A week outlasts every outage over a weekend; Squid's ``max_stale``
default is the same, Varnish's grace is 10 seconds.
"""


class Failure(enum.Enum):
    """In which way validating an entry failed."""

    NO_ANSWER = "no-answer"
    """No connection, a reset, a time-out: we are disconnected (RFC 9111 §4.2.4)."""
    ERROR_STATUS = "error-status"
    """The upstream answered 500, 502, 503 or 504 (RFC 5861 §4)."""


STALE_IF_ERROR_STATUSES: Final = frozenset({500, 502, 503, 504})
"""Upstream's answers that count as its failing (RFC 5861 §4)."""


def age_value(fields: Fields) -> int:
    """The seconds that Age says, 0 where it says nothing readable (RFC 9111 §5.1).

    The first member of the first line counts; a number too large is ``DELTA_MAX_SECONDS``.
    """
    values = fields.get_all("age")
    members = split_list(values[0]) if values else ()
    return (parse_delta_seconds(members[0]) or 0) if members else 0


def date_value(fields: Fields, received_time: float) -> float:
    """When the response was generated: Date, or when it was received (RFC 9110 §6.6.1)."""
    value = single(fields, "date")
    date = parse_http_date(value, now=received_time) if value else None
    return received_time if date is None else date


def current_age(entry: Entry, now: float) -> float:
    """The age of a stored response in seconds, never below 0 (RFC 9111 §4.2.3).

    Whatever the clocks do it never decreases as ``now`` grows.
    """
    fields = entry.head.fields
    # Date has whole seconds; comparing them with a fraction would age every response by it.
    received_second = math.floor(entry.response_time)
    apparent_age = max(0.0, received_second - date_value(fields, received_second))
    response_delay = max(0.0, entry.response_time - entry.request_time)
    corrected_age_value = age_value(fields) + response_delay
    corrected_initial_age = max(apparent_age, corrected_age_value)
    resident_time = max(0.0, now - entry.response_time)
    return corrected_initial_age + resident_time


def freshness_lifetime(head: Head, policy: Policy, path: str, response_time: float) -> float:
    """How many seconds of age a response is fresh for (RFC 9111 §4.2.1); 0 for not at all.

    ``path`` is the target's path and query, for the policy's patterns; ``response_time``
    stands in for a missing Date. At most ``DELTA_MAX_SECONDS``.
    """
    mount_says = mount_lifetime(head, policy, path)
    if mount_says is not None:
        return mount_says
    caching = caching_fields(head.fields, policy)
    explicit = explicit_lifetime(head, caching, response_time)
    if explicit is not None:
        return explicit
    if head.status in NEGATIVE:
        return _bounded(policy.negative_ttl_seconds)
    heuristic = _heuristic_lifetime(head, caching, policy, response_time)
    if heuristic is not None:
        return heuristic
    if head.status in SUCCESSES and policy.default_ttl_seconds is not None:
        return _bounded(policy.default_ttl_seconds)
    return 0.0


def mount_lifetime(head: Head, policy: Policy, path: str) -> float | None:
    """The lifetime that the mount sets over upstream's own, or None where it sets none."""
    if head.status not in SUCCESSES:
        return None
    if is_immutable_path(policy, path):
        return float(DELTA_MAX_SECONDS)
    for pattern, seconds in policy.ttl_patterns:
        if _compiled(pattern).fullmatch(path):
            return _bounded(seconds)
    return None if policy.force_ttl_seconds is None else _bounded(policy.force_ttl_seconds)


def is_immutable_path(policy: Policy, path: str) -> bool:
    """Whether the mount declares what stands at this path and query never to change."""
    return any(_compiled(pattern).fullmatch(path) for pattern in policy.immutable_patterns)


def explicit_lifetime(head: Head, caching: CachingFields, response_time: float) -> float | None:
    """What upstream itself says (RFC 9111 §4.2.1), None where it says nothing.

    What it says unreadably means already stale.
    """
    # 1. s-maxage, for a shared cache; 2. max-age.
    for name in ("s-maxage", "max-age"):
        seconds = caching.directives.shortest_seconds(name)
        if seconds is not None:
            return float(seconds)
    # 3. Expires less Date; a targeted field has put Expires out of force (RFC 9213 §2.2).
    if caching.targeted or caching.ignored or "expires" not in head.fields:
        return None
    value = single(head.fields, "expires")
    expires = parse_http_date(value, now=response_time) if value else None
    if expires is None:
        return 0.0
    return _bounded(expires - date_value(head.fields, math.floor(response_time)))


def _heuristic_lifetime(
    head: Head, caching: CachingFields, policy: Policy, response_time: float
) -> float | None:
    """A share of the time since Last-Modified, under a cap (RFC 9111 §4.2.2).

    Only where status or ``public`` allows it. A Pragma: no-cache that stands without
    Cache-Control is what very old servers say for "do not guess".
    """
    if head.status not in HEURISTICALLY_CACHEABLE and not caching.directives.permits("public"):
        return None
    told_nothing = not caching.ignored and not caching.directives
    if told_nothing and "no-cache" in parse_cache_control(head.fields.get_all("pragma")):
        return 0.0
    value = single(head.fields, "last-modified")
    modified = parse_http_date(value, now=response_time) if value else None
    if modified is None:
        return None
    since = date_value(head.fields, math.floor(response_time)) - modified
    return _bounded(min(since * policy.heuristic_fraction, policy.heuristic_max_seconds))


def _bounded(seconds: float) -> float:
    return float(min(max(seconds, 0.0), DELTA_MAX_SECONDS))


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def must_validate(head: Head, policy: Policy, path: str) -> bool:
    """Whether the response may never be reused without validation: an unqualified no-cache
    (RFC 9111 §5.2.2.4) that the mount does not overrule."""
    if mount_lifetime(head, policy, path) is not None:
        return False
    return caching_fields(head.fields, policy).directives.is_whole("no-cache")


def forbids_stale(head: Head, policy: Policy, path: str) -> bool:
    """Whether upstream forbids every stale use of this response (RFC 9111 §4.2.4).

    must-revalidate, proxy-revalidate, no-cache, and s-maxage, which implies proxy-revalidate
    for us (§5.2.2.10). A mount that sets the lifetime has overruled the last two, not the first.
    """
    directives = caching_fields(head.fields, policy).directives
    if "must-revalidate" in directives or "proxy-revalidate" in directives:
        return True
    if mount_lifetime(head, policy, path) is not None:
        return False
    return "s-maxage" in directives or directives.is_whole("no-cache")


def stale_while_revalidate_seconds(head: Head, policy: Policy, path: str) -> float:
    """For how long past its lifetime a response may be served while it is validated behind
    (RFC 5861 §3): what upstream or the mount allows, whichever is longer; 0 for not at all."""
    return _stale_window(
        head, policy, path, "stale-while-revalidate", policy.stale_while_revalidate_seconds
    )


def may_serve_stale_on_error(
    entry: Entry, now: float, policy: Policy, path: str, request: Request, failure: Failure
) -> bool:
    """Whether the stored response may answer because validating it failed so.

    An answer that is still fresh, validated only because the client asked, always may
    (RFC 9111 §4.3.3). A stale one may within the longest window that upstream, the mount or the
    client gives (RFC 5861 §4), or when we are disconnected (RFC 9111 §4.2.4); never where upstream
    forbids it. A client's wish for fresher bytes does not count here: it is advice
    (RFC 9111 §5.2.1), and the choice is between these bytes and none.
    """
    if must_validate(entry.head, policy, path):
        return False
    lifetime = freshness_lifetime(entry.head, policy, path, entry.response_time)
    staleness = current_age(entry, now) - lifetime
    if staleness < 0:
        return True
    if forbids_stale(entry.head, policy, path):
        return False
    window = _stale_window(
        entry.head, policy, path, "stale-if-error", policy.stale_if_error_seconds
    )
    wish = request_directives(request).longest_seconds("stale-if-error") or 0
    if failure is Failure.NO_ANSWER:
        window = max(window, DISCONNECTED_STALE_SECONDS)
    return staleness <= max(window, wish)


def _stale_window(
    head: Head, policy: Policy, path: str, directive: str, mount_seconds: float
) -> float:
    if forbids_stale(head, policy, path):
        return 0.0
    said = caching_fields(head.fields, policy).directives.shortest_seconds(directive) or 0
    return max(float(said), mount_seconds if head.status in SUCCESSES else 0.0)


def request_directives(request: Request) -> Directives:
    """The request's Cache-Control; Pragma: no-cache stands in for it where there is none
    (RFC 9111 §5.4)."""
    if "cache-control" not in request.fields:
        pragma = request.fields.combined("pragma")
        if pragma is not None and "no-cache" in parse_cache_control((pragma,)):
            return parse_cache_control(("no-cache",))
    return parse_cache_control(request.fields.get_all("cache-control"))
