"""The scrub: every stored byte is read and compared with its sum, slowly, beside the work.

Blocks without a sum (from format 1) get one, of what is there now: it tells later rot from that.
Entries that somebody writes are left alone; what they hold is fresh, or verified by who resumed
them. Damage is dealt with as if a client had met it (``checks``).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace

from forebay.errors import EntryDamaged, StoreError
from forebay.model import Entry, Interval, Intervals
from forebay.ports import Scrubbed, Selection
from forebay.rules import coverage as cov
from forebay.store.checks import Checker
from forebay.store.engine import Engine
from forebay.store.rows import Cursor, Row
from forebay.store.sums import Sum, blocks_of, sums_of

_PAGE_ROWS = 64
_BLOCKS_PER_STEP = 8
"""Between two steps the rate is kept, and whoever waits for the disk gets in."""


class Scrub:
    """One pass over all entries. ``stop`` ends it at the next step."""

    def __init__(
        self, engine: Engine, checker: Checker, rate_bytes_per_second: float | None
    ) -> None:
        """Without a rate it goes as fast as the disk."""
        self._engine = engine
        self._checker = checker
        self._rate = rate_bytes_per_second
        self._stopped = asyncio.Event()
        self.done = Scrubbed(running=True)

    def stop(self) -> None:
        """End soon."""
        self._stopped.set()

    async def run(self) -> Scrubbed:
        """Scrub everything. Trouble with the index ends it, and is told in what it gives."""
        try:
            await self._run()
        except StoreError as trouble:
            self.done = replace(self.done, trouble=trouble.detail)
        finally:
            self.done = replace(self.done, running=False)
        return self.done

    async def _run(self) -> None:
        cursor: Cursor = ("", 0)
        while not self._stopped.is_set():
            before = cursor
            rows, cursor = await self._engine.from_index(
                lambda at=before: self._engine.index.listing.page(  # type: ignore[misc]
                    Selection(everything=True), at, _PAGE_ROWS
                )
            )
            for row in rows:
                await self._scrub(row)
            if cursor == before:
                self.done = replace(self.done, finished=not self._stopped.is_set())
                return

    def _count(self, **more: int) -> None:
        self.done = replace(
            self.done, **{name: getattr(self.done, name) + count for name, count in more.items()}
        )

    async def _scrub(self, row: Row) -> None:
        try:
            entry = row.entry()
        except ValueError:
            return  # the next look-up or sweep removes it
        blocks = tuple(blocks_of(entry.coverage))
        damaged: Intervals = ()
        for start in range(0, len(blocks), _BLOCKS_PER_STEP):
            if self._stopped.is_set():
                return
            try:
                damaged += await self._step(entry, blocks[start : start + _BLOCKS_PER_STEP])
            except EntryDamaged:
                await self._engine.drop_quietly(entry.key, entry.entry_id)
                self._count(damaged_objects=1)
                return
            except StoreError:
                self._count(skipped_objects=1)
                return
        self._count(
            objects=1,
            damaged_blocks=len(tuple(blocks_of(damaged))),
            damaged_objects=int(bool(damaged)),
        )

    async def _step(self, entry: Entry, blocks: Intervals) -> Intervals:
        """Look at some blocks; gives the damaged ones, which the index claims no more."""
        began = asyncio.get_running_loop().time()
        if await self._engine.as_chore(lambda: self._engine.blobs.is_being_written(entry.entry_id)):
            raise StoreError("Another transfer is writing this entry at the moment.")
        verdict = await self._checker.look(entry, blocks)
        if verdict.damaged:
            self._checker.note_damage(entry, verdict.damaged)
            try:
                await self._checker.discard(entry, verdict.damaged)
            except EntryDamaged:
                return verdict.damaged  # nothing else was left of it
        await self._adopt(entry, verdict.unsummed)
        read_bytes = cov.total_bytes(cov.normalise(blocks))
        self._count(read_bytes=read_bytes)
        await self._pace(read_bytes, began)
        return verdict.damaged

    async def _adopt(self, entry: Entry, unsummed: Sequence[Interval]) -> None:
        if not unsummed:
            return
        engine = self._engine
        blocks = tuple(blocks_of(tuple(unsummed)))

        def read() -> list[Sum]:
            fileno = engine.blobs.open_for_reading(entry.entry_id, 0, exactly=False)
            try:
                return sums_of(fileno, blocks)
            finally:
                os.close(fileno)

        sums = await engine.as_check(read)

        def write() -> None:
            with engine.index.transaction(silent=True):
                if engine.index.get(entry.key, entry.entry_id) is not None:
                    engine.index.sums.put(entry.entry_id, sums)

        await engine.in_index(write)
        self._count(summed_blocks=len(sums))

    async def _pace(self, read_bytes: int, began: float) -> None:
        """Wait until these bytes are due at the rate; ``stop`` ends the wait."""
        if self._rate is None:
            return
        due = began + read_bytes / self._rate - asyncio.get_running_loop().time()
        if due > 0:
            try:
                async with asyncio.timeout(due):
                    await self._stopped.wait()
            except TimeoutError:
                pass
