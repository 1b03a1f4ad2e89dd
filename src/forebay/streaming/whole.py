"""A small body that has come whole with its head, or a moment after it.

Nothing is left to plan, to watch or to wait for then: the same tee takes its chunks into memory,
where they are summed and proved at once. Readers are given these very bytes, and the store takes
them in one step behind everybody's back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from forebay.errors import ForebayError, StoreError, UpstreamChanged, UpstreamMisbehaved
from forebay.model import Entry, Interval, Intervals, Octets
from forebay.ports import UpstreamResponse
from forebay.rules.digest_fields import Digests, contradiction, digests_of, may_be_told
from forebay.streaming.digests import begun
from forebay.streaming.tee import tee
from forebay.views import TransferView

SMALL_BYTES = 64 * 1024
"""The longest body that is waited for: one piece of a socket, hashed in 0.05 ms."""
HERE_WITHIN_SECONDS = 0.05
"""How much later than its head the end of a small body may come: a few round trips to a far
upstream. Nobody waits longer for the whole by it, since the whole takes that long."""

log = logging.getLogger("forebay.streaming")


class _Content:
    """A sink in memory."""

    def __init__(self) -> None:
        self.octets = bytearray()

    async def write(self, chunk: Octets) -> None:
        self.octets += chunk


async def gathered(chunks: AsyncIterator[Octets]) -> bytes:
    """The whole of a body that is here (``UpstreamResponse.is_here``)."""
    content = _Content()
    async with aclosing(tee(chunks, content)) as copied:
        async for _ in copied:
            pass
    return bytes(content.octets)


async def comes_whole(response: UpstreamResponse, length_bytes: int | None) -> bool:
    """Whether this body is so small, and here so soon."""
    if length_bytes is None or length_bytes > SMALL_BYTES:
        return False
    return await response.is_here(HERE_WITHIN_SECONDS)


class Whole:
    """An entry all of whose bytes are in memory (``Arriving``), on its way to the store.

    Where they are not what was expected, ``error`` says so: nothing is to be kept, and readers
    meet it before the last byte, as those of a transfer do.
    """

    is_closing = True  # what is stored was taken before anything that comes later
    is_over = False  # who has waited for it can always be given its bytes

    def __init__(
        self, entry: Entry, content: bytes, expected: Digests, *, is_to_tell: bool, now: float
    ) -> None:
        """``is_to_tell``: have a digest that may be told, whether or not one is expected."""
        length = len(content)
        coverage = (Interval(0, length),) if length else ()
        identity = replace(entry.identity, length_bytes=length)
        names = {name for name, _ in expected}
        if is_to_tell and not may_be_told(expected):
            names.add("sha-256")
        found = {name: _digest(name, content) for name in names}
        digests = tuple(sorted(found.items()))
        self.entry = replace(entry, identity=identity, coverage=coverage, digests=digests)
        self.coverage: Intervals = coverage
        self.length_bytes: int | None = length
        self.content = content
        wrong = contradiction(found, expected, digests_of(entry.head)) if expected else None
        self.error = None if wrong is None else UpstreamChanged(wrong)
        self.fetched_bytes = length
        self.settled = asyncio.Event()
        self._started_time = now
        self._storing: asyncio.Future[bool] | None = None

    def complete_entry(self) -> Entry:
        """What is to be stored."""
        return replace(self.entry, complete=True)

    def note_storing(self, storing: asyncio.Future[bool]) -> None:
        """The store has it in hand."""
        self._storing = storing

    def reader(self, interval: Interval | None) -> WholeReader:
        """A reader of this slice (None: everything)."""
        start, stop = interval if interval is not None else (0, len(self.content))
        return WholeReader(self.content, start, min(stop, len(self.content)), self.error)

    def refresh(self, entry: Entry) -> None:
        """Take over head and times of an entry that upstream has just confirmed."""
        self.entry = replace(entry, coverage=self.coverage, complete=False)

    def snapshot(self) -> Entry:
        """The entry as it is now."""
        return self.entry

    def view(self) -> TransferView:
        length = len(self.content)
        return TransferView(
            name=self.entry.name,
            mount=self.entry.mount,
            entry_id=self.entry.entry_id,
            state="finishing",
            length_bytes=length,
            covered_bytes=length,
            coverage=tuple((run.start, run.stop) for run in self.coverage),
            readers=(),
            segments=(),
            fetched_bytes=length,
            rate_bytes_per_second=0.0,
            started_time=self._started_time,
        )

    async def finish(self) -> None:
        """Wait until it is stored, or cannot be. Raises only when cancelled."""
        try:
            if self._storing is not None:
                await self._storing
        except StoreError as error:
            # The bytes are in memory, only their keeping failed: readers go on undisturbed.
            log.warning("%s cannot be kept: %s", self.entry.name, error)

    async def close(self) -> None:
        """Nothing is held that would have to be released."""


class WholeReader:
    """A slice of bytes in memory, in one piece."""

    def __init__(self, content: bytes, start: int, stop: int, error: ForebayError | None) -> None:
        self.position = start
        self.stop: int | None = stop
        self._content = content
        self._error = error
        self._closed = False

    async def next_piece(self) -> bytes | None:
        if self._closed:
            raise UpstreamMisbehaved("The body was closed while it was read.")
        stop = self.stop or 0
        if self._error is not None:
            stop = min(stop, len(self._content) - 1)
        if self.position < stop:
            piece = self._content[self.position : stop]
            self.position = stop
            return piece
        if self._error is not None and self.position < (self.stop or 0):
            raise self._error
        return None

    async def aclose(self) -> None:
        self._closed = True


def _digest(algorithm: str, content: bytes) -> str:
    running = begun(algorithm)
    running.update(content)
    return running.hexdigest()
