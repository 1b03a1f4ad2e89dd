"""What a client gets: a slice of a blob, as windows that may be sent at once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from forebay.errors import UpstreamMisbehaved
from forebay.model import Interval, Window
from forebay.ports import Body


class GrowingBlob(Protocol):
    """A transfer, as its readers see it."""

    @property
    def length_bytes(self) -> int | None:
        """The complete length, once it is known."""

    def readable_until(self, position: int) -> int:
        """The end of the run of readable bytes at ``position``; ``position`` if there is none."""

    async def wait_for(self, reader: TransferReader) -> None:
        """Wait until the byte at the reader's position is readable, or is known not to exist.

        Raises ``ForebayError`` if it will not come.
        """

    def leave(self, reader: TransferReader) -> None:
        """The reader is gone. Does not wait."""


class StoredReader:
    """A slice of bytes that are all on disk: one window."""

    def __init__(self, fileno: int, interval: Interval) -> None:
        self._fileno = fileno
        self._window: Window | None = Window(fileno, *interval) if interval.length_bytes else None
        self._closed = False

    async def next_piece(self) -> Window | None:
        window, self._window = self._window, None
        return window

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            os.close(self._fileno)


class TransferReader:
    """A slice of an entry that is being filled; ``stop`` None means "to the end, wherever it is".

    ``position`` is the next byte this reader needs. It holds a descriptor, not a path: purge
    and eviction do not touch it.
    """

    def __init__(self, blob: GrowingBlob, fileno: int, start: int, stop: int | None) -> None:
        self._blob = blob
        self._fileno = fileno
        self.position = start
        self.stop = stop
        self._closed = False

    async def next_piece(self) -> Window | None:
        while True:
            if self._closed:
                raise UpstreamMisbehaved("The body was closed while it was read.")
            stop = self._end()
            if stop is not None and self.position >= stop:
                return None
            readable = self._blob.readable_until(self.position)
            if readable > self.position:
                start = self.position
                self.position = readable if stop is None else min(readable, stop)
                return Window(self._fileno, start, self.position)
            await self._blob.wait_for(self)

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._blob.leave(self)
            os.close(self._fileno)

    def _end(self) -> int | None:
        """Where this slice ends: never behind the end of the whole, once that is known."""
        length = self._blob.length_bytes
        if self.stop is None or length is None:
            return length if self.stop is None else self.stop
        return min(self.stop, length)


class BytesBody:
    """A body that is already in memory."""

    def __init__(self, content: bytes) -> None:
        self._content: bytes | None = content or None

    async def next_piece(self) -> bytes | None:
        content, self._content = self._content, None
        return content

    async def aclose(self) -> None:
        self._content = None


class SequenceBody:
    """Several bodies one behind the other, as in multipart/byteranges (RFC 9110 §14.6)."""

    def __init__(self, bodies: Sequence[Body]) -> None:
        self._bodies = deque(bodies)

    async def next_piece(self) -> Window | bytes | None:
        while self._bodies:
            piece = await self._bodies[0].next_piece()
            if piece is not None:
                return piece
            await self._bodies.popleft().aclose()
        return None

    async def aclose(self) -> None:
        while self._bodies:
            await self._bodies.popleft().aclose()
