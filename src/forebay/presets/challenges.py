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

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"  # noqa: S105 - a grammar
_PARAMETER = re.compile(
    rf"[\s,]*+({_TOKEN})\s*+=\s*+(\"(?:[^\"\\]++|\\.)*+\"|[^\s,\"]++)(?=\s*(?:,|$))"
)
_SCHEME = re.compile(rf"[\s,]*+({_TOKEN})(?=\s|,|$)(?!\s*=)")


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
    position = 0
    while position < len(line):
        if found and (match := _PARAMETER.match(line, position)):
            name, value = match.groups()
            plain = unquote(value) if value.startswith('"') else value
            found[-1][1].setdefault(name.lower(), plain or "")
        elif match := _SCHEME.match(line, position):
            found.append((match[1].lower(), {}))
        else:
            following = line.find(",", position + 1)
            if following < 0:
                break
            position = following
            continue
        position = match.end()
    return found


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
