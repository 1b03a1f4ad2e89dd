"""A segment's way to disk: large writes off the event loop, while the next bytes arrive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from forebay.errors import ForebayError, StoreError
from forebay.model import Interval, Octets
from forebay.ports import Draft
from forebay.streaming.steadfast import see_through

log = logging.getLogger("forebay.streaming")

MAX_PENDING_BYTES = 2 * 1024 * 1024
"""What may wait for the disk per segment. Enough to cover one slow write at 1 GiB/s with 2 ms
latency; a bound on memory that counts (max_segments times this per transfer)."""


class BlobSink:
    """Writes chunks one behind the other, as many at a time as came during the last write.

    The first chunk goes to disk at once, so that readers see it at once; under load the
    batches grow by themselves. ``on_written`` is told of each interval once every descriptor
    of the blob can read it.
    """

    def __init__(self, draft: Draft, position: int, on_written: Callable[[Interval], None]) -> None:
        self._draft = draft
        self._position = position
        self._on_written = on_written
        self._pending: list[Octets] = []
        self._pending_bytes = 0
        self._flush: asyncio.Task[None] | None = None
        self.error: ForebayError | None = None
        """Why bytes that were taken did not reach the disk; nothing is written after that."""

    async def write(self, chunk: Octets) -> None:
        """Take the chunk. Raises ``StoreError`` if an earlier one could not be written."""
        if self.error is not None:
            raise self.error
        self._pending.append(chunk)
        self._pending_bytes += len(chunk)
        if self._flush is None:
            self._flush = asyncio.create_task(self._write_pending())
        if self._pending_bytes >= MAX_PENDING_BYTES:
            await self.drain()

    async def drain(self) -> None:
        """Wait until everything taken so far is written. Raises ``StoreError``.

        Cancelling the waiter does not stop the write: a file must not be closed under one.
        """
        while self._flush is not None:
            await asyncio.shield(self._flush)
        if self.error is not None:
            raise self.error

    async def settle(self) -> None:
        """Wait until nothing is under way any more, even where the waiter is cancelled meanwhile.

        Raises nothing else, whatever became of the writes: see ``error``.
        """
        while self._flush is not None:
            await see_through(self._flush)

    async def _write_pending(self) -> None:
        try:
            while self._pending:
                pieces, size_bytes = self._pending, self._pending_bytes
                self._pending, self._pending_bytes = [], 0
                start = self._position
                await self._draft.write(start, pieces)
                self._position = start + size_bytes
                self._on_written(Interval(start, self._position))
        except ForebayError as error:
            self._fail(error)
        except Exception:
            log.exception("a write ended with a fault of ours")
            self._fail(StoreError("The cache could not write what came. Ask again."))
        finally:
            self._flush = None

    def _fail(self, error: ForebayError) -> None:
        self.error = error
        self._pending.clear()
        self._pending_bytes = 0
