"""A live response for one client: what is not shared goes through here, and is not stored."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from contextlib import aclosing

from forebay.errors import ForebayError, UpstreamMisbehaved
from forebay.model import Head, Octets
from forebay.ports import UpstreamResponse
from forebay.streaming.tee import bound, clip

PIECE_BYTES = 128 * 1024
"""The longest piece that a client is given at once: its connection holds one beyond its high mark,
and what is read from upstream at once may be many times that."""
MAX_WAITING_PIECES = 8
"""Pieces between upstream and a slow client."""
CLAIM_DEADLINE_SECONDS = 5.0
"""How long an answer that somebody asked for waits for him to take it."""


class Relay:
    """Hands the chunks of an open response from the task that opened it to one body reader.

    The opening task calls ``pump`` inside its ``async with``; the client's side uses
    ``next_piece`` and ``aclose`` (a ``Body``). When the client leaves, the pumping task is
    cancelled, and its own frame releases the connection.
    """

    def __init__(self, response: UpstreamResponse, most_bytes: int | None = None) -> None:
        self.head: Head = response.head
        self._most_bytes = sys.maxsize if most_bytes is None else most_bytes
        self.redirects = response.redirects
        self.passed_bytes = 0
        self._pieces: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._claimed = False
        self._ended = False
        self._closed = False
        self._error: ForebayError | None = None
        self._pump_task: asyncio.Task[object] | None = None

    def claim(self) -> bool:
        """True for the first who asks: the response is his. False for everybody else."""
        if self._claimed or self._closed:
            return False
        self._claimed = True
        self._changed.set()
        return True

    async def pump(self, response: UpstreamResponse, *, skip_bytes: int = 0) -> None:
        """Move every chunk across. Returns when the body has ended or the client has left."""
        if self._closed:
            return
        self._pump_task = task = asyncio.current_task()
        try:
            if not await self._is_claimed_in_time():
                return
            bounded = bound(response.chunks(), self._most_bytes)
            async with aclosing(clip(bounded, skip_bytes)) as chunks:
                async for chunk in chunks:
                    for start in range(0, len(chunk), PIECE_BYTES):
                        await self._pass(chunk[start : start + PIECE_BYTES])
        except ForebayError as error:
            self._error = error
        except asyncio.CancelledError:
            if task is None or not self._has_left():
                self._error = UpstreamMisbehaved("The transfer was stopped before its end.")
                raise
            # It came from ``aclose``, and has done its work here.
            task.uncancel()
        except BaseException:
            self._error = UpstreamMisbehaved("The fetch failed inside the cache. Ask again.")
            raise
        finally:
            self._pump_task = None
            self._ended = True
            self._changed.set()

    async def _pass(self, piece: Octets) -> None:
        # A client may be slow: what waits for it must not hold a large buffer.
        self._pieces.append(bytes(piece))
        self.passed_bytes += len(piece)
        self._changed.set()
        await self._until(lambda: len(self._pieces) < MAX_WAITING_PIECES)

    async def next_piece(self) -> bytes | None:
        await self._until(lambda: bool(self._pieces) or self._ended or self._closed)
        if self._pieces:
            piece = self._pieces.popleft()
            self._changed.set()
            return piece
        if self._error is not None:
            raise self._error
        if self._closed:
            raise UpstreamMisbehaved("The answer was closed before its end.")
        return None

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._pieces.clear()
        self._changed.set()
        if self._pump_task is not None:
            self._pump_task.cancel()

    def _has_left(self) -> bool:
        return self._closed

    async def _is_claimed_in_time(self) -> bool:
        try:
            async with asyncio.timeout(CLAIM_DEADLINE_SECONDS):
                await self._until(lambda: self._claimed or self._closed)
        except TimeoutError:
            self._closed = True
        return not self._has_left()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()
