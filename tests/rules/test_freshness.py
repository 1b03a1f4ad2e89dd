"""RFC 9111 §4, §5.2.1; RFC 5861; RFC 8246; RFC 9211 §2.2: the decision."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import CacheOutcome, Policy
from forebay.rules.freshness import Bypass, Decision, Fetch, Refuse, Reuse, Validate, decide
from forebay.rules.lifetimes import current_age, freshness_lifetime
from tests.rules.making import NOW, Lines, entry, request

POLICY = Policy()


def verdict(
    lines: Lines,
    control: str,
    age: float,
    *,
    method: str = "GET",
    **policy: Any,
) -> Decision:
    return decide(
        request(lines, method),
        entry({"Cache-Control": control, "ETag": '"x"'}),
        NOW + age,
        Policy(**policy),
        "/f",
    )


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "M-SEARCH", "get", "TRACE"])
def test_only_get_and_head_are_answered_from_the_store(method: str) -> None:
    decision = verdict({}, "max-age=60", 1, method=method)
    assert decision == Bypass(CacheOutcome.METHOD, "method")


@pytest.mark.parametrize(
    ("lines", "bypassed"),
    [
        ({"Content-Length": "5"}, True),
        ({"Transfer-Encoding": "chunked"}, True),
        ({"Content-Length": "0"}, False),
        ({"Range": "furlongs=1-2"}, False),
    ],
)
def test_a_get_with_content_passes_by(lines: Lines, bypassed: bool) -> None:
    decision = verdict(lines, "max-age=60", 1)
    expected = Bypass(CacheOutcome.REQUEST, "content-in-request")
    assert (decision == expected) is bypassed


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({}, Fetch(CacheOutcome.URI_MISS)),
        ({"Cache-Control": "no-cache"}, Fetch(CacheOutcome.URI_MISS)),
        ({"Cache-Control": "max-age=0"}, Fetch(CacheOutcome.URI_MISS)),
        ({"Cache-Control": "no-store"}, Bypass(CacheOutcome.REQUEST, "no-store")),
        ({"Authorization": "Basic x"}, Fetch(CacheOutcome.URI_MISS, alone=True)),
        ({"Cache-Control": "only-if-cached"}, Refuse("not stored")),
        ({"Cache-Control": "only-if-cached, no-store"}, Refuse("not stored")),
    ],
)
def test_what_is_not_stored_is_fetched_unless_the_client_forbids_it(
    lines: Lines, expected: Decision
) -> None:
    assert decide(request(lines), None, NOW, POLICY, "/f") == expected


def test_a_miss_among_variants_says_so() -> None:
    decision = decide(request(), None, NOW, POLICY, "/f", has_other_variants=True)
    assert decision == Fetch(CacheOutcome.VARY_MISS)


def test_a_mount_may_share_what_credentials_fetched() -> None:
    decision = decide(
        request({"Authorization": "x"}), None, NOW, Policy(share_authorized=True), "/f"
    )
    assert decision == Fetch(CacheOutcome.URI_MISS, alone=False)


@pytest.mark.parametrize(
    ("asked", "control", "age", "expected"),
    [
        # §4.2: fresh while the age is below the lifetime
        ("", "max-age=60", 59, "fresh"),
        ("", "max-age=60", 60, "stale"),
        ("", "max-age=0", 0, "stale"),
        # §5.2.2.4
        ("", "max-age=60, no-cache", 1, "stale"),
        ("max-stale", "max-age=60, no-cache", 70, "stale"),
        ("", 'max-age=60, no-cache="set-cookie"', 1, "fresh"),
        # §5.2.1.4
        ("no-cache", "max-age=60", 1, "request"),
        ("No-Cache", "max-age=60", 1, "request"),
        ("no-cache", "max-age=60", 70, "stale"),
        # §5.2.1.1
        ("max-age=10", "max-age=60", 9, "fresh"),
        ("max-age=10", "max-age=60", 10, "fresh"),
        ("max-age=10", "max-age=60", 11, "request"),
        ("max-age=0", "max-age=60", 0, "request"),
        ("max-age=100, max-age=10", "max-age=60", 11, "request"),
        ("max-age=x", "max-age=60", 1, "request"),
        ("max-age=100", "max-age=60", 70, "stale"),
        ("max-age=10, max-stale=5", "max-age=60", 14, "fresh"),
        ("max-age=10, max-stale=5", "max-age=60", 16, "request"),
        # §5.2.1.2
        ("max-stale", "max-age=60", 10**6, "served stale"),
        ("max-stale=10", "max-age=60", 70, "served stale"),
        ("max-stale=10", "max-age=60", 71, "stale"),
        ("max-stale=x", "max-age=60", 61, "stale"),
        ("max-stale, max-stale=10", "max-age=60", 71, "stale"),
        ("max-stale", "max-age=60, must-revalidate", 61, "stale"),
        ("max-stale", "max-age=60, proxy-revalidate", 61, "stale"),
        ("max-stale", "s-maxage=60", 61, "stale"),
        # §5.2.1.3
        ("min-fresh=10", "max-age=60", 50, "fresh"),
        ("min-fresh=10", "max-age=60", 51, "request"),
        ("min-fresh=10, min-fresh=30", "max-age=60", 31, "request"),
        ("min-fresh=x", "max-age=60", 59, "fresh"),
        # §5.2.1.5
        ("no-store", "max-age=60", 1, "fresh"),
        ("no-store", "max-age=60", 61, "bypass"),
        # §5.2.1.7
        ("only-if-cached", "max-age=60", 1, "fresh"),
        ("only-if-cached", "max-age=60", 61, "refused"),
        ("only-if-cached, no-cache", "max-age=60", 1, "refused"),
        ("only-if-cached, max-stale", "max-age=60", 61, "served stale"),
        # RFC 8246 §2
        ("no-cache", "max-age=60, immutable", 1, "fresh"),
        ("max-age=0", "max-age=60, immutable", 1, "fresh"),
        ("no-cache", "max-age=60, immutable", 61, "stale"),
        ("", "max-age=60, immutable", 61, "stale"),
        # RFC 5861 §3
        ("", "max-age=60, stale-while-revalidate=10", 70, "behind"),
        ("", "max-age=60, stale-while-revalidate=10", 71, "stale"),
        ("", "max-age=60, stale-while-revalidate=x", 61, "stale"),
        ("", "max-age=60, must-revalidate, stale-while-revalidate=10", 61, "stale"),
        ("", "s-maxage=60, stale-while-revalidate=10", 61, "stale"),
        ("no-cache", "max-age=60, stale-while-revalidate=10", 61, "stale"),
        ("max-age=60", "max-age=60, stale-while-revalidate=10", 61, "stale"),
        ("unknown", "max-age=60", 1, "fresh"),
    ],
)
def test_the_decision_over_a_stored_response(
    asked: str, control: str, age: float, expected: str
) -> None:
    decision = verdict({"Cache-Control": asked} if asked else {}, control, age)
    assert describe(decision) == expected


def describe(decision: Decision) -> str:
    match decision:
        case Reuse(stale=False):
            return "fresh"
        case Reuse(revalidate_behind=True):
            return "behind"
        case Reuse():
            return "served stale"
        case Validate(reason=reason):
            return reason.value
        case Bypass():
            return "bypass"
        case Refuse():
            return "refused"
        case Fetch():
            return "fetch"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({"Pragma": "no-cache"}, "request"),
        ({"Pragma": "foo, No-Cache"}, "request"),
        ({"Pragma": "foo"}, "fresh"),
        ({"Pragma": "no-cache", "Cache-Control": "max-age=30"}, "fresh"),
        ([("Cache-Control", "foo"), ("Cache-Control", "no-cache")], "request"),
        ({"Authorization": "Basic x"}, "fresh"),
        ({"Range": "bytes=0-1"}, "fresh"),
        ({"If-None-Match": '"y"'}, "fresh"),
    ],
)
def test_other_request_fields_over_a_fresh_response(lines: Lines, expected: str) -> None:
    assert describe(verdict(lines, "max-age=60", 1)) == expected


@pytest.mark.parametrize("asked", ["no-cache", "max-age=0", "min-fresh=99999999999"])
def test_what_a_mount_calls_immutable_is_never_asked_for_again(asked: str) -> None:
    decision = verdict(
        {"Cache-Control": asked, "Pragma": "no-cache"},
        "max-age=0, no-cache, must-revalidate",
        10**8,
        immutable_patterns=("/f",),
    )
    assert describe(decision) == "fresh"


def test_a_mount_may_serve_stale_while_it_validates() -> None:
    assert describe(verdict({}, "max-age=60", 60.5, stale_while_revalidate_seconds=0.5)) == "behind"
    policy: dict[str, Any] = {"stale_while_revalidate_seconds": 30.0}
    assert describe(verdict({}, "max-age=60", 90, **policy)) == "behind"
    assert describe(verdict({}, "max-age=60", 91, **policy)) == "stale"
    assert describe(verdict({}, "max-age=60, must-revalidate", 61, **policy)) == "stale"


def test_only_if_cached_sends_nothing_upstream_behind_the_client_either() -> None:
    asked = {"Cache-Control": "only-if-cached"}
    decision = verdict(asked, "max-age=60, stale-while-revalidate=10", 61)
    assert isinstance(decision, Reuse)
    assert not decision.revalidate_behind
    assert not decision.may_forward


def test_a_reuse_says_its_age_and_what_is_left() -> None:
    decision = verdict({}, "max-age=60", 20.5)
    assert isinstance(decision, Reuse)
    assert (decision.age_seconds, decision.ttl_seconds) == (20.5, 39)
    decision = verdict({"Cache-Control": "max-stale"}, "max-age=60", 70.5)
    assert isinstance(decision, Reuse)
    assert decision.ttl_seconds == -11


@pytest.mark.parametrize(
    ("control", "on_error", "on_silence"),
    [
        ("max-age=60", False, True),
        ("max-age=60, stale-if-error=60", True, True),
        ("max-age=60, must-revalidate", False, False),
    ],
)
def test_a_validation_says_what_may_answer_if_it_fails(
    control: str, on_error: bool, on_silence: bool
) -> None:
    decision = verdict({"Authorization": "x"}, control, 70)
    assert isinstance(decision, Validate)
    assert (decision.serve_if_error, decision.serve_if_disconnected) == (on_error, on_silence)
    assert decision.alone


def test_an_error_kept_for_a_while_is_then_asked_for_again() -> None:
    stored, policy = entry(status=404), Policy(negative_ttl_seconds=10.0)
    assert isinstance(decide(request(), stored, NOW + 9, policy, "/f"), Reuse)
    assert isinstance(decide(request(), stored, NOW + 11, policy, "/f"), Validate)


CONTROLS = st.lists(
    st.sampled_from(
        [
            "max-age=60",
            "max-age=0",
            "s-maxage=30",
            "no-cache",
            "must-revalidate",
            "immutable",
            "stale-while-revalidate=20",
            "stale-if-error=20",
            "public",
            'no-cache="x"',
            "foo=bar",
        ]
    ),
    max_size=4,
)
WISHES = st.lists(
    st.sampled_from(
        [
            "max-age=0",
            "max-age=30",
            "min-fresh=10",
            "max-stale",
            "max-stale=15",
            "no-cache",
            "no-store",
            "only-if-cached",
        ]
    ),
    max_size=3,
)
POLICIES = st.builds(
    Policy,
    default_ttl_seconds=st.none() | st.floats(0, 100),
    force_ttl_seconds=st.none() | st.floats(0, 100),
    immutable_patterns=st.sampled_from([(), ("/f",)]),
    stale_while_revalidate_seconds=st.sampled_from([0.0, 25.0]),
    ignore_cache_control=st.booleans(),
)


@given(CONTROLS, WISHES, POLICIES, st.floats(0, 200))
def test_reuse_without_staleness_is_always_of_a_fresh_response(
    controls: list[str], wishes: list[str], policy: Policy, age: float
) -> None:
    stored = entry({"Cache-Control": ", ".join(controls)})
    asked = request({"Cache-Control": ", ".join(wishes)})
    decision = decide(asked, stored, NOW + age, policy, "/f")
    lifetime = freshness_lifetime(stored.head, policy, "/f", NOW)
    if isinstance(decision, Reuse):
        assert decision.stale is (current_age(stored, NOW + age) >= lifetime)
        assert decision.ttl_seconds <= lifetime - decision.age_seconds
    if not wishes and current_age(stored, NOW + age) < lifetime:
        # A fresh hit never contacts upstream, but for upstream's own no-cache.
        assert isinstance(decision, Reuse) or "no-cache" in controls


@given(CONTROLS, WISHES, POLICIES, st.floats(0, 200), st.randoms(use_true_random=False))
def test_a_decision_never_depends_on_order_or_case(
    controls: list[str], wishes: list[str], policy: Policy, age: float, random: Any
) -> None:
    def answer(said: list[str], wished: list[str]) -> str:
        stored = entry([("cache-control", value) for value in said])
        asked = request([("CACHE-CONTROL", value) for value in wished])
        return describe(decide(asked, stored, NOW + age, policy, "/f"))

    expected = answer(controls, wishes)
    random.shuffle(controls)
    random.shuffle(wishes)
    assert answer([c.upper() for c in controls], [w.title() for w in wishes]) == expected
