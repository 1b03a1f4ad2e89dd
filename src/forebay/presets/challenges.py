"""Challenges of an upstream's, read (RFC 9110 §11.6.1), and the question for a token."""

from __future__ import annotations

import json
import re
from typing import NamedTuple
from urllib.parse import quote

from forebay.errors import InvalidTarget
from forebay.model import Fields
from forebay.rules import urls
from forebay.rules.fields import unquote

DEFAULT_LIFETIME_SECONDS = 60.0
"""How long a token without ``expires_in`` is good for (distribution specification, token)."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SEPARATORS = re.compile(r"[\s,]*")
_EQUALS = re.compile(r"\s*=\s*")
# Alternatives that exclude each other, so that nothing is gone over twice.
_VALUE = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s,"]+')
_END_OF_VALUE = re.compile(r"\s*(?:,|$)")
_END_OF_SCHEME = re.compile(r"\s|,|$")


class Bearer(NamedTuple):
    """A Bearer challenge: where tokens are had, and what for (RFC 6750 §3)."""

    realm: str
    service: str | None
    scope: str | None

    def token_url(self) -> str:
        """The address that answers with a token. Raises ``InvalidTarget`` for a bad realm."""
        realm = urls.from_text(self.realm)
        asked = [
            f"{name}={quote(value, safe='')}"
            for name, value in (("service", self.service), ("scope", self.scope))
            if value
        ]
        query = "&".join([*([realm.query] if realm.query else []), *asked])
        return f"{realm.origin}{realm.path}" + (f"?{query}" if query else "")


class Grant(NamedTuple):
    """A token, and for how many seconds it may be used."""

    token: str
    lifetime_seconds: float


def bearer_challenge(fields: Fields) -> Bearer | None:
    """The first Bearer challenge in WWW-Authenticate that has a usable realm."""
    for line in fields.get_all("www-authenticate"):
        for scheme, parameters in _challenges(line):
            realm = parameters.get("realm")
            if scheme != "bearer" or not realm:
                continue
            try:
                urls.from_text(realm)
            except InvalidTarget:
                continue
            return Bearer(realm, parameters.get("service"), parameters.get("scope"))
    return None


def _challenges(line: str) -> list[tuple[str, dict[str, str]]]:
    """Scheme (lower case) and parameters of each challenge; a token68 is skipped."""
    found: list[tuple[str, dict[str, str]]] = []
    position = _behind(_SEPARATORS, line, 0)
    while position < len(line):
        token = _TOKEN.match(line, position)
        end = None if token is None else token.end()
        if token is not None and (equals := _EQUALS.match(line, token.end())):
            end = _read_parameter(line, token[0], equals.end(), found)
        elif token is not None and _END_OF_SCHEME.match(line, token.end()):
            found.append((token[0].lower(), {}))
        else:
            end = None
        if end is None:
            end = line.find(",", position)
            if end < 0:
                break
        position = _behind(_SEPARATORS, line, end)
    return found


def _read_parameter(
    line: str, name: str, position: int, found: list[tuple[str, dict[str, str]]]
) -> int | None:
    """Note the value at the position with the last challenge, and say where it ends; None if it
    is no parameter of one."""
    value = _VALUE.match(line, position)
    if not found or value is None or _END_OF_VALUE.match(line, value.end()) is None:
        return None
    plain = unquote(value[0]) if value[0].startswith('"') else value[0]
    found[-1][1].setdefault(name.lower(), plain or "")
    return value.end()


def _behind(pattern: re.Pattern[str], line: str, position: int) -> int:
    """Where a pattern that may be empty ends."""
    match = pattern.match(line, position)
    return position if match is None else match.end()


def read_grant(body: bytes) -> Grant | None:
    """The token in a token server's answer; None where there is none that can be sent."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    token = answer.get("token") or answer.get("access_token")
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
        return None
    lifetime = answer.get("expires_in")
    if isinstance(lifetime, int | float) and not isinstance(lifetime, bool) and lifetime > 0:
        return Grant(token, float(lifetime))
    return Grant(token, DEFAULT_LIFETIME_SECONDS)
