"""Drafts: how bytes of an entry come to disk, and when the index begins to claim them.

The order is always the same: bytes are written, summed and synced, and only then does the row
say that they are there, in one transaction with their sums. So whatever the moment of a crash
or a power cut, what the index claims was on the disk before; what is lost is the progress since
the last checkpoint, and up to a second's commits that the index's log had not synced
(``Index.sync``).

A draft whose row is purged, replaced or evicted goes on without: its bytes live as long as
descriptors do, and no later step brings the row back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace

from forebay.errors import EntryDamaged, StoreError, StoreFull
from forebay.model import Entry, Interval, Intervals, Octets
from forebay.rules import coverage as cov
from forebay.store import blobs
from forebay.store.blobs import Measure
from forebay.store.checks import Known
from forebay.store.codec import whole_coverage
from forebay.store.engine import Engine
from forebay.store.progress import Progress
from forebay.store.room import Claim
from forebay.store.rows import Row
from forebay.store.running_sums import RunningSums
from forebay.store.sums import Sum, blocks_to_sum, sums_of


class DiskDraft:
    """Write access to one blob (``ports.Draft``). Used by one transfer on the event loop."""

    def __init__(
        self,
        engine: Engine,
        entry: Entry,
        fileno: int,
        claim: Claim,
        on_closed: Callable[[str], None],
        known: Known,
        progress: Progress | None,
        summed: Intervals = (),
    ) -> None:
        """``summed`` are the bytes of which the index has sums already; ``progress`` is the note
        for other workers, where there are any."""
        self._engine = engine
        self._entry = entry
        self._fileno = fileno
        self._claim = claim
        self._on_closed = on_closed
        self._known = known
        self._progress = progress
        self._summed = summed
        self._running_sums = RunningSums()
        self._writing: set[Future[int]] = set()
        self._pending_bytes = 0
        self._growing = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None
        self._has_name_synced = False
        self._is_settled = False
        """Whether the row says what it should for ever: complete, or gone."""
        self._is_broken = False
        """Whether a sync failed: the kernel may have dropped bytes that reads still show."""

    @property
    def entry(self) -> Entry:
        """The entry as last written to the index."""
        return self._entry

    @property
    def is_closing(self) -> bool:
        """Whether ``close`` has been called."""
        return self._closing is not None

    def open_reader(self) -> int:
        """A new descriptor for reading the blob; the caller closes it."""
        self._check_usable()
        try:
            return blobs.reader_of(self._fileno)
        except OSError as error:
            raise self._engine.health.failed("blobs", error) from error

    async def write(self, position: int, pieces: Sequence[Octets]) -> None:
        """Write the pieces one behind the other from this position (``ports.Draft.write``).

        A caller that is cancelled leaves the write running; ``close`` waits for it.
        """
        self._check_usable()
        length = sum(map(len, pieces))
        if length == 0:
            return
        self._pending_bytes += length
        try:
            await self._ensure_room()
            self._check_usable()
            started = self._engine.start_writing(lambda: self._write(position, pieces))
            self._writing.add(started)
            started.add_done_callback(self._writing.discard)
            size_bytes = await self._engine.written(started)
        finally:
            self._pending_bytes -= length
        self._claim.written_bytes = max(self._claim.written_bytes, size_bytes)

    def _write(self, position: int, pieces: Sequence[Octets]) -> int:
        """In a thread: the bytes, their sums, and for the other workers that they are there."""
        size_bytes = blobs.write_pieces(self._fileno, position, pieces)
        self._running_sums.add(position, pieces)
        if self._progress is not None:
            self._progress.add(Interval(position, position + sum(map(len, pieces))))
        return size_bytes

    async def checkpoint(self, coverage: Intervals) -> bool:
        """Make the bytes durable, then let the index claim them (``ports.Draft.checkpoint``)."""
        self._check_usable()
        return await self._engine.whole(self._checkpoint(coverage))

    async def commit(self, entry: Entry) -> bool:
        """Make the bytes durable and the entry complete (``ports.Draft.commit``).

        The coverage becomes the whole length. Raises ``EntryDamaged``, and forgets the entry,
        when the file does not have that length.
        """
        if entry.entry_id != self._entry.entry_id or not entry.complete:
            raise ValueError("a draft commits its own entry, complete")
        self._check_usable()
        return await self._engine.whole(self._commit(entry))

    def wished_elsewhere(self) -> Intervals:
        """What readers in other workers wait for (``ports.Draft.wished_elsewhere``)."""
        return () if self._progress is None else self._progress.wishes()

    async def close(self) -> None:
        """Give up writing (``ports.Draft.close``). Goes on when the caller is cancelled."""
        if self._closing is None:
            self._closing = self._engine.spawn(self._close())
        await asyncio.shield(self._closing)

    # Room

    async def _ensure_room(self) -> None:
        if not self._lacks_room():
            return
        async with self._growing:
            missing = self._missing_bytes()
            if missing <= 0:
                return
            try:
                await self._grow(max(missing, self._engine.room.step_bytes()))
            except StoreFull:
                await self._grow(missing)

    def _lacks_room(self) -> bool:
        return self._missing_bytes() > 0

    def _missing_bytes(self) -> int:
        """What the writes that are under way may take beyond the promise."""
        needed = self._claim.written_bytes + blobs.rounded_up(self._pending_bytes)
        length = self._entry.length_bytes
        if length is not None:
            needed = min(needed, blobs.rounded_up(length))
        return needed - self._claim.promised_bytes

    async def _grow(self, more_bytes: int) -> None:
        room, index, claim = self._engine.room, self._engine.index, self._claim
        length = self._entry.length_bytes

        def job() -> tuple[list[Row], int]:
            promised = claim.promised_bytes + blobs.rounded_up(more_bytes)
            if length is not None:
                promised = min(promised, max(claim.promised_bytes, blobs.rounded_up(length)))
            with index.transaction(silent=True):
                evicted = room.make(promised - claim.promised_bytes, claim.mount)
                if not claim.is_gone and not index.resize(claim.entry_id, promised):
                    claim.is_gone = True
            claim.promised_bytes = promised
            return evicted, room.used_bytes()

        evicted, used_bytes = await self._engine.in_index(job)
        room.count_evicted(evicted)
        self._engine.unlink(evicted)
        await self._engine.make_way(used_bytes)

    # Durability

    async def _sync(self, coverage: Intervals | None) -> tuple[Measure, list[Sum]]:
        """Sum what is covered now and was not before (None: everything there is), sync it, the
        blob's name too the first time, and measure it."""
        engine, entry_id = self._engine, self._entry.entry_id
        sync_name = not self._has_name_synced and not self._claim.is_gone

        def job() -> tuple[Measure, list[Sum]]:
            covered = coverage
            if covered is None:
                covered = whole_coverage(blobs.measure(self._fileno).length_bytes)
            # Before the sync, while they are what was written and not what the disk kept of it.
            sums, unknown = self._running_sums.take(blocks_to_sum(covered, self._summed))
            sums = sorted(sums + sums_of(self._fileno, unknown))
            measured = blobs.sync(self._fileno)
            if sync_name:
                with suppress(FileNotFoundError):  # the directory was deleted: no row either
                    engine.blobs.sync_name(entry_id)
            return measured, sums

        try:
            measured, sums = await engine.as_chore(job)
        except StoreError:
            self._is_broken = True
            raise
        self._has_name_synced = True
        self._claim.written_bytes = max(self._claim.written_bytes, measured.size_bytes)
        return measured, sums

    async def _checkpoint(self, coverage: Intervals) -> bool:
        _, sums = await self._sync(coverage)
        return await self._update(lambda entry: replace(entry, coverage=coverage), sums)

    async def _commit(self, entry: Entry) -> bool:
        await self._written_all()
        if self._progress is not None and entry.length_bytes is not None:
            # Followers need not wait for the disk, as little as readers here do.
            await self._tell_finished(self._progress, entry.length_bytes)
        measured, sums = await self._sync(None)
        length = measured.length_bytes if entry.length_bytes is None else entry.length_bytes
        if measured.length_bytes != length:
            await self._engine.drop_quietly(entry.key, entry.entry_id)
            self._is_settled = self._claim.is_gone = True
            raise EntryDamaged("The stored file has not the length it should: fetch it again.")
        final = replace(
            entry,
            identity=replace(entry.identity, length_bytes=length),
            coverage=whole_coverage(length),
        )
        done = await self._update(
            lambda stored: _with_latest_head(final, stored), sums, measured.size_bytes
        )
        self._is_settled = True
        return done

    async def _tell_finished(self, progress: Progress, length_bytes: int) -> None:
        with suppress(StoreError):
            await self._engine.with_blobs(lambda: progress.finish(length_bytes))

    async def _update(
        self,
        change: Callable[[Entry], Entry],
        sums: Sequence[Sum] = (),
        size_bytes: int | None = None,
    ) -> bool:
        """Change the row if it is still there, and say whether it was.

        Its size becomes the one given, for a draft that writes no more, or else what is
        promised to it at the moment of the change.
        """
        index, claim, key = self._engine.index, self._claim, self._entry.key
        # Whoever writes uses the entry: what has just arrived is not the next to be evicted.
        used_time = self._engine.clock()

        def job() -> Entry | None:
            size = max(claim.promised_bytes, claim.written_bytes)
            if size_bytes is not None:
                size = size_bytes
            with index.transaction():
                updated = index.update(key, claim.entry_id, change, size, used_time)
                if updated is not None and sums:
                    index.sums.put(claim.entry_id, sums)
            claim.promised_bytes = size
            return updated

        updated = await self._engine.in_index(job)
        self._engine.lookups.drop(key)
        if updated is None:
            claim.is_gone = True
            return False
        self._entry = updated
        self._summed = cov.union(self._summed, updated.coverage)
        self._known.add(claim.entry_id, updated.coverage)
        return True

    # The end

    async def _close(self) -> None:
        await self._written_all()
        try:
            if not (self._is_settled or self._claim.is_gone):
                await self._leave_row()
        except StoreError:
            # Noted as trouble already. The row claims too much room until the next sweep.
            pass
        finally:
            with suppress(StoreError):
                await self._engine.as_chore(self._release)
            self._on_closed(self._claim.entry_id)

    def _release(self) -> None:
        # The note first: who sees the lock free must not take it for that of a dead writer.
        if self._progress is not None:
            self._progress.close()
        if self._claim.is_gone:
            # Whoever deleted the row has unlinked the blob, unless the index itself was lost.
            self._engine.blobs.remove(self._claim.entry_id)
        blobs.release(self._fileno)

    async def _leave_row(self) -> None:
        """Keep what the last checkpoint claims, with the size it takes, or remove it all."""
        if not self._entry.coverage or self._entry.length_bytes is None:
            if not await self._engine.drop(self._entry.key, self._claim.entry_id):
                self._claim.is_gone = True
            return
        size_bytes = blobs.measure(self._fileno).size_bytes
        await self._update(lambda entry: entry, size_bytes=size_bytes)

    async def _written_all(self) -> None:
        """Wait for writes whose callers have left: a descriptor must not close under them."""
        while self._writing:
            await asyncio.wait([asyncio.wrap_future(one) for one in tuple(self._writing)])

    def _check_usable(self) -> None:
        if self._closing is not None:
            raise StoreError("This draft is closed.")
        if self._is_broken:
            raise StoreError("The disk of the cache has lost bytes of this object.")


def _with_latest_head(final: Entry, stored: Entry) -> Entry:
    """The entry with head and times of the stored one, where another worker has had that confirmed
    by upstream since."""
    if stored.response_time <= final.response_time:
        return final
    return replace(
        final,
        head=stored.head,
        request_time=stored.request_time,
        response_time=stored.response_time,
    )
