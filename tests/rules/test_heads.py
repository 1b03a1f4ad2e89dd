"""RFC 9110 §7.6, §15.3.7; RFC 9111 §4, §5.1; RFC 9211 §2: fields that go on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import CacheOutcome, CacheStatus, Fields
from forebay.rules.heads import (
    READING_FIELDS,
    as_complete_head,
    fields_to_forward,
    fields_to_pass,
    format_age,
    forwards_left,
    response_fields,
    went_through,
    with_fewer_forwards,
)
from tests.rules.making import NOW, Lines, date, fields, head

HIT = CacheStatus(CacheOutcome.HIT)


def test_a_hit_carries_age_and_keeps_upstream_s_date() -> None:
    stored = fields({"Date": date(-50), "Age": "7", "ETag": '"x"'})
    sent = response_fields(stored, HIT, now=NOW, age_seconds=57.9)
    assert sent.get_all("date") == (date(-50),)
    assert sent.get_all("age") == ("57",)
    assert sent.get("accept-ranges") == "bytes"


def test_a_missing_date_is_added() -> None:
    assert response_fields(fields(), HIT, now=NOW).get_all("date") == (date(),)
    assert response_fields(fields({"Date": "x"}), HIT, now=NOW).get_all("date") == (date(),)


def test_what_passes_keeps_upstream_s_age() -> None:
    assert response_fields(fields({"Age": "7"}), HIT, now=NOW).get_all("age") == ("7",)
    assert "age" not in response_fields(fields(), HIT, now=NOW)


def test_cache_status_and_via_are_appended() -> None:
    stored = fields({"Cache-Status": "other; hit", "Via": "1.0 other"})
    sent = response_fields(stored, HIT, now=NOW)
    assert sent.get_all("cache-status") == ("other; hit", "forebay; hit")
    assert sent.get_all("via") == ("1.0 other", "1.1 forebay")


def test_warnings_and_connection_fields_do_not_go_on() -> None:
    stored = fields({"Warning": "110", "Connection": "X-Hop", "X-Hop": "1", "Trailer": "x"})
    sent = response_fields(stored, HIT, now=NOW, accept_ranges=False)
    assert {name for name, _ in sent} == {"date", "via", "cache-status"}


@pytest.mark.parametrize(
    ("age", "text"), [(0, "0"), (-3, "0"), (1.99, "1"), (2**31, "2147483648"), (1e15, "2147483648")]
)
def test_age_is_whole_seconds_within_bounds(age: float, text: str) -> None:
    assert format_age(age) == text


PASSING: Lines = {
    "Connection": "X-Hop",
    "X-Hop": "1",
    "Set-Cookie": "a=b",
    "Alt-Svc": "x",
    "X-Accel-Redirect": "/x",
    "Proxy-Authenticate": "Basic",
    "X-Stays": "1",
}


def test_what_passes_through_loses_what_is_not_for_the_client() -> None:
    def kept(*, cookies: bool, own_origin: bool = False) -> set[str]:
        passed = fields_to_pass(head(PASSING), cookies=cookies, own_origin=own_origin)
        return {name for name, _ in passed}

    assert kept(cookies=True) == {"set-cookie", "x-stays"}
    assert kept(cookies=False) == {"x-stays"}
    assert kept(cookies=False, own_origin=True) == {"set-cookie", "alt-svc", "x-stays"}


@pytest.mark.parametrize(
    ("lines", "goes_on"),
    [
        ([("expect", "100-continue")], True),
        ([("Expect", " 100-Continue ")], True),
        ([("expect", "100-continue, more")], False),
        ([("expect", "100-continue"), ("expect", "more")], False),
        ([("expect", "")], False),
    ],
)
def test_of_expect_only_100_continue_is_forwarded(
    lines: list[tuple[str, str]], goes_on: bool
) -> None:
    assert ("expect" in fields_to_forward("POST", Fields(lines))) is goes_on


@pytest.mark.parametrize(
    ("value", "left", "forwarded"),
    [
        ("0", 0, "0"),
        ("1", 1, "0"),
        (" 010 ", 10, "9"),
        ("-1", None, "-1"),
        ("1, 2", None, "1, 2"),
        ("9" * 30, 2**31, str(2**31 - 1)),
    ],
)
def test_max_forwards_is_counted_down_where_it_is_a_number(
    value: str, left: int | None, forwarded: str
) -> None:
    asked = Fields([("max-forwards", value)])
    assert forwards_left(asked) == left
    assert with_fewer_forwards(asked).get("max-forwards") == forwarded


def test_a_forwarded_request_loses_what_is_of_its_connection() -> None:
    asked = fields(
        {"Host": "a", "Connection": "Upgrade, HTTP2-Settings, X-Hop", "Upgrade": "h2c"}
        | {"HTTP2-Settings": "x", "X-Hop": "1", "Content-Length": "3", "Expect": "much"}
        | {"Proxy-Authorization": "x", "Authorization": "y", "Transfer-Encoding": "chunked"}
    )
    assert list(fields_to_forward("GET", asked)) == [("authorization", "y")]
    assert list(fields_to_forward("POST", asked)) == [("authorization", "y")]


def test_what_the_connection_claims_is_not_forwarded_though_it_might_be() -> None:
    asked = fields({"Connection": "Cookie", "Cookie": "a=b", "Accept": "x"})
    assert list(fields_to_forward("GET", asked)) == [("accept", "x")]


PROXYS_WORD = [
    "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Scheme", "X-Original-URL",
    "X-Original-Host", "X-Rewrite-URL", "X-Real-IP", "X-Client-IP", "Client-IP", "X-Host",
    "X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Host-Override", "True-Client-IP",
    "CF-Connecting-IP", "Fastly-Client-IP", "X-Envoy-Original-Path", "X-Cluster-Client-IP",
]  # fmt: skip


@pytest.mark.parametrize("name", PROXYS_WORD)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_nobody_speaks_for_a_proxy_through_us(method: str, name: str) -> None:
    assert len(fields_to_forward(method, fields({name: "evil.example"}))) == 0


@given(st.sampled_from(["GET", "HEAD"]), st.text(alphabet="abcdefxyz-", min_size=1))
def test_a_request_that_reads_takes_along_what_is_listed_and_nothing_else(
    method: str, name: str
) -> None:
    forwarded = fields_to_forward(method, fields({name: "x", "Accept": "text/html"}))
    assert {name for name, _ in forwarded} <= READING_FIELDS


@pytest.mark.parametrize("name", ["Content-Type", "X-Amz-Acl", "Git-Protocol", "NPM-Command"])
def test_a_request_that_writes_keeps_what_its_upstream_wants_to_know(name: str) -> None:
    assert len(fields_to_forward("POST", fields({name: "x"}))) == 1


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], False),
        ([("Via", "1.1 forebay-1")], True),
        ([("Via", "1.1 other, 1.1 FOREBAY-1 (comment)")], True),
        ([("Via", "1.1 other"), ("Via", "HTTP/1.1 forebay-1")], True),
        ([("Via", "1.1 forebay-12, 1.1 x-forebay-1")], False),
        ([("Via", "forebay-1")], False),
        ([("Via", ",, ")], False),
    ],
)
def test_a_loop_shows_in_via(lines: list[tuple[str, str]], found: bool) -> None:
    assert went_through(fields(lines), "forebay-1") is found


@pytest.mark.parametrize(
    ("content_range", "length"),
    [("bytes 2-4/10", "10"), ("bytes 2-4/*", None), ("nonsense", None), (None, None)],
)
def test_a_part_becomes_the_whole_with_its_complete_length(
    content_range: str | None, length: str | None
) -> None:
    lines = {"Content-Length": "3", "Content-Digest": "x", "Content-MD5": "x", "ETag": '"x"'}
    lines |= {"Digest": "x", "X-Goog-Hash": "x", "X-Amz-Checksum-SHA256": "x"}
    if content_range is not None:
        lines["Content-Range"] = content_range
    whole = as_complete_head(head(lines, 206))
    assert (whole.status, whole.reason) == (200, "OK")
    assert whole.fields.get("content-length") == length
    assert {name for name, _ in whole.fields} - {"content-length"} == {"etag"}
