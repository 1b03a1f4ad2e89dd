"""Room on disk: what drafts have been promised, and who goes when there is not enough.

Every promise stands in the index as the size of the draft's row, so that all workers count
the same total in the same transaction. What cannot stand there is kept here: which entries
this process is writing, how much of a promise is not written yet, and the bytes of drafts
whose row is gone while they go on for their last readers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from forebay.errors import StoreFull
from forebay.rules.eviction import Candidate, shortfall_bytes, victims
from forebay.store.blobs import Blobs
from forebay.store.index import Index
from forebay.store.rows import Row

_PAGE_ROWS = 64
_TRIM_ROWS = 512  # in one transaction, so that trimming holds nobody up for long
GROWTH_STEP_BYTES = 8 * 1024 * 1024
"""What a draft of unknown length is promised at a time: one transaction for so many bytes."""
_GROWTH_STEPS_PER_LIMIT = 64
_DEAD_RANK = -math.inf
_SACRIFICE_BYTES = 1024 * 1024  # the index's log needs some pages, not many


@dataclass(slots=True)
class Claim:
    """What one draft of this process takes."""

    entry_id: str
    mount: str = ""
    promised_bytes: int = 0
    written_bytes: int = 0
    is_gone: bool = False
    """Whether its row has been purged, replaced or evicted."""


@dataclass(slots=True)
class Room:
    """The limits of one store. Methods that take rows run inside a transaction of the index."""

    index: Index
    blobs: Blobs
    max_size_bytes: int | None
    min_free_bytes: int
    shared: bool
    quotas: Mapping[str, int] = field(default_factory=dict)
    """What the entries of a mount may take, by the mount's name."""
    claims: dict[str, Claim] = field(default_factory=dict)
    unlinking_bytes: int = 0
    """Bytes of rows that are deleted and whose blobs will be in a moment."""
    evicted_objects: int = 0
    evicted_bytes: int = 0

    def step_bytes(self) -> int:
        """How much a growing draft is promised at a time."""
        if self.max_size_bytes is None:
            return GROWTH_STEP_BYTES
        return min(GROWTH_STEP_BYTES, self.max_size_bytes // _GROWTH_STEPS_PER_LIMIT)

    def make(self, wanted_bytes: int, mount: str) -> list[Row]:
        """Delete the rows that must go for so many more bytes of this mount, and give them.

        Raises ``StoreFull`` when all that may go is not enough; the transaction is to be undone.
        """
        evicted = self._choose(self._over_quota(mount, wanted_bytes), mount)
        if evicted is None:
            raise StoreFull(f"The mount {mount} has no room for this object: raise its max_size.")
        self._evict(evicted)
        others = self._choose(self._shortfall(wanted_bytes, evicted), None)
        if others is None:
            raise StoreFull(
                "The cache has no room for this object: raise cache.max_size, or free some of the "
                "disk, or lower cache.min_free."
            )
        return evicted + self._evict(others)

    def is_over_until_unlinked(self, used_bytes: int) -> bool:
        """Whether so many used bytes and the files that leave pass the limit together."""
        limit = self.max_size_bytes
        return limit is not None and used_bytes + self.unlinking_bytes > limit

    def trim(self) -> list[Row]:
        """Delete some of the rows that are too many now, and give them; call until none come.

        Limits may be lowered between two starts, and others fill the disk at any time.
        """
        for mount in (*self.quotas, None):
            needed = self._shortfall(0) if mount is None else self._over_quota(mount, 0)
            chosen = self._choose(needed, mount)
            if chosen:
                return self._evict(chosen[:_TRIM_ROWS])
        return []

    def sacrifice(self) -> list[Row]:
        """The rows whose blobs go first when the index itself has no space left to be changed."""
        candidates = [row for row in self._candidates(_SACRIFICE_BYTES, None) if row.size_bytes]
        enough = sum(row.size_bytes for row in candidates)
        chosen = victims(map(_candidate, candidates), min(enough, _SACRIFICE_BYTES))
        return candidates[: len(chosen)]

    def has_shortfall(self) -> bool:
        """Whether more is kept than may be, or less is free than must be."""
        return self._shortfall(0) > 0 or any(self._over_quota(one, 0) > 0 for one in self.quotas)

    def used_bytes(self) -> int:
        """What the store takes or has promised, drafts without a row included."""
        return self.index.totals().size_bytes + sum(
            claim.promised_bytes for claim in self._claims() if claim.is_gone
        )

    def headroom_bytes(self) -> int:
        """How much more may come before something must go; less than 0 where it should have.

        Of the limits for everything; quotas are not looked at.
        """
        free_bytes = self.blobs.free_bytes() + self.unlinking_bytes - self.unwritten_bytes()
        below_limit = free_bytes - self.min_free_bytes
        if self.max_size_bytes is None:
            return below_limit
        return min(below_limit, self.max_size_bytes - self.used_bytes())

    def unwritten_bytes(self) -> int:
        """What has been promised here and not been written yet."""
        return sum(max(0, claim.promised_bytes - claim.written_bytes) for claim in self._claims())

    def mark_gone(self, rows: list[Row]) -> None:
        """Note that these rows have been deleted."""
        for row in rows:
            claim = self.claims.get(row.entry_id)
            if claim is not None:
                claim.is_gone = True

    def _shortfall(self, wanted_bytes: int, leaving: Sequence[Row] = ()) -> int:
        """What must go still, when these rows have been deleted and their files not yet."""
        coming_free = self.unlinking_bytes + sum(row.size_bytes for row in leaving)
        return shortfall_bytes(
            used_bytes=self.used_bytes(),
            limit_bytes=self.max_size_bytes,
            free_bytes=self.blobs.free_bytes() + coming_free - self.unwritten_bytes(),
            min_free_bytes=self.min_free_bytes,
            wanted_bytes=wanted_bytes,
        )

    def _over_quota(self, mount: str, wanted_bytes: int) -> int:
        quota = self.quotas.get(mount)
        if quota is None:
            return 0
        rowless = sum(c.promised_bytes for c in self._claims() if c.is_gone and c.mount == mount)
        used_bytes = self.index.mounts.totals(mount).size_bytes + rowless
        return max(0, used_bytes + wanted_bytes - quota)

    def _choose(self, needed_bytes: int, mount: str | None) -> list[Row] | None:
        """The rows that must go for so many bytes, of this mount (None: of any); None where all
        that may go is not enough."""
        if needed_bytes <= 0:
            return []
        candidates = self._candidates(needed_bytes, mount)
        chosen = victims(map(_candidate, candidates), needed_bytes)
        return candidates[: len(chosen)] if chosen else None

    def _candidates(self, needed_bytes: int, mount: str | None) -> list[Row]:
        """Rows that may go, in the order in which they go, until they are enough.

        What was purged with its mount and lies here still goes before everything else.
        """
        found = self.index.dead(_TRIM_ROWS) if mount is None else []
        found = [replace(row, rank=_DEAD_RANK) for row in found if self._may_go(row)]
        needed_bytes -= sum(row.size_bytes for row in found)
        last = None
        while needed_bytes > 0:
            page = self.index.lowest(last, _PAGE_ROWS, mount)
            if not page:
                break
            last = page[-1]
            known = {row.rowid for row in found}
            for row in page:
                if row.rowid not in known and self._may_go(row):
                    found.append(row)
                    needed_bytes -= row.size_bytes
        return sorted(found, key=lambda row: (row.rank, row.entry_id))

    def _may_go(self, row: Row) -> bool:
        """Not while it is being written, here or by another worker."""
        if row.entry_id in self.claims:
            return False
        return not (self.shared and self.blobs.is_being_written(row.entry_id))

    def _evict(self, rows: list[Row]) -> list[Row]:
        self.index.delete(rows)
        self.index.note_evicted([row for row in rows if row.rank != _DEAD_RANK])
        return rows

    def count_evicted(self, rows: list[Row]) -> None:
        """Count these once their deletion is committed."""
        self.evicted_objects += len(rows)
        self.evicted_bytes += sum(row.size_bytes for row in rows)

    def _claims(self) -> list[Claim]:
        """A copy made in one step, because the event loop adds claims meanwhile."""
        return list(self.claims.values())


def _candidate(row: Row) -> Candidate:
    return Candidate(row.entry_id, row.size_bytes, row.rank)
