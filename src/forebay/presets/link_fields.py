"""The Link field (RFC 8288): targets led through the mount, relations left out."""

from __future__ import annotations

import re
from collections.abc import Callable

from forebay.model import Fields
from forebay.presets.contract import Context
from forebay.presets.links import local_link
from forebay.rules import urls

# Neighbours and alternatives that exclude each other, so that nothing is gone over twice.
_TARGET = re.compile(r"\s*<([^>]*)>")
_REST_PIECE = re.compile(r'[^",]+|"(?:[^"\\]|\\.)*"')
_RELATION = re.compile(r""";\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))""", re.I)

_Change = Callable[[str, str], "str | None"]


def links_through(fields: Fields, context: Context) -> Fields:
    """The fields with the targets of all links that can be led through the mount, absolute."""
    page = urls.parse(context.page_url)

    def change(target: str) -> str:
        local = local_link(context, target, page)
        return target if local is None else context.base_url + local

    return _each_link(fields, lambda target, rest: f"<{change(target)}>{rest}")


def without_relation(fields: Fields, relation: str) -> Fields:
    """The fields without links of this relation."""

    def keep(target: str, rest: str) -> str | None:
        match = _RELATION.search(rest)
        words = (match[1] or match[2] or "").lower().split() if match else []
        return None if relation in words else f"<{target}>{rest}"

    return _each_link(fields, keep)


def _each_link(fields: Fields, change: _Change) -> Fields:
    """Link lines whose members are as ``change`` gives them; a line that cannot be read stays,
    one of which nothing is left goes."""
    lines: list[tuple[str, str]] = []
    for name, value in fields:
        members = _members(value) if name == "link" else None
        if members is None:
            lines.append((name, value))
            continue
        changed = [m for m in (change(target, rest) for target, rest in members) if m is not None]
        if changed:
            lines.append((name, ", ".join(changed)))
    return Fields(lines)


def _members(value: str) -> list[tuple[str, str]] | None:
    """Target and parameters of each link; None where the line cannot be read."""
    members, position, stop = [], 0, len(value.rstrip())
    while position < stop:
        target = _TARGET.match(value, position)
        if target is None:
            return None
        end = target.end()
        while (piece := _REST_PIECE.match(value, end)) is not None:
            end = piece.end()
        members.append((target[1], value[target.end() : end].rstrip()))
        position = end + value.startswith(",", end)
    return members
