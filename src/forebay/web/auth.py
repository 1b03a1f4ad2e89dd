"""Who may use the admin side: holders of tokens, no pages from elsewhere, few wrong guesses."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from forebay.errors import NotAuthorized
from forebay.model import Fields
from forebay.web.credentials import TokenBook, bearer_token
from forebay.web.problems import Problem, problem_of
from forebay.web.proxies import client_network

READ, PURGE, ALL = "read", "purge", "all"
"""The scopes of tokens."""

MAX_FAILURES = 10
"""Wrong tokens that one client may send in ``WINDOW_SECONDS`` before it is made to wait."""

WINDOW_SECONDS = 60.0
_MAX_CLIENTS = 4096


class FailureLimit:
    """Counts wrong tokens per client in windows of fixed length; bounded in memory.

    An IPv6 client is its /64, since every host there has all of its addresses. When the table is
    full the client that failed longest ago is forgotten. The clock counts seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_seconds(self, client_host: str) -> int:
        """How long this client has to wait before its token is looked at; 0 for not at all."""
        count, since = self._failures.get(client_network(client_host), (0, 0.0))
        left = since + WINDOW_SECONDS - self._clock()
        return int(left) + 1 if count >= MAX_FAILURES and left > 0 else 0

    def note_failure(self, client_host: str) -> None:
        """A wrong token came from here."""
        network, now = client_network(client_host), self._clock()
        count, since = self._failures.pop(network, (0, now))
        if now - since >= WINDOW_SECONDS:
            count, since = 0, now
        self._failures[network] = (count + 1, since)
        if len(self._failures) > _MAX_CLIENTS:
            self._failures.popitem(last=False)


@dataclass(frozen=True, slots=True)
class AdminKey:
    """A token for the admin side, the name of its holder, and what it is good for."""

    name: str
    token: str = field(repr=False)
    scopes: frozenset[str] = frozenset({ALL})

    def may(self, scope: str) -> bool:
        return scope in self.scopes or ALL in self.scopes


class AdminGuard:
    """Says why a request may not use the admin side, or who it is that may."""

    def __init__(
        self, keys: Sequence[AdminKey], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises ``ValueError`` for an empty token."""
        self._book = TokenBook((key.name, key.token) for key in keys)
        self._keys = {key.name: key for key in keys}
        self._limit = FailureLimit(clock)

    def admit(self, fields: Fields, client_host: str, scope: str) -> AdminKey | Problem:
        """The key that the request came with, or the problem to answer with.

        The order matters: a browser sent from elsewhere learns nothing about tokens, and a
        client that guesses is stopped before its guess is looked at.
        """
        if is_cross_site(fields):
            return Problem(403, "cross-site", "The admin side is not for other sites' pages.")
        wait_seconds = self._limit.wait_seconds(client_host)
        if wait_seconds:
            detail = "Too many wrong tokens came from here; wait and try again."
            return Problem(429, "too-many-failures", detail, (("retry-after", str(wait_seconds)),))
        token = bearer_token(fields)
        holder = self._book.holder_of(token) if token is not None else None
        if holder is not None:
            key = self._keys[holder]
            return key if key.may(scope) else _out_of_scope(scope)
        if token is None:
            detail = "Send the admin token as 'Authorization: Bearer <token>'."
        else:
            self._limit.note_failure(client_host)
            detail = "This admin token is not right; has it changed since?"
        return problem_of(NotAuthorized(detail))


def scope_for(method: str, path: bytes) -> str:
    """What a request to the admin side needs: looking needs little, and whatever nobody thought
    of here needs everything."""
    if method == "PURGE" or (method == "POST" and path == b"/-/purge"):
        return PURGE
    return READ if method in {"GET", "HEAD"} else ALL


def _out_of_scope(scope: str) -> Problem:
    """RFC 6750 §3.1."""
    challenge = f'Bearer realm="forebay", error="insufficient_scope", scope="{scope}"'
    detail = f"This token is not good for that; it needs the scope {scope}."
    return Problem(403, "insufficient-scope", detail, (("www-authenticate", challenge),))


def is_cross_site(fields: Fields) -> bool:
    """Whether a browser says that another origin's page caused this request.

    Content of upstreams shares our origin but is sandboxed, so that its Origin is ``null``.
    """
    site = fields.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return True
    origin = fields.get("origin")
    if origin is None:
        return False
    # As browsers write it, or foreign: a library that reads addresses may fail at anybody's words.
    scheme, mark, authority = origin.lower().partition("://")
    own = (fields.get("host") or "").lower()
    return not (mark and scheme in {"http", "https"} and authority == own)
