"""Digests of a whole body, as upstreams and checksum files tell them (RFC 9530 and before it).

A digest is ``(algorithm, lower-case hex)`` with the algorithm's name from the registry of
RFC 9530 §7.2; ``blake2b`` is not in it and keeps its own name. What cannot be read, is of an
algorithm that we do not compute, or is about something other than the complete representation
is left out: a claim that nobody understands proves nothing either way.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

import http_sf

from forebay.model import Fields, Head
from forebay.rules.fields import list_members, single

Digest: TypeAlias = tuple[str, str]
Digests: TypeAlias = tuple[Digest, ...]

SIZES: Final = {"sha-256": 32, "sha-512": 64, "sha": 20, "md5": 16, "blake2b": 64}
"""Bytes of a digest, by algorithm."""

STRONG: Final = ("sha-512", "sha-256", "blake2b")
"""Those that an adversary cannot meet with other bytes; the only ones we hand out."""

_OLD_NAMES: Final = {"sha-256": "sha-256", "sha-512": "sha-512", "sha": "sha", "md5": "md5"}
_GOOG_NAMES: Final = {"md5": "md5"}
_AMZ_FIELDS: Final = {
    "x-amz-checksum-sha256": "sha-256",
    "x-amz-checksum-sha512": "sha-512",
    "x-amz-checksum-sha1": "sha",
    "x-amz-checksum-md5": "md5",
}
_BY_HEX_LENGTH: Final = {32: "md5", 40: "sha", 64: "sha-256", 128: "sha-512"}
# A line of coreutils' *sum programs: digest, space, mode ("*" for binary), name; or BSD's form.
_SUM_LINE: Final = re.compile(r"\\?([0-9A-Fa-f]{32,128})(?:[ \t]+[* ]?(.+))?")
_BSD_LINE: Final = re.compile(r"([A-Za-z0-9-]+) ?\((.+)\) ?= ?([0-9A-Fa-f]{32,128})")
_BSD_NAMES: Final = {"md5": "md5", "sha1": "sha", "sha256": "sha-256", "sha512": "sha-512"}


def digests_of(head: Head) -> Digests:
    """What the response says of the complete representation, each algorithm once.

    Of a 206 only Repr-Digest speaks of the whole. Where two fields disagree about one
    algorithm, that algorithm is left out.
    """
    found: dict[str, set[str]] = {}
    claims = list(_structured(head.fields, "repr-digest"))
    if head.status == 200:
        claims += _structured(head.fields, "content-digest")
        claims += _instance_digests(head.fields)
        claims += _vendor_digests(head.fields)
    for algorithm, value in claims:
        found.setdefault(algorithm, set()).add(value)
    return tuple((name, values.pop()) for name, values in sorted(found.items()) if len(values) == 1)


def repr_digest(digests: Iterable[Digest]) -> str | None:
    """The Repr-Digest value that tells these (RFC 9530 §3), or None if none of them is strong."""
    members = [
        f"{name}=:{base64.b64encode(bytes.fromhex(value)).decode()}:"
        for name, value in digests
        if name in STRONG and name != "blake2b"
    ]
    return ", ".join(members) or None


def digest_in_sums(text: str, filename: str) -> Digest | None:
    """The digest of this file in the text of a checksum file: ``SHA256SUMS``, ``x.sha256``.

    Lines in the form of coreutils and of BSD count; a text that is nothing but one digest is
    about whatever file it stands beside. Names are compared without leading directories.
    """
    bare: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        found = _sum_of(stripped, filename)
        if found is not None:
            return found
        match = _SUM_LINE.fullmatch(stripped)
        if match is not None and match[2] is None:
            bare.append(match[1])
    return _named(bare[0]) if len(bare) == 1 else None


def _sum_of(line: str, filename: str) -> Digest | None:
    bsd = _BSD_LINE.fullmatch(line)
    if bsd is not None:
        algorithm = _BSD_NAMES.get(bsd[1].lower().replace("-", ""))
        fits = algorithm is not None and len(bsd[3]) == 2 * SIZES[algorithm]
        return (algorithm, bsd[3].lower()) if algorithm and fits and _is(bsd[2], filename) else None
    plain = _SUM_LINE.fullmatch(line)
    if plain is not None and plain[2] is not None and _is(plain[2], filename):
        return _named(plain[1])
    return None


def _is(name: str, filename: str) -> bool:
    return name.strip().rpartition("/")[2] == filename


def _named(digits: str) -> Digest | None:
    algorithm = _BY_HEX_LENGTH.get(len(digits))
    return None if algorithm is None else (algorithm, digits.lower())


def _structured(fields: Fields, name: str) -> Iterator[Digest]:
    """Repr-Digest and Content-Digest: dictionaries of byte sequences (RFC 9530 §2, §3)."""
    value = fields.combined(name)
    if value is None:
        return
    try:
        members = http_sf.parse(value.encode("latin-1"), tltype="dictionary")
    except ValueError:
        return
    if not isinstance(members, dict):
        return
    for algorithm, member in members.items():
        octets = member[0] if isinstance(member, tuple) else member
        if isinstance(octets, bytes) and SIZES.get(algorithm) == len(octets):
            yield algorithm, octets.hex()


def _instance_digests(fields: Fields) -> Iterator[Digest]:
    """Digest (RFC 3230 §4.3.2) and Content-MD5 (RFC 1864), both in base64."""
    for member in list_members(fields, "digest"):
        name, _, encoded = member.partition("=")
        yield from _decoded(_OLD_NAMES.get(name.strip().lower()), encoded)
    yield from _decoded("md5", single(fields, "content-md5"))


def _vendor_digests(fields: Fields) -> Iterator[Digest]:
    """x-goog-hash, and x-amz-checksum-*: one with a dash is of parts, not of the whole."""
    for member in list_members(fields, "x-goog-hash"):
        name, _, encoded = member.partition("=")
        yield from _decoded(_GOOG_NAMES.get(name.strip().lower()), encoded)
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
