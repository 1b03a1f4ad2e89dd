"""A reader whose disk failed in mid-body goes on from upstream, if the bytes can be proved; so
does one whose transfer was another process's, and that has died.

What the disk cannot hold, a client may still be given: from the reader's position on, over a
connection of its own, under If-Range and with proof of identity (``rules.proof``). Where that
cannot be had, the body breaks off where the disk failed: short, never wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from forebay.errors import ForebayError, StoreError, UpstreamError, UpstreamMisbehaved
from forebay.model import Interval, Window
from forebay.ports import Body
from forebay.streaming.follower import Arriving, SliceReader

FetchRest = Callable[[Interval], Awaitable[Body]]
"""Opens a body of exactly these bytes, or fewer of them if the upstream ends it early. Raises
``UpstreamError`` where they cannot be had or cannot be proved."""


class ContinuingBody:
    """A reader of what arrives, and what takes its place when the disk or its writer fails."""

    def __init__(
        self, transfer: Arriving, interval: Interval | None, fetch_rest: FetchRest
    ) -> None:
        """Raises ``StoreError`` where not even the reader can be opened."""
        self._transfer = transfer
        self._reader: SliceReader = transfer.reader(interval)
        self._fetch_rest = fetch_rest
        self._rest: Body | None = None
        self._left = Interval(0, 0)

    async def next_piece(self) -> Window | bytes | None:
        if self._rest is None:
            try:
                return await self._reader.next_piece()
            except StoreError as trouble:
                await self._leave_disk(trouble)
        return await self._next_live_piece()

    async def aclose(self) -> None:
        await self._reader.aclose()
        if self._rest is not None:
            await self._rest.aclose()

    async def _leave_disk(self, trouble: StoreError) -> None:
        """Go on without the disk. Raises the trouble itself where that cannot be."""
        start = self._reader.position
        stop = self._reader.stop if self._reader.stop is not None else self._transfer.length_bytes
        if stop is None:
            raise trouble
        self._left = Interval(start, stop)
        try:
            self._rest = await self._fetch_rest(self._left)
        except ForebayError:
            raise trouble from None

    async def _next_live_piece(self) -> Window | bytes | None:
        """The next bytes of the rest. One that breaks is replaced for as long as each has
        brought something."""
        has_brought = True
        while self._left.length_bytes:
            piece: Window | bytes | None = None
            try:
                piece = await self._rest.next_piece() if self._rest is not None else None
            except UpstreamError:
                if not has_brought:
                    raise
            if piece is not None:
                piece, length = _cut(piece, self._left.length_bytes)
                self._left = Interval(self._left.start + length, self._left.stop)
                return piece
            if not has_brought:
                raise UpstreamMisbehaved("The upstream ended the body before its end.")
            has_brought = False
            await self._replace_rest()
        return None

    async def _replace_rest(self) -> None:
        if self._rest is not None:
            await self._rest.aclose()
        self._rest = await self._fetch_rest(self._left)


def _cut(piece: Window | bytes, most_bytes: int) -> tuple[Window | bytes, int]:
    """The piece, no longer than that, and its length."""
    if isinstance(piece, Window):
        piece = piece._replace(stop=min(piece.stop, piece.start + most_bytes))
        return piece, piece.stop - piece.start
    piece = piece[:most_bytes]
    return piece, len(piece)
