"""Drafts begun and taken up again: blob, row, room and note of each, in an order that a crash
at any moment leaves nothing false behind.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

from forebay.errors import EntryDamaged, StoreError, StoreFull
from forebay.model import Entry, Interval, Intervals
from forebay.rules import coverage as cov
from forebay.store import blobs
from forebay.store.checks import Checker
from forebay.store.engine import Engine
from forebay.store.entries import DiskDraft
from forebay.store.placing import displace
from forebay.store.progress import Progress, noted
from forebay.store.room import Claim
from forebay.store.rows import Row
from forebay.store.upkeep import Upkeep


class Drafting:
    """The open drafts of one store. Used on the event loop."""

    def __init__(self, engine: Engine, checker: Checker, upkeep: Upkeep) -> None:
        self._engine = engine
        self._checker = checker
        self._upkeep = upkeep
        self._drafts: dict[str, DiskDraft] = {}

    async def begin(self, entry: Entry, expected_bytes: int | None) -> DiskDraft:
        """A new blob and row (``DiskStore.begin``)."""
        return await self._draft(self._begin(entry, expected_bytes))

    async def resume(self, entry: Entry) -> DiskDraft:
        """The draft of a partial entry (``DiskStore.resume``)."""
        return await self._draft(self._resume(entry))

    async def close(self) -> None:
        """Close every draft."""
        for draft in tuple(self._drafts.values()):
            await draft.close()

    async def _draft(self, work: Coroutine[Any, Any, DiskDraft]) -> DiskDraft:
        task = self._engine.spawn(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._abandon)
            raise

    def _abandon(self, task: asyncio.Task[DiskDraft]) -> None:
        """Nobody will ever close the draft that this task makes."""
        if not task.cancelled() and task.exception() is None:
            self._engine.spawn(task.result().close())

    async def _begin(self, entry: Entry, expected_bytes: int | None) -> DiskDraft:
        engine = self._engine
        engine.blobs.path(entry.entry_id)
        wanted = blobs.rounded_up(expected_bytes or 0)
        limit, quota = engine.room.max_size_bytes, engine.room.quotas.get(entry.mount)
        if limit is not None and wanted > limit:
            raise StoreFull("The object is larger than the cache: raise cache.max_size.")
        if quota is not None and wanted > quota:
            raise StoreFull("The object is larger than its mount may be: raise its max_size.")
        if limit is not None or quota is not None:
            await self._upkeep.write_pending_uses()  # or the wrong ones might go
        fresh = replace(
            entry,
            coverage=(),
            complete=False,
            stored_time=entry.stored_time or self._engine.clock(),
        )
        progress = self._progress_of(fresh)

        def create() -> int:
            fileno = engine.blobs.create(entry.entry_id)
            if progress is not None:
                progress.begin()  # before the row: who finds that must see who writes it
            return fileno

        fileno = await engine.with_blobs(create)
        claim = Claim(entry.entry_id, entry.mount)
        engine.room.claims[entry.entry_id] = claim
        try:
            replaced, evicted, used_bytes = await engine.in_index(
                lambda: self._insert(fresh, wanted, claim)
            )
        except BaseException:
            with suppress(StoreError):
                await engine.as_chore(lambda: engine.blobs.remove(entry.entry_id))
            await self._let_go(fileno, progress)
            engine.room.claims.pop(entry.entry_id, None)
            raise
        engine.lookups.drop(entry.key)
        engine.room.count_evicted(evicted)
        engine.unlink((*replaced, *evicted))
        draft = self._drafted(fresh, fileno, claim, progress)
        await engine.make_way(used_bytes)
        return draft

    def _insert(self, entry: Entry, wanted: int, claim: Claim) -> tuple[list[Row], list[Row], int]:
        """In the index writer: add the row.

        Gives the rows it replaced, the evicted ones, and how many bytes are used then.
        """
        index = self._engine.index
        with index.transaction():
            replaced, is_pinned = displace(index, entry)
            evicted = self._engine.room.make(wanted, entry.mount)
            index.insert(entry, wanted, self._engine.clock(), is_pinned=is_pinned)
        claim.promised_bytes = wanted
        return replaced, evicted, self._engine.room.used_bytes()

    async def _resume(self, entry: Entry) -> DiskDraft:
        engine = self._engine
        earlier = self._drafts.get(entry.entry_id)
        if earlier is not None and earlier.is_closing:
            await earlier.close()
        # What is resumed is read by its transfer's readers, who verify nothing.
        entry = await self._checker.verify_all(entry)
        note = engine.layout.progress / entry.entry_id
        progress = self._progress_of(entry)

        def open_again() -> tuple[int, Intervals]:
            fileno = engine.blobs.open_for_writing(entry.entry_id)
            if progress is None:
                return fileno, ()
            left = noted(note)
            progress.begin()
            return fileno, left

        try:
            fileno, left = await engine.with_blobs(open_again)
        except EntryDamaged:
            await engine.drop_quietly(entry.key, entry.entry_id)
            raise
        claim = Claim(entry.entry_id, entry.mount)
        engine.room.claims[entry.entry_id] = claim
        try:
            stored, summed = await engine.in_index(lambda: self._take_up(entry, fileno, claim))
        except BaseException as error:
            await self._let_go(fileno, progress)
            engine.room.claims.pop(entry.entry_id, None)
            if isinstance(error, EntryDamaged):
                await engine.drop_quietly(entry.key, entry.entry_id)
            raise
        draft = self._drafted(stored, fileno, claim, progress, summed)
        await self._adopt(draft, left)
        return draft

    async def _adopt(self, draft: DiskDraft, left: Intervals) -> None:
        """Claim what a writer that died had written beyond its last checkpoint.

        All but the last byte: that is for whoever proves the whole.
        """
        entry = draft.entry
        if entry.length_bytes is None:
            return
        beyond = cov.subtract(left, (Interval(entry.length_bytes - 1, sys.maxsize),))
        coverage = cov.union(entry.coverage, beyond)
        if coverage == entry.coverage:
            return
        try:
            await draft.checkpoint(coverage)
        except BaseException:
            await draft.close()
            raise

    def _take_up(self, entry: Entry, fileno: int, claim: Claim) -> tuple[Entry, Intervals]:
        """In the index writer: check a partial entry against its blob, and count it right."""
        index = self._engine.index
        measured = blobs.measure(fileno)
        with index.transaction(silent=True):
            row = index.get(entry.key, entry.entry_id)
            try:
                stored = row.entry() if row is not None else None
            except ValueError:
                stored = None
            if stored is None or stored.length_bytes is None:
                raise EntryDamaged("The entry cannot be continued: fetch it again.")
            if stored.coverage and stored.coverage[-1].stop > measured.length_bytes:
                raise EntryDamaged("The stored file is too short: fetch it again.")
            index.resize(entry.entry_id, measured.size_bytes)
            sums = index.sums.of(entry.entry_id, stored.coverage)
        claim.promised_bytes = claim.written_bytes = measured.size_bytes
        return stored, cov.normalise(Interval(one.start, one.stop) for one in sums)

    def _progress_of(self, entry: Entry) -> Progress | None:
        engine = self._engine
        if not engine.shared:
            return None
        return Progress(engine.layout.progress / entry.entry_id, entry.coverage)

    async def _let_go(self, fileno: int, progress: Progress | None) -> None:
        """Of a blob that is not written after all."""
        if progress is not None:
            with suppress(StoreError):
                await self._engine.with_blobs(progress.close)
        blobs.release(fileno)

    def _drafted(
        self,
        entry: Entry,
        fileno: int,
        claim: Claim,
        progress: Progress | None,
        summed: Intervals = (),
    ) -> DiskDraft:
        known = self._checker.known
        draft = DiskDraft(
            self._engine, entry, fileno, claim, self._undraft, known, progress, summed
        )
        self._drafts[entry.entry_id] = draft
        return draft

    def _undraft(self, entry_id: str) -> None:
        self._drafts.pop(entry_id, None)
        self._engine.room.claims.pop(entry_id, None)
