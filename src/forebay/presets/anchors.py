"""The links of an HTML page, changed in place: everything else stays octet for octet.

A page is not parsed into a tree and written again, since indexes carry attributes (hashes,
``data-requires-python``, ``data-dist-info-metadata``, ``data-yanked``) that must come through
untouched. Start tags are found with quoted values skipped, so that a ``>`` within one ends
nothing. No page takes more than linear time: a tag is walked from quote to quote, one without
an end is the end of all tags, and in an attribute no two neighbours can take the same octet.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from forebay.errors import InvalidTarget
from forebay.rules import urls
from forebay.rules.urls import Url

_START = re.compile(rb"<(a|base)(?=[\s/])", re.I)
_TAG_STOP = re.compile(rb"""[>"']""")
_ATTRIBUTE = re.compile(
    rb"""(?P<name>[^\s=/>"']+)"""
    rb"""(?:\s*=\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'>]+)))?"""
    rb"""|"[^"]*"|'[^']*'"""
)

Change = Callable[[str, Url], str | None]


def change_anchors(page: bytes, page_url: Url, change: Change) -> bytes:
    """The page with the ``href`` of each anchor as ``change`` gives it.

    ``change`` gets the reference as text, entities read, and the address from which it is
    relative (``<base href>`` or the page's); None leaves it. Octets that are not UTF-8 stay.
    """
    base, based = page_url, False
    pieces: list[bytes] = []
    position = 0
    while (start := _START.search(page, position)) is not None:
        end = _end_of_tag(page, start.end())
        if end is None:
            break
        pieces.append(page[position : start.start()])
        position = end
        whole = page[start.start() : position]
        href = _href(page[start.end() : position - 1])
        if href is None:
            pieces.append(whole)
            continue
        reference = html.unescape(_value(href).decode("utf-8", "surrogateescape"))
        if start[1].lower() == b"base":
            # Only the first counts (HTML §4.2.3). It goes: what follows is ours or absolute.
            if not based:
                base, based = _joined(base, reference) or base, True
            continue
        changed = change(reference, base)
        if changed is None and based:
            absolute = _joined(base, reference)
            changed = None if absolute is None else str(absolute)
        if changed is None:
            pieces.append(whole)
            continue
        before = start.end() - start.start()
        pieces.append(_with_href(whole, before + href.start(), before + href.end(), href, changed))
    pieces.append(page[position:])
    return b"".join(pieces)


def _end_of_tag(page: bytes, position: int) -> int | None:
    """The position behind the ``>`` that ends a tag, which no quotes enclose; None without one."""
    while (stop := _TAG_STOP.search(page, position)) is not None:
        if stop[0] == b">":
            return stop.end()
        closing = page.find(stop[0], stop.end())
        if closing < 0:
            return None
        position = closing + 1
    return None


def _href(attributes: bytes) -> re.Match[bytes] | None:
    """The first attribute of this name; one without a value is none."""
    for attribute in _ATTRIBUTE.finditer(attributes):
        if (attribute["name"] or b"").lower() == b"href":
            return None if attribute.lastgroup == "name" else attribute
    return None


def _with_href(tag: bytes, start: int, stop: int, href: re.Match[bytes], value: str) -> bytes:
    """The tag with this value in place of the one at [start, stop), quoted."""
    written = html.escape(value).encode("utf-8", "surrogateescape")
    return tag[:start] + href["name"] + b'="' + written + b'"' + tag[stop:]


def _value(href: re.Match[bytes]) -> bytes:
    return next(v for v in (href["double"], href["single"], href["bare"]) if v is not None)


def _joined(base: Url, reference: str) -> Url | None:
    """The address that the reference names; None where that is none of http or https."""
    try:
        return urls.join(
            base, reference.strip(" \t\n\r\f").encode("utf-8", "replace").decode("latin-1")
        )
    except InvalidTarget:
        return None
