"""Where the bytes of an answer come from: the decision over a stored response (RFC 9111 §4).

``decide`` goes by numbered steps, the first that applies wins, and gives a typed outcome;
whoever drives it matches on the type and ends in ``assert_never``. Clients' Cache-Control is
advice to a cache (RFC 9111 §5.2.1), and taken where it costs others nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

from forebay.model import CacheOutcome, Entry, Policy, Request
from forebay.rules.directives import Directives, caching_fields
from forebay.rules.fields import DELTA_MAX_SECONDS
from forebay.rules.lifetimes import (
    Failure,
    current_age,
    forbids_stale,
    freshness_lifetime,
    is_immutable_path,
    may_serve_stale_on_error,
    must_validate,
    request_directives,
    stale_while_revalidate_seconds,
)


@dataclass(frozen=True, slots=True)
class Reuse:
    """Answer from the entry without asking upstream whether it still holds.

    ``ttl_seconds`` is the freshness that is left, negative where ``stale``. With
    ``revalidate_behind`` one conditional request is to be made, which nobody waits for. Where
    ``may_forward`` is false (only-if-cached) what a partial entry lacks may not be fetched.
    """

    entry: Entry
    age_seconds: float
    ttl_seconds: int
    stale: bool = False
    revalidate_behind: bool = False
    may_forward: bool = True


@dataclass(frozen=True, slots=True)
class Validate:
    """Ask upstream whether the entry still holds, before answering (RFC 9111 §4.3).

    An entry without a validator is asked for anew under the same rules. ``alone`` as for
    ``Fetch``. The two flags say whether the entry may answer when upstream gives no answer, or
    one of 500, 502, 503, 504; where neither, the failure itself is the answer.
    """

    entry: Entry
    reason: CacheOutcome
    detail: str
    serve_if_disconnected: bool
    serve_if_error: bool
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Fetch:
    """Nothing stored answers this: fetch, and keep what may be kept.

    ``alone`` where the request carries credentials: they go upstream, and no other request may
    join until the head has come and ``storing.storable`` has said that it may be shared.
    """

    reason: CacheOutcome
    detail: str = ""
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Bypass:
    """Pass this request through and keep nothing."""

    reason: CacheOutcome
    detail: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """The client forbade going upstream and nothing stored answers: 504 (RFC 9111 §5.2.1.7)."""

    detail: str


Decision: TypeAlias = Reuse | Validate | Fetch | Bypass | Refuse


def decide(
    request: Request,
    entry: Entry | None,
    now: float,
    policy: Policy,
    path: str,
    *,
    has_other_variants: bool = False,
) -> Decision:
    """What to do about one request.

    ``entry`` is the variant that ``vary.select_variant`` chose; ``now`` in seconds since the
    epoch; ``path`` the target's path and query. ``has_other_variants`` makes a miss a vary-miss.
    """
    # 1. Only GET and HEAD are answered from what is stored (RFC 9111 §2, §4). A GET with
    #    content means something to its server that a cache cannot see (RFC 9110 §9.3.1).
    if request.method not in {"GET", "HEAD"}:
        return Bypass(CacheOutcome.METHOD, "method")
    if _has_content(request):
        return Bypass(CacheOutcome.REQUEST, "content-in-request")
    asked = request_directives(request)
    alone = "authorization" in request.fields and not policy.share_authorized

    # 2. Nothing is stored.
    if entry is None:
        if "only-if-cached" in asked:
            return Refuse("not stored")
        if "no-store" in asked:
            return Bypass(CacheOutcome.REQUEST, "no-store")
        miss = CacheOutcome.VARY_MISS if has_other_variants else CacheOutcome.URI_MISS
        return Fetch(miss, alone=alone)

    # 3. What is stored may answer as it is (RFC 9111 §4.2).
    reuse = _reuse(asked, entry, now, policy, path)
    if isinstance(reuse, Reuse):
        return reuse

    # 4. It may not, and upstream may not be asked.
    if "only-if-cached" in asked:
        return Refuse("stored, but not usable without validation")

    # 5. Validation would store what it brings, if only fields (RFC 9111 §5.2.1.5).
    if "no-store" in asked:
        return Bypass(CacheOutcome.REQUEST, "no-store")

    # 6. It must be validated first.
    return Validate(
        entry,
        CacheOutcome.REQUEST if reuse.by_client else CacheOutcome.STALE,
        reuse.detail,
        serve_if_disconnected=may_serve_stale_on_error(
            entry, now, policy, path, request, Failure.NO_ANSWER
        ),
        serve_if_error=may_serve_stale_on_error(
            entry, now, policy, path, request, Failure.ERROR_STATUS
        ),
        alone=alone,
    )


@dataclass(frozen=True, slots=True)
class _Obstacle:
    """Why a stored response may not answer unvalidated; ``by_client`` where only its wish stands
    in the way (RFC 9211 §2.2, request as against stale)."""

    detail: str
    by_client: bool


def _reuse(
    asked: Directives, entry: Entry, now: float, policy: Policy, path: str
) -> Reuse | _Obstacle:
    age = current_age(entry, now)
    lifetime = freshness_lifetime(entry.head, policy, path, entry.response_time)
    fresh = age < lifetime
    may_forward = "only-if-cached" not in asked
    ttl_seconds = math.floor(lifetime - age)

    # 1. Upstream's unqualified no-cache (RFC 9111 §5.2.2.4).
    if must_validate(entry.head, policy, path):
        return _Obstacle("no-cache", by_client=False)

    # 2. What never changes is not asked for again, whatever the client says (RFC 8246 §2).
    if fresh and _is_immutable(entry, policy, path):
        return Reuse(entry, age, ttl_seconds, may_forward=may_forward)

    # 3. The client wants validation (RFC 9111 §5.2.1.4).
    if "no-cache" in asked:
        return _Obstacle("no-cache", by_client=fresh)

    # 4. The client accepts staleness (§5.2.1.2), or wants it younger (§5.2.1.1) or longer fresh
    #    (§5.2.1.3). A max-age of 0 asks for validation even in the very second of storing.
    tolerated = _tolerated_staleness(asked)
    max_age = asked.shortest_seconds("max-age")
    oldest = None if max_age is None else max_age + tolerated
    if oldest is not None and (age > oldest or oldest == 0):
        return _Obstacle("max-age", by_client=fresh)
    min_fresh = asked.longest_seconds("min-fresh")
    if min_fresh is not None and lifetime - age < min_fresh:
        return _Obstacle("min-fresh", by_client=fresh)

    # 5. Fresh (§4.2).
    if fresh:
        return Reuse(entry, age, ttl_seconds, may_forward=may_forward)

    # 6. Stale, and someone allows it (§4.2.4; RFC 5861 §3).
    staleness = age - lifetime
    stale_reuse = Reuse(entry, age, ttl_seconds, stale=True, may_forward=may_forward)
    if 0 < tolerated >= staleness and not forbids_stale(entry.head, policy, path):
        return stale_reuse
    if 0 < stale_while_revalidate_seconds(entry.head, policy, path) >= staleness:
        return replace(stale_reuse, revalidate_behind=may_forward)
    return _Obstacle("stale", by_client=False)


def _tolerated_staleness(asked: Directives) -> int:
    """Seconds of staleness that max-stale accepts; without a number any (RFC 9111 §5.2.1.2)."""
    if "max-stale" not in asked:
        return 0
    if all(argument is None for argument in asked.arguments["max-stale"]):
        return DELTA_MAX_SECONDS
    return asked.shortest_seconds("max-stale") or 0


def _is_immutable(entry: Entry, policy: Policy, path: str) -> bool:
    if is_immutable_path(policy, path):
        return True
    return caching_fields(entry.head.fields, policy).directives.permits("immutable")


def _has_content(request: Request) -> bool:
    """Whether content follows the request's fields (RFC 9112 §6)."""
    if "transfer-encoding" in request.fields:
        return True
    return any(v.strip(" \t0") for v in request.fields.get_all("content-length"))
