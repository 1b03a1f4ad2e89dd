"""What a request head must look like before anything of ours sees it (RFC 9112 §2.2, §3, §6).

llhttp has refused bare CR and LF, blanks before colons, folded lines, control bytes and bad
lengths when these checks run; what it lets pass and we do not stands here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

RawFields: TypeAlias = Sequence[tuple[bytes, bytes]]

_TARGET_OCTETS = re.compile(rb"[\x21-\x7e]+")
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://")
# Health, metrics, and the admin side less its one download.
_FOR_OPERATORS = re.compile(rb"/(?:-/(?!fetch(?:\?|$))|(?:healthz|livez|readyz|metrics)(?:\?|$))")
# uri-host [ ":" port ] with every octet that RFC 3986 §3.2.2 allows in a reg-name or literal.
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is answered by the door itself, after which the connection closes."""

    status: int
    detail: str
    fields: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RawTarget:
    """A request target taken apart, nothing decoded.

    ``query`` is None where there is no ``?``; ``scheme`` and ``authority`` are empty unless
    the target has absolute-form (RFC 9112 §3.2.2), and ``path`` then begins with ``/``.
    """

    path: bytes
    query: bytes | None
    scheme: bytes = b""
    authority: bytes = b""

    @property
    def absolute(self) -> bool:
        return bool(self.scheme)


def split_target(raw: bytes) -> RawTarget:
    """The parts of a request target in origin-form, absolute-form or asterisk-form."""
    scheme = authority = b""
    if not raw.startswith(b"/") and _ABSOLUTE.match(raw):
        scheme, rest = raw.split(b"://", 1)
        end = min((i for i in (rest.find(b"/"), rest.find(b"?")) if i >= 0), default=len(rest))
        authority, raw = rest[:end], rest[end:]
        if not raw.startswith(b"/"):
            raw = b"/" + raw
    path, mark, query = raw.partition(b"?")
    return RawTarget(path, query if mark else None, scheme.lower(), authority)


def is_for_operators(target: bytes) -> bool:
    """Whether this is no download: what must still be answered when work is refused."""
    return _FOR_OPERATORS.match(target) is not None


def check_head(version: str, method: str, target: bytes, fields: RawFields) -> Refusal | None:
    """Why this head is refused, or None. ``version`` is like ``"1.1"``; names are lower-case."""
    if version not in ("1.0", "1.1"):
        if version == "0.9":
            return Refusal(400, "HTTP/0.9 is not spoken here; send an HTTP/1.1 request.")
        return Refusal(505, "Only HTTP/1.0 and HTTP/1.1 are spoken on this port.")
    if method == "CONNECT":
        return Refusal(
            405,
            "Tunnels are not offered, since nothing in them can be cached; ask for "
            "/https://host/path at this server, or let the operator list hosts in tunnel.hosts.",
        )
    return (
        _check_target(target)
        or _check_host(version, fields)
        or _check_body_framing(version, fields)
    )


def _check_target(target: bytes) -> Refusal | None:
    if not _TARGET_OCTETS.fullmatch(target):
        return Refusal(400, "The request target holds an octet that must be percent-encoded.")
    if b"#" in target:
        return Refusal(400, "A request target has no fragment; percent-encode '#' as %23.")
    return None


def _check_host(version: str, fields: RawFields) -> Refusal | None:
    """Exactly one Host in HTTP/1.1, at most one in HTTP/1.0 (RFC 9112 §3.2)."""
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        return Refusal(400, "A request has exactly one Host field.")
    if hosts and not _HOST.fullmatch(hosts[0]):
        return Refusal(400, "The Host field is not a host name or address with an optional port.")
    return None


def _check_body_framing(version: str, fields: RawFields) -> Refusal | None:
    """One way only to tell where the body ends (RFC 9112 §6.1, §6.3)."""
    codings = [value.strip().lower() for name, value in fields if name == b"transfer-encoding"]
    lengths = [value.strip() for name, value in fields if name == b"content-length"]
    if codings and lengths:
        return Refusal(400, "Content-Length and Transfer-Encoding may not come together.")
    if codings and (codings != [b"chunked"] or version == "1.0"):
        return Refusal(400, "The only transfer coding understood here is chunked, in HTTP/1.1.")
    if len(lengths) > 1 or (lengths and not lengths[0].isdigit()):
        return Refusal(400, "Content-Length must be one number of bytes.")
    return None
