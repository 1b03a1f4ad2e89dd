"""What stands in the index's database beside diskcache's own table, and how it came there.

Version 2 of the format. Columns of ours in ``Cache``:

    mount    the name of the entry's mount
    epoch    the mount's epoch when the entry was stored: a mount that has a later one now has
             been purged since, and the row is *dead*: nobody finds it, and it is deleted behind
    pinned   what keeps the entry from being evicted: 1 an order, 2 its mount, 3 both, 0 nothing
    rank     the lowest is evicted first (``rules.eviction``)

``Forebay_mounts`` counts what is live under each mount, by triggers within every transaction, so
that a quota and a purge of a whole mount cost one row. ``Forebay_sums`` holds checksums
(``sums``), and loses those of a deleted row by trigger.

A database of version 1 is converted where it lies, in one transaction, when it is first opened.
"""

from __future__ import annotations

from typing import Any, Protocol

COLUMNS = {
    "mount": "TEXT NOT NULL DEFAULT ''",
    "epoch": "INTEGER NOT NULL DEFAULT 0",
    "pinned": "INTEGER NOT NULL DEFAULT 0",
    "rank": "REAL NOT NULL DEFAULT 0",
}

IS_LIVE = (
    "epoch = coalesce((SELECT M.epoch FROM Forebay_mounts AS M WHERE M.mount = Cache.mount), 0)"
)
"""Whether a row of ``Cache`` has not been purged with its mount."""

_TABLES = (
    "CREATE TABLE IF NOT EXISTS Forebay_mounts (mount TEXT PRIMARY KEY,"
    " objects INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL DEFAULT 0,"
    " epoch INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS Forebay_sums (blob TEXT, page INTEGER, sums BLOB,"
    " PRIMARY KEY (blob, page)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS Forebay_facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    "CREATE UNIQUE INDEX IF NOT EXISTS Forebay_blob ON Cache(filename)",
    "CREATE INDEX IF NOT EXISTS Forebay_rank ON Cache(pinned, rank)",
    "CREATE INDEX IF NOT EXISTS Forebay_mount ON Cache(mount, epoch, pinned, rank)",
    "DROP INDEX IF EXISTS Forebay_used",
)

_TRIGGERS = (
    "CREATE TRIGGER IF NOT EXISTS Forebay_inserted AFTER INSERT ON Cache BEGIN"
    " INSERT INTO Forebay_mounts(mount, objects, size, epoch)"
    "  VALUES (NEW.mount, 1, NEW.size, NEW.epoch)"
    "  ON CONFLICT(mount) DO UPDATE SET objects = objects + 1, size = size + NEW.size"
    "  WHERE epoch = NEW.epoch; END",
    "CREATE TRIGGER IF NOT EXISTS Forebay_resized AFTER UPDATE OF size ON Cache"
    " WHEN NEW.size != OLD.size BEGIN"
    " UPDATE Forebay_mounts SET size = size + NEW.size - OLD.size"
    "  WHERE mount = NEW.mount AND epoch = NEW.epoch; END",
    "CREATE TRIGGER IF NOT EXISTS Forebay_deleted AFTER DELETE ON Cache BEGIN"
    " UPDATE Forebay_mounts SET objects = objects - 1, size = size - OLD.size"
    "  WHERE mount = OLD.mount AND epoch = OLD.epoch;"
    " DELETE FROM Forebay_sums WHERE blob = OLD.filename; END",
)

_FROM_VERSION_1 = (
    "UPDATE Cache SET rank = CASE WHEN typeof(access_time) = 'real' THEN access_time ELSE 0 END,"
    " mount = CASE WHEN typeof(value) = 'text' AND json_valid(value)"
    " THEN coalesce(json_extract(value, '$.mount'), '') ELSE '' END"
)


_COUNT_ANEW = (
    "INSERT INTO Forebay_mounts(mount, objects, size, epoch)"  # noqa: S608 - constants of ours
    f" SELECT mount, count(*), coalesce(sum(size), 0), 0 FROM Cache WHERE {IS_LIVE} GROUP BY mount"
    " ON CONFLICT(mount) DO UPDATE SET objects = excluded.objects, size = excluded.size"
)


class Asks(Protocol):
    """A connection to the database."""

    def ask(self, statement: str, values: Any = ()) -> list[tuple[Any, ...]]: ...


def prepare(database: Asks) -> None:
    """Make what is missing; a second call changes nothing. Within a transaction."""
    held = {name for _, name, *_ in database.ask("PRAGMA table_info(Cache)")}
    missing = [name for name in COLUMNS if name not in held]
    for name in missing:
        database.ask(f"ALTER TABLE Cache ADD COLUMN {name} {COLUMNS[name]}")
    if missing:
        database.ask(_FROM_VERSION_1)
    for statement in _TABLES + _TRIGGERS:
        database.ask(statement)
    if missing:
        recount(database)


def recount(database: Asks) -> None:
    """Count anew what is live under each mount. Within a transaction."""
    database.ask("UPDATE Forebay_mounts SET objects = 0, size = 0")
    database.ask(_COUNT_ANEW)


def is_prepared(database: Asks) -> bool:
    """Whether nothing is missing, so that no transaction is needed."""
    names = {name for (name,) in database.ask("SELECT name FROM sqlite_master")}
    held = {name for _, name, *_ in database.ask("PRAGMA table_info(Cache)")}
    wanted = {"Forebay_facts", "Forebay_mount", "Forebay_deleted", "Forebay_sums"}
    return wanted <= names and COLUMNS.keys() <= held
