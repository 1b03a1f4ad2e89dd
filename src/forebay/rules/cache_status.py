"""Our member of the Cache-Status field (RFC 9211 §2)."""

from __future__ import annotations

from typing import Final

from forebay.model import CacheOutcome, CacheStatus
from forebay.rules.fields import is_token

CACHE_NAME: Final = "forebay"
"""How we are called in Cache-Status and Via."""

_INTEGER_MAX: Final = 999_999_999_999_999  # RFC 8941 §3.3.1
_DETAIL_MAX: Final = 200


def format_cache_status(status: CacheStatus) -> str:
    """The member that says what we did; to be appended behind those of caches before us.

    ``hit`` and ``fwd`` exclude each other, and what speaks of forwarding (fwd-status, stored,
    collapsed) is said only beside ``fwd``.
    """
    parts = [CACHE_NAME]
    if status.outcome is CacheOutcome.HIT:
        parts.append("hit")
    else:
        parts.append(f"fwd={status.outcome.value}")
        if status.fwd_status is not None:
            parts.append(f"fwd-status={_integer(status.fwd_status)}")
        if status.stored:
            parts.append("stored")
        if status.collapsed:
            parts.append("collapsed")
    if status.ttl_seconds is not None:
        parts.append(f"ttl={_integer(status.ttl_seconds)}")
    if status.detail:
        parts.append(f"detail={_token_or_string(status.detail)}")
    return "; ".join(parts)


def _integer(number: int) -> int:
    return max(-_INTEGER_MAX, min(number, _INTEGER_MAX))


def _token_or_string(text: str) -> str:
    """An sf-token where the text is one, else an sf-string (RFC 8941 §3.3.3, §3.3.4)."""
    if text[0].isascii() and text[0].isalpha() and is_token(text):
        return text
    printable = "".join(c if " " <= c <= "~" else "?" for c in text[:_DETAIL_MAX])
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'
