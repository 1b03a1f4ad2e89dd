"""A follower: what another process is fetching into a shared store, for readers in this one.

It is to its readers what a ``Transfer`` is, and fetches nothing: the writer's note says what can be
read, and wishes tell the writer what is waited for. When the writer is gone before the whole is
there, each reader learns it at the end of what has come, as ``WriterLost``; the rest is then
somebody else's to bring, this process's or another's.

Nobody is told when another process writes a note: it is looked at, often while bytes come and
ever less often while none do. A follower without readers ends by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from forebay.errors import ForebayError, StoreError
from forebay.model import Entry, Interval, Intervals, Window
from forebay.ports import Following
from forebay.rules import coverage as cov
from forebay.streaming.audience import Audience
from forebay.streaming.reader import TransferReader
from forebay.views import TransferView

FIRST_LOOK_SECONDS = 0.002
MOST_LOOK_SECONDS = 0.02
"""Between two looks at the note: how much later a byte is seen here than where it is written."""
WISH_EVERY_SECONDS = 0.25
IDLE_SECONDS = 2.0
STUCK_SECONDS = 120.0
"""A writer that lives and brings nothing for longer than any timeout of ours will bring no more."""


class WriterLost(StoreError):
    """The process that fetched these bytes has stopped before their end."""


class SliceReader(Protocol):
    """A body that is a slice of what arrives: ``position`` is the next byte that it needs, and
    ``stop`` where it ends, None for the end of the whole."""

    @property
    def position(self) -> int: ...

    @property
    def stop(self) -> int | None: ...

    async def next_piece(self) -> Window | bytes | None: ...

    async def aclose(self) -> None: ...


class Arriving(Protocol):
    """What arrives in the store now, brought by this process or by another: see ``Transfer``."""

    entry: Entry

    @property
    def coverage(self) -> Intervals: ...

    @property
    def length_bytes(self) -> int | None: ...

    @property
    def settled(self) -> asyncio.Event: ...

    @property
    def is_over(self) -> bool: ...

    @property
    def is_closing(self) -> bool: ...

    @property
    def fetched_bytes(self) -> int: ...

    def reader(self, interval: Interval | None) -> SliceReader: ...

    def refresh(self, entry: Entry) -> None: ...

    def snapshot(self) -> Entry: ...

    def view(self) -> TransferView: ...


class Follower:
    """Reads along, for any number of readers at any offset.

    With ``proves_whole`` the last byte waits until the writer has proved the whole. ``on_over``
    is called in the tick in which it ends.
    """

    fetched_bytes = 0
    is_closing = False  # whoever writes commits, in a process of his own
    error: ForebayError | None = None

    def __init__(
        self,
        entry: Entry,
        following: Following,
        *,
        proves_whole: bool,
        now: float,
        on_over: Callable[[], None],
    ) -> None:
        self.entry = entry
        self.coverage: Intervals = cov.union(entry.coverage, following.coverage())
        self.length_bytes: int | None = entry.length_bytes
        self.is_over = False
        self.settled = asyncio.Event()
        self._following = following
        self._proves_whole = proves_whole
        self._started_time = now
        self._on_over = on_over
        self._readers = Audience()
        self._watcher = asyncio.create_task(self._watch())
        self._watcher.add_done_callback(lambda _: self._end())

    # For those who read.

    def reader(self, interval: Interval | None) -> TransferReader:
        """A reader of this slice (None: everything). Only while it is not over."""
        start, stop = interval if interval is not None else (0, None)
        reader = TransferReader(self, self._following.open_reader(), start, stop)
        self._readers.add(reader)
        self._wish(reader)
        return reader

    def readable_until(self, position: int) -> int:
        until = cov.covered_until(self.coverage, position)
        is_proven = self._following.proven_length_bytes() is not None
        if self._proves_whole and not is_proven and self.length_bytes in {None, until}:
            return max(position, until - 1)
        return until

    async def wait_for(self, reader: TransferReader) -> None:
        await self._readers.wait_for_bytes(
            reader, self, lambda: WriterLost("The process that fetched the file has stopped.")
        )

    def leave(self, reader: TransferReader) -> None:
        self._readers.remove(reader)

    def refresh(self, entry: Entry) -> None:
        """Take over head and times of an entry that upstream has just confirmed."""
        self.entry = replace(entry, coverage=self.coverage, complete=False)

    def snapshot(self) -> Entry:
        """The entry as it is now: with all that is readable, and the length if it is known."""
        if not self.is_over:
            self._look()
        identity = replace(self.entry.identity, length_bytes=self.length_bytes)
        return replace(self.entry, coverage=self.coverage, identity=identity)

    def view(self) -> TransferView:
        return TransferView(
            name=self.entry.name,
            mount=self.entry.mount,
            entry_id=self.entry.entry_id,
            state="following",
            length_bytes=self.length_bytes,
            covered_bytes=cov.total_bytes(self.coverage),
            coverage=tuple((run.start, run.stop) for run in self.coverage),
            readers=self._readers.positions(),
            segments=(),
            fetched_bytes=0,
            rate_bytes_per_second=0.0,
            started_time=self._started_time,
        )

    async def close(self) -> None:
        """End now; readers are told."""
        self._watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([self._watcher])

    # Behind them.

    async def _watch(self) -> None:
        pause, grown, wished, used = FIRST_LOOK_SECONDS, _now(), _now(), _now()
        while True:
            await asyncio.sleep(pause)
            now = _now()
            if self._look():
                pause, grown = FIRST_LOOK_SECONDS, now
            else:
                if not self._following.is_being_written() or now - grown > STUCK_SECONDS:
                    self._look()
                    return
                pause = min(2 * pause, MOST_LOOK_SECONDS)
            if self._readers:
                used = now
            elif now - used > IDLE_SECONDS:
                return
            if now - max(grown, wished) > WISH_EVERY_SECONDS:
                wished = now
                for reader in self._readers.waiting():
                    self._wish(reader)

    def _look(self) -> bool:
        """Take over what the note says; whether that is more than before."""
        before = self.coverage, self.length_bytes
        self.coverage = cov.union(self.coverage, self._following.coverage())
        length = self._following.proven_length_bytes()
        if length is not None:
            self.length_bytes = length
            self.coverage = (Interval(0, length),) if length else ()
            self._proves_whole = False
        if (self.coverage, self.length_bytes) == before:
            return False
        self._readers.wake(None if length is not None else self.readable_until)
        return True

    def _wish(self, reader: TransferReader) -> None:
        """Let the writer bring what this reader needs, unless it has it."""
        stop = reader.stop or self.length_bytes or sys.maxsize
        missing = cov.subtract((Interval(reader.position, stop),), self.coverage)
        if missing:
            self._following.wish(Interval(missing[0].start, stop))

    def _end(self) -> None:
        """Entry and follower settle in the same tick: after it the store says all there is."""
        if self.is_over:
            return
        self.is_over = True
        self._on_over()
        self._following.close()
        self._readers.wake()
        self.settled.set()


def _now() -> float:
    return time.monotonic()
