"""Heads of a hub merged over redirects, listings without Xet, pages that go on through us."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Fields, Head
from forebay.presets import PRESETS
from forebay.presets.huggingface import hide_xet, shape_head, shape_reply, shape_request
from forebay.presets.link_fields import links_through, without_relation
from tests.presets.making import BASE, INDEX, context, mount

COMMIT = "0" * 40
REDIRECT = Head(
    302,
    Fields(
        [
            ("x-repo-commit", COMMIT),
            ("x-linked-size", "5"),
            ("x-linked-etag", '"abc"'),
            ("x-xet-hash", "h"),
            ("link", '<https://xet.example/a>; rel="xet-auth", <https://x.example/b>; rel="next"'),
            ("location", "https://cdn.example/x?sig=1"),
        ]
    ),
)
FINAL = Head(
    200,
    Fields(
        [
            ("content-length", "5"),
            ("etag", '"cdn-tag"'),
            ("x-xet-hash", "h"),
            ("x-xet-refresh-route", "/r"),
            ("link", '<https://xet.example/a>; rel="xet-auth"'),
        ]
    ),
)


def test_what_the_redirect_says_stands_on_the_answer() -> None:
    fields = shape_head(FINAL, (REDIRECT,)).fields
    assert fields.get("x-repo-commit") == COMMIT
    assert fields.get("x-linked-size") == "5"
    assert fields.get_all("etag") == ('"abc"',)
    assert fields.get("content-length") == "5"
    assert "location" not in fields


def test_nothing_of_xet_is_left() -> None:
    fields = shape_head(FINAL, (REDIRECT,)).fields
    assert not [name for name, value in fields if "xet" in name or "xet" in value]


def test_the_first_redirect_speaks() -> None:
    later = Head(302, Fields([("x-repo-commit", "later")]))
    assert shape_head(FINAL, (REDIRECT, later)).fields.get("x-repo-commit") == COMMIT


def test_a_small_file_keeps_its_own_tag() -> None:
    head = Head(200, Fields([("etag", '"own"'), ("x-repo-commit", COMMIT)]))
    assert shape_head(head, ()) == head


@pytest.mark.parametrize("status", [401, 404, 500])
def test_an_error_gets_no_tag(status: int) -> None:
    assert "etag" not in shape_head(Head(status, Fields()), (REDIRECT,)).fields


def test_a_store_with_other_tags_is_not_asked_on_condition() -> None:
    asked = Fields([("range", "bytes=1-"), ("if-range", '"abc"')])
    assert list(shape_request(asked)) == [("range", "bytes=1-")]


def test_listings_say_nothing_of_xet() -> None:
    tree = [
        {"type": "file", "path": "a", "xetHash": "h", "lfs": {"oid": "o", "xetHash": "h"}},
        7,
        None,
    ]
    found = json.loads(hide_xet(json.dumps(tree).encode(), context("huggingface")))
    assert found == [{"type": "file", "path": "a", "lfs": {"oid": "o"}}, 7, None]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 100_000])
def test_a_listing_that_is_no_json_is_told(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        hide_xet(body, context("huggingface"))


def test_listings_are_rewritten_even_where_links_are_left_alone() -> None:
    made = mount("huggingface", rewrite_links=False)
    assert PRESETS["huggingface"].rewrite_for("GET", "/api/models/a/tree/main", made)
    assert not PRESETS["huggingface"].rewrite_for("GET", "/a/resolve/main/x", made)


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        (f'<{INDEX}api/x?cursor=1>; rel="next"', f'<{BASE}api/x?cursor=1>; rel="next"'),
        ('</api/x?cursor=1>; rel="next"', f'<{BASE}api/x?cursor=1>; rel="next"'),
        ("<?n=2>; rel=next", f"<{BASE}api/models?n=2>; rel=next"),
        (f'<{INDEX}a>; rel="prev", <{INDEX}b>; rel="next"; title="a, b"',
         f'<{BASE}a>; rel="prev", <{BASE}b>; rel="next"; title="a, b"'),
        ("not a link", "not a link"),
        ("<mailto:a>; rel=x", "<mailto:a>; rel=x"),
    ],
)  # fmt: skip
def test_the_next_page_is_asked_through_us(link: str, expected: str) -> None:
    fields = Fields([("link", link), ("etag", '"a"')])
    assert links_through(fields, context("huggingface", "api/models")).get("link") == expected
    assert shape_reply(fields, context("huggingface", "api/models")).get("etag") == '"a"'


@pytest.mark.parametrize(
    ("link", "left"),
    [
        ('<a>; rel="xet-auth"', None), ("<a>; rel=xet-auth", None), ('<a>; rel="x XET-auth"', None),
        ('<a>; rel="next"', '<a>; rel="next"'), ('<a>; rel="xet-auth-x"', '<a>; rel="xet-auth-x"'),
        ('<a>; title="rel=xet-auth"', '<a>; title="rel=xet-auth"'),
    ],
)  # fmt: skip
def test_links_of_one_relation_are_left_out(link: str, left: str | None) -> None:
    assert without_relation(Fields([("link", link)]), "xet-auth").get("link") == left


@given(st.text(alphabet='<>;,=" abrel\\x', max_size=40))
def test_no_link_field_makes_reading_fail(value: str) -> None:
    without_relation(Fields([("link", value)]), "next")


@pytest.mark.parametrize(
    ("tag", "fields", "told"),
    [
        (f'"{"00" * 32}"', [], f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"),
        ('"' + "0" * 40 + '"', [], None),
        (f'"{"00" * 32}"', [("content-encoding", "gzip")], None),
        (f'W/"{"00" * 32}"', [], None),
    ],
)
def test_the_tag_of_a_large_file_is_the_digest_of_its_bytes(
    tag: str, fields: list[tuple[str, str]], told: str | None
) -> None:
    redirect = Head(302, Fields([("x-linked-etag", tag)]))
    shaped = shape_head(Head(200, Fields([("etag", '"store"'), *fields])), [redirect])
    assert shaped.fields.get("repr-digest") == told
