"""Cache directives: Cache-Control as it is really sent (RFC 9111 §5.2), and the targeted fields
that stand above it (RFC 9213).

Sloppy spelling is always read for the meaning that reuses less: a lifetime that cannot be read
is none, a restriction counts however its argument looks, a permission only when well written,
and of several lifetimes the shortest counts (RFC 9111 §4.2.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final, TypeAlias

import http_sf

from forebay.model import Fields, Policy
from forebay.rules.fields import is_token, parse_delta_seconds, split_list, tokens_in, unquote

MALFORMED: Final = "\x00malformed"
"""Stands for an argument that cannot be read; no field value can hold it."""

Argument: TypeAlias = str | None
"""A directive's argument with its quotes undone, None where it has none, or ``MALFORMED``."""

# cache-directive = token [ "=" ( token / quoted-string ) ] (RFC 9111 §5.2)
_DIRECTIVE: Final = re.compile(r"([^\s=\",;]++)(?:=(.*))?", re.DOTALL)

TARGET_LIST: Final = ("forebay-cache-control", "cdn-cache-control")
"""The targeted fields that are ours to obey, the first present and valid wins (RFC 9213 §2.2)."""

# Values are parsed once for as many responses as say the same; long ones are not remembered, so
# that strangers cannot fill memory with them.
_REMEMBERED_LENGTH: Final = 256

# Without these a stored body can no longer be read for what it is, so that naming one of them
# in no-cache or private means the whole response.
_INSEPARABLE: Final = frozenset(
    {"content-encoding", "content-length", "content-type", "content-range", "vary"}
)


@dataclass(frozen=True, slots=True)
class Directives:
    """Cache directives by lower-case name, each with every argument it came with."""

    arguments: Mapping[str, tuple[Argument, ...]]

    def __contains__(self, name: str) -> bool:
        """Whether a directive is there in any spelling: what restrictions are asked with."""
        return name in self.arguments

    def __bool__(self) -> bool:
        return bool(self.arguments)

    def permits(self, name: str) -> bool:
        """Whether a directive without argument is there, well written: for permissions."""
        return None in self.arguments.get(name, ())

    def shortest_seconds(self, name: str) -> int | None:
        """A lifetime: the least of its values, 0 where one is malformed, None where absent."""
        values = self._seconds(name)
        return min((0 if v is None else v for v in values), default=None)

    def longest_seconds(self, name: str) -> int | None:
        """A demand such as min-fresh: the largest of its values; what is malformed is no demand."""
        return max((v for v in self._seconds(name) if v is not None), default=None)

    def _seconds(self, name: str) -> tuple[int | None, ...]:
        return tuple(parse_delta_seconds(a or "") for a in self.arguments.get(name, ()))

    def field_names(self, name: str) -> frozenset[str]:
        """Lower-case field names that ``no-cache`` or ``private`` is limited to.

        Empty where the directive is absent or speaks of the whole response (``is_whole``).
        """
        if self.is_whole(name):
            return frozenset()
        return frozenset(
            member.lower() for a in self.arguments.get(name, ()) for member in split_list(a or "")
        )

    def is_whole(self, name: str) -> bool:
        """Whether ``no-cache`` or ``private`` is there without field names (RFC 9111 §5.2.2.4).

        So it is where one of its arguments is missing, empty or no list of field names, or names
        a field without which the rest means nothing.
        """
        return any(not _names_fields(a) for a in self.arguments.get(name, ()))


def _names_fields(argument: Argument) -> bool:
    members = split_list(argument or "")
    return bool(members) and all(is_token(m) and m.lower() not in _INSEPARABLE for m in members)


NO_DIRECTIVES: Final = Directives(MappingProxyType({}))


def parse_cache_control(values: Iterable[str]) -> Directives:
    """The directives of every Cache-Control line together (RFC 9111 §5.2).

    Never fails. An element that is no directive gives each word in it as one with a malformed
    argument, so that ``no-cache no-store`` without its comma still says both.
    """
    lines = tuple(values)
    short = sum(map(len, lines)) <= _REMEMBERED_LENGTH
    return _remembered_cache_control(lines) if short else _parse_cache_control(lines)


def _parse_cache_control(values: tuple[str, ...]) -> Directives:
    found: dict[str, list[Argument]] = {}
    for line in values:
        for element in split_list(line):
            for name, argument in _read_element(element):
                found.setdefault(name.lower(), []).append(argument)
    return Directives(MappingProxyType({name: tuple(args) for name, args in found.items()}))


_remembered_cache_control: Final = lru_cache(maxsize=2048)(_parse_cache_control)


def _read_element(element: str) -> tuple[tuple[str, Argument], ...]:
    match = _DIRECTIVE.fullmatch(element)
    if match is not None and is_token(match[1]):
        if match[2] is None:
            return ((match[1], None),)
        argument = unquote(match[2])
        if argument is not None:
            return ((match[1], argument),)
    return tuple((word, MALFORMED) for word in tokens_in(element))


def parse_targeted(values: Iterable[str]) -> Directives | None:
    """The directives of one targeted field, or None where it is empty or malformed.

    It is a Dictionary of Structured Fields and read by that grammar alone (RFC 9213 §2.1): one
    mistake anywhere and the field counts as absent. A value of the wrong type is not coerced.
    """
    text = ", ".join(values)
    short = len(text) <= _REMEMBERED_LENGTH
    return _remembered_targeted(text) if short else _parse_targeted(text)


def _parse_targeted(text: str) -> Directives | None:
    try:
        members = http_sf.parse(text.encode("latin-1"), tltype="dictionary")
    except ValueError:
        return None
    if not isinstance(members, dict) or not members:
        return None
    found: dict[str, tuple[Argument, ...]] = {}
    for name, member in members.items():
        value = member[0] if isinstance(member, tuple) else member
        if value is not False:
            found[name] = (_targeted_argument(name, value),)
    return Directives(MappingProxyType(found))


_remembered_targeted: Final = lru_cache(maxsize=1024)(_parse_targeted)


def _targeted_argument(name: str, value: object) -> Argument:
    if value is True:
        return None
    if isinstance(value, int):
        return str(value)
    # Lifetimes are Integers; what looks like one in a String is not (RFC 9213 §2.1).
    if isinstance(value, (str, http_sf.Token)) and name in {"no-cache", "private"}:
        return str(value)
    return MALFORMED


@dataclass(frozen=True, slots=True)
class CachingFields:
    """What of a response's fields governs its caching.

    ``targeted`` is true where a targeted field speaks in place of Cache-Control and Expires
    (RFC 9213 §2.2); ``ignored`` where the mount listens to none of them.
    """

    directives: Directives
    targeted: bool = False
    ignored: bool = False


def caching_fields(fields: Fields, policy: Policy) -> CachingFields:
    """The directives that count for a response under this policy."""
    if policy.ignore_cache_control:
        return CachingFields(NO_DIRECTIVES, ignored=True)
    if policy.obey_targeted:
        for name in TARGET_LIST:
            values = fields.get_all(name)
            directives = parse_targeted(values) if values else None
            if directives is not None:
                return CachingFields(directives, targeted=True)
    return CachingFields(parse_cache_control(fields.get_all("cache-control")))
