"""Digests that a client expects of the whole body: ``/-/fetch`` parameters and Repr-Digest.

Algorithms carry the names of the registry that RFC 9530 §7.2 founded; ``blake2b`` is not in it
and keeps its own name. Values travel on as lower-case hex.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from forebay.errors import RequestError
from forebay.model import Fields

Digests: TypeAlias = tuple[tuple[str, str], ...]

_HEX_DIGITS: Mapping[str, tuple[str, int]] = {
    "sha256": ("sha-256", 64),
    "sha512": ("sha-512", 128),
    "sha1": ("sha", 40),
    "md5": ("md5", 32),
    "blake2b": ("blake2b", 128),
}
"""Parameter name to (algorithm, number of hex digits)."""

PARAMETERS = frozenset(_HEX_DIGITS)

_BYTES_OF = {"sha-256": 32, "sha-512": 64}
_HEX = re.compile(r"[0-9A-Fa-f]+")
# One member of a structured dictionary (RFC 8941 §3.2) whose value is a byte sequence.
_MEMBER = re.compile(r"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):(?:;[ ]*[a-z*][^,;]*)*")


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
    found: dict[str, str] = {}
    for text in value.split(","):
        member = _MEMBER.fullmatch(text.strip(" \t"))
        if member is None:
            raise RequestError("Repr-Digest must look like sha-256=:base64:.")
        algorithm, encoded = member[1], member[2]
        if algorithm in _BYTES_OF:
            found[algorithm] = _decode(algorithm, encoded)
    return tuple(found.items())


def _decode(algorithm: str, encoded: str) -> str:
    try:
        octets = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        octets = b""
    if len(octets) != _BYTES_OF[algorithm]:
        raise RequestError(f"Repr-Digest's {algorithm} is not a digest of that algorithm.")
    return octets.hex()
