"""A row of the index as plain values: what lies on disk, before anybody believes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from forebay.model import Entry
from forebay.ports import Selection
from forebay.store import codec

PIN_BY_ORDER, PIN_BY_MOUNT = 1, 2
"""What pins a row, bit by bit."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it lies on disk; ``text`` has not been looked into."""

    rowid: int
    key: str
    entry_id: str
    name: str
    size_bytes: int
    last_used_time: float
    hits: int
    text: str
    mount: str = ""
    pins: int = 0
    rank: float = 0.0

    @property
    def is_pinned(self) -> bool:
        """Whether it is never evicted, for whatever reason."""
        return self.pins != 0

    @property
    def is_pinned_by_order(self) -> bool:
        """Whether somebody has said so of this very entry."""
        return bool(self.pins & PIN_BY_ORDER)

    def entry(self) -> Entry:
        """The entry. Raises ``ValueError`` when the row is damaged."""
        entry = codec.decode(self.text)
        if (entry.key, entry.entry_id) != (self.key, self.entry_id):
            raise ValueError("the row holds another entry")
        return entry


class Found(NamedTuple):
    """What a look-up gave, newest first, and the rows it could not read."""

    entries: tuple[Entry, ...]
    damaged: tuple[int, ...]


@dataclass(slots=True)
class Use:
    """Uses of an entry since the last flush."""

    count: int
    last_time: float


class Totals(NamedTuple):
    """What all rows together are: kept by triggers, so as true as the rows themselves."""

    objects: int
    size_bytes: int


Cursor: TypeAlias = tuple[str, int]
"""Where a page ended: the row's name and its number."""


def row_of(columns: tuple[Any, ...], text: str) -> Row:
    """The row with these columns: rowid, key, filename, tag, size, access time and count, mount,
    pinned, rank.

    Raises ``ValueError`` for one that Forebay did not write.
    """
    rowid, key, entry_id, name, size, used, hits, mount, pins, rank = columns
    if not all(isinstance(text, str) for text in (key, entry_id, name, mount)):
        raise ValueError("the index holds a key that is not text")
    primary, slash, named_id = key.rpartition("/")
    if not slash or named_id != entry_id:
        raise ValueError("the index holds a key of another kind")
    if not (isinstance(size, int) and isinstance(used, float) and isinstance(hits, int)):
        raise ValueError("the index holds a count that is not a number")
    if not isinstance(pins, int):
        raise ValueError("the index holds a pin that is not a number")
    if not isinstance(rank, float):
        raise ValueError("the index holds a rank that is not a number")
    return Row(rowid, primary, entry_id, name, size, used, hits, text, mount, pins, rank)


def is_meant(row: Row, selection: Selection) -> bool:
    """Whether the row belongs to a selection by mount or tag; others need no second look."""
    if selection.mount is not None:
        return row.mount == selection.mount
    if selection.tag is None:
        return True
    try:
        return selection.tag in row.entry().tags
    except ValueError:
        return False
