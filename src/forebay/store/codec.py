"""An entry as one line of JSON text and back: the format of an index row's value.

Version 1. Keys that a later minor version may add are ignored when read; a row that does not
say version 1, or says something impossible, is damage and raises ``ValueError``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, cast

from forebay.model import Entry, Fields, Head, Identity, Interval, Intervals

ROW_VERSION = 1

_COMPLETE_MARK = '"complete":true'


def encode(entry: Entry) -> str:
    """The entry as compact ASCII JSON."""
    return json.dumps(
        {
            "v": ROW_VERSION,
            "complete": entry.complete,
            "key": entry.key,
            "id": entry.entry_id,
            "name": entry.name,
            "mount": entry.mount,
            "status": entry.head.status,
            "reason": entry.head.reason,
            "fields": list(entry.head.fields),
            "length": entry.identity.length_bytes,
            "etag": entry.identity.etag,
            "last_modified": entry.identity.last_modified,
            "requested": entry.request_time,
            "responded": entry.response_time,
            "stored": entry.stored_time,
            "coverage": entry.coverage,
            "vary": entry.vary,
            "tags": entry.tags,
            "digests": entry.digests,
        },
        separators=(",", ":"),
    )


def decode(text: str) -> Entry:
    """The entry that ``encode`` wrote. Raises ``ValueError`` for anything else."""
    try:
        data = json.loads(text)
        if data["v"] != ROW_VERSION:
            raise ValueError("the row has another version")
        entry = _entry(data)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("the row is not an entry") from error
    _check_coverage(entry)
    return entry


def claims_complete(text: str) -> bool:
    """Whether this row's text says ``complete``, without parsing it.

    Exact for what ``encode`` writes: inside a JSON string every quote has a backslash before
    it, so the mark can only be the key of the outermost object.
    """
    return _COMPLETE_MARK in text


def _entry(data: dict[str, Any]) -> Entry:
    return Entry(
        key=_text(data["key"]),
        entry_id=_text(data["id"]),
        name=_text(data["name"]),
        mount=_text(data["mount"]),
        head=Head(_whole(data["status"]), Fields(_pairs(data["fields"])), _text(data["reason"])),
        identity=Identity(
            length_bytes=None if data["length"] is None else _whole(data["length"]),
            etag=None if data["etag"] is None else _text(data["etag"]),
            last_modified=None if data["last_modified"] is None else _text(data["last_modified"]),
        ),
        request_time=float(data["requested"]),
        response_time=float(data["responded"]),
        stored_time=float(data["stored"]),
        coverage=tuple(Interval(_whole(a), _whole(b)) for a, b in data["coverage"]),
        complete=data["complete"] is True,
        vary=_pairs(data["vary"]),
        tags=tuple(_text(tag) for tag in data["tags"]),
        digests=_pairs(data["digests"]),
    )


def _check_coverage(entry: Entry) -> None:
    """Raise ``ValueError`` unless the coverage is in normal form and fits the length."""
    last_stop = -1
    for start, stop in entry.coverage:
        if not last_stop < start < stop:
            raise ValueError("the coverage is not in normal form")
        last_stop = stop
    length = entry.length_bytes
    if length is not None and last_stop > length:
        raise ValueError("the coverage goes beyond the length")
    if entry.complete and (length is None or entry.coverage != whole_coverage(length)):
        raise ValueError("the entry claims to be complete and is not")


def whole_coverage(length_bytes: int) -> Intervals:
    """The coverage of a complete body of this length."""
    return (Interval(0, length_bytes),) if length_bytes else ()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("text expected")
    return value


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("a count expected")
    return value


def _pairs(value: object) -> tuple[tuple[str, str], ...]:
    return tuple((_text(name), _text(held)) for name, held in cast("Iterable[Any]", value))
