"""The head of a response as octets, and how the end of its body will be told (RFC 9112 §6)."""

from __future__ import annotations

import enum
import http
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate

_NAME_FORBIDDEN = re.compile(rb'[\x00-\x20\x7f()<>@,;:\\[\]={}"/?\x80-\xff]')
_VALUE_FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Framing(enum.Enum):
    """How a client learns where the body ends."""

    NONE = enum.auto()
    """There is no body, whatever the fields say: HEAD, 1xx, 204, 304 (RFC 9110 §6.4.1)."""
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    CLOSE = enum.auto()
    """HTTP/1.0 knows no chunks: the body ends with the connection."""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A head ready to be written. ``length_bytes`` counts only with ``Framing.LENGTH``."""

    octets: bytes
    framing: Framing
    length_bytes: int
    keep_alive: bool


def status_line(status: int) -> bytes:
    """Any three-digit status, registered or not (RFC 9112 §4)."""
    line = _STATUS_LINES.get(status)
    if line is None:
        if not 100 <= status <= 999:
            raise ValueError(f"{status} is no status code")
        line = b"HTTP/1.1 %d \r\n" % status
    return line


def render_head(
    status: int, fields: Iterable[tuple[bytes, bytes]], *, method: str, version: str,
    keep_alive: bool,
) -> ResponseHead:  # fmt: skip
    """The head of a response to a request of this method and version.

    Transfer-Encoding is ours to decide: the application's is left out. Date is added only
    where the application has none, which is to say that an upstream's stays (RFC 9110 §6.6.1).
    Raises ``ValueError`` for a field that would break the head apart.
    """
    lines = [status_line(status)]
    length: int | None = None
    has_date = says_close = False
    for raw_name, value in fields:
        name = raw_name.lower()
        if not name or _NAME_FORBIDDEN.search(name) or _VALUE_FORBIDDEN.search(value):
            raise ValueError(f"field {name!r} may not be sent as it is")
        if name == b"content-length":
            if not value.isdigit() or (length is not None and length != int(value)):
                raise ValueError("a response has one Content-Length, a number of bytes")
            if length is not None:
                continue
            length = int(value)
        elif name == b"transfer-encoding":
            continue
        elif name == b"connection":
            says_close |= b"close" in [token.strip() for token in value.lower().split(b",")]
        elif name == b"date":
            has_date = True
        lines += (name, b": ", value, b"\r\n")
    if not has_date:
        lines += (b"date: ", _now(), b"\r\n")
    framing = _framing(status, method, version, length)
    keep_alive = keep_alive and not says_close and framing is not Framing.CLOSE
    if framing is Framing.CHUNKED:
        lines.append(b"transfer-encoding: chunked\r\n")
    if not keep_alive and not says_close:
        lines.append(b"connection: close\r\n")
    lines.append(b"\r\n")
    return ResponseHead(b"".join(lines), framing, length or 0, keep_alive)


def render_interim(status: int, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """An interim response, which is all head (RFC 9110 §15.2).

    Raises ``ValueError`` for a field that would break the head apart.
    """
    lines = [status_line(status)]
    for name, value in fields:
        if not name or _NAME_FORBIDDEN.search(name) or _VALUE_FORBIDDEN.search(value):
            raise ValueError(f"field {name!r} may not be sent as it is")
        lines += (name, b": ", value, b"\r\n")
    return b"".join([*lines, b"\r\n"])


def _framing(status: int, method: str, version: str, length: int | None) -> Framing:
    if method == "HEAD" or status < 200 or status in (204, 304):
        return Framing.NONE
    if length is not None:
        return Framing.LENGTH
    return Framing.CHUNKED if version == "1.1" else Framing.CLOSE


def _now() -> bytes:
    """The current IMF-fixdate, made once a second (RFC 9110 §5.6.7)."""
    second = int(time.time())
    if _date_cache[0] != second:
        _date_cache[:] = second, formatdate(second, usegmt=True).encode("ascii")
    value = _date_cache[1]
    assert isinstance(value, bytes)  # noqa: S101  narrows the pair for the type checker
    return value


_date_cache: list[int | bytes] = [0, b""]

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode("ascii"))
    for status in http.HTTPStatus
}
