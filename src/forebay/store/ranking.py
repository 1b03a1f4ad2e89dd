"""The rank by which rows are evicted, as the policy in force has it (``rules.eviction``).

The ranks of two policies cannot be compared: when another one is chosen, all rows are ranked
anew, once. What a policy must remember stands in the index, so that all workers agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from forebay.rules.eviction import Eviction, gdsf_rank
from forebay.store.rows import Row, Use

_POLICY, _FLOOR = "eviction", "eviction-floor"


class Changes(Protocol):
    """A connection to the database."""

    def ask(self, statement: str, values: Any = ()) -> list[tuple[Any, ...]]: ...

    def change(self, statement: str, values: Iterable[Sequence[Any]]) -> int: ...


class Ranking:
    """Ranks of one policy. All but ``is_stale`` run within a transaction."""

    def __init__(self, policy: Eviction) -> None:
        self._policy = policy

    def is_stale(self, database: Changes) -> bool:
        """Whether the rows have been ranked by another policy."""
        return _fact(database, _POLICY) != self._policy

    def begin(self, database: Changes) -> None:
        """Rank every row anew."""
        if self._policy is Eviction.LRU:
            database.ask("UPDATE Cache SET rank = access_time WHERE typeof(access_time) = 'real'")
        else:
            rows = database.ask(
                "SELECT access_count, size, rowid FROM Cache"
                " WHERE typeof(access_count) = 'integer' AND typeof(size) = 'integer'"
            )
            database.change(
                "UPDATE Cache SET rank = ? WHERE rowid = ?",
                [(gdsf_rank(0.0, hits + 1, size), rowid) for hits, size, rowid in rows],
            )
        _set_fact(database, _FLOOR, "0.0")
        _set_fact(database, _POLICY, self._policy)

    def of_new(self, database: Changes, size_bytes: int, now: float) -> float:
        """The rank of an entry that arrives now."""
        if self._policy is Eviction.LRU:
            return now
        return gdsf_rank(_floor(database), 1, size_bytes)

    def of_used(self, database: Changes, row: Row, size_bytes: int, used_time: float) -> float:
        """The rank of an entry that is written or renewed."""
        if self._policy is Eviction.LRU:
            return max(row.rank, used_time)
        return gdsf_rank(_floor(database), row.hits + 1, size_bytes)

    def note_uses(self, database: Changes, uses: Mapping[str, Use]) -> None:
        """Raise the ranks of what has been used, by entry id; the counts are written already."""
        if self._policy is Eviction.LRU:
            ranks = [(use.last_time, entry_id) for entry_id, use in uses.items()]
        else:
            floor = _floor(database)
            ranks = [
                (gdsf_rank(floor, hits + 1, size), entry_id)
                for entry_id in uses
                for hits, size in database.ask(
                    "SELECT access_count, size FROM Cache WHERE filename = ?", (entry_id,)
                )
                if isinstance(hits, int) and isinstance(size, int)
            ]
        database.change("UPDATE Cache SET rank = max(rank, ?) WHERE filename = ?", ranks)

    def note_evicted(self, database: Changes, rows: Sequence[Row]) -> None:
        """What comes from now on stands above these."""
        if rows and self._policy is Eviction.GDSF:
            highest = max(row.rank for row in rows)
            _set_fact(database, _FLOOR, repr(max(highest, _floor(database))))


def _floor(database: Changes) -> float:
    return float(_fact(database, _FLOOR) or 0.0)


def _fact(database: Changes, name: str) -> str | None:
    rows = database.ask("SELECT value FROM Forebay_facts WHERE name = ?", (name,))
    return str(rows[0][0]) if rows else None


def _set_fact(database: Changes, name: str, value: str) -> None:
    database.change("REPLACE INTO Forebay_facts(name, value) VALUES (?, ?)", [(name, value)])
