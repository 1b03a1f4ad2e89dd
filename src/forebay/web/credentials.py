"""Tokens that clients send, and the book of those that are known."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable

from forebay.model import Fields


class TokenBook:
    """Knows holders by their tokens, of which only digests are kept in memory."""

    def __init__(self, tokens: Iterable[tuple[str, str]]) -> None:
        """``tokens`` are pairs of name and token. Raises ``ValueError`` for an empty token."""
        self._known: list[tuple[str, bytes]] = []
        for name, token in tokens:
            if not token:
                raise ValueError(f"an empty token for {name} would let everyone in")
            self._known.append((name, _digest(token)))

    def holder_of(self, token: str) -> str | None:
        """Whose token this is. Takes as long for a wrong token as for any right one."""
        sent, found = _digest(token), None
        for name, digest in self._known:
            if hmac.compare_digest(sent, digest) and found is None:
                found = name
        return found


def bearer_token(fields: Fields) -> str | None:
    """The token of the one Authorization field, if its scheme is Bearer (RFC 6750 §2.1)."""
    scheme, token = _credentials(fields, "authorization")
    return token if scheme == "bearer" else None


def client_token(fields: Fields, name: str = "authorization") -> str | None:
    """The token in the one field of this name: a Bearer token, or the password of Basic (RFC
    7617), or its user name where the password is empty, as in ``https://TOKEN@cache/``."""
    scheme, value = _credentials(fields, name)
    if scheme == "bearer":
        return value
    if scheme != "basic" or value is None:
        return None
    try:
        user, colon, password = base64.b64decode(value, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (password or user).decode("latin-1") if colon else None


def _credentials(fields: Fields, name: str) -> tuple[str | None, str | None]:
    values = fields.get_all(name)
    if len(values) != 1:
        return None, None
    scheme, _, value = values[0].partition(" ")
    return scheme.lower(), value.strip(" ")


def _digest(token: str) -> bytes:
    """Equal lengths for the comparison, whatever was sent."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
