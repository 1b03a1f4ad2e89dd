"""Digests of stored bodies, computed behind everybody's back, so that hits tell them (RFC 9530).

Small bodies are summed before they are committed (``streaming.proving``). Longer ones, and those
that an older Forebay has stored, are summed here: one at a time, from the page cache where they
have just been written, with rests that leave most of a core to those who are served.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable

from forebay.errors import EntryDamaged, StoreError
from forebay.model import Entry, Interval
from forebay.ports import Store
from forebay.rules.digest_fields import may_be_told
from forebay.streaming.steadfast import see_through

STEP_BYTES = 8 * 1024 * 1024
"""What is read between two rests: about 8 ms of a core with SHA instructions, 30 ms without."""
READ_BYTES = 256 * 1024
"""Small enough for the second-level cache between reading and hashing."""
REST_SHARE, BUSY_REST_SHARE = 1.0, 4.0
"""Rest after a step, in steps: half a core at most, a fifth of one while bodies are fetched."""
MOST_WAITING = 1000
"""Beyond this nothing is noted: what is asked for again is noted again."""

log = logging.getLogger("forebay.service")


class Summing:
    """Sums the entries that are noted; ``is_busy`` says whether anything is being fetched."""

    def __init__(
        self, store: Store, is_busy: Callable[[], bool], clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._clock = clock
        self._is_busy = is_busy
        self._waiting: dict[str, Entry] = {}
        self._task: asyncio.Task[None] | None = None

    def note(self, entry: Entry) -> None:
        """Let this entry be summed if that is of use. Does not wait, and costs nothing if not."""
        if not entry.complete or entry.head.status != 200 or may_be_told(entry.digests):
            return
        if entry.entry_id in self._waiting or len(self._waiting) >= MOST_WAITING:
            return
        self._waiting[entry.entry_id] = entry
        if not self.is_at_work:
            self._task = asyncio.create_task(self._work())

    @property
    def is_at_work(self) -> bool:
        """Whether anything that was noted is still to be summed."""
        return self._task is not None

    async def close(self) -> None:
        """Stop; what has not been summed is noted again when it is asked for."""
        if self._task is not None:
            self._task.cancel()
            await see_through(self._task)

    async def _work(self) -> None:
        try:
            while self._waiting:
                entry_id, entry = next(iter(self._waiting.items()))
                try:
                    await self._sum(entry)
                except StoreError as trouble:
                    log.info("%s has no digest: %s", entry.name, trouble.detail)
                finally:
                    self._waiting.pop(entry_id, None)
        finally:
            self._task = None

    async def _sum(self, entry: Entry) -> None:
        """Raises ``StoreError``, also where the entry has been purged meanwhile."""
        length, running = entry.length_bytes or 0, hashlib.sha256()
        fileno = self._store.open_reader(entry)
        try:
            for start in range(0, length, STEP_BYTES):
                step = Interval(start, min(length, start + STEP_BYTES))
                if not await self._is_sound(entry, step):
                    return
                began = self._clock()
                hashing = asyncio.ensure_future(asyncio.to_thread(_hash, running, fileno, step))
                await _whatever_happens(hashing)
                share = BUSY_REST_SHARE if self._is_busy() else REST_SHARE
                await asyncio.sleep(share * (self._clock() - began))
        finally:
            os.close(fileno)
        await self._store.add_digests(entry, (("sha-256", running.hexdigest()),))

    async def _is_sound(self, entry: Entry, step: Interval) -> bool:
        """Whether these bytes are what was stored: a digest of rotten ones would vouch for them."""
        if not self._store.needs_verification(entry):
            return True
        return await self._store.verify(entry, step) is entry


async def _whatever_happens(work: asyncio.Future[None]) -> None:
    """Wait for a thread even when cancelled: the descriptor must not be closed under it."""
    await see_through(work)
    work.result()


def _hash(running: hashlib._Hash, fileno: int, step: Interval) -> None:
    """In a thread: these bytes of the file."""
    buffer = bytearray(READ_BYTES)
    position = step.start
    while position < step.stop:
        with memoryview(buffer) as view:
            got = os.preadv(fileno, [view[: step.stop - position]], position)
            if not got:
                raise EntryDamaged("A stored file is shorter than the index says.")
            running.update(view[:got])
        position += got
