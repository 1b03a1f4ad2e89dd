"""One line per request that a person can read, with nothing secret in it."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

access_logger = logging.getLogger("forebay.access")

_UNSAFE = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029]")
_USERINFO = re.compile(r"(?<=:/)(/?)[^/?#]*@")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(slots=True)
class AccessLine:
    """What is known of one exchange when it is over; the time is the log record's own.

    ``name`` is the target's name from the reply, in which the service has masked secrets, or
    ``masked_name`` of the path where there is no reply. ``cache`` is the outcome word.
    """

    client: str
    method: str
    name: str
    status: int
    sent_bytes: int
    duration_seconds: float
    cache: str = "-"
    note: str = ""

    def __str__(self) -> str:
        line = (
            f"{self.client or '-'} {self.method} {printable(self.name)} {self.status} "
            f"{human_size(self.sent_bytes)} in {human_duration(self.duration_seconds)} {self.cache}"
        )
        return f"{line} ({printable(self.note, blanks=True)})" if self.note else line


def write(line: AccessLine, level: int = logging.INFO) -> None:
    """Log the line; the object is on the record as ``access`` for structured handlers."""
    if access_logger.isEnabledFor(level):
        access_logger.log(level, "%s", line, extra={"access": line})


def masked_name(raw_path: str, raw_query: str | None) -> str:
    """A path for the log: userinfo and everything behind ``?`` left out."""
    name = _USERINFO.sub(r"\1***@", raw_path)
    return name if raw_query is None else name + "?***"


def printable(text: str, *, blanks: bool = False) -> str:
    """Text that cannot break a log line apart: controls and blanks percent-encoded."""
    return _UNSAFE.sub(
        lambda m: " " if blanks and m[0] == " " else "".join(f"%{b:02X}" for b in m[0].encode()),
        text,
    )


def human_size(size_bytes: int) -> str:
    """``1536`` as ``1.5KiB``."""
    size = float(size_bytes)
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{size_bytes}B" if unit == "B" else f"{size:.1f}{unit}"


def human_duration(seconds: float) -> str:
    """``0.0123`` as ``12ms``."""
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.1f}s"
