"""What the index keeps beside its rows, in the same database: checksums, and counts of mounts.

As with the rows, everything blocks, and what changes anything runs within a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from forebay.model import Interval, Intervals
from forebay.store import schema, sums
from forebay.store.rows import Totals
from forebay.store.sums import Sum
from forebay.store.table import Table, indexable


class SumRows:
    """Checksums by entry id, one row for a page of them. They go with the entry's row."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def of(self, entry_id: str, intervals: Intervals) -> list[Sum]:
        """The sums on all pages that these bytes meet, in order."""
        pages = sums.pages_of(intervals)
        if not pages:
            return []
        rows = self._table.ask(
            "SELECT page, sums FROM Forebay_sums WHERE blob = ? AND page BETWEEN ? AND ?"
            " ORDER BY page",
            (entry_id, pages[0], pages[-1]),
        )
        return [one for page, packed in rows if page in pages for one in sums.unpacked(packed)]

    def put(self, entry_id: str, fresh: Sequence[Sum]) -> None:
        """Add sums of an entry's blocks, in place of those that they meet."""
        intervals = tuple(Interval(one.start, one.stop) for one in fresh)
        held = sums.merged(self.of(entry_id, intervals), fresh)
        self._write(entry_id, sums.pages_of(intervals), held)

    def begin(self, entry_id: str, first: Sequence[Sum]) -> None:
        """The sums of an entry that has none yet."""
        if first:
            pages = sums.pages_of(tuple(Interval(one.start, one.stop) for one in first))
            self._write(entry_id, pages, list(first))

    def drop(self, entry_id: str, gone: Intervals) -> None:
        """Remove the sums of blocks that these bytes meet."""
        self._write(entry_id, sums.pages_of(gone), sums.without(self.of(entry_id, gone), gone))

    def _write(self, entry_id: str, pages: Iterable[int], held: list[Sum]) -> None:
        filled = sums.by_page(held)
        self._table.change(
            "REPLACE INTO Forebay_sums(blob, page, sums) VALUES (?, ?, ?)",
            [(entry_id, page, sums.packed(filled.get(page, ()))) for page in pages],
        )


class MountRows:
    """Count and size of what is live under each mount, kept by triggers (``schema``)."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def totals(self, mount: str) -> Totals:
        """Of one mount, at no cost."""
        rows = self._table.ask(
            "SELECT objects, size FROM Forebay_mounts WHERE mount = ?", (indexable(mount),)
        )
        return Totals(*map(int, rows[0])) if rows else Totals(0, 0)

    def all(self) -> dict[str, Totals]:
        """Of every mount that ever had an entry."""
        rows = self._table.ask("SELECT mount, objects, size FROM Forebay_mounts")
        return {str(mount): Totals(int(count), int(size)) for mount, count, size in rows}

    def epochs(self) -> dict[str, int]:
        """The epochs of mounts that were ever purged: rows of earlier ones are dead."""
        rows = self._table.ask("SELECT mount, epoch FROM Forebay_mounts WHERE epoch > 0")
        return {str(mount): int(epoch) for mount, epoch in rows}

    def end_epoch(self, mount: str | None) -> None:
        """Purge a mount, or all of them: every row of it is dead from the commit on."""
        chosen = "" if mount is None else " WHERE mount = ?"
        self._table.ask(
            f"UPDATE Forebay_mounts SET epoch = epoch + 1, objects = 0, size = 0{chosen}",  # noqa: S608
            () if mount is None else (indexable(mount),),
        )

    def recount(self) -> None:
        """Count anew: a flipped bit in a size would be counted for ever otherwise."""
        schema.recount(self._table)
