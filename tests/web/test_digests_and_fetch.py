"""What a client may ask to have verified, and URLs that no path can carry."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import InvalidTarget, RequestError
from forebay.model import Fields
from forebay.web.digests import from_fields, from_parameters
from forebay.web.fetch import parse_fetch

HEX256 = hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [("sha256", "sha-256"), ("sha512", "sha-512"), ("sha1", "sha"), ("md5", "md5"),
     ("blake2b", "blake2b")],
)  # fmt: skip
def test_a_digest_parameter_becomes_algorithm_and_lower_case_hex(name: str, algorithm: str) -> None:
    digest = hashlib.new(name, b"x").hexdigest()
    assert from_parameters([(name, digest.upper())]) == ((algorithm, digest),)


@pytest.mark.parametrize("value", ["", "ab", HEX256 + "0", HEX256[:-1] + "g", "é" * 64, "١" * 64])
def test_a_value_that_no_digest_can_have_is_refused(value: str) -> None:
    with pytest.raises(RequestError):
        from_parameters([("sha256", value)])


@given(st.binary(max_size=40))
def test_repr_digest_gives_back_what_was_hashed(content: bytes) -> None:
    strong = base64.b64encode(hashlib.sha512(content).digest()).decode()
    plain = base64.b64encode(hashlib.sha256(content).digest()).decode()
    fields = Fields([("Repr-Digest", f"sha-256=:{plain}: , md5=:AAAA:"),
                     ("Repr-Digest", f"sha-512=:{strong}:")])  # fmt: skip
    assert from_fields(fields) == (
        ("sha-256", hashlib.sha256(content).hexdigest()),
        ("sha-512", hashlib.sha512(content).hexdigest()),
    )


@pytest.mark.parametrize(
    "value",
    ["", "nonsense", "md5=1",
     "sha-256", "sha-256=abc", "sha-256=:abc:", "sha-256=:AAAA:", "sha-256=:!:", "=:AAAA:",
     "sha-256=::"],
)  # fmt: skip
def test_a_repr_digest_that_cannot_be_read_is_refused_not_ignored(value: str) -> None:
    with pytest.raises(RequestError):
        from_fields(Fields([("repr-digest", value)]))


def test_without_repr_digest_nothing_is_expected() -> None:
    assert from_fields(Fields()) == ()


@pytest.mark.parametrize(
    ("query", "url"),
    [
        ("url=https://h/p", "https://h/p"),
        ("url=https%3A%2F%2Fh%2Fp%3Fa%3D1%26b%3D2", "https://h/p?a=1&b=2"),
        ("url=https://h/g++_1.deb?x=y", "https://h/g++_1.deb?x=y"),
        ("url=https://h/%2541", "https://h/%41"),
        ("url=https://h/%C3%A9", "https://h/%C3%A9"),
        ("url=https://h/\xe9", "https://h/%E9"),
        ("&url=https://h/p&", "https://h/p"),
    ],
)
def test_the_url_is_decoded_once_and_stays_ascii(query: str, url: str) -> None:
    assert parse_fetch(query).url == url


def test_the_digests_come_along() -> None:
    asked = parse_fetch(f"sha256={HEX256}&url=https://h/p&md5={'0' * 32}")
    assert asked.expected_digests == (("sha-256", HEX256), ("md5", "0" * 32))


@pytest.mark.parametrize("query", [None, "", "url=", f"sha256={HEX256}"])
def test_a_fetch_without_a_url_is_told_how(query: str | None) -> None:
    with pytest.raises(InvalidTarget, match="/-/fetch"):
        parse_fetch(query)


@pytest.mark.parametrize(
    "query",
    ["url=https://h/?a=1&b=2", "url=https://a/&url=https://b/", f"url=https://h/&sha256={HEX256}"
     f"&sha256={HEX256}"],
)  # fmt: skip
def test_parameters_of_an_unencoded_url_are_not_taken_for_ours(query: str) -> None:
    with pytest.raises(RequestError, match="%26"):
        parse_fetch(query)
