"""Where a redirect leads, and what does not go there."""

from __future__ import annotations

import pytest

from forebay.errors import UpstreamMisbehaved
from forebay.model import Fields, Head
from forebay.rules import urls
from forebay.upstream.redirects import fields_for, is_followed, next_url

BASE = urls.parse("https://a.example/d/f?q")


def to(*locations: str, status: int = 302) -> Head:
    return Head(status, Fields([("location", location) for location in locations]))


@pytest.mark.parametrize(
    ("method", "head", "followed"),
    [
        ("GET", to("/x", status=301), True),
        ("GET", to("/x", status=303), True),
        ("HEAD", to("/x", status=307), True),
        ("GET", to("/x", status=308), True),
        ("GET", to("/x", status=300), False),
        ("GET", to("/x", status=304), False),
        ("GET", to("/x", status=201), False),
        ("GET", to(status=302), False),
        ("POST", to("/x", status=307), False),
        ("DELETE", to("/x", status=302), False),
    ],
)
def test_only_redirects_of_safe_requests_are_followed(
    method: str, head: Head, followed: bool
) -> None:
    assert is_followed(method, head) is followed


def test_a_location_is_resolved_from_the_url_that_gave_it() -> None:
    assert str(next_url(BASE, to("../x y"))) == "https://a.example/x%20y"
    assert str(next_url(BASE, to("//b.example/z", "//b.example/z"))) == "https://b.example/z"


@pytest.mark.parametrize(
    "head",
    [
        to("http://a.example/"),
        to("ftp://a.example/"),
        to("https://u:p@a.example/"),
        to("https://127.1/"),
        to("https://a.example:99999/"),
        to("/x\x01"),
        to("/x", "/y"),
    ],
)
def test_redirects_downward_or_to_nothing_usable_are_misbehaviour(head: Head) -> None:
    with pytest.raises(UpstreamMisbehaved):
        next_url(BASE, head)


def test_what_looks_like_a_secret_stays_at_its_origin() -> None:
    harmless = [("accept", "a/b"), ("range", "bytes=0-"), ("if-range", '"x"')]
    secret = ["authorization", "cookie", "x-api-key", "private-token", "proxy-authorization"]
    fields = Fields([*harmless, *((name, "s") for name in secret)])
    assert fields_for(fields, BASE, urls.parse("https://a.example:443/other")) == fields
    for other in ("https://b.example/", "https://a.example:444/", "https://x.a.example/"):
        assert list(fields_for(fields, BASE, urls.parse(other))) == harmless
