"""httpx's seam, and our connections beneath it: a transport on ``pool``, ``dial`` and ``wire``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self, cast

import httpx

from forebay.errors import UpstreamUnreachable
from forebay.model import Ask
from forebay.rules.heads import expects_continue
from forebay.rules.patience import Patience
from forebay.rules.urls import Url
from forebay.upstream.dial import Dialer
from forebay.upstream.pool import Origin, Pool
from forebay.upstream.wire import StaleConnection, Wire

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
"""Methods that may be sent again when a kept connection was dead (RFC 9110 §9.2.2)."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the transport must know that ``httpx.Request`` does not hold, or not as it was."""

    ask: Ask
    url: Url
    unguarded: bool


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends requests of ``HttpxUpstream`` over connections that the guard has checked."""

    def __init__(
        self,
        pool: Pool,
        dialer: Dialer,
        stall_timeout_seconds: float,
        min_rate_bytes: float = 0.0,
    ) -> None:
        self._pool = pool
        self._dialer = dialer
        self._stall_timeout_seconds = stall_timeout_seconds
        self._min_rate_bytes = min_rate_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        question: Question = request.extensions["forebay"]
        repeatable = question.ask.body is None and question.ask.method in IDEMPOTENT
        for fresh in (False, True) if repeatable else (False,):
            with suppress(StaleConnection):
                return await self._ask(request, question, fresh=fresh)
        raise UpstreamUnreachable("The upstream closed the connection without an answer.")

    async def aclose(self) -> None:
        self._pool.close()

    async def _ask(
        self, request: httpx.Request, question: Question, *, fresh: bool
    ) -> httpx.Response:
        origin: Origin = (question.url.origin, question.unguarded)
        wire = await self._pool.take(
            origin,
            lambda: self._dialer.dial(question.url, unguarded=question.unguarded),
            fresh=fresh,
        )
        try:
            received = await wire.ask(
                question.ask.method,
                _request_octets(question, request),
                question.ask.body,
                question.ask.body_length_bytes,
                self._stall_timeout_seconds,
                question.ask.on_interim,
                waits_for_continue=expects_continue(question.ask.fields),
            )
        except BaseException:
            self._pool.give_back(wire, origin)
            raise
        patience = Patience(self._stall_timeout_seconds, self._min_rate_bytes)
        body = _ResponseBody(self._pool, wire, origin, self._stall_timeout_seconds, patience)
        extensions: dict[str, Any] = {
            "http_version": b"HTTP/1.1",
            "reason_phrase": received.head.reason.encode("latin-1"),
            "interim": received.interim,
            "received": received,
            "unread_bytes": body.unread_bytes,
            "is_here": body.is_here,
        }
        return httpx.Response(
            received.head.status,
            headers=received.head.fields.to_raw(),
            stream=body,
            extensions=extensions,
        )


class _ResponseBody(httpx.AsyncByteStream):
    """A body on its wire. Closing it gives the wire back, once, and awaits nothing."""

    def __init__(
        self,
        pool: Pool,
        wire: Wire,
        origin: Origin,
        stall_timeout_seconds: float,
        patience: Patience,
    ) -> None:
        self._pool = pool
        self._wire: Wire | None = wire
        self._origin = origin
        self._stall_timeout_seconds = stall_timeout_seconds
        self._patience = patience

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        # Looked at anew for each piece: once closed, the wire is another request's.
        if self._wire is None:
            raise UpstreamUnreachable("The response was closed before its end.")
        piece = await self._wire.next_piece(self._stall_timeout_seconds, self._patience)
        if not piece:
            raise StopAsyncIteration
        # httpx hands on what it is given; ``Response.chunks`` says what that is.
        return cast("bytes", piece)

    def unread_bytes(self) -> int:
        return self._wire.unread_bytes if self._wire is not None else 0

    async def is_here(self, within_seconds: float) -> bool:
        return self._wire is not None and await self._wire.is_here(within_seconds)

    async def aclose(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            self._pool.give_back(wire, self._origin)


def _request_octets(question: Question, request: httpx.Request) -> bytes:
    """The request's head (RFC 9112 §3): method and target as they are, not as httpx has them."""
    lines = [b"%b: %b\r\n" % (name.title(), value) for name, value in request.headers.raw]
    line = f"{question.ask.method} {question.url.request_target} HTTP/1.1\r\n".encode("latin-1")
    return line + b"".join(lines) + b"\r\n"
