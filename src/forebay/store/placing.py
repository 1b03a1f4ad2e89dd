"""Whose place a new entry takes among the rows of the index."""

from __future__ import annotations

from typing import NamedTuple

from forebay.model import Entry
from forebay.store.index import Index
from forebay.store.rows import Row

VARIANTS_PER_KEY = 16
"""More variants than this under one key are a Vary on something that never repeats; the
oldest go. Look-ups read them all."""


class Displaced(NamedTuple):
    """The rows that made way, and whether one of them was pinned by order: then what takes its
    place is."""

    rows: list[Row]
    was_pinned: bool


def displace(index: Index, entry: Entry) -> Displaced:
    """Delete the rows whose place this entry takes. Within a transaction."""
    variants = index.variants(entry.key)
    if not variants:
        return Displaced([], False)
    replaced = [row for row in variants if _is_replaced(row, entry)]
    others = [row for row in variants if row not in replaced]
    replaced += others[: max(0, len(others) - VARIANTS_PER_KEY + 1)]
    index.delete(replaced)
    return Displaced(replaced, any(row.is_pinned_by_order for row in replaced))


def _is_replaced(row: Row, entry: Entry) -> bool:
    """Whether the new entry takes this row's place; one that cannot be read does no good."""
    try:
        return row.entry().vary == entry.vary
    except ValueError:
        return True
