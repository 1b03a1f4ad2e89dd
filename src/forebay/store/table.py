"""diskcache's table as text: the only module that imports diskcache. ``index`` says what for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import diskcache

from forebay.store import schema

LOCK_TIMEOUT_SECONDS = 10.0
"""How long a write waits for another process's. SQLite's own default of 5 is short for a purge
of many objects on a slow disk; diskcache's 60 would leave clients waiting."""

IMPATIENT_SECONDS = 0.05
"""How long it waits once one has waited in vain, until one succeeds."""

DATABASE_NAME: str = diskcache.core.DBNAME
Locked: type[Exception] = diskcache.Timeout

_lenient_text = partial(str, encoding="utf-8", errors="replace")


class TextDisk(diskcache.Disk):  # type: ignore[misc]
    """Text in, text out. Anything else in the file is damage and is never interpreted.

    diskcache's own class unpickles what it finds, and removes whatever file a row names.
    """

    def put(self, key: object) -> tuple[str, bool]:
        if not isinstance(key, str):
            raise TypeError("keys of the index are text")
        return key, True

    def get(self, key: object, raw: object) -> str:
        if not raw or not isinstance(key, str):
            raise ValueError("the index holds a key that is not text")
        return key

    def store(
        self,
        value: object,
        read: bool,
        key: object = None,  # noqa: ARG002
    ) -> tuple[int, int, str | None, str]:
        if read or not isinstance(value, str):
            raise TypeError("values of the index are text")
        return 0, diskcache.core.MODE_RAW, None, value

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> str:
        is_inline = mode == diskcache.core.MODE_RAW and filename is None and not read
        if not is_inline or not isinstance(value, str):
            raise ValueError("the index holds a value that is not text")
        return value

    def remove(self, file_path: str) -> None:
        """Blobs are removed by ``blobs``, by entry id, never by a path found in a row."""


class Table(diskcache.Cache):  # type: ignore[misc]
    """diskcache's table with the statements it lacks."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            str(directory),
            timeout=LOCK_TIMEOUT_SECONDS,
            disk=TextDisk,
            eviction_policy="none",
            statistics=0,
            tag_index=1,
            cull_limit=0,
            size_limit=2**62,
            disk_min_file_size=2**62,
            sqlite_mmap_size=0,  # a mapped file that somebody truncates kills the process
            sqlite_auto_vacuum=0,
        )
        if not schema.is_prepared(self):
            with self.transact():
                schema.prepare(self)
        self.ask("SELECT rowid FROM Cache LIMIT 1")

    @property
    def _con(self) -> sqlite3.Connection:
        """A flipped bit must spoil one row, and not every statement that comes across it."""
        connection: sqlite3.Connection = super()._con
        connection.text_factory = _lenient_text
        return connection

    def set_patience(self, seconds: float) -> None:
        """How long the calling thread's connection waits for a lock from now on."""
        self.ask(f"PRAGMA busy_timeout = {int(1000 * seconds)}")

    def ask(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one statement."""
        rows: list[tuple[Any, ...]] = self._con.execute(statement, values).fetchall()
        return rows

    def change(self, statement: str, values: Iterable[Sequence[Any]]) -> int:
        """Run a statement once for each of these; gives how many rows changed in all."""
        return int(self._con.executemany(statement, values).rowcount)


def text_of(mode: int, value: object) -> str:
    """A row's value as it was stored. Raises ``ValueError`` for one that Forebay did not write."""
    return _READS.fetch(mode, None, value, read=False)


def indexable(name: str) -> str:
    """The name as SQLite can hold it: half a surrogate pair is not text there."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


_READS = TextDisk("", min_file_size=0, pickle_protocol=0)
