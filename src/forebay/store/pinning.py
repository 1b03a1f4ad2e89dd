"""Which rows are never evicted: by order, one by one, or because their mount says so.

What the mounts say is written into the rows, so that choosing what goes costs one range of one
index, however many are pinned. When the configuration changes, the rows are marked anew, once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

from forebay.store.rows import PIN_BY_MOUNT, PIN_BY_ORDER, Row
from forebay.store.table import indexable

_FACT = "pinned-mounts"
_NONE = "[]"


class Changes(Protocol):
    """A connection to the database."""

    def ask(self, statement: str, values: Any = ()) -> list[tuple[Any, ...]]: ...

    def change(self, statement: str, values: Iterable[Sequence[Any]]) -> int: ...


class Pinning:
    """The pins of one configuration. All but ``is_stale`` run within a transaction."""

    def __init__(self, mounts: Collection[str]) -> None:
        self._mounts = frozenset(map(indexable, mounts))
        self._fact = json.dumps(sorted(self._mounts))

    def is_stale(self, database: Changes) -> bool:
        """Whether the rows have been marked for other mounts."""
        rows = database.ask("SELECT value FROM Forebay_facts WHERE name = ?", (_FACT,))
        return (rows[0][0] if rows else _NONE) != self._fact

    def begin(self, database: Changes) -> None:
        """Mark every row anew, orders kept."""
        database.change(
            "UPDATE Cache SET pinned = pinned & ? WHERE pinned > ?", [(PIN_BY_ORDER, PIN_BY_ORDER)]
        )
        database.change(
            "UPDATE Cache SET pinned = pinned | ? WHERE mount = ?",
            [(PIN_BY_MOUNT, mount) for mount in self._mounts],
        )
        database.change(
            "REPLACE INTO Forebay_facts(name, value) VALUES (?, ?)", [(_FACT, self._fact)]
        )

    def of_new(self, mount: str, *, is_pinned: bool) -> int:
        """The pins of an entry that arrives now; ``is_pinned`` where it was ordered."""
        by_mount = PIN_BY_MOUNT if indexable(mount) in self._mounts else 0
        return by_mount | (PIN_BY_ORDER if is_pinned else 0)

    def order(self, database: Changes, rows: Iterable[Row], *, is_pinned: bool) -> int:
        """Pin or unpin these rows by order; how many changed."""
        wanted = PIN_BY_ORDER if is_pinned else 0
        return database.change(
            "UPDATE Cache SET pinned = (pinned & ?) | ?"
            " WHERE rowid = ? AND filename = ? AND pinned & ? != ?",
            [(PIN_BY_MOUNT, wanted, row.rowid, row.entry_id, PIN_BY_ORDER, wanted) for row in rows],
        )
