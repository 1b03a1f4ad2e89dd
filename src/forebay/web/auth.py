"""Who may use the admin side: a Bearer token, no browsers from elsewhere, few wrong guesses."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

from forebay.errors import NotAuthorized
from forebay.model import Fields
from forebay.web.problems import Problem, problem_of

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
        count, since = self._failures.get(_network_of(client_host), (0, 0.0))
        left = since + WINDOW_SECONDS - self._clock()
        return int(left) + 1 if count >= MAX_FAILURES and left > 0 else 0

    def note_failure(self, client_host: str) -> None:
        """A wrong token came from here."""
        network, now = _network_of(client_host), self._clock()
        count, since = self._failures.pop(network, (0, now))
        if now - since >= WINDOW_SECONDS:
            count, since = 0, now
        self._failures[network] = (count + 1, since)
        if len(self._failures) > _MAX_CLIENTS:
            self._failures.popitem(last=False)


class AdminGuard:
    """Says why a request may not use the admin side, or that it may."""

    def __init__(self, token: str, clock: Callable[[], float] = time.monotonic) -> None:
        if not token:
            raise ValueError("an empty admin token would let everyone in")
        self._digest = _digest(token)
        self._limit = FailureLimit(clock)

    def refuse(self, fields: Fields, client_host: str) -> Problem | None:
        """The problem to answer with, or None for a request with the token.

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
        if token is not None and hmac.compare_digest(_digest(token), self._digest):
            return None
        if token is not None:
            self._limit.note_failure(client_host)
        return problem_of(NotAuthorized("Send the admin token as 'Authorization: Bearer <token>'."))


def bearer_token(fields: Fields) -> str | None:
    """The token of the one Authorization field, if its scheme is Bearer (RFC 6750 §2.1)."""
    values = fields.get_all("authorization")
    if len(values) != 1:
        return None
    scheme, _, token = values[0].partition(" ")
    return token.strip(" ") if scheme.lower() == "bearer" else None


def is_cross_site(fields: Fields) -> bool:
    """Whether a browser says that another origin's page caused this request.

    Content of upstreams shares our origin but is sandboxed, so that its Origin is ``null``.
    """
    site = fields.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return True
    origin = fields.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != (
        (fields.get("host") or "").lower()
    )


def _digest(token: str) -> bytes:
    """Equal lengths for the comparison, whatever was sent."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _network_of(client_host: str) -> str:
    try:
        address = ipaddress.ip_address(client_host.partition("%")[0])
    except ValueError:
        return client_host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
