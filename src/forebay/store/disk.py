"""The store on disk (``ports.Store``): look-ups, drafts, purges, and the work behind them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from forebay.errors import EntryDamaged, StoreError
from forebay.model import Entry, Interval
from forebay.ports import Removed, Scrubbed, Selection, StoredObject, StoreUsage
from forebay.rules.eviction import Eviction
from forebay.store import blobs
from forebay.store.checks import Checker, Verify
from forebay.store.drafting import Drafting
from forebay.store.engine import Engine
from forebay.store.entries import DiskDraft
from forebay.store.neighbours import DiskNeighbours
from forebay.store.notices import notices
from forebay.store.rows import Totals
from forebay.store.scrub import Scrub
from forebay.store.selected import Selected, check
from forebay.store.sweep import Swept
from forebay.store.trouble import log
from forebay.store.upkeep import Upkeep
from forebay.store.whole import WholeEntries


class DiskStore:
    """One cache directory, used by this process alone or shared with other workers.

    ``max_size_bytes`` bounds what all blobs take on disk together, drafts included (None: no
    bound); ``min_free_bytes`` is left free on the file system. The index and the directories
    come on top: some 2 to 4 KB per entry. With ``shared``, other processes that say so too
    may use the directory at the same time; without, it is this process's alone. ``quotas`` bound
    what the entries of a mount take, by its name; those of ``pinned_mounts`` are never evicted.
    """

    def __init__(  # noqa: PLR0913 - one for each setting
        self,
        directory: Path,
        *,
        max_size_bytes: int | None,
        min_free_bytes: int,
        shared: bool = False,
        clock: Callable[[], float] = time.time,
        verify: Verify = Verify.FIRST_USE,
        quotas: Mapping[str, int] | None = None,
        eviction: Eviction = Eviction.LRU,
        pinned_mounts: Collection[str] = (),
    ) -> None:
        self._engine = Engine(
            directory,
            max_size_bytes=max_size_bytes,
            min_free_bytes=min_free_bytes,
            shared=shared,
            clock=clock,
            quotas=quotas or {},
            eviction=eviction,
            pinned_mounts=pinned_mounts,
        )
        self._checker = Checker(self._engine, verify)
        self.neighbours: DiskNeighbours | None = None
        """The other workers, where there may be any."""
        if self._engine.turns is not None:
            self.neighbours = DiskNeighbours(self._engine, self._engine.turns)
        self._clock = clock
        self._upkeep = Upkeep(self._engine)
        self._drafting = Drafting(self._engine, self._checker, self._upkeep)
        self._whole = WholeEntries(self._engine, self._checker.known, self._upkeep)
        self._selected = Selected(self._engine, self._upkeep)
        self.scrub_rate_bytes_per_second: float | None = None
        """How fast a scrub may read; None is as fast as the disk. May be set at any time."""
        self._scrub: Scrub | None = None
        self._scrubbing: asyncio.Task[Scrubbed] | None = None
        self._totals = Totals(0, 0)
        self._free_bytes = 0
        self._is_open = False

    async def open(self) -> None:
        """Take the directory and begin. Leftovers of a crash are swept behind the caller's back.

        Raises ``StoreError``, with a sentence for the operator, when the directory cannot be
        used, is used by another service, or has a newer format.
        """
        await self._engine.open()
        if self.neighbours is not None:
            with suppress(StoreError):  # counts are no reason not to serve
                await self.neighbours.open()
        self._upkeep.start()
        self._is_open = True

    async def announce(self, mounts: Collection[str]) -> None:
        """Log, in numbers, what a changed configuration leaves behind or is about to evict.

        ``mounts`` are the names in force.
        """
        engine = self._engine
        with suppress(StoreError):
            room = engine.room
            held, free_bytes = await engine.from_index(
                lambda: (engine.index.mounts.all(), room.blobs.free_bytes())
            )
            for notice in notices(
                held,
                mounts,
                room.max_size_bytes,
                room.quotas,
                free_bytes=free_bytes,
                min_free_bytes=room.min_free_bytes,
            ):
                log.warning("%s", notice)

    async def close(self) -> None:
        """Close every draft, make everything durable, and give the directory up."""
        if not self._is_open:
            return
        self._is_open = False
        self._upkeep.stop()
        if self._scrub is not None:
            self._scrub.stop()
        await self._drafting.close()
        await self._whole.settled()
        with suppress(StoreError):
            await self._upkeep.flush()
        await self._engine.close()
        if self.neighbours is not None:
            self.neighbours.close()

    async def swept(self) -> Swept:
        """Wait for the sweep that ``open`` began, and say what it did."""
        return await self._upkeep.swept()

    # Look-ups

    def find_cached(self, key: str) -> tuple[Entry, ...] | None:
        """What ``find`` would give, if that is known without asking the index; else None."""
        return self._engine.lookups.cached(key)

    async def find(self, key: str) -> tuple[Entry, ...]:
        """Every variant stored under this key, newest first (``ports.Store.find``)."""
        if self._whole.is_under_way(key):
            await self._whole.settled(key)
        try:
            return await self._engine.lookups.find(key)
        except StoreError:
            return ()

    def open_reader(self, entry: Entry) -> int:
        """A descriptor for reading the blob (``ports.Store.open_reader``)."""
        if entry.complete:
            needed_bytes = entry.length_bytes or 0
        else:
            needed_bytes = entry.coverage[-1].stop if entry.coverage else 0
        try:
            return self._engine.blobs.open_for_reading(
                entry.entry_id, needed_bytes, exactly=entry.complete
            )
        except EntryDamaged:
            self._engine.lookups.drop(entry.key)
            self._engine.spawn(self._engine.drop_quietly(entry.key, entry.entry_id))
            raise
        except OSError as error:
            raise self._engine.health.failed("blobs", error) from error

    def needs_verification(self, entry: Entry, wanted: Interval | None = None) -> bool:
        """Whether ``verify`` has anything to look at (``ports.Store.needs_verification``)."""
        return self._checker.needs(entry, wanted)

    async def verify(self, entry: Entry, wanted: Interval) -> Entry:
        """Compare stored bytes with their sums (``ports.Store.verify``)."""
        return await self._checker.verify(entry, wanted)

    async def scrub(self) -> Scrubbed:
        """Read every stored byte, and discard what is damaged; joins a scrub that runs."""
        return await asyncio.shield(self._begun_scrub())

    def begin_scrub(self) -> Scrubbed:
        """The same, and do not wait for it (``ports.Store.begin_scrub``)."""
        self._begun_scrub()
        return self.scrubbed or Scrubbed()

    def _begun_scrub(self) -> asyncio.Task[Scrubbed]:
        if self._scrubbing is None or self._scrubbing.done():
            self._scrub = Scrub(self._engine, self._checker, self.scrub_rate_bytes_per_second)
            self._scrubbing = self._engine.spawn(self._scrub.run())
        return self._scrubbing

    @property
    def scrubbed(self) -> Scrubbed | None:
        """What the scrub that runs, or the last one, has done so far; None if there was none."""
        return self._scrub.done if self._scrub is not None else None

    def touch(self, entry: Entry) -> None:
        """Note a use (``ports.Store.touch``)."""
        self._upkeep.note_use(entry.entry_id, self._clock())

    # Drafts

    async def begin(self, entry: Entry, expected_bytes: int | None = None) -> DiskDraft:
        """A new blob and row (``ports.Store.begin``).

        What it replaces is gone for look-ups from the moment this returns, also when the new
        one is never finished: its response was no longer the upstream's. When this raises,
        nothing has been replaced or evicted.
        """
        await self._whole.settled(entry.key)
        draft = await self._drafting.begin(entry, expected_bytes)
        self._whole.note_room()
        return draft

    def new_id(self) -> str:
        """A name for a new entry (``ports.Store.new_id``)."""
        return blobs.new_id(self._clock())

    def takes(self, mount: str, length_bytes: int) -> bool:
        """Whether ``put`` is for this body (``ports.Store.takes``)."""
        return self._whole.takes(mount, length_bytes)

    def put(self, entry: Entry, content: bytes) -> asyncio.Future[bool]:
        """Store a small entry with all its bytes (``ports.Store.put``)."""
        return self._whole.put(entry, content)

    async def resume(self, entry: Entry) -> DiskDraft:
        """The draft of a partial entry (``ports.Store.resume``).

        Raises ``StoreError`` while another draft of it is open, here or in another worker.
        """
        return await self._drafting.resume(entry)

    # Changes

    async def refresh(self, entry: Entry) -> bool:
        """Replace head and times (``ports.Store.refresh``). Raises ``StoreError``."""

        def renewed(stored: Entry) -> Entry:
            return replace(
                stored,
                head=entry.head,
                request_time=entry.request_time,
                response_time=entry.response_time,
            )

        return await self._engine.whole(self._change(entry, renewed)) is not None

    async def add_digests(self, entry: Entry, digests: tuple[tuple[str, str], ...]) -> bool:
        """Note digests of the whole (``ports.Store.add_digests``). Raises ``StoreError``."""

        def told(stored: Entry) -> Entry:
            if not stored.complete:
                return stored
            both = {**dict(stored.digests), **dict(digests)}
            return replace(stored, digests=tuple(sorted(both.items())))

        updated = await self._engine.whole(self._change(entry, told))
        return updated is not None and updated.complete

    async def _change(self, entry: Entry, change: Callable[[Entry], Entry]) -> Entry | None:
        """Change the row of this entry; the entry as it is then, None if it is gone."""
        index = self._engine.index
        await self._whole.settled(entry.key)

        def job() -> Entry | None:
            with index.transaction():
                return index.update(entry.key, entry.entry_id, change)

        updated = await self._engine.in_index(job)
        self._engine.lookups.drop(entry.key)
        return updated

    async def forget(self, entry_id: str, key: str) -> None:
        """Remove this entry (``ports.Store.forget``). Raises ``StoreError``."""
        await self._whole.settled(key)
        await self._engine.whole(self._engine.drop(key, entry_id))

    async def remove(self, selection: Selection, *, dry_run: bool = False) -> Removed:
        """Purge (``ports.Store.remove``); durable when it returns.

        Entries that begin while it runs may stay or go. Raises ``StoreError`` when the index
        refuses, with some of the entries gone; ``ValueError`` for an ambiguous selection.
        """
        check(selection)
        await self._whole.settled(selection.key)
        work = self._selected.remove(selection, dry_run=dry_run)
        return await self._engine.whole(work)

    async def pin(self, selection: Selection, *, pinned: bool = True) -> int:
        """Let the selected entries never be evicted, or be evicted again; how many changed.

        What replaces a pinned entry is pinned as well. Raises ``StoreError``.
        """
        check(selection)
        await self._whole.settled(selection.key)
        return await self._engine.whole(self._selected.pin(selection, is_pinned=pinned))

    # What is there

    async def list(self, *, prefix: str = "") -> AsyncIterator[StoredObject]:
        """Every stored object whose name begins so (``ports.Store.list``).

        Raises ``StoreError`` when the index refuses.
        """
        await self._whole.settled()
        with suppress(StoreError):
            await self._upkeep.write_pending_uses()
        selection = Selection(prefix=prefix) if prefix else Selection(everything=True)
        last_number = await self._engine.from_index(self._engine.index.listing.last_number)
        async for rows in self._selected.pages(selection, last_number):
            for row in rows:
                with suppress(ValueError):
                    yield self._selected.stored(row)

    async def latest(self, *, prefix: str, after: str | None, limit: int) -> Sequence[StoredObject]:
        """A page of what was used last (``ports.Store.latest``)."""
        await self._whole.settled()
        with suppress(StoreError):
            await self._upkeep.write_pending_uses()
        return await self._selected.latest(prefix, after, limit)

    async def usage(self) -> StoreUsage:
        """What the store holds now (``ports.Store.usage``). Never raises."""
        engine, room = self._engine, self._engine.room
        await self._whole.settled()
        with suppress(StoreError):
            self._totals = await engine.from_index(engine.index.totals)
            self._free_bytes = await engine.as_chore(engine.blobs.free_bytes)
        claims = room.claims.values()
        unwritten = sum(c.promised_bytes - c.written_bytes for c in claims if not c.is_gone)
        rowless = sum(c.written_bytes for c in claims if c.is_gone)
        return StoreUsage(
            objects=self._totals.objects,
            size_bytes=max(0, self._totals.size_bytes - unwritten + rowless),
            limit_bytes=room.max_size_bytes,
            free_bytes=self._free_bytes,
            evicted_objects=room.evicted_objects,
            evicted_bytes=room.evicted_bytes,
            healthy=engine.health.trouble is None,
            trouble=engine.health.trouble,
            verified_bytes=self._checker.counts.verified_bytes,
            damaged_blocks=self._checker.counts.damaged_blocks,
        )

    async def flush(self) -> None:
        """Write uses down and make the index durable. Raises ``StoreError``."""
        await self._upkeep.flush()

    async def settle(self) -> None:
        """Wait until removed files are gone and everything else that was begun is done."""
        await self._engine.settle()
