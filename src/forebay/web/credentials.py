"""Tokens that clients send, and the book of those that are known."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Iterator

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
    values = fields.get_all("authorization")
    scheme, token = _parted(values[0]) if len(values) == 1 else ("", "")
    return token if scheme == "bearer" else None


def client_token(fields: Fields, name: str = "authorization") -> str | None:
    """The token in the one field of this name: a Bearer token, or the password of Basic (RFC
    7617), or its user name where the password is empty, as in ``https://TOKEN@cache/``."""
    values = fields.get_all(name)
    return _token_in(values[0]) if len(values) == 1 else None


def shown_tokens(fields: Fields, name: str = "authorization") -> Iterator[str]:
    """The token in each field of this name that has one, as ``client_token`` reads it."""
    for value in fields.get_all(name):
        token = _token_in(value)
        if token is not None:
            yield token


def _token_in(credentials: str) -> str | None:
    scheme, value = _parted(credentials)
    if scheme == "bearer":
        return value
    if scheme != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(value, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (password or user).decode("latin-1") if colon else None


def _parted(credentials: str) -> tuple[str, str]:
    """The scheme, lower-case, and what follows it (RFC 9110 §11.4)."""
    scheme, _, value = credentials.partition(" ")
    return scheme.lower(), value.strip(" ")


def _digest(token: str) -> bytes:
    """Equal lengths for the comparison, whatever was sent."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
