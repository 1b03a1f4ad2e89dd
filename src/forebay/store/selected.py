"""What is done to many entries at once, page by page: purges, pins, listings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

from forebay.ports import Removed, Selection, StoredObject
from forebay.store.engine import Engine
from forebay.store.rows import Cursor, Row, Totals
from forebay.store.upkeep import Upkeep

_PAGE_ROWS = 256


class Selected:
    """The rows that a selection means, for whoever goes through them."""

    def __init__(self, engine: Engine, upkeep: Upkeep) -> None:
        self._engine = engine
        self._upkeep = upkeep

    async def remove(self, selection: Selection, *, dry_run: bool) -> Removed:
        """Purge (``ports.Store.remove``). Raises ``StoreError``."""
        if selection.mount is not None or selection.everything:
            return await self._remove_mounts(selection.mount, dry_run)
        engine, index = self._engine, self._engine.index
        last_number = await engine.from_index(index.listing.last_number)
        entry_ids: list[str] = []
        size_bytes = 0
        async for rows in self.pages(selection, last_number):
            entry_ids.extend(row.entry_id for row in rows)
            size_bytes += sum(map(self.size_of, rows))
            if not dry_run:
                await engine.in_index(lambda rows=rows: self._delete(rows))  # type: ignore[misc]
                engine.unlink(rows)
        if not dry_run:
            await self._make_known()
        return Removed(len(entry_ids), size_bytes, tuple(entry_ids))

    async def _remove_mounts(self, mount: str | None, dry_run: bool) -> Removed:
        """One row says that all of a mount is gone; its entries are deleted behind."""
        engine, index = self._engine, self._engine.index

        def job() -> Totals:
            totals = index.mounts.all() if mount is None else {mount: index.mounts.totals(mount)}
            if not dry_run:
                index.mounts.end_epoch(mount)
            count, size_bytes = map(sum, zip(*totals.values(), strict=True)) if totals else (0, 0)
            return Totals(count, size_bytes)

        def in_transaction() -> Totals:
            with index.transaction():
                return job()

        totals = await (engine.from_index(job) if dry_run else engine.in_index(in_transaction))
        unwritten_bytes = sum(
            claim.promised_bytes - claim.written_bytes
            for claim in engine.room.claims.values()
            if not claim.is_gone and mount in {None, claim.mount}
        )
        if not dry_run:
            engine.lookups.clear()
            self._upkeep.start_reclaiming()
            await self._make_known()
        return Removed(totals.objects, max(0, totals.size_bytes - unwritten_bytes))

    async def pin(self, selection: Selection, *, is_pinned: bool) -> int:
        """Pin or unpin; how many rows changed. Raises ``StoreError``."""
        engine, index = self._engine, self._engine.index

        def job(rows: list[Row]) -> int:
            with index.transaction(silent=True):
                return index.pin(rows, is_pinned=is_pinned)

        changed = 0
        last_number = await engine.from_index(index.listing.last_number)
        async for rows in self.pages(selection, last_number):
            changed += await engine.in_index(lambda rows=rows: job(rows))  # type: ignore[misc]
        return changed

    def _delete(self, rows: list[Row]) -> None:
        with self._engine.index.transaction():
            self._engine.index.delete(rows)

    async def _make_known(self) -> None:
        """Let other workers see a purge even if its first try died after the commit."""
        engine = self._engine

        def job() -> None:
            if engine.generation is not None:
                engine.generation.bump()
            engine.index.sync()

        await engine.as_chore(job)

    async def pages(self, selection: Selection, last_number: int) -> AsyncIterator[list[Row]]:
        """The selected rows that were there when the first page was read."""
        cursor: Cursor = ("", 0)
        while True:
            before = cursor
            rows, cursor = await self._engine.from_index(
                lambda at=before: self._engine.index.listing.page(selection, at, _PAGE_ROWS)  # type: ignore[misc]
            )
            wanted = [row for row in rows if row.rowid <= last_number]
            if wanted:
                yield wanted
            if cursor == before or (not selection.prefix and cursor[1] >= last_number):
                return

    async def latest(self, prefix: str, after: str | None, limit: int) -> list[StoredObject]:
        """What was used last (``ports.Store.latest``). Raises ``StoreError``, ``ValueError``."""
        last_use = None
        if after is not None:
            used, _, number = after.partition("/")
            last_use = float(used), int(number)
        index = self._engine.index

        def job() -> list[StoredObject]:
            objects = []
            try:
                for row in index.listing.latest(prefix, last_use, limit):
                    with suppress(ValueError):
                        # Here, because thousands of rows to read would hold up every download.
                        objects.append(self.stored(row))
            finally:
                index.release()
            return objects

        return await self._engine.as_chore(job)

    def stored(self, row: Row) -> StoredObject:
        """The row as a listing has it. Raises ``ValueError`` when it is damaged."""
        return StoredObject(
            row.entry(),
            self.size_of(row),
            row.last_used_time,
            row.hits,
            pinned=row.is_pinned,
            place=f"{row.last_used_time!r}/{row.rowid}",
        )

    def size_of(self, row: Row) -> int:
        """What the entry takes on disk; the rows of drafts say what they were promised."""
        claim = self._engine.room.claims.get(row.entry_id)
        return claim.written_bytes if claim is not None else row.size_bytes


def check(selection: Selection) -> None:
    """Raise ``ValueError`` unless exactly one thing is selected by."""
    chosen = (selection.key, selection.prefix, selection.mount, selection.tag)
    if sum(one is not None for one in chosen) + selection.everything != 1:
        raise ValueError("a selection selects by exactly one thing")
