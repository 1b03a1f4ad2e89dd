"""Going through the rows of the index in order: by what is selected, or by their last use.

As in ``index`` everything here blocks. A cursor that comes back unchanged is the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forebay.ports import Selection
from forebay.store import schema
from forebay.store.rows import Cursor, Row, is_meant, row_of
from forebay.store.table import Table, indexable, text_of

SELECT = (
    "SELECT rowid, key, filename, tag, size, access_time, access_count, mount, pinned, rank,"
    " mode, value FROM Cache"
)
ROW_IS_OURS = "raw = 1 AND mode = 1 AND typeof(value) = 'text' AND typeof(filename) = 'text'"
_HIGHEST = "\U0010ffff"


def rows_of(table: Table, where: str, values: Sequence[Any]) -> list[Row]:
    """The rows that this condition meets; what Forebay did not write is left out."""
    found = []
    for columns in table.ask(f"{SELECT} {where}", values):
        try:
            found.append(read_row(columns))
        except ValueError:
            continue
    return found


def read_row(columns: tuple[Any, ...]) -> Row:
    """The row of ``SELECT``'s columns. Raises ``ValueError`` for one Forebay did not write."""
    mode, value = columns[-2:]
    return row_of(columns[:-2], text_of(mode, value))


class Listing:
    """Pages of one database's rows."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def last_number(self) -> int:
        """The highest row number given so far, 0 for an empty index."""
        ((last,),) = self._table.ask("SELECT max(rowid) FROM Cache")
        return int(last or 0)

    def page(self, selection: Selection, after: Cursor, limit: int) -> tuple[list[Row], Cursor]:
        """The selected ones of the next ``limit`` rows, and where to go on.

        Begin after ``("", 0)``; a cursor that comes back unchanged is the end. Rows added
        while pages are turned may come or not.
        """
        if selection.key is not None:
            rows = [row for row in self._variants(selection.key) if row.rowid > after[1]]
        elif selection.prefix:
            return self._page_of_prefix(indexable(selection.prefix), after, limit)
        else:
            rows = rows_of(
                self._table,
                f"WHERE {ROW_IS_OURS} AND rowid > ? AND {schema.IS_LIVE} ORDER BY rowid LIMIT ?",
                (after[1], limit),
            )
        cursor = ("", rows[-1].rowid) if rows else after
        return [row for row in rows if is_meant(row, selection)], cursor

    def _page_of_prefix(self, prefix: str, after: Cursor, limit: int) -> tuple[list[Row], Cursor]:
        rows = rows_of(
            self._table,
            f"WHERE {ROW_IS_OURS} AND tag >= ? AND (tag, rowid) > (?, ?) AND {schema.IS_LIVE}"
            " ORDER BY tag, rowid LIMIT ?",
            (prefix, *after, limit),
        )
        meant = [row for row in rows if row.name.startswith(prefix)]
        return meant, ((meant[-1].name, meant[-1].rowid) if meant else after)

    def latest(self, prefix: str, after: tuple[float, int] | None, limit: int) -> list[Row]:
        """The rows whose name begins so, the last used first, and those behind this last use and
        number.

        Looks at all of them, a second or two for a million, and holds ``limit`` in memory: for a
        thread that nobody waits for.
        """
        begin = indexable(prefix)
        chosen = (
            f"WHERE {ROW_IS_OURS} AND tag >= ? AND tag <= ? AND {schema.IS_LIVE}"
            " AND (access_time, rowid) < (?, ?) ORDER BY access_time DESC, rowid DESC LIMIT ?"
        )
        return rows_of(
            self._table,
            f"WHERE rowid IN (SELECT rowid FROM Cache {chosen})"  # noqa: S608
            " ORDER BY access_time DESC, rowid DESC",
            (begin, begin + _HIGHEST, *(after or (1e300, 2**62)), limit),
        )

    def _variants(self, key: str) -> list[Row]:
        return rows_of(
            self._table,
            f"WHERE raw = 1 AND key >= ? AND key < ? AND {schema.IS_LIVE} ORDER BY rowid",
            (f"{key}/", f"{key}0"),
        )
