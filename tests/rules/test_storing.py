"""RFC 9111 §3, §3.1, §3.3, §3.5, §5.2.2: what is stored, and which of its fields."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Fields, Head, Policy
from forebay.rules.storing import DoNotStore, Store, fields_to_store, storable, stored_head
from tests.rules.making import NOW, Lines, date, fields, head, request


def stores(
    lines: Lines,
    status: int = 200,
    asked: Lines | None = None,
    method: str = "GET",
    **policy: Any,
) -> bool:
    answer = storable(request(asked, method), head(lines, status), Policy(**policy), "/f")
    assert isinstance(answer, Store) or answer.reason
    return isinstance(answer, Store)


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 405, 414, 501])
def test_statuses_that_are_cacheable_by_themselves(status: int) -> None:
    assert stores({}, status)


@pytest.mark.parametrize("status", [201, 202, 302, 303, 307, 400, 403, 429, 500, 502, 599, 799])
@pytest.mark.parametrize(
    ("lines", "stored"),
    [
        ({}, False),
        ({"Last-Modified": date(-100)}, False),
        ({"Cache-Control": "max-age=60"}, True),
        ({"Cache-Control": "s-maxage=60"}, True),
        ({"Cache-Control": "public"}, True),
        ({"Expires": date(60)}, True),
        ({"CDN-Cache-Control": "max-age=60"}, True),
        ({"CDN-Cache-Control": "foo", "Expires": date(60)}, False),
    ],
)
def test_other_statuses_need_explicit_freshness(status: int, lines: Lines, stored: bool) -> None:
    assert stores(lines, status) is stored


@pytest.mark.parametrize("status", [100, 103, 304, 412, 416])
def test_answers_about_one_request_are_never_stored(status: int) -> None:
    assert not stores({"Cache-Control": "public, max-age=60"}, status)


@pytest.mark.parametrize("status", [404, 410])
def test_absence_is_stored_by_policy_or_by_upstream_s_word(status: int) -> None:
    assert not stores({}, status)
    assert stores({}, status, negative_ttl_seconds=0.5)
    assert stores({"Cache-Control": "max-age=5"}, status)
    assert not stores({}, status, force_ttl_seconds=5.0)


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "M-SEARCH"])
def test_only_a_response_to_get_is_stored(method: str) -> None:
    assert not stores({"Cache-Control": "max-age=60"}, method=method)


@pytest.mark.parametrize(
    ("lines", "stored"),
    [
        ({"Cache-Control": "no-store"}, False),
        ({"Cache-Control": "max-age=60, No-Store"}, False),
        ([("Cache-Control", "max-age=60"), ("Cache-Control", "no-store")], False),
        ({"Cache-Control": "private"}, False),
        ({"Cache-Control": "private, max-age=60"}, False),
        ({"Cache-Control": 'private="x-one", max-age=60'}, True),
        ({"Cache-Control": 'private="content-type", max-age=60'}, False),
        ({"Cache-Control": 'private=""'}, False),
        ({"Cache-Control": "no-cache"}, True),
        ({"Cache-Control": "no-store, must-understand"}, True),
        ({"Cache-Control": "no-store", "CDN-Cache-Control": "max-age=60"}, True),
        ({"Cache-Control": "private", "CDN-Cache-Control": "max-age=60"}, True),
        ({"Cache-Control": "max-age=60", "CDN-Cache-Control": "no-store"}, False),
        ({"Cache-Control": "max-age=60", "CDN-Cache-Control": "private"}, False),
        ({"Cache-Control": "max-age=60", "CDN-Cache-Control": "no-store,"}, True),
        ({"Set-Cookie": "a=b", "Cache-Control": "public, max-age=60"}, False),
        ({"Set-Cookie": "a=b", "Cache-Control": 'no-cache="Set-Cookie", max-age=60'}, True),
        ({"Set-Cookie": "a=b", "Cache-Control": 'private="set-cookie", max-age=60'}, True),
        ({"Vary": "*"}, False),
        ({"Vary": "Accept, *"}, False),
        ([("Vary", "Accept"), ("Vary", "*")], False),
        ({"Vary": "Accept"}, True),
        ({"Vary": "a b"}, False),
    ],
)
def test_directives_decide_what_is_shared(lines: Lines, stored: bool) -> None:
    assert stores(lines) is stored


@pytest.mark.parametrize(
    ("status", "stored"), [(200, True), (404, True), (299, False), (599, False), (499, False)]
)
def test_must_understand_wants_a_known_status(status: int, stored: bool) -> None:
    assert stores({"Cache-Control": "max-age=60, must-understand, no-store"}, status) is stored


@pytest.mark.parametrize(
    ("control", "stored"),
    [
        ("max-age=60", False),
        ("", False),
        ("max-age=60, public", True),
        ("max-age=60, must-revalidate", True),
        ("s-maxage=60", True),
        ("s-maxage=x", False),
        ("max-age=60, proxy-revalidate", False),
        ("public=no, max-age=60", False),
        ("public, private", False),
        ("public, no-store", False),
    ],
)
def test_answers_to_credentials_are_shared_by_leave_only(control: str, stored: bool) -> None:
    asked: Lines = {"authorization": "Basic x"}
    assert stores({"Cache-Control": control}, asked=asked) is stored


def test_a_mount_may_give_that_leave() -> None:
    asked: Lines = {"Authorization": "Basic x"}
    lines: Lines = {"Cache-Control": "max-age=60"}
    assert stores(lines, asked=asked, share_authorized=True)
    assert not stores(lines, asked=asked, force_ttl_seconds=60.0)


def test_a_client_s_no_store_is_obeyed() -> None:
    assert not stores({"Cache-Control": "max-age=60"}, asked={"Cache-Control": "no-store"})
    assert stores({"Cache-Control": "max-age=60"}, asked={"Pragma": "no-store"})


@pytest.mark.parametrize("control", ["no-store", "private"])
def test_a_forced_lifetime_does_not_share_what_is_private(control: str) -> None:
    assert not stores({"Cache-Control": control}, force_ttl_seconds=60.0)
    assert not stores({"Cache-Control": control}, immutable_patterns=(".*",))
    assert stores({"Cache-Control": control}, ignore_cache_control=True)
    assert not stores({"Set-Cookie": "a=b"}, ignore_cache_control=True, force_ttl_seconds=60.0)


def test_a_mount_may_ignore_vary() -> None:
    assert stores({"Vary": "*"}, ignore_vary=("*",))
    assert not stores({"Vary": "*"}, ignore_vary=("accept",))


@pytest.mark.parametrize(
    ("lines", "stored"),
    [
        ({"Content-Range": "bytes 0-4/10"}, True),
        ({"Content-Range": "bytes 0-4/*"}, True),
        ({}, False),
        ({"Content-Range": "bytes 4-0/10"}, False),
        ({"Content-Range": "items 0-4/10"}, False),
        ({"Content-Type": "multipart/byteranges; boundary=x"}, False),
        ([("Content-Range", "bytes 0-4/10"), ("Content-Range", "bytes 0-4/10")], False),
    ],
)
def test_a_part_is_stored_where_it_is_certain_which(lines: Lines, stored: bool) -> None:
    assert stores(lines, 206) is stored


def names(lines: Lines, status: int = 200, *, own_origin: bool = False) -> set[str]:
    kept = fields_to_store(head(lines, status), own_origin=own_origin)
    return {name for name, _ in kept}


def test_connection_fields_are_not_stored() -> None:
    lines = {"Connection": "X-Hop", "X-Hop": "1", "Keep-Alive": "5", "Transfer-Encoding": "chunked"}
    lines |= {"Trailer": "x", "Upgrade": "h2c", "TE": "x", "Proxy-Connection": "close"}
    assert names({**lines, "X-Stays": "1"}) == {"x-stays"}


def test_fields_of_proxies_cookies_orders_and_warnings_are_not_stored() -> None:
    lines = {"Proxy-Authenticate": "x", "Set-Cookie": "x", "X-Accel-Redirect": "/etc"}
    lines |= {"X-Sendfile": "/etc", "Warning": "110", "Proxy-Authentication-Info": "x"}
    assert names(lines, own_origin=True) == set()


def test_fields_for_a_whole_origin_are_kept_only_on_an_origin_of_its_own() -> None:
    lines = {"Strict-Transport-Security": "x", "Clear-Site-Data": "*", "Alt-Svc": "x", "NEL": "x"}
    lines |= {"Service-Worker-Allowed": "/", "Report-To": "x"}
    assert names(lines) == set()
    assert names(lines, own_origin=True) == {name.lower() for name in lines}


@pytest.mark.parametrize("source", ["Cache-Control", "CDN-Cache-Control", "Some-Cache-Control"])
@pytest.mark.parametrize("directive", ["no-cache", "private"])
def test_fields_named_in_a_directive_are_not_stored(source: str, directive: str) -> None:
    lines = {source: f'{directive}="x-one, X-TWO"', "X-One": "1", "X-Two": "2", "X-Three": "3"}
    assert names(lines) == {source.lower(), "x-three"}


def test_what_other_caches_said_is_kept() -> None:
    lines = [("Cache-Status", "other; hit"), ("Via", "1.1 other"), ("Age", "5"), ("ETag", '"\xe9"')]
    assert tuple(fields_to_store(head(lines))) == tuple(fields(lines))


def test_a_304_does_not_bring_a_content_length() -> None:
    assert names({"Content-Length": "0", "ETag": '"x"'}, 304) == {"etag"}


@given(st.lists(st.sampled_from([("X-A", "1"), ("x-b", "2"), ("SET-COOKIE", "c"), ("Te", "t")])))
def test_what_is_kept_keeps_its_order(lines: list[tuple[str, str]]) -> None:
    kept = [(n.lower(), v) for n, v in lines if n.lower().startswith("x-")]
    assert list(fields_to_store(Head(200, Fields(lines)))) == kept


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({"Date": date(-5)}, date(-5)),
        ({}, date()),
        ({"Date": "bad"}, date()),
        ([("Date", date(-5)), ("Date", date(-6))], date()),
    ],
)
def test_a_stored_head_has_a_readable_date(lines: Lines, expected: str) -> None:
    assert stored_head(head(lines), NOW + 0.5).fields.get_all("date") == (expected,)


def test_a_206_is_stored_as_the_head_of_the_whole() -> None:
    part = head({"Content-Range": "bytes 2-4/10", "Content-Length": "3", "ETag": '"x"'}, 206)
    whole = stored_head(part, NOW)
    assert whole.status == 200
    assert whole.fields == fields({"ETag": '"x"', "Content-Length": "10", "Date": date()})


def test_a_refusal_gives_its_reason() -> None:
    answer = storable(request(), head({"Cache-Control": "no-store"}), Policy(), "/f")
    assert answer == DoNotStore("no-store")
