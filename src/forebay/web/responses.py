"""A ``Reply`` as an ASGI response: windows of files by zero-copy where the server can."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from forebay.errors import ForebayError
from forebay.model import Fields, Window
from forebay.ports import Body, Reply
from forebay.web.asgi import ZERO_COPY, ResponseCutError, Scope, Send
from forebay.web.pieces import read_window
from forebay.web.shares import Share

_INERT_TYPES = frozenset(
    {
        "application/gzip",
        "application/json",
        "application/octet-stream",
        "application/wasm",
        "application/x-bzip2",
        "application/x-gzip",
        "application/x-tar",
        "application/x-xz",
        "application/zip",
        "application/zstd",
        "text/css",
        "text/csv",
        "text/plain",
    }
)
_INERT_KINDS = ("application/vnd.", "application/x-", "audio/", "font/", "image/", "video/")
_ACTIVE_ENDINGS = ("+xml", "html", "/xml", "script", "flash", "director", "+html")


def is_active(content_types: Sequence[str]) -> bool:
    """Whether a browser might run or render a body with these Content-Type lines as a document.

    Whatever is not known to be inert counts, also a type that is missing or unreadable: what a
    browser makes of it is its own affair. Of several lines or members browsers take the last that
    they can read, so that every one of them has to be inert.
    """
    kinds = [
        member.partition(";")[0].strip(" \t").lower()
        for line in content_types
        for member in line.split(",")
    ]
    return not kinds or not all(map(_is_inert, kinds))


def _is_inert(kind: str) -> bool:
    if kind in _INERT_TYPES:
        return True
    return kind.startswith(_INERT_KINDS) and not kind.endswith(_ACTIVE_ENDINGS)


def guarded_fields(reply: Reply) -> Fields:
    """The reply's fields with what keeps cached content off our origin's browsers.

    Every upstream shares one web origin here, the admin side's. The policy is a line of its own
    beside an upstream's: policies add up, the strictest counts. Without a body after the head
    Content-Length is left out where RFC 9110 §8.6 lets us, since servers stumble over it. A 304
    says nothing of type and policy: in a client's cache its fields take the place of those that
    came with the body (RFC 9111 §3.2), ours among them.
    """
    fields = reply.fields.with_field("x-content-type-options", "nosniff")
    if reply.status == 304:
        return fields.without("content-length", "content-type", "content-security-policy")
    if reply.status == 204 or reply.status < 200:
        return fields.without("content-length")
    if is_active(fields.get_all("content-type")):
        fields = fields.with_line("content-security-policy", "sandbox")
    return fields


class _FileSlice:
    """What a zero-copy message names as its file; it also hears how much of it was sent."""

    __slots__ = ("_fileno", "_sender")

    def __init__(self, fileno: int, sender: ReplySender) -> None:
        self._fileno = fileno
        self._sender = sender

    def fileno(self) -> int:
        return self._fileno

    def note_sent(self, count_bytes: int) -> None:
        self._sender.sent_bytes += count_bytes


class ReplySender:
    """Sends one reply, at the pace of ``share`` where it has one; ``started`` and ``sent_bytes``
    tell how far it came, whatever happened."""

    def __init__(self, reply: Reply, scope: Scope, send: Send, share: Share | None = None) -> None:
        self._reply = reply
        self._send = send
        self._share = share if share is not None and share.paces else None
        self._zero_copy = ZERO_COPY in (scope.get("extensions") or {})
        self._head_only = scope["method"] == "HEAD"
        self.started = False
        self.complete = False
        self.sent_bytes = 0

    async def run(self) -> None:
        """Send head and body. The caller closes the reply's body.

        Raises ``ResponseCutError`` when the body cannot be finished, which must reach the
        server; whatever ``send`` raises when the client has left.
        """
        reply = self._reply
        await self._send(
            {
                "type": "http.response.start",
                "status": reply.status,
                "headers": guarded_fields(reply).to_raw(),
            }
        )
        self.started = True
        if reply.body is not None and not self._head_only:
            await self._send_pieces(reply.body)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        self.complete = True

    async def _send_pieces(self, body: Body) -> None:
        try:
            while (piece := await body.next_piece()) is not None:
                if self._share is None:
                    await self._send_piece(piece)
                    continue
                for part in _slices(piece, self._share.slice_bytes):
                    await self._share.pay(_size_bytes(part))
                    await self._send_piece(part)
        except ForebayError as error:
            raise ResponseCutError(error.detail) from error
        length = self._reply.length_bytes
        if length is not None and self.sent_bytes != length:
            raise ResponseCutError(f"the body had {self.sent_bytes} of {length} bytes")

    async def _send_piece(self, piece: Window | bytes) -> None:
        if not isinstance(piece, Window):
            await self._send_bytes(piece)
        elif self._zero_copy:
            await self._send_window(piece)
        else:
            async for chunk in read_window(piece):
                await self._send_bytes(chunk)

    async def _send_bytes(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self.sent_bytes += len(data)

    async def _send_window(self, window: Window) -> None:
        await self._send(
            {
                "type": ZERO_COPY,
                "file": _FileSlice(window.fileno, self),
                "offset": window.start,
                "count": window.stop - window.start,
                "more_body": True,
            }
        )


def _size_bytes(piece: Window | bytes) -> int:
    return piece.stop - piece.start if isinstance(piece, Window) else len(piece)


def _slices(piece: Window | bytes, slice_bytes: int) -> Iterator[Window | bytes]:
    """The piece in parts of at most this size."""
    for start in range(0, _size_bytes(piece), slice_bytes):
        if isinstance(piece, Window):
            begin = piece.start + start
            yield Window(piece.fileno, begin, min(begin + slice_bytes, piece.stop))
        else:
            yield piece[start : start + slice_bytes]
