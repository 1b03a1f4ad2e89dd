"""Room on disk: what drafts have been promised, and who goes when there is not enough.

Every promise stands in the index as the size of the draft's row, so that all workers count
the same total in the same transaction. What cannot stand there is kept here: which entries
this process is writing, how much of a promise is not written yet, and the bytes of drafts
whose row is gone while they go on for their last readers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
_SACRIFICE_BYTES = 1024 * 1024  # the index's log needs some pages, not many


@dataclass(slots=True)
class Claim:
    """What one draft of this process takes."""

    entry_id: str
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

    def make(self, wanted_bytes: int) -> list[Row]:
        """Delete the rows that must go for so many more bytes, and give them.

        Raises ``StoreFull``, deleting nothing, when all that may go is not enough.
        """
        needed = self._shortfall(wanted_bytes)
        if needed == 0:
            return []
        candidates = self._candidates(needed)
        chosen = victims(map(_candidate, candidates), needed)
        if not chosen:
            raise StoreFull(
                "The cache has no room for this object: raise cache.max_size or free disk space."
            )
        return self._evict(candidates[: len(chosen)])

    def trim(self) -> list[Row]:
        """Delete some of the rows that are too many now, and give them; call until none come.

        Limits may be lowered between two starts, and others fill the disk at any time.
        """
        needed = self._shortfall(0)
        if needed == 0:
            return []
        candidates = self._candidates(needed)
        chosen = victims(map(_candidate, candidates), needed)
        return self._evict(candidates[: min(len(chosen), _TRIM_ROWS)])

    def sacrifice(self) -> list[Row]:
        """The rows whose blobs go first when the index itself has no space left to be changed."""
        candidates = [row for row in self._candidates(_SACRIFICE_BYTES) if row.size_bytes]
        enough = sum(row.size_bytes for row in candidates)
        chosen = victims(map(_candidate, candidates), min(enough, _SACRIFICE_BYTES))
        return candidates[: len(chosen)]

    def has_shortfall(self) -> bool:
        """Whether more is kept than may be, or less is free than must be."""
        return self._shortfall(0) > 0

    def used_bytes(self) -> int:
        """What the store takes or has promised, drafts without a row included."""
        return self.index.totals().size_bytes + sum(
            claim.promised_bytes for claim in self._claims() if claim.is_gone
        )

    def unwritten_bytes(self) -> int:
        """What has been promised here and not been written yet."""
        return sum(max(0, claim.promised_bytes - claim.written_bytes) for claim in self._claims())

    def mark_gone(self, rows: list[Row]) -> None:
        """Note that these rows have been deleted."""
        for row in rows:
            claim = self.claims.get(row.entry_id)
            if claim is not None:
                claim.is_gone = True

    def _shortfall(self, wanted_bytes: int) -> int:
        return shortfall_bytes(
            used_bytes=self.used_bytes(),
            limit_bytes=self.max_size_bytes,
            free_bytes=self.blobs.free_bytes() + self.unlinking_bytes - self.unwritten_bytes(),
            min_free_bytes=self.min_free_bytes,
            wanted_bytes=wanted_bytes,
        )

    def _candidates(self, needed_bytes: int) -> list[Row]:
        """Rows that may go, in the order of last use, until they are enough."""
        found: list[Row] = []
        last = None
        while needed_bytes > 0:
            page = self.index.oldest(last, _PAGE_ROWS)
            if not page:
                break
            last = page[-1]
            for row in page:
                if self._may_go(row):
                    found.append(row)
                    needed_bytes -= row.size_bytes
        return sorted(found, key=lambda row: (row.last_used_time, row.entry_id))

    def _may_go(self, row: Row) -> bool:
        """Not while it is being written, here or by another worker."""
        if row.entry_id in self.claims:
            return False
        return not (self.shared and self.blobs.is_being_written(row.entry_id))

    def _evict(self, rows: list[Row]) -> list[Row]:
        self.index.delete(rows)
        return rows

    def count_evicted(self, rows: list[Row]) -> None:
        """Count these once their deletion is committed."""
        self.evicted_objects += len(rows)
        self.evicted_bytes += sum(row.size_bytes for row in rows)

    def _claims(self) -> list[Claim]:
        """A copy made in one step, because the event loop adds claims meanwhile."""
        return list(self.claims.values())


def _candidate(row: Row) -> Candidate:
    return Candidate(row.entry_id, row.size_bytes, row.last_used_time)
