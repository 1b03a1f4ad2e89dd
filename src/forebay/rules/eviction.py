"""Which entries make way for new bytes: a pure choice over plain values.

The lowest rank goes first, ties broken by entry id so that every process makes the same choice.
Who may not be chosen (drafts in progress, pinned entries) is left out of the candidates by the
caller. What a rank is, the policy says:

* LRU: the time of the last use.
* GDSF (greedy dual size frequency, Cherkasova 1998): uses divided by the square root of the size,
  on top of the rank of the last victim. So small and often used entries stay, a scan of things
  used once passes by, and what was wanted long ago ages.

``./scripts/bench eviction`` compares them on synthetic traces of a download cache. The square root
is what won there: dividing by the size itself answers as many requests, but spares upstream
fewer bytes than LRU, because every large object goes first.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

_SMALLEST_BYTES = 4096  # what even an empty file of one byte takes on disk


class Eviction(enum.StrEnum):
    """In which order entries make way."""

    LRU = "lru"
    GDSF = "gdsf"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry that may be evicted; ``size_bytes`` is what it takes on disk."""

    entry_id: str
    size_bytes: int
    rank: float


def gdsf_rank(floor: float, uses: int, size_bytes: int) -> float:
    """The rank of an entry that has been used so often, its arrival included.

    ``floor`` is the highest rank of any victim so far.
    """
    return float(floor + uses * max(size_bytes, _SMALLEST_BYTES) ** -0.5)


def shortfall_bytes(
    *,
    used_bytes: int,
    limit_bytes: int | None,
    free_bytes: int,
    min_free_bytes: int,
    wanted_bytes: int,
) -> int:
    """How many bytes must go before ``wanted_bytes`` more may come; 0 when there is room.

    ``used_bytes`` is what the store holds or has promised, ``free_bytes`` what the file system
    has left after every promise that is not written yet. Both limits hold at once, so the
    larger need counts.
    """
    over_limit = 0 if limit_bytes is None else used_bytes + wanted_bytes - limit_bytes
    below_free = min_free_bytes + wanted_bytes - free_bytes
    return max(over_limit, below_free, 0)


def victims(candidates: Iterable[Candidate], bytes_needed: int) -> tuple[Candidate, ...]:
    """The lowest candidates that together free ``bytes_needed``, and no more.

    Empty when nothing is needed, and also when all of them together would not be enough:
    emptying a cache for an object that then does not fit helps nobody. Empty entries below
    the last victim go with it, so that rows without bytes do not pile up for ever.
    """
    if bytes_needed <= 0:
        return ()
    chosen: list[Candidate] = []
    freed_bytes = 0
    for candidate in sorted(candidates, key=lambda one: (one.rank, one.entry_id)):
        chosen.append(candidate)
        freed_bytes += candidate.size_bytes
        if freed_bytes >= bytes_needed:
            return tuple(chosen)
    return ()
