"""One upstream connection at work on one interval of a transfer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass

from forebay.errors import ForebayError, UpstreamMisbehaved
from forebay.model import Interval, Octets
from forebay.ports import Draft
from forebay.streaming.pace import Meter
from forebay.streaming.sink import BlobSink
from forebay.streaming.tee import close_source, tee

BACKLOG_BYTES = 128 * 1024
"""So much behind a chunk that was just taken means that upstream is ahead of us: more than a paced
sender's bursts leave, less than any socket's buffer holds when it is full."""

BEHIND_SHARE = 0.5
"""Where this happens at more than this share of the looks, upstream is not what limits."""
LOOK_EVERY_SECONDS = 0.005
LOOK_WEIGHT = 0.25
"""Of one look, in the fading share of those that found a backlog."""


@dataclass(frozen=True, slots=True)
class Source:
    """One address of the object. ``mirror`` is the base under which its health is kept."""

    url: str
    mirror: str
    unguarded: bool = False


class Segment:
    """Brings bytes ``[start, stop)``; ``stop`` None means "until the body ends".

    ``received`` is the next byte from upstream, ``written`` the next that readers cannot see
    yet. ``stop`` may be moved while the segment runs, never below ``received`` nor beyond
    ``natural_stop``, which is where the response itself ends.
    """

    def __init__(self, source: Source, start: int, stop: int | None, now: float) -> None:
        self.source = source
        self.start = start
        self.received = start
        self.written = start
        self.stop = stop
        self.natural_stop = stop
        self.started = now
        self.meter = Meter(now)
        self.unread_bytes: Callable[[], int] = lambda: 0
        """Tells what waits behind the chunk that was taken last."""
        self.backlog_share = 0.0
        """How often, lately, more were waiting already when some were taken."""
        self._looked = now
        self.body_ended = False
        self.is_proved = False
        """Whether a head has come that proves the bytes behind it ours."""
        self.disk_error: ForebayError | None = None
        """Why bytes that were received cannot be read: it counts however the segment ended."""

    @property
    def todo(self) -> Interval:
        """The bytes that are still to come; only where ``stop`` is known."""
        return Interval(self.received, self.received if self.stop is None else self.stop)

    def is_finished(self) -> bool:
        """Whether it has brought all that it was to bring."""
        return self.body_ended if self.stop is None else self.received >= self.stop

    def cut(self, position: int) -> int:
        """End here, or at what has been received already; returns where that is."""
        stop = max(position, self.received)
        self.stop = stop if self.stop is None else min(self.stop, stop)
        return self.stop

    def extend(self, position: int | None) -> None:
        """End as late as the response does, or at this position where that comes first."""
        if self.stop is not None and self.natural_stop is not None:
            end = self.natural_stop if position is None else min(position, self.natural_stop)
            self.stop = max(self.stop, end)

    async def bring(
        self,
        chunks: AsyncIterator[Octets],
        draft: Draft,
        on_written: Callable[[Interval], None],
        clock: Callable[[], float],
    ) -> None:
        """Tee the chunks to disk until ``stop`` or their end; returns when all is written.

        Raises ``UpstreamError`` where the chunks end before ``stop``, by an error or without,
        and ``StoreError`` from the disk.
        """

        def note_written(interval: Interval) -> None:
            self.written = interval.stop
            on_written(interval)

        sink = BlobSink(draft, self.received, note_written)
        try:
            async with aclosing(tee(self._mine(chunks), sink)) as copied:
                async for chunk in copied:
                    now = clock()
                    self.meter.add(len(chunk), now)
                    self.look(now)
        finally:
            try:
                await sink.settle()
            finally:
                self.disk_error = sink.error
        await sink.drain()
        if not self.is_finished():
            raise UpstreamMisbehaved("The upstream ended a body before its declared end.")

    def look(self, now: float) -> None:
        """See whether upstream is ahead of us, unless that was done a moment ago."""
        if now - self._looked >= LOOK_EVERY_SECONDS:
            self._looked = now
            is_backlogged = self.unread_bytes() >= BACKLOG_BYTES
            self.backlog_share += LOOK_WEIGHT * (is_backlogged - self.backlog_share)

    async def _mine(self, chunks: AsyncIterator[Octets]) -> AsyncGenerator[Octets, None]:
        """The chunks up to ``stop``, wherever it is when they come."""
        try:
            async for chunk in chunks:
                room = len(chunk) if self.stop is None else self.stop - self.received
                piece = chunk if len(chunk) <= room else chunk[:room]
                self.received += len(piece)
                if piece:
                    yield piece
                # At its natural stop the body is read on to its end, which takes no waiting and
                # keeps the connection fit for the next request; but not beyond its end.
                is_surplus = len(chunk) > len(piece)
                if is_surplus or (self.is_finished() and self.stop != self.natural_stop):
                    return
            self.body_ended = True
        finally:
            await close_source(chunks)


def are_behind(segments: Collection[Segment]) -> bool:
    """Whether upstream sends some of these faster than we take what it sends."""
    return any(
        segment.backlog_share > BEHIND_SHARE or segment.unread_bytes() >= BACKLOG_BYTES
        for segment in segments
    )
