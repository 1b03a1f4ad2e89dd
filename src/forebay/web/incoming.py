"""A request as it comes in over ASGI: its values, its body, and word of the client's leaving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from forebay.model import Fields, Head, Request
from forebay.rules.patience import Patience
from forebay.web.asgi import INTERIM, RAW_TARGET, ClientLeftError, Receive, Scope
from forebay.web.heads import RawTarget, Refusal, check_head, split_target
from forebay.web.problems import RequestCut, RequestStalled

WATCH_AFTER_SECONDS = 0.02
"""Only a response that takes longer than this is worth a task that listens for the client's
leaving; most hits are over before."""


def target_of(scope: Scope) -> RawTarget:
    """The request target, from the octets and nothing else.

    Servers differ: our protocol keeps the whole target, h11 puts an absolute-form target into
    ``raw_path``, httptools loses its scheme and authority.
    """
    raw: bytes | None = scope.get(RAW_TARGET)
    if raw is None:
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8")
        query: bytes = scope.get("query_string", b"")
        raw = raw_path.partition(b"?")[0] + (b"?" + query if query else b"")
    return split_target(raw)


def request_of(scope: Scope, target: RawTarget) -> Request:
    """The request as the service understands it; for absolute-form the Host field does not
    count (RFC 9112 §3.2.2)."""
    fields = Fields.from_raw(scope["headers"])
    client, server = scope.get("client"), scope.get("server")
    authority = target.authority.decode("latin-1") if target.absolute else fields.get("host")
    return Request(
        method=scope["method"],
        raw_path=target.path.decode("latin-1"),
        raw_query=None if target.query is None else target.query.decode("latin-1"),
        fields=fields,
        scheme=target.scheme.decode("latin-1") if target.absolute else scope.get("scheme", "http"),
        authority=authority or "",
        client_host=client[0] if client else "",
        absolute=target.absolute,
        port=server[1] if server else None,
    )


def check_scope(scope: Scope) -> Refusal | None:
    """What our protocol refuses before it makes a scope, for servers that let it pass."""
    target = target_of(scope)
    octets = target.path + (b"?" + target.query if target.query is not None else b"")
    return check_head(scope["http_version"], scope["method"], octets, scope["headers"])


def interim_sender(scope: Scope) -> Callable[[Head], None] | None:
    """What sends interim responses to this client; None where it or the server takes none."""
    sender: Callable[[Head], None] | None = (scope.get("extensions") or {}).get(INTERIM)
    return sender


def body_length(fields: Fields) -> int | None:
    """Bytes of the request body, 0 where there is none, None where it comes in chunks."""
    if fields.get("transfer-encoding") is not None:
        return None
    length = fields.get("content-length")
    return int(length) if length is not None and length.isdigit() else 0


class Incoming:
    """The receiving side of one exchange. One of ``body`` and the watch listens at a time."""

    def __init__(
        self,
        receive: Receive,
        *,
        has_body: bool,
        stall_seconds: float = 60.0,
        min_rate_bytes: float = 0.0,
    ) -> None:
        self._receive = receive
        self._stall_seconds = stall_seconds
        self._patience = Patience(stall_seconds, min_rate_bytes)
        self._ended = not has_body

    @property
    def body_ended(self) -> bool:
        """Whether the request is whole, so that the next word can only be of its leaving."""
        return self._ended

    async def body(self) -> AsyncIterator[bytes]:
        """The request body's bytes as they come.

        Raises ``RequestCut`` when the client leaves in the middle, ``RequestStalled`` when it
        is silent, or hardly sends anything, for too long.
        """
        clock = asyncio.get_running_loop().time
        while not self._ended:
            since = clock()
            try:
                limit_seconds = min(self._stall_seconds, self._patience.left_seconds)
                message = await asyncio.wait_for(self._receive(), limit_seconds)
            except TimeoutError:
                raise RequestStalled("The request body stopped coming; send it again.") from None
            if message["type"] == "http.disconnect":
                raise RequestCut("The request body ended before its declared end.")
            self._ended = not message.get("more_body", False)
            self._patience.note(clock() - since, len(message.get("body", b"")))
            if message.get("body"):
                yield message["body"]

    async def gone(self) -> None:
        """Return when the client has left; only after the request's end."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


class WhileThere:
    """A block that is left early, by ``ClientLeftError``, when the client leaves.

    It stands on ``asyncio.timeout``, whose deadline is moved to "now" on the client's leaving:
    cancellation from outside and ours are then told apart by the library's own accounting. The
    listening task begins after ``WATCH_AFTER_SECONDS`` and once the request body has ended.
    """

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._listener: asyncio.Task[None] | None = None
        self._is_over = False

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._timer = self._loop.call_later(WATCH_AFTER_SECONDS, self._listen)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._listener.cancel()
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise ClientLeftError from None

    def _listen(self) -> None:
        if self._incoming.body_ended:
            self._listener = self._loop.create_task(self._incoming.gone())
            self._listener.add_done_callback(self._leave)
        else:
            self._timer = self._loop.call_later(5 * WATCH_AFTER_SECONDS, self._listen)

    def _leave(self, listener: asyncio.Task[None]) -> None:
        # It may leave in the very tick in which the block ends.
        if not self._is_over and not listener.cancelled() and listener.exception() is None:
            self._timeout.reschedule(self._loop.time())
