"""A ``Reply`` as an ASGI response: windows of files by zero-copy where the server can."""

from __future__ import annotations

from forebay.errors import ForebayError
from forebay.model import Fields, Window
from forebay.ports import Body, Reply
from forebay.web.asgi import ZERO_COPY, ResponseCutError, Scope, Send
from forebay.web.pieces import read_window

_ACTIVE_TYPES = frozenset(
    {
        "application/pdf",
        "application/xml",
        "multipart/x-mixed-replace",
        "text/html",
        "text/xml",
        "text/xsl",
    }
)


def is_active(content_type: str | None) -> bool:
    """Whether a browser would run or render this as a document of our origin.

    A missing or unreadable type counts as active: what a browser makes of it is its own affair.
    """
    kind = (content_type or "").partition(";")[0].strip().lower()
    return kind in _ACTIVE_TYPES or kind.endswith("+xml") or "/" not in kind


def guarded_fields(reply: Reply) -> Fields:
    """The reply's fields with what keeps cached content off our origin's browsers.

    Every upstream shares one web origin here, the admin side's. The policy is a line of its own
    beside an upstream's: policies add up, the strictest counts. Without a body after the head
    Content-Length is left out where RFC 9110 §8.6 lets us, since servers stumble over it.
    """
    fields = reply.fields.with_field("x-content-type-options", "nosniff")
    if reply.status in (204, 304) or reply.status < 200:
        return fields.without("content-length")
    if is_active(fields.get("content-type")):
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
    """Sends one reply; ``started`` and ``sent_bytes`` tell how far it came, whatever happened."""

    def __init__(self, reply: Reply, scope: Scope, send: Send) -> None:
        self._reply = reply
        self._send = send
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
                if not isinstance(piece, Window):
                    await self._send_bytes(piece)
                elif self._zero_copy:
                    await self._send_window(piece)
                else:
                    async for chunk in read_window(piece):
                        await self._send_bytes(chunk)
        except ForebayError as error:
            raise ResponseCutError(error.detail) from error
        length = self._reply.length_bytes
        if length is not None and self.sent_bytes != length:
            raise ResponseCutError(f"the body had {self.sent_bytes} of {length} bytes")

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
