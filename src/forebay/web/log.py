"""One line per request that a person can read, with nothing secret in it."""

from __future__ import annotations

import logging
import re
import sys
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TextIO

access_logger = logging.getLogger("forebay.access")

FLUSH_SECONDS = 0.1
FLUSH_CHARACTERS = 32 * 1024
"""Lines are written this late or when there are so many, whichever comes first."""

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


def is_written(level: int = logging.INFO) -> bool:
    """Whether a line of this level goes anywhere."""
    return access_logger.isEnabledFor(level)


def write(line: AccessLine, level: int = logging.INFO) -> None:
    """Log the line; the object is on the record as ``access`` for structured handlers."""
    if is_written(level):
        # As Logger.log does, without looking for the caller, which is always this line.
        extra = {"access": line}
        record = access_logger.makeRecord(
            access_logger.name, level, __file__, 0, "%s", (line,), None, "write", extra
        )
        access_logger.handle(record)


class BatchingHandler(logging.Handler):
    """Writes lines to a stream (standard error) in batches: a write for every hit would cost
    more than the hit does. Warnings and worse are written at once, with all before them.

    A killed process loses the lines of the last ``FLUSH_SECONDS``; a stopped one loses none.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream
        self._lines: list[str] = []
        self._size = 0
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line, or write what is kept (called with the handler's lock held)."""
        try:
            line = self.format(record) + "\n"
        except Exception:
            self.handleError(record)
            return
        self._lines.append(line)
        self._size += len(line)
        if record.levelno >= logging.WARNING or self._size >= FLUSH_CHARACTERS:
            self.flush()
        elif self._timer is None:
            self._timer = threading.Timer(FLUSH_SECONDS, self.flush)
            self._timer.daemon = True
            self._timer.start()

    def flush(self) -> None:
        """Write what is kept. A stream that takes nothing loses the lines, as logging has it."""
        with self.lock or threading.RLock():
            timer, self._timer = self._timer, None
            lines, self._lines, self._size = self._lines, [], 0
            if timer is not None:
                timer.cancel()
            if not lines:
                return
            try:
                stream = self._stream or sys.stderr
                stream.write("".join(lines))
                stream.flush()
            except (OSError, ValueError):
                pass

    def close(self) -> None:
        """Write what is kept, and end (called by ``logging.shutdown``)."""
        self.flush()
        super().close()


class TimedFormatter(logging.Formatter):
    """``logging.Formatter`` that spells the time of day once a second."""

    _spelt: tuple[int, str] = (-1, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        second = int(record.created)
        if self._spelt[0] != second:
            self._spelt = second, super().formatTime(record, datefmt or "%Y-%m-%d %H:%M:%S")
        return self._spelt[1]


def masked_name(raw_path: str, raw_query: str | None) -> str:
    """A path for the log: userinfo and everything behind ``?`` left out."""
    name = _USERINFO.sub(r"\1***@", raw_path)
    return name if raw_query is None else name + "?***"


@lru_cache(maxsize=1024)
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
