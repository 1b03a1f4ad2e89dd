"""Digests that a client expects of the whole body: ``/-/fetch`` parameters and Repr-Digest.

Algorithms carry the names of the registry that RFC 9530 §7.2 founded; ``blake2b`` is not in it
and keeps its own name. Values travel on as lower-case hex.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from forebay.errors import RequestError
from forebay.model import Fields
from forebay.rules.digest_fields import SIZES, TOLD, Digests, read_digest_field

__all__ = ["PARAMETERS", "Digests", "from_fields", "from_parameters"]

_HEX_DIGITS: Mapping[str, tuple[str, int]] = {
    "sha256": ("sha-256", 64),
    "sha512": ("sha-512", 128),
    "sha1": ("sha", 40),
    "md5": ("md5", 32),
    "blake2b": ("blake2b", 128),
}
"""Parameter name to (algorithm, number of hex digits)."""

PARAMETERS = frozenset(_HEX_DIGITS)

_HEX = re.compile(r"[0-9A-Fa-f]+")


def from_parameters(parameters: Iterable[tuple[str, str]]) -> Digests:
    """Expected digests from query parameters.

    Raises ``RequestError`` for a value that no digest of that algorithm can have.
    """
    found = []
    for name, value in parameters:
        algorithm, digits = _HEX_DIGITS[name]
        if len(value) != digits or not _HEX.fullmatch(value):
            raise RequestError(f"{name} must be {digits} hexadecimal digits.")
        found.append((algorithm, value.lower()))
    return tuple(found)


def from_fields(fields: Fields) -> Digests:
    """Expected digests from Repr-Digest (RFC 9530 §3); algorithms other than sha-256 and
    sha-512 are left aside.

    A field that cannot be read raises ``RequestError`` instead of being ignored: who sends it
    counts on the check being made.
    """
    value = fields.combined("repr-digest")
    if value is None:
        return ()
    try:
        members = read_digest_field(value)
    except ValueError:
        members = {}
    if not members or None in members.values():
        raise RequestError("Repr-Digest must look like sha-256=:base64:.")
    found = []
    for algorithm in TOLD & members.keys():
        octets = members[algorithm]
        if octets is None or len(octets) != SIZES[algorithm]:
            raise RequestError(f"Repr-Digest's {algorithm} is not a digest of that algorithm.")
        found.append((algorithm, octets.hex()))
    return tuple(sorted(found))
