"""Where a response's body ends (RFC 9112 §6.3), decided from method, status and fields.

Stricter than the RFC allows a client to be: what intermediaries have been made to disagree
on is an error here, because a body cut in the wrong place would be shared with everybody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from forebay.errors import UpstreamMisbehaved
from forebay.model import Fields

_LENGTH = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Framing:
    """How the end of a body is known: by ``length_bytes``, by the last chunk, or, with
    neither, by the end of the connection, which proves nothing."""

    length_bytes: int | None = None
    chunked: bool = False
    bodiless: bool = False
    """True where the head is the whole message, whatever its fields say."""

    @property
    def proves_end(self) -> bool:
        return self.chunked or self.length_bytes is not None


def framing_of(method: str, status: int, fields: Fields) -> Framing:
    """The framing of a response's body. Raises ``UpstreamMisbehaved`` where it is ambiguous."""
    codings = fields.get_all("transfer-encoding")
    lengths = fields.get_all("content-length")
    if codings and lengths:
        raise UpstreamMisbehaved(
            "The upstream sent both Transfer-Encoding and Content-Length, which may not be."
        )
    if len(lengths) > 1 or not all(_LENGTH.fullmatch(length) for length in lengths):
        raise UpstreamMisbehaved("The upstream sent a Content-Length that is not one number.")
    # 1. HEAD, 204 and 304 end with their head, whatever their fields say.
    if method == "HEAD" or status in {204, 304} or 100 <= status < 200:
        return Framing(length_bytes=0, bodiless=True)
    # 2. Of transfer codings only chunked can be undone here.
    if codings:
        if [coding.lower() for coding in codings] != ["chunked"]:
            raise UpstreamMisbehaved("The upstream used a transfer coding other than chunked.")
        return Framing(chunked=True)
    # 3. A length, or the end of the connection.
    return Framing(length_bytes=int(lengths[0]) if lengths else None)
