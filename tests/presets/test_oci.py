# ruff: noqa: E501 - tables read better unbroken
"""Paths of container registries, and the challenges that they answer with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Fields
from forebay.presets.challenges import Bearer, Grant, bearer_challenge, read_grant
from forebay.presets.contract import Promise
from forebay.presets.oci import promise, repository_of, shape_reply
from tests.presets.making import BASE, SHA256, SHA512, context


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/library/a/blobs/sha256:{SHA256}", ("sha-256", SHA256)),
        (f"/a/manifests/sha256:{SHA256}", ("sha-256", SHA256)),
        (f"/a/b/c/blobs/sha256%3A{SHA256}", ("sha-256", SHA256)),
        (f"/a/blobs/sha512:{SHA512}", ("sha-512", SHA512)),
        (f"/a/blobs/sha256:{SHA256}?x=1", ("sha-256", SHA256)),
        ("/a/manifests/latest", None),
        ("/a/blobs/sha256:abcd", None),
        (f"/a/blobs/uploads/sha256:{SHA256}", None),
        (f"/a/referrers/sha256:{SHA256}", None),
        ("/", None),
    ],
)
def test_what_is_asked_by_digest_is_known_by_it(
    path: str, expected: tuple[str, str] | None
) -> None:
    assert promise(path) == (Promise(expected, content=True) if expected else None)


@pytest.mark.parametrize(
    ("path", "repository"),
    [
        ("/library/a/manifests/latest", "library/a"), ("/a/blobs/x", "a"), ("/a/tags/list", "a"),
        ("/a/manifests/b/manifests/1", "a"), ("/", None), ("/_catalog", None),
    ],
)  # fmt: skip
def test_a_path_names_its_repository(path: str, repository: str | None) -> None:
    assert repository_of(path) == repository


def test_clients_are_never_sent_to_the_token_server() -> None:
    fields = Fields(
        [
            ("www-authenticate", 'Bearer realm="https://t.example"'),
            ("link", '</v2/a/tags/list?last=b>; rel="next"'),
        ]
    )
    found = shape_reply(
        fields, context("oci", "v2/a/tags/list", upstreams=("https://index.example/v2/",))
    )
    assert list(found) == [("link", f'<{BASE}a/tags/list?last=b>; rel="next"')]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (['Bearer realm="https://t.example/token",service="r.example",scope="repository:a:pull"'],
         Bearer("https://t.example/token", "r.example", "repository:a:pull")),
        (['bearer Realm="https://t.example/" , Scope="repository:a:pull,push"'],
         Bearer("https://t.example/", None, "repository:a:pull,push")),
        (["Bearer realm=https://t.example/token"], Bearer("https://t.example/token", None, None)),
        (['Basic realm="x", Bearer realm="https://t.example/"'], Bearer("https://t.example/", None, None)),
        (['Negotiate dG9rZW4=, Bearer realm="https://t.example/"'], Bearer("https://t.example/", None, None)),
        (['Basic realm="x"', 'Bearer realm="https://t.example/"'], Bearer("https://t.example/", None, None)),
        (['Bearer realm="https://t.example/\\"q\\""'], Bearer('https://t.example/"q"', None, None)),
        (['Basic realm="Bearer realm=https://t.example/"'], None),
        (['Bearer realm="nonsense"'], None),
        (['Bearer service="a"'], None),
        (["Bearer"], None),
        ([""], None),
        ([], None),
    ],
)  # fmt: skip
def test_a_challenge_is_read(lines: list[str], expected: Bearer | None) -> None:
    assert bearer_challenge(Fields(("www-authenticate", line) for line in lines)) == expected


@pytest.mark.parametrize(
    "noise",
    [
        "," * 60_000,
        " ," * 30_000,
        'a="' + "\\" * 60_000 + ",",
        'Basic a="x"y,' * 5_000,
        "a =b " * 12_000,
    ],
    ids=["commas", "gaps", "quote without end", "no parameters", "blanks"],
)
def test_what_stands_before_a_challenge_costs_no_more_than_its_length(noise: str) -> None:
    fields = Fields([("www-authenticate", noise + ', Bearer realm="https://t.example/"')])
    assert bearer_challenge(fields) == Bearer("https://t.example/", None, None)


@given(st.text(alphabet='Bearer realm=",\\ht:/x.', max_size=60))
def test_no_challenge_makes_reading_fail(value: str) -> None:
    bearer_challenge(Fields([("www-authenticate", value)]))


def test_a_token_is_asked_for_the_scope_of_the_challenge() -> None:
    bearer = Bearer("https://t.example/token?a=1", "r e&g", "repository:a/b:pull")
    assert (
        bearer.token_url()
        == "https://t.example/token?a=1&service=r%20e%26g&scope=repository%3Aa%2Fb%3Apull"
    )
    assert Bearer("https://t.example/token", None, None).token_url() == "https://t.example/token"


@pytest.mark.parametrize(
    ("body", "grant"),
    [
        (b'{"token":"t","expires_in":300}', Grant("t", 300.0)),
        (b'{"access_token":"t"}', Grant("t", 60.0)),
        (b'{"token":"","access_token":"t","expires_in":0}', Grant("t", 60.0)),
        (b'{"token":"t","expires_in":"x"}', Grant("t", 60.0)),
        (b'{"token":"t","expires_in":true}', Grant("t", 60.0)),
        (b'{"token":"a\\r\\nb: c"}', None),
        (b'{"token":7}', None),
        (b"[]", None),
        (b"no", None),
        (b"[" * 100_000, None),
    ],
)
def test_a_grant_is_read(body: bytes, grant: Grant | None) -> None:
    assert read_grant(body) == grant
