"""The upstream client: httpx's interface, our connections beneath. The only importer of httpx.

``HttpxUpstream`` asks, follows redirects and checks each hop. ``GuardedTransport`` (``transport``)
is what its one shared ``httpx.AsyncClient`` sends through: our connections. Any other
``httpx.AsyncBaseTransport`` (respx's, in tests) may stand in its place; length and errors are
checked above it, whatever it is.

Foreign exceptions are translated here and nowhere else: ``translated`` is the table.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import cast

import httpcore
import httpx

from forebay import __version__
from forebay.errors import (
    ForebayError,
    InvalidTarget,
    Overloaded,
    UpstreamMisbehaved,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from forebay.model import Ask, Fields, Head, Octets
from forebay.rules import urls
from forebay.rules.urls import Url
from forebay.upstream import redirects
from forebay.upstream.dial import Dialer
from forebay.upstream.framing import Framing, framing_of
from forebay.upstream.guard import Guard
from forebay.upstream.incoming import ReceivedHead
from forebay.upstream.pool import Pool
from forebay.upstream.transport import GuardedTransport, Question

USER_AGENT = f"forebay/{__version__}"

OUR_FIELDS = (
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
)
"""Fields of one connection: never taken from an ``Ask`` (RFC 9110 §7.6.1)."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def translated(error: BaseException) -> ForebayError | None:
    """Our error for a foreign one; None for what is no failure of an upstream.

    The message never repeats the foreign one, which may hold addresses.
    """
    if isinstance(error, ForebayError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return translated(error.exceptions[0])
    match error:
        case httpx.PoolTimeout() | httpcore.PoolTimeout():
            return Overloaded("All connections to upstreams are in use; try again soon.")
        case httpx.TimeoutException() | httpcore.TimeoutException() | TimeoutError():
            return UpstreamTimeout("The upstream was silent for too long.")
        case httpx.UnsupportedProtocol() | httpcore.UnsupportedProtocol() | httpx.InvalidURL():
            return InvalidTarget("The address is not one that can be fetched.")
        case httpx.NetworkError() | httpx.ProxyError() | httpcore.NetworkError():
            return UpstreamUnreachable("The connection to the upstream failed.")
        case httpcore.ProxyError() | httpcore.ConnectionNotAvailable() | OSError():
            return UpstreamUnreachable("The connection to the upstream failed.")
        case httpx.HTTPError() | httpx.StreamError() | httpx.CookieConflict():
            return UpstreamMisbehaved("The upstream's answer breaks HTTP.")
        case httpcore.ProtocolError() | ValueError() | RuntimeError():
            return UpstreamMisbehaved("The upstream's answer breaks HTTP.")
        case _:
            return None


class HttpxUpstream:
    """``ports.Upstream`` over one shared ``httpx.AsyncClient``.

    ``stall_timeout_seconds`` bounds the wait for a head and for each piece of a body, and is the
    time over which a body must come at ``min_rate_bytes`` a second at least.
    ``via`` is the name that Via carries (RFC 9110 §7.6.3). Close with ``aclose``.
    """

    def __init__(
        self,
        *,
        guard: Guard,
        connect_timeout_seconds: float = 10.0,
        stall_timeout_seconds: float = 30.0,
        min_rate_bytes: float = 0.0,
        max_connections: int = 256,
        via: str = "forebay",
        tls: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._guard = guard
        self._via = f"1.1 {via}"
        if transport is None:
            dialer = Dialer(guard, connect_timeout_seconds=connect_timeout_seconds, tls=tls)
            pool = Pool(max_connections=max_connections, wait_seconds=connect_timeout_seconds)
            transport = GuardedTransport(pool, dialer, stall_timeout_seconds, min_rate_bytes)
        # The client keeps every cookie it is shown; ours are for nobody, so none may be.
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        self._client = httpx.AsyncClient(
            transport=transport, trust_env=False, follow_redirects=False, cookies=no_cookies
        )

    async def aclose(self) -> None:
        """Close every connection; responses that are open break."""
        await self._client.aclose()

    @asynccontextmanager
    async def open(self, ask: Ask) -> AsyncIterator[Response]:
        """See ``ports.Upstream.open``."""
        response = await self._follow(ask)
        try:
            yield response
        finally:
            await response.aclose()

    async def _follow(self, ask: Ask) -> Response:
        """The final response of a chain; what came before it is closed."""
        url, fields, unguarded = urls.parse(ask.url), self._fields(ask), ask.unguarded
        passed: list[Head] = []
        while True:
            # Asked here as well as in the dialler, for requests that need no new connection.
            self._guard.allow(url.host, url.port, unguarded=unguarded)
            response = await self._send(ask, url, fields, unguarded=unguarded)
            head = _head_of(response)
            if not (ask.follow_redirects and redirects.is_followed(ask.method, head)):
                break
            await response.aclose()
            if len(passed) == redirects.MAX_REDIRECTS:
                raise UpstreamMisbehaved("The upstream redirects in a circle, or too often.")
            passed.append(head)
            target = redirects.next_url(url, head)
            fields = redirects.fields_for(fields, url, target)
            unguarded = unguarded and target.origin == url.origin
            url = target
        try:
            framing = _framing(response, ask.method, head)
        except UpstreamMisbehaved:
            await response.aclose()
            raise
        return Response(response, head, str(url), tuple(passed), framing)

    async def _send(self, ask: Ask, url: Url, fields: Fields, *, unguarded: bool) -> httpx.Response:
        body = None if ask.body is None else _RequestBody(ask.body)
        try:
            request = httpx.Request(
                ask.method,
                str(url),
                headers=[(b"host", url.authority.encode()), *fields.to_raw()],
                stream=body or httpx.ByteStream(b""),
                extensions={"forebay": Question(ask, url, unguarded)},
            )
            return await self._client.send(request, stream=True)
        except Exception as error:
            raise (translated(error) or error) from None

    def _fields(self, ask: Ask) -> Fields:
        """The request's fields: those of the ask, less what belongs to a connection, and ours."""
        if not _TOKEN.fullmatch(ask.method):
            raise InvalidTarget("The request's method is not a token.")
        options = re.split(r"[ \t,]+", ask.fields.combined("connection") or "")
        fields = ask.fields.without(*OUR_FIELDS, *filter(None, options))
        for name, value in fields:
            if not (_TOKEN.fullmatch(name) and _VALUE.fullmatch(value)):
                raise InvalidTarget(f"A request field cannot be sent on: {name[:40]!r}.")
        if "user-agent" not in fields:
            fields = fields.with_line("user-agent", USER_AGENT)
        if "accept-encoding" not in fields:
            fields = fields.with_line("accept-encoding", "identity")
        passed = fields.combined("via")
        fields = fields.with_field("via", f"{passed}, {self._via}" if passed else self._via)
        if ask.body is None:
            needs_length = ask.method in {"POST", "PUT", "PATCH"}
            return fields.with_line("content-length", "0") if needs_length else fields
        if ask.body_length_bytes is None:
            return fields.with_line("transfer-encoding", "chunked")
        return fields.with_line("content-length", str(ask.body_length_bytes))


class Response:
    """``ports.UpstreamResponse``; ``interim`` has the heads of 1xx answers that came before."""

    def __init__(
        self,
        response: httpx.Response,
        head: Head,
        url: str,
        passed: tuple[Head, ...],
        framing: Framing,
    ) -> None:
        self._response = response
        self._framing = framing
        self.head = head
        self.url = url
        self.redirects = passed
        self.interim: tuple[Head, ...] = response.extensions.get("interim", ())

    @property
    def framed(self) -> bool:
        return self._framing.proves_end

    @property
    def unread_bytes(self) -> int:
        """See ``ports.UpstreamResponse.unread_bytes``; other transports than ours cannot tell."""
        unread: Callable[[], int] | None = self._response.extensions.get("unread_bytes")
        return unread() if unread is not None else 0

    async def is_here(self, within_seconds: float) -> bool:
        """See ``ports.UpstreamResponse.is_here``; other transports than ours cannot tell."""
        wait: Callable[[float], Awaitable[bool]] | None = self._response.extensions.get("is_here")
        return wait is not None and await wait(within_seconds)

    async def chunks(self) -> AsyncIterator[Octets]:
        """See ``ports.UpstreamResponse.chunks``."""
        left = self._framing.length_bytes
        # Not aiter_raw(), which refuses a response that its transport made of ready content.
        pieces: AsyncIterator[Octets] = aiter(cast("httpx.AsyncByteStream", self._response.stream))
        try:
            async with aclosing(cast("AsyncGenerator[bytes]", pieces)):
                async for piece in pieces:
                    if left is not None:
                        left -= len(piece)
                        if left < 0 and not self._framing.bodiless:
                            raise UpstreamMisbehaved("The upstream sent more than it announced.")
                    if piece:
                        yield piece
        except Exception as error:
            raise (translated(error) or error) from None
        if left is not None and left > 0:
            raise UpstreamMisbehaved("The upstream closed the connection before the body's end.")
        await self.aclose()  # so that the connection is free before the block is left

    async def aclose(self) -> None:
        """Release the connection. Idempotent; with our transport it awaits nothing."""
        await self._response.aclose()


class _RequestBody(httpx.AsyncByteStream):
    """A request's body for transports other than ours."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body


def _framing(response: httpx.Response, method: str, head: Head) -> Framing:
    """Where the body ends. Raises ``UpstreamMisbehaved``."""
    received = _received(response)
    return framing_of(method, head.status, head.fields) if received is None else received.framing


def _received(response: httpx.Response) -> ReceivedHead | None:
    """What our own transport has read already; other transports have none."""
    received: ReceivedHead | None = response.extensions.get("received")
    return received


def _head_of(response: httpx.Response) -> Head:
    received = _received(response)
    if received is not None:
        return received.head
    fields = Fields.from_raw(response.headers.raw)
    return Head(response.status_code, fields, response.reason_phrase)
