"""One response read from octets as they come: head by llhttp, body by count. No I/O.

Why not h11 with httpcore: it keeps octets that follow a body and gives them out as the next
response; it takes bare line feeds and a length beside chunks; it costs five to nine times as
much per byte. Here the head is cut out of the stream and parsed strictly by llhttp
(``httptools``), a body with a length is only counted, never copied, and what follows the end
of a message is seen as surplus, whatever it looks like.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import httptools

from forebay.errors import UpstreamMisbehaved
from forebay.model import Fields, Head, Octets
from forebay.upstream.framing import Framing, framing_of

MAX_HEAD_BYTES = 65_536
"""Bound of a response head. curl takes 300 KiB in all, nginx 4 to 8 KiB; signed cookies and
policies of real sites stay below 32 KiB."""

MAX_FIELDS = 256
MAX_INTERIM = 16
"""Bound of interim responses before the final one (RFC 9110 §15.2)."""

JOIN_BELOW_BYTES = 65_536
"""Pieces smaller than this are joined with what lies behind them, so that a body in tiny
chunks does not cost a write for each."""

_BROKEN_LINE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\x00")


@dataclass(frozen=True, slots=True)
class ReceivedHead:
    """A final response's head, how its body ends, and whether the connection may live on."""

    head: Head
    framing: Framing
    keep_alive: bool
    interim: tuple[Head, ...]


class Incoming:
    """The answer to one request. Feed it with octets; look at its attributes.

    ``on_interim`` is called for each interim response as it comes.

    After any ``UpstreamMisbehaved`` it must not be fed again, and the connection not be used.
    """

    def __init__(self, method: str, on_interim: Callable[[Head], None] | None = None) -> None:
        self.received: ReceivedHead | None = None
        self.pieces: deque[Octets] = deque()
        self.queued_bytes = 0
        self.complete = False
        """Whether the end of the message has come and is proved."""
        self.surplus = False
        """Whether octets came behind the end of the message."""
        self.started = False
        """Whether any octet has come."""
        self._method = method
        self._buffer = bytearray()
        self._scanned = 0
        self._left = 0
        self._parser: httptools.HttpResponseParser | None = None
        self._status_line = b""
        self._lines: list[tuple[str, str]] = []
        self._interim: list[Head] = []
        self._on_interim = on_interim
        self._head_done = False
        self._bodiless_bytes = 0
        """How much has come since the last byte of the body."""

    def feed(self, data: Octets) -> None:
        """Take the next octets. Raises ``UpstreamMisbehaved``."""
        self.started = True
        if self.complete:
            self.surplus = self.surplus or bool(data)
        elif self.received is None:
            self._feed_head(data)
        elif self._parser is not None:
            self._feed_chunks(data, self._parser)
        else:
            self._take(data, self.received.framing.length_bytes)

    def end(self) -> None:
        """The connection has ended cleanly. Raises ``UpstreamMisbehaved`` if that is too early."""
        if self.complete:
            return
        if self.received is None:
            raise UpstreamMisbehaved("The upstream closed the connection within its answer's head.")
        if self.received.framing.proves_end:
            raise UpstreamMisbehaved("The upstream closed the connection before the body's end.")
        self.complete = True

    def next_piece(self) -> Octets:
        """Take the oldest bytes of the body that are here; ``b""`` if there are none."""
        if not self.pieces:
            return b""
        piece = self.pieces.popleft()
        if len(piece) < JOIN_BELOW_BYTES and self.pieces:
            parts = [piece]
            size = len(piece)
            while self.pieces and size + len(self.pieces[0]) <= 2 * JOIN_BELOW_BYTES:
                parts.append(self.pieces.popleft())
                size += len(parts[-1])
            piece = b"".join(parts)
        self.queued_bytes -= len(piece)
        return piece

    # head

    def _feed_head(self, data: Octets) -> None:
        self._buffer += data
        while True:
            end = self._buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
            seen, self._scanned = self._scanned, len(self._buffer)
            size = self._scanned if end < 0 else end + 4
            if size > MAX_HEAD_BYTES:
                raise UpstreamMisbehaved("The upstream's answer has too long a head.")
            if end < 0:
                self._check_lines(seen)
                return
            self._check_lines(seen, size)
            octets, rest = bytes(self._buffer[:size]), bytes(self._buffer[size:])
            self._buffer.clear()
            if self._read_head(octets):
                if rest:
                    self.feed(rest)
                return
            self._buffer += rest
            self._scanned = 0

    def _check_lines(self, start: int, stop: int | None = None) -> None:
        """Refuse a bare CR or LF, looking at what is new only: heads may come in drips."""
        if stop is None:
            stop = len(self._buffer) - self._buffer.endswith(b"\r")
        if _BROKEN_LINE.search(self._buffer, max(0, start - 1), stop):
            raise UpstreamMisbehaved("The upstream's answer has a broken line in its head.")

    def _read_head(self, octets: bytes) -> bool:
        """Whether this head is that of the final response."""
        self._lines, self._status_line, self._head_done = [], b"", False
        parser = httptools.HttpResponseParser(self)
        try:
            parser.feed_data(octets)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            raise UpstreamMisbehaved("The upstream's answer has a head that breaks HTTP.") from None
        status, version = parser.get_status_code(), parser.get_http_version()
        if not self._ended_head() or version not in {"1.0", "1.1"} or status < 100:
            raise UpstreamMisbehaved("The upstream's answer has a head that breaks HTTP.")
        if len(self._lines) > MAX_FIELDS:
            raise UpstreamMisbehaved(f"The upstream's answer has more than {MAX_FIELDS} fields.")
        head = Head(status, Fields(self._lines), self._status_line.decode("latin-1"))
        if status < 200:
            self._note_interim(head)
            return False
        framing = framing_of(self._method, status, head.fields)
        if framing.chunked and version == "1.0":
            raise UpstreamMisbehaved("The upstream sent chunks in HTTP/1.0, which has none.")
        self.received = ReceivedHead(
            head, framing, _keeps_alive(version, head.fields), tuple(self._interim)
        )
        self._parser = parser if framing.chunked else None
        self._left = framing.length_bytes or 0
        self.complete = framing.length_bytes == 0
        return True

    def _ended_head(self) -> bool:
        return self._head_done

    def _note_interim(self, head: Head) -> None:
        if len(self._interim) == MAX_INTERIM:
            raise UpstreamMisbehaved("The upstream sent too many interim answers.")
        if head.status == 101:
            raise UpstreamMisbehaved("The upstream switched protocols, which nobody asked for.")
        self._interim.append(head)
        if self._on_interim is not None:
            self._on_interim(head)

    # body

    def _take(self, data: Octets, length_bytes: int | None) -> None:
        if length_bytes is not None:
            if len(data) > self._left:
                self.surplus = True
                data = data[: self._left]
            self._left -= len(data)
        self.on_body(data)
        self.complete = length_bytes is not None and self._left == 0

    def _feed_chunks(self, data: Octets, parser: httptools.HttpResponseParser) -> None:
        # The parser gathers trailers, which are no use to us and have no bound of their own.
        self._bodiless_bytes += len(data)
        if self._bodiless_bytes > len(data) + MAX_HEAD_BYTES:
            raise UpstreamMisbehaved(
                "The upstream sends chunks without bytes, or endless trailers."
            )
        try:
            parser.feed_data(data)
        except httptools.HttpParserError:
            if not self.complete:
                raise UpstreamMisbehaved("The upstream's chunks break HTTP.") from None
            self.surplus = True

    # called by the parser

    def on_message_begin(self) -> None:
        """Only what follows a complete message begins another in one parser."""
        self.surplus = self.surplus or self.complete

    def on_status(self, text: bytes) -> None:
        self._status_line += text

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done:  # afterwards they are trailers, which go nowhere
            self._lines.append((name.decode("latin-1"), value.decode("latin-1").strip(" \t")))

    def on_headers_complete(self) -> None:
        self._head_done = True

    def on_body(self, data: Octets) -> None:
        # The parser goes on behind the last chunk: what another answer brings there is nobody's.
        if data and not self.complete:
            self._bodiless_bytes = 0
            self.pieces.append(data)
            self.queued_bytes += len(data)

    def on_message_complete(self) -> None:
        self.complete = self.received is not None


def _keeps_alive(version: str, fields: Fields) -> bool:
    """Whether the connection outlives the response (RFC 9112 §9.3)."""
    options = {o.strip().lower() for o in (fields.combined("connection") or "").split(",")}
    return "close" not in options and (version == "1.1" or "keep-alive" in options)
