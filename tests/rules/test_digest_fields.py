"""What upstreams and checksum files say of a whole body (RFC 9530, RFC 3230, RFC 1864)."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Fields, Head
from forebay.rules.digest_fields import digest_in_sums, digests_of, repr_digest

BODY = b"the bytes"
SHA256 = hashlib.sha256(BODY)
SHA512 = hashlib.sha512(BODY)
MD5 = hashlib.md5(BODY, usedforsecurity=False)


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def said(*fields: tuple[str, str], status: int = 200) -> tuple[tuple[str, str], ...]:
    return digests_of(Head(status, Fields(fields)))


@pytest.mark.parametrize(
    ("name", "value", "algorithm", "octets"),
    [
        ("repr-digest", f"sha-256=:{b64(SHA256.digest())}:", "sha-256", SHA256),
        ("content-digest", f"sha-512=:{b64(SHA512.digest())}:", "sha-512", SHA512),
        ("digest", f"SHA-256={b64(SHA256.digest())}", "sha-256", SHA256),
        ("content-md5", b64(MD5.digest()), "md5", MD5),
        ("x-goog-hash", f"crc32c=AAAAAA==, md5={b64(MD5.digest())}", "md5", MD5),
        ("x-amz-checksum-sha256", b64(SHA256.digest()), "sha-256", SHA256),
    ],
)
def test_every_way_to_tell_a_digest_is_read(
    name: str, value: str, algorithm: str, octets: hashlib._Hash
) -> None:
    assert said((name, value)) == ((algorithm, octets.hexdigest()),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("repr-digest", "sha-256=nonsense"),
        ("repr-digest", f"sha-256=:{b64(b'short')}:"),
        ("repr-digest", f"unknown=:{b64(SHA256.digest())}:"),
        ("digest", "sha-256=%%%"),
        ("digest", f"adler32={b64(b'1234')}"),
        ("content-md5", "d41d8cd98f00b204e9800998ecf8427e"),
        ("x-amz-checksum-sha256", f"{b64(SHA256.digest())}-5"),
        ("x-goog-hash", "crc32c=AAAAAA=="),
    ],
)
def test_what_cannot_be_read_proves_nothing(name: str, value: str) -> None:
    assert said((name, value)) == ()


def test_of_a_part_only_repr_digest_speaks_of_the_whole() -> None:
    fields = (
        ("content-md5", b64(MD5.digest())),
        ("content-digest", f"sha-512=:{b64(SHA512.digest())}:"),
        ("repr-digest", f"sha-256=:{b64(SHA256.digest())}:"),
    )
    assert said(*fields, status=206) == (("sha-256", SHA256.hexdigest()),)


def test_two_claims_that_disagree_are_no_claim() -> None:
    other = hashlib.sha256(b"other").digest()
    assert said(
        ("repr-digest", f"sha-256=:{b64(SHA256.digest())}:"),
        ("digest", f"sha-256={b64(other)}"),
        ("content-md5", b64(MD5.digest())),
    ) == (("md5", MD5.hexdigest()),)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_what_we_tell_is_what_we_read(short: bytes, long: bytes) -> None:
    digests = (("sha-256", short.hex()), ("sha-512", long.hex()))
    value = repr_digest(digests)
    assert value is not None
    assert said(("repr-digest", value)) == digests


def test_weak_digests_are_not_told() -> None:
    assert repr_digest([("md5", MD5.hexdigest()), ("sha", "00" * 20)]) is None


@pytest.mark.parametrize(
    "text",
    [
        f"{SHA256.hexdigest()}  file.iso\n",
        f"{SHA256.hexdigest()} *file.iso\n",
        f"{'00' * 32}  other.iso\n{SHA256.hexdigest().upper()}  ./dir/file.iso\n",
        f"SHA256 (file.iso) = {SHA256.hexdigest()}\n",
        f"{SHA256.hexdigest()}\n",
        f"# comment\n{SHA256.hexdigest()}\n",
    ],
)
def test_a_checksum_file_tells_the_digest_of_the_file(text: str) -> None:
    assert digest_in_sums(text, "file.iso") == ("sha-256", SHA256.hexdigest())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not a digest",
        f"{SHA256.hexdigest()}  other.iso\n",
        f"{SHA256.hexdigest()}\n{'00' * 32}\n",
        f"MD5 (file.iso) = {SHA256.hexdigest()}\n",
        f"{SHA256.hexdigest()[:50]}  file.iso\n",
    ],
)
def test_a_checksum_file_about_others_tells_nothing(text: str) -> None:
    assert digest_in_sums(text, "file.iso") is None
