"""JSON in and out, shaped as indexes have it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

JSON_TYPES = frozenset({"application/json"})


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object that the body is. Raises ``ValueError`` for anything else."""
    try:
        document = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return document


def write(document: Any) -> bytes:
    """JSON without spaces, beyond ASCII as UTF-8. Lone surrogates stay escaped."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":")).encode()


def child(holder: Any, name: str) -> Any:
    """A member of an object; None where it is missing or the holder is no object."""
    return holder.get(name) if isinstance(holder, dict) else None


def replace_text(holder: Any, name: str, change: Callable[[str], str | None]) -> None:
    """Change a member that is text, where there is something to change it to."""
    value = child(holder, name)
    if isinstance(value, str):
        changed = change(value)
        if changed is not None:
            holder[name] = changed
