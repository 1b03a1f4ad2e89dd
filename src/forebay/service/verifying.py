"""An expected digest, checked on what passes straight through (RFC 9530).

The last piece waits until the digest of the whole is known, so that nobody ends happily with
bytes that are not what was asked for. Hashing is done on the event loop, piece by piece: a
piece is at most a socket read, and takes a tenth of a millisecond.
"""

from __future__ import annotations

from forebay.errors import UpstreamChanged
from forebay.model import Window
from forebay.ports import Body
from forebay.rules.digest_fields import Digests, contradiction
from forebay.streaming.digests import begun


class VerifiedBody:
    """A body of bytes (not windows) that ends well only if its digests are these."""

    def __init__(self, body: Body, expected: Digests, claims: Digests = ()) -> None:
        """``expected`` as in ``Target.expected_digests``; ``claims`` are what upstream tells, and
        only say in what words to complain."""
        self._body = body
        self._expected = expected
        self._claims = claims
        self._hashes = {name: begun(name) for name, _ in expected}
        self._held: bytes | None = None

    async def next_piece(self) -> Window | bytes | None:
        while (piece := await self._body.next_piece()) is not None:
            if isinstance(piece, Window):
                raise TypeError("what comes from disk was verified when it was stored")
            for running in self._hashes.values():
                running.update(piece)
            held, self._held = self._held, piece
            if held is not None:
                return held
        self._check()
        held, self._held = self._held, None
        return held

    async def aclose(self) -> None:
        self._held = None
        await self._body.aclose()

    def _check(self) -> None:
        found = {name: running.hexdigest() for name, running in self._hashes.items()}
        wrong = contradiction(found, self._expected, self._claims)
        if wrong is not None:
            raise UpstreamChanged(wrong)
