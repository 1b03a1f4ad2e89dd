"""Digests of a whole body, as fields tell them (RFC 9530 and before it).

A digest is ``(algorithm, lower-case hex)`` with the algorithm's name from the registry of
RFC 9530 §7.2; ``blake2b`` and ``crc32`` are not in it and keep their own names. What cannot be
read, is of an algorithm that we do not compute, or is about something other than the complete
representation is left out: a claim that nobody understands proves nothing either way.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

import http_sf

from forebay.model import Fields, Head, UpstreamDigests
from forebay.rules.fields import list_members, single

Digest: TypeAlias = tuple[str, str]
Digests: TypeAlias = tuple[Digest, ...]

SIZES: Final = {"sha-256": 32, "sha-512": 64, "sha": 20, "md5": 16, "blake2b": 64, "crc32": 4}
"""Bytes of a digest, by algorithm."""

TOLD: Final = frozenset({"sha-256", "sha-512"})
"""Those that we hand out: registered, and not to be met by an adversary with other bytes."""

_OLD_NAMES: Final = {"sha-256": "sha-256", "sha-512": "sha-512", "sha": "sha", "md5": "md5"}
_GOOG_NAMES: Final = {"md5": "md5"}
_AMZ_FIELDS: Final = {
    "x-amz-checksum-sha256": "sha-256",
    "x-amz-checksum-sha512": "sha-512",
    "x-amz-checksum-sha1": "sha",
    "x-amz-checksum-md5": "md5",
    "x-amz-checksum-crc32": "crc32",
}
"""CRC-32C and CRC-64/NVME are left aside: the standard library has neither, and what a CRC finds,
an accident on the way, TLS has found already."""
_CLAIMING: Final = frozenset(
    {"content-digest", "content-md5", "digest", "repr-digest", "x-goog-hash", *_AMZ_FIELDS}
)
"""Without any of these there is no claim: most responses have none, and are asked each time."""


def digests_of(head: Head) -> Digests:
    """What the response says of the complete representation, each algorithm once.

    Of a 206 only Repr-Digest speaks of the whole. Where two fields disagree about one
    algorithm, that algorithm is left out.
    """
    if not any(name in _CLAIMING for name, _ in head.fields):
        return ()
    found: dict[str, set[str]] = {}
    claims = list(_structured(head.fields, "repr-digest"))
    if head.status == 200:
        claims += _structured(head.fields, "content-digest")
        claims += _instance_digests(head.fields)
        claims += _vendor_digests(head.fields)
    for algorithm, value in claims:
        found.setdefault(algorithm, set()).add(value)
    return tuple((name, values.pop()) for name, values in sorted(found.items()) if len(values) == 1)


def claimed_by(head: Head, worth: UpstreamDigests) -> Digests:
    """What the body of this response must come to by its upstream's own word, if that counts."""
    return digests_of(head) if worth is UpstreamDigests.CHECK else ()


def contradiction(found: Mapping[str, str], expected: Digests, claims: Digests) -> str | None:
    """The sentence about a body that has another digest than was expected; None where all are as
    expected. ``claims`` are the upstream's own (``digests_of``).

    Raises ``KeyError`` where one that is expected was not found.
    """
    for name, value in expected:
        if found[name] != value:
            return _mismatch(name, found[name], value, is_claimed=(name, value) in claims)
    return None


def _mismatch(name: str, found: str, expected: str, *, is_claimed: bool) -> str:
    said = f"The {name} digest of what upstream sent is {found}, not the expected {expected}"
    if not is_claimed:
        return f"{said}; nothing of it was kept."
    return (
        f"{said}, which its own fields tell; nothing of it was kept. If the bytes are right "
        'and the fields are not, set upstream_digests = "ignore" for the mount.'
    )


def repr_digest(digests: Iterable[Digest]) -> str | None:
    """The Repr-Digest value that tells these (RFC 9530 §3), or None if none may be told."""
    members = [
        f"{name}=:{base64.b64encode(bytes.fromhex(value)).decode()}:"
        for name, value in digests
        if name in TOLD
    ]
    return ", ".join(members) or None


def may_be_told(digests: Iterable[Digest]) -> bool:
    """Whether ``repr_digest`` would say anything."""
    return any(name in TOLD for name, _ in digests)


def read_digest_field(value: str) -> Mapping[str, bytes | None]:
    """The members of a Repr-Digest or Content-Digest field, in order (RFC 9530 §2, §3).

    A member that is no byte sequence is None. Raises ``ValueError`` for what is no dictionary
    (RFC 9651 §3.2).
    """
    members = http_sf.parse(value.encode("latin-1"), tltype="dictionary")
    if not isinstance(members, dict):
        raise ValueError("not a dictionary")
    bare = ((name, m[0] if isinstance(m, tuple) else m) for name, m in members.items())
    return {name: item if isinstance(item, bytes) else None for name, item in bare}


def _structured(fields: Fields, name: str) -> Iterator[Digest]:
    """Repr-Digest and Content-Digest, where they can be read."""
    value = fields.combined(name)
    if value is None:
        return
    try:
        members = read_digest_field(value)
    except ValueError:
        return
    for algorithm, octets in members.items():
        if octets is not None and SIZES.get(algorithm) == len(octets):
            yield algorithm, octets.hex()


def _instance_digests(fields: Fields) -> Iterator[Digest]:
    """Digest (RFC 3230 §4.3.2) and Content-MD5 (RFC 1864), both in base64."""
    for member in list_members(fields, "digest"):
        name, _, encoded = member.partition("=")
        yield from _decoded(_OLD_NAMES.get(name.strip().lower()), encoded)
    yield from _decoded("md5", single(fields, "content-md5"))


def _vendor_digests(fields: Fields) -> Iterator[Digest]:
    """x-goog-hash, and x-amz-checksum-*: of the whole, as it was sent.

    Cloud Storage keeps objects gzipped and unpacks them for who does not ask for gzip, with the
    hash of what it keeps. S3 tells of an object that came in parts a checksum of their checksums,
    and says so by a dash and their number, or by the type.
    """
    stored = single(fields, "x-goog-stored-content-encoding") or "identity"
    if stored == (fields.combined("content-encoding") or "identity"):
        for member in list_members(fields, "x-goog-hash"):
            name, _, encoded = member.partition("=")
            yield from _decoded(_GOOG_NAMES.get(name.strip().lower()), encoded)
    if (single(fields, "x-amz-checksum-type") or "").upper() != "COMPOSITE":
        for field_name, algorithm in _AMZ_FIELDS.items():
            yield from _decoded(algorithm, single(fields, field_name))


def _decoded(algorithm: str | None, encoded: str | None) -> Iterator[Digest]:
    if algorithm is None or encoded is None:
        return
    try:
        octets = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return
    if len(octets) == SIZES[algorithm]:
        yield algorithm, octets.hex()
