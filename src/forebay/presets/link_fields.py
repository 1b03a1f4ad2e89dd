"""The Link field (RFC 8288): targets led through the mount, relations left out."""

from __future__ import annotations

import re
from collections.abc import Callable

from forebay.model import Fields
from forebay.presets.contract import Context
from forebay.presets.links import local_link
from forebay.rules import urls

_MEMBER = re.compile(r"""\s*+<(?P<target>[^>]*+)>(?P<rest>(?:[^",]++|"(?:[^"\\]++|\\.)*+")*+),?""")
_RELATION = re.compile(r""";\s*+rel\s*+=\s*+(?:"([^"]*+)"|([^\s;,"]++))""", re.I)

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
    members, position = [], 0
    while position < len(value.rstrip()):
        match = _MEMBER.match(value, position)
        if match is None:
            return None
        members.append((match["target"], match["rest"].rstrip()))
        position = match.end()
    return members
