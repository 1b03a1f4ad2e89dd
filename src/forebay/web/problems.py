"""Errors as ``application/problem+json`` (RFC 9457), and the one table of their statuses.

Nothing that a client does is answered with 500. A fault of ours that nobody foresaw is logged
with its traceback and told as 503: the service cannot answer now, another try may go well, and
clients and servers in front know what to do with it. The connection is closed after it.
"""

from __future__ import annotations

import http
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from forebay import errors


class RequestCut(errors.RequestError):
    """The request body ended before its declared end."""


class RequestStalled(errors.RequestError):
    """The client went silent in the middle of the request body."""


class UnexpectedBody(errors.RequestError):
    """A body came with a method that has none; servers disagree on where such a request ends."""


STATUS_OF: Mapping[type[errors.ForebayError], int] = {
    errors.ForebayError: 503,
    errors.RequestError: 400,
    errors.InvalidTarget: 400,
    errors.NotAuthorized: 401,
    errors.ClientUnknown: 401,
    errors.ProxyClientUnknown: 407,
    errors.ClientForbidden: 403,
    errors.CredentialsRefused: 403,
    errors.TargetForbidden: 403,
    errors.ObjectTooLarge: 403,
    errors.UnknownMount: 404,
    errors.LoopDetected: 508,
    errors.NotStored: 504,
    RequestCut: 400,
    RequestStalled: 408,
    UnexpectedBody: 400,
    errors.UpstreamError: 502,
    errors.UpstreamUnreachable: 502,
    errors.UpstreamMisbehaved: 502,
    errors.UpstreamChanged: 502,
    errors.UpstreamTimeout: 504,
    errors.UpstreamTooSlow: 504,
    # A store error should have become a pass-through long before it comes here.
    errors.StoreError: 503,
    errors.StoreFull: 503,
    errors.ObjectOutgrown: 503,
    errors.EntryDamaged: 503,
    errors.Overloaded: 503,
    errors.TooManyRequests: 429,
}

_BASIC = 'Basic realm="forebay", charset="UTF-8"'
"""The challenge to downloaders. Bearer tokens are taken as well, but not asked for: container
clients would take the realm of a Bearer challenge for the address of a token server."""

INTERNAL_FAULT = "The service met a fault of its own; it is in the log under this instance."


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem on its way to a client.

    ``kind`` ends the ``type`` URI and never changes for one sort of problem; ``instance`` is a
    fresh name for this occurrence, under which the log has it: it says nothing about the request.
    """

    status: int
    kind: str
    detail: str
    fields: tuple[tuple[str, str], ...] = ()
    instance: str = field(default_factory=lambda: uuid.uuid4().urn)

    def body(self) -> bytes:
        """The JSON document (RFC 9457 §3.1)."""
        document = {
            "type": f"urn:forebay:problem:{self.kind}",
            "title": title_of(self.status),
            "status": self.status,
            "detail": self.detail,
            "instance": self.instance,
        }
        return json.dumps(document, ensure_ascii=False).encode() + b"\n"

    def raw_fields(self, length_bytes: int) -> list[tuple[bytes, bytes]]:
        """Header fields for ASGI. A problem is never stored by caches before us."""
        own = (
            ("content-type", "application/problem+json"),
            ("content-length", str(length_bytes)),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        )
        return [(n.encode("latin-1"), v.encode("latin-1")) for n, v in (*own, *self.fields)]


def title_of(status: int) -> str:
    """The registered phrase of a status code (RFC 9110 §15), or a plain word for others."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def problem_of(error: errors.ForebayError) -> Problem:
    """The problem that tells a client of this error."""
    kind = next(cls for cls in type(error).__mro__ if cls in STATUS_OF)
    fields: tuple[tuple[str, str], ...] = ()
    if isinstance(error, errors.Overloaded):
        fields = (("retry-after", str(error.retry_after_seconds)),)
    elif isinstance(error, UnexpectedBody):
        fields = (("connection", "close"),)
    elif isinstance(error, errors.ProxyClientUnknown):
        fields = (("proxy-authenticate", _BASIC),)
    elif isinstance(error, errors.ClientUnknown):
        fields = (("www-authenticate", _BASIC),)
    elif isinstance(error, errors.NotAuthorized):
        fields = (("www-authenticate", 'Bearer realm="forebay"'),)
    return Problem(STATUS_OF[kind], _words(kind.__name__), error.detail, fields)


def internal_fault() -> Problem:
    """The problem for an exception that is not ours; the caller logs it under ``instance``."""
    return Problem(503, "internal-fault", INTERNAL_FAULT, (("connection", "close"),))


def _words(name: str) -> str:
    """``InvalidTarget`` as ``invalid-target``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
