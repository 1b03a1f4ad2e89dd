"""The index: one row per entry in diskcache's table (``table``).

Everything here blocks and belongs in a thread. Errors are ``OSError`` and ``sqlite3.Error``;
whoever calls translates them.

What we rely on: ``diskcache.Cache`` opens the SQLite file with one connection per thread and
write-ahead logging, makes the table ``Cache`` and its indexes on ``(key, raw)`` and
``(tag, rowid)``, counts rows and sums ``size`` by triggers inside every transaction, and locks
with ``transact``. Its columns mean with us what they mean with it:

    key           primary cache key, ``/``, entry id: a look-up is one range of one index
    tag           the entry's name, for prefixes
    filename      the entry id, which is the name of the blob
    size          what the blob takes on disk, or has been promised (``room``)
    access_time   last use; access_count: hits
    value         the entry as JSON text (``codec``)

``schema`` adds columns and tables of ours, in the same file and the same transactions.

What we do not use: its pickling (CVE-2025-69872), file storage, eviction, expiry and
statistics. A replacement would have to offer an ordered transactional table.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from forebay.model import Entry, Intervals
from forebay.rules import coverage as cov
from forebay.rules.eviction import Eviction
from forebay.store import codec, schema, table
from forebay.store.annexes import MountRows, SumRows
from forebay.store.generation import Generation
from forebay.store.listing import ROW_IS_OURS, SELECT, Listing, read_row, rows_of
from forebay.store.pinning import Pinning
from forebay.store.ranking import Ranking
from forebay.store.rows import Found, Row, Totals, Use
from forebay.store.table import (
    DATABASE_NAME,
    IMPATIENT_SECONDS,
    Locked,
    Table,
    indexable,
)

_ROW_IS_WELL_FORMED = (
    f"{ROW_IS_OURS} AND typeof(key) = 'text' AND typeof(tag) = 'text'"
    " AND typeof(size) = 'integer' AND typeof(access_time) = 'real'"
    " AND typeof(access_count) = 'integer'"
    " AND substr(key, -length(filename) - 1) = '/' || filename"
)
_IS_EPOCH_OF_MOUNT = "epoch = (SELECT epoch FROM Forebay_mounts WHERE mount = ?)"
_DAMAGED_PER_STEP = 500


class Index:
    """The rows of one cache directory. Any thread may call; each has a connection of its own."""

    def __init__(
        self,
        directory: Path,
        generation: Generation | None = None,
        eviction: Eviction = Eviction.LRU,
        pinned_mounts: Collection[str] = (),
    ) -> None:
        self._directory = directory
        self._generation = generation
        self._ranking = Ranking(eviction)
        self._pinning = Pinning(pinned_mounts)
        self._opening = threading.Lock()
        self._waited = threading.local()
        self._inode: tuple[int, int] | None = None
        self.is_dirty = False
        """Whether something was committed that ``sync`` has not made durable."""

    def open(self) -> None:
        """Open or make the database. Raises ``sqlite3.DatabaseError`` when it is corrupt."""
        with self._opening:
            self._directory.mkdir(parents=True, exist_ok=True)
            try:
                self._table = Table(self._directory)
            except (TypeError, ValueError, KeyError, AttributeError) as error:
                # Settings that diskcache never wrote; it trips over them in many ways.
                raise _corrupt("the index holds settings that make no sense") from error
            except Locked:
                raise TimeoutError("the index is locked by another process") from None
            self.sums = SumRows(self._table)
            self.mounts = MountRows(self._table)
            self.listing = Listing(self._table)
            self._inode = self._inode_on_disk()
        if self._ranking.is_stale(self._table):
            with self.transaction(silent=True):
                self._ranking.begin(self._table)
        if self._pinning.is_stale(self._table):
            with self.transaction(silent=True):
                self._pinning.begin(self._table)

    def is_current(self) -> bool:
        """Whether the open database is still the one that the directory holds."""
        return self._inode is not None and self._inode == self._inode_on_disk()

    def release(self) -> None:
        """Close the calling thread's connection; it opens again when needed."""
        if self._inode is not None:
            self._table.close()

    def sync(self) -> None:
        """Make every committed change survive a power cut.

        Commits themselves do not wait for the disk (``synchronous=NORMAL``): after a power
        cut the index is whole but may be some changes behind. Syncing its log brings it up.
        """
        self.is_dirty = False
        try:
            fileno = os.open(self._database + "-wal", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            os.fdatasync(fileno)
        except BaseException:
            self.is_dirty = True
            raise
        finally:
            os.close(fileno)

    def shorten_log(self) -> None:
        """Give the room of the log back to a full disk, as far as no reader holds on to it.

        The log grows to 4 MB before SQLite begins it anew: more than a full disk may have left.
        """
        with suppress(sqlite3.Error):
            self._table.ask("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def transaction(self, *, silent: bool = False) -> Iterator[None]:
        """All or nothing, alone among all processes. ``silent`` changes nothing found by ``find``.

        After trouble the connection is closed: a COMMIT that failed for want of space would
        otherwise leave it inside a transaction for ever.
        """
        try:
            if self._is_impatient():
                self._table.set_patience(IMPATIENT_SECONDS)
            with self._table.transact():
                yield
        except Locked:
            # Who comes next need not wait as long for a lock that may stay: the cache is passed by.
            self._waited.in_vain = True
            self._table.close()
            raise TimeoutError("the index is locked, or its disk refuses to be written") from None
        except sqlite3.Error:
            self._table.close()
            raise
        if self._is_impatient():
            self._waited.in_vain = False
            self._table.set_patience(table.LOCK_TIMEOUT_SECONDS)
        self.is_dirty = True
        if self._generation is not None and not silent:
            self._generation.bump()

    def find(self, key: str) -> Found:
        """Every variant under this primary key, the latest response first."""
        entries, damaged = [], []
        rows = self._table.ask(
            f"{SELECT} WHERE raw = 1 AND key >= ? AND key < ? AND {schema.IS_LIVE}",
            (f"{key}/", f"{key}0"),
        )
        for values in rows:
            try:
                entries.append(read_row(values).entry())
            except ValueError:
                damaged.append(values[0])
        entries.sort(key=lambda entry: (entry.response_time, entry.stored_time), reverse=True)
        return Found(tuple(entries), tuple(damaged))

    def variants(self, key: str) -> list[Row]:
        """The rows under this primary key in the order they were stored, oldest first."""
        return rows_of(
            self._table,
            f"WHERE raw = 1 AND key >= ? AND key < ? AND {schema.IS_LIVE} ORDER BY rowid",
            (f"{key}/", f"{key}0"),
        )

    def get(self, key: str, entry_id: str) -> Row | None:
        """The row of this entry, if it is there and can be read at all."""
        where = f"WHERE raw = 1 AND key = ? AND {schema.IS_LIVE}"
        rows = rows_of(self._table, where, (f"{key}/{entry_id}",))
        return rows[0] if rows else None

    def insert(self, entry: Entry, size_bytes: int, now: float, *, is_pinned: bool = False) -> None:
        """Add an entry. Raises ``sqlite3.IntegrityError`` when its id is there already."""
        mount = indexable(entry.mount)
        self._table.change(
            "INSERT INTO Cache(key, raw, store_time, access_time, access_count, tag, size, mode,"
            " filename, value, mount, pinned, rank, epoch) VALUES (?, 1, ?, ?, 0, ?, ?, 1, ?, ?,"
            " ?, ?, ?, coalesce((SELECT epoch FROM Forebay_mounts WHERE mount = ?), 0))",
            [
                (
                    f"{entry.key}/{entry.entry_id}",
                    now,
                    now,
                    indexable(entry.name),
                    size_bytes,
                    entry.entry_id,
                    codec.encode(entry),
                    mount,
                    self._pinning.of_new(entry.mount, is_pinned=is_pinned),
                    self._ranking.of_new(self._table, size_bytes, now),
                    mount,
                )
            ],
        )

    def update(
        self,
        key: str,
        entry_id: str,
        change: Callable[[Entry], Entry],
        size_bytes: int | None = None,
        used_time: float = 0.0,
    ) -> Entry | None:
        """Replace an entry by what ``change`` makes of it, and its size where one is given.

        Its last use becomes ``used_time`` if that is later.

        Gives the new entry, None when it is not there or cannot be read. Within a transaction.
        """
        row = self.get(key, entry_id)
        if row is None:
            return None
        try:
            entry = change(row.entry())
        except ValueError:
            return None
        size = row.size_bytes if size_bytes is None else size_bytes
        self._table.change(
            "UPDATE Cache SET value = ?, size = ?, access_time = max(access_time, ?),"
            " rank = ? WHERE rowid = ?",
            [
                (
                    codec.encode(entry),
                    size,
                    used_time,
                    self._ranking.of_used(self._table, row, size, used_time),
                    row.rowid,
                )
            ],
        )
        return entry

    def uncover(self, key: str, entry_id: str, damaged: Intervals) -> Entry | None:
        """Take bytes out of an entry's coverage, and their sums with them; it is partial then.

        Gives the entry as it is now, None when it is not there. Within a transaction.
        """
        left = self.update(
            key,
            entry_id,
            lambda entry: replace(
                entry, complete=False, coverage=cov.subtract(entry.coverage, damaged)
            ),
        )
        if left is not None:
            self.sums.drop(entry_id, damaged)
        return left

    def resize(self, entry_id: str, size_bytes: int) -> bool:
        """Set what an entry takes; False when it is not there. Within a transaction."""
        statement = "UPDATE Cache SET size = ? WHERE filename = ?"
        return self._table.change(statement, [(size_bytes, entry_id)]) > 0

    def delete(self, rows: Iterable[Row]) -> None:
        """Delete these rows if they are still there. Within a transaction."""
        self._table.change(
            "DELETE FROM Cache WHERE rowid = ? AND filename = ?",
            [(row.rowid, row.entry_id) for row in rows],
        )

    def dead(self, limit: int) -> list[Row]:
        """Rows that were purged with their mount and are still to be deleted."""
        found: list[Row] = []
        for mount, epoch in self.mounts.epochs().items():
            if len(found) < limit:
                found += rows_of(
                    self._table,
                    "WHERE mount = ? AND epoch < ? LIMIT ?",
                    (mount, epoch, limit - len(found)),
                )
        return found

    def delete_numbers(self, rowids: Iterable[int]) -> None:
        """Delete rows by number, readable or not. Within a transaction."""
        self._table.change("DELETE FROM Cache WHERE rowid = ?", [(rowid,) for rowid in rowids])

    def touch(self, uses: Mapping[str, Use]) -> None:
        """Add these uses, by entry id. Within a transaction."""
        self._table.change(
            "UPDATE Cache SET access_count = access_count + ?, access_time = max(access_time, ?)"
            " WHERE filename = ?",
            [(use.count, use.last_time, entry_id) for entry_id, use in uses.items()],
        )
        self._ranking.note_uses(self._table, uses)

    def totals(self) -> Totals:
        """Count and size of all rows, at no cost."""
        held = dict(
            self._table.ask("SELECT key, value FROM Settings WHERE key IN ('count', 'size')")
        )
        return Totals(int(held["count"]), int(held["size"]))

    def lowest(self, after: Row | None, limit: int, mount: str | None = None) -> list[Row]:
        """The next rows in the order in which they are evicted, of one mount or of all.

        Pinned ones are not among them.
        """
        begin = (after.rank, after.rowid) if after else (-1.0e300, -1)
        where = "pinned = 0"
        values: tuple[str | float, ...] = begin
        if mount is not None:
            where = f"mount = ? AND {_IS_EPOCH_OF_MOUNT} AND pinned = 0"
            values = (indexable(mount), indexable(mount), *begin)
        return rows_of(
            self._table,
            f"WHERE {where} AND (rank, rowid) > (?, ?) AND {ROW_IS_OURS}"
            " ORDER BY rank, rowid LIMIT ?",
            (*values, limit),
        )

    def note_evicted(self, rows: Sequence[Row]) -> None:
        """Let what stays age by what has gone. Within a transaction."""
        self._ranking.note_evicted(self._table, rows)

    def pin(self, rows: Iterable[Row], *, is_pinned: bool) -> int:
        """Let these rows never be evicted, or let them be again as far as their mount lets them;
        how many changed. Within a transaction."""
        return self._pinning.order(self._table, rows, is_pinned=is_pinned)

    def blobs_of(self, shard: str) -> dict[str, Row]:
        """The rows, by entry id, whose id begins with these characters."""
        rows = rows_of(
            self._table,
            f"WHERE {ROW_IS_OURS} AND filename >= ? AND filename < ?",
            (shard, shard[:-1] + chr(ord(shard[-1]) + 1)),
        )
        return {row.entry_id: row for row in rows}

    def has_blob(self, entry_id: str) -> bool:
        """Whether any row claims the blob of this name."""
        return bool(self._table.ask("SELECT 1 FROM Cache WHERE filename = ?", (entry_id,)))

    def delete_foreign_rows(self) -> int:
        """Delete rows that no Forebay wrote, unread; gives their count."""
        deleted = 0
        while True:
            rows = self._table.ask(
                f"SELECT rowid FROM Cache WHERE NOT ({_ROW_IS_WELL_FORMED}) LIMIT ?",  # noqa: S608
                (_DAMAGED_PER_STEP,),
            )
            if not rows:
                return deleted
            with self.transaction():
                self.delete_numbers(rowid for (rowid,) in rows)
            deleted += len(rows)

    def check(self) -> None:
        """Raise ``sqlite3.DatabaseError`` when the database is corrupt. Reads all of it.

        Through a new connection: an old one would answer from the pages that it remembers.
        """
        self.release()
        ((verdict,),) = self._table.ask("PRAGMA quick_check(1)")
        if verdict != "ok":
            raise _corrupt(str(verdict))

    def _is_impatient(self) -> bool:
        """Whether the calling thread's last transaction never got its lock."""
        return getattr(self._waited, "in_vain", False)

    @property
    def _database(self) -> str:
        return str(self._directory / DATABASE_NAME)

    def _inode_on_disk(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._database)
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _corrupt(detail: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(detail)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
