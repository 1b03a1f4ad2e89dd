"""Which entries make way for new bytes: a pure choice over plain values.

The order is least recently used first, ties broken by entry id so that every process makes the
same choice. Who may not be chosen (drafts in progress, pinned entries) is left out of the
candidates by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry that may be evicted; ``size_bytes`` is what it takes on disk."""

    entry_id: str
    size_bytes: int
    last_used_time: float


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
    """The least recently used candidates that together free ``bytes_needed``, and no more.

    Empty when nothing is needed, and also when all of them together would not be enough:
    emptying a cache for an object that then does not fit helps nobody. Empty entries older
    than the last victim go with it, so that rows without bytes do not pile up for ever.
    """
    if bytes_needed <= 0:
        return ()
    chosen: list[Candidate] = []
    freed_bytes = 0
    for candidate in sorted(candidates, key=lambda one: (one.last_used_time, one.entry_id)):
        chosen.append(candidate)
        freed_bytes += candidate.size_bytes
        if freed_bytes >= bytes_needed:
            return tuple(chosen)
    return ()
