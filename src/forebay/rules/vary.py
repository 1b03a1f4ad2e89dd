"""Which stored response was selected by the same request fields (RFC 9111 §4.1)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

from forebay.model import Entry, Fields, Head, Policy, Request
from forebay.rules.fields import is_secret, is_token, list_members, split_list
from forebay.rules.lifetimes import date_value

_OURS: Final = frozenset({"accept-encoding", "user-agent", "host", "range", "if-range"})
"""Request fields that Forebay sets itself towards upstream: the client's select nothing."""

_UNORDERED: Final = frozenset({"accept", "accept-language", "accept-charset"})
"""Lists whose order says nothing (RFC 9110 §12.5): weights do."""

_CASELESS: Final = frozenset({"accept-language", "accept-charset"})

_EMPTY: Final = ","
"""Stands for a field that is there and empty: a list of no members, which no normalised value
is spelled as. A field that is absent has the value ``""`` and matches only absence."""


def vary_names(head: Head) -> tuple[str, ...] | None:
    """The field names in Vary, lower-case, sorted, each once; None where no request matches.

    That is so with a member ``*`` in any place, and with one that is no field name: what it was
    to mean cannot be known (RFC 9110 §12.5.5).
    """
    names = {member.lower() for member in list_members(head.fields, "vary")}
    if "*" in names or not all(is_token(name) for name in names):
        return None
    return tuple(sorted(names))


def selecting_values(
    request: Request, names: Iterable[str], policy: Policy
) -> tuple[tuple[str, str], ...]:
    """(field name, normalised value) for each name that counts under this policy, sorted.

    The request is the client's; a caller that forwards only some fields gives a request with
    just those, so that what upstream never sees selects nothing. ``ignore_vary`` of ``*`` leaves
    out every name.
    """
    ignored = {name.lower() for name in policy.ignore_vary}
    if "*" in ignored:
        return ()
    counting = sorted({name.lower() for name in names} - _OURS - ignored)
    return tuple((name, _normalised(request.fields, name)) for name in counting)


def _normalised(fields: Fields, name: str) -> str:
    """One spelling for all that mean the same: lines joined, whitespace at commas dropped."""
    values = fields.get_all(name)
    if not values:
        return ""
    members: Sequence[str] = [m for value in values for m in split_list(value)]
    if name in _CASELESS:
        members = [member.lower() for member in members]
    if name in _UNORDERED:
        members = sorted(_tight(member) for member in members)
    text = ", ".join(members) or _EMPTY
    # Of credentials an entry keeps a digest: nobody is to read them back from an index.
    return sha256(text.encode()).hexdigest() if is_secret(name) else text


def _tight(member: str) -> str:
    """A list member without optional whitespace at its parameters (RFC 9110 §5.6.6); inside
    quotes whitespace counts, so that a member with quotes stays as it is."""
    return member if '"' in member else "".join(member.split())


def select_variant(request: Request, entries: Iterable[Entry], policy: Policy) -> Entry | None:
    """The stored response that this request selects: of those that match the newest by Date
    (RFC 9111 §4.1), None if none does."""
    matching = (entry for entry in entries if _matches(request, entry, policy))
    return max(matching, key=_recency, default=None)


def _matches(request: Request, entry: Entry, policy: Policy) -> bool:
    names = vary_names(entry.head)
    if names is None:
        if "*" not in policy.ignore_vary:
            return False
        names = ()
    # The policy may have changed since the entry was stored, and a 304 may have brought another
    # Vary: a name that counts now and was not recorded then is no match.
    recorded = (name for name, _ in entry.vary if is_token(name))
    wanted = selecting_values(request, {*names, *recorded}, policy)
    counting = {name for name, _ in wanted}
    return wanted == tuple(sorted(pair for pair in entry.vary if pair[0] in counting))


def _recency(entry: Entry) -> tuple[float, float]:
    date = date_value(entry.head.fields, math.floor(entry.response_time))
    return date, entry.response_time
