"""What upstreams say of a whole body (RFC 9530, RFC 3230, RFC 1864)."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import Fields, Head
from forebay.rules.digest_fields import digests_of, may_be_told, repr_digest

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
        ("x-amz-checksum-md5", b64(MD5.digest()), "md5", MD5),
        ("repr-digest", f"sha-256=:{b64(SHA256.digest())}:;note=1, x=1", "sha-256", SHA256),
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
        ("x-amz-checksum-crc32c", "AAAAAA=="),
        ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
        ("x-goog-hash", "crc32c=AAAAAA=="),
    ],
)
def test_what_cannot_be_read_proves_nothing(name: str, value: str) -> None:
    assert said((name, value)) == ()


def test_a_crc_of_the_standard_library_is_read() -> None:
    octets = zlib.crc32(BODY).to_bytes(4)
    assert said(("x-amz-checksum-crc32", b64(octets))) == (("crc32", octets.hex()),)


def test_a_checksum_of_checksums_is_none_of_the_bytes() -> None:
    fields = (("x-amz-checksum-sha256", b64(SHA256.digest())), ("x-amz-checksum-type", "COMPOSITE"))
    assert said(*fields) == ()
    assert said(fields[0], ("x-amz-checksum-type", "FULL_OBJECT")) != ()


@pytest.mark.parametrize(
    ("stored", "sent", "counts"),
    [(None, None, True), ("identity", None, True), ("gzip", None, False), ("gzip", "gzip", True)],
)
def test_the_hash_of_what_is_stored_packed_says_nothing_of_what_was_sent_unpacked(
    stored: str | None, sent: str | None, counts: bool
) -> None:
    fields = [("x-goog-hash", f"md5={b64(MD5.digest())}")]
    fields += [("x-goog-stored-content-encoding", stored)] if stored else []
    fields += [("content-encoding", sent)] if sent else []
    assert bool(said(*fields)) is counts


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
    weak = [
        ("md5", MD5.hexdigest()),
        ("sha", "00" * 20),
        ("blake2b", "00" * 64),
        ("crc32", "00" * 4),
    ]
    assert repr_digest(weak) is None
    assert not may_be_told(weak)
