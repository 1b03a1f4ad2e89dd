"""An upstream without sockets: ``ports.Upstream`` over the scripted resources of an origin.

What ``tests.fakes.resources`` says of status, fields, ranges and conditions holds here too, and
so do ``stall_at``, ``truncate_at``, ``reset_at``, ``fault_times`` and ``change_after``. Redirects,
pacing and everything about connections need the real origin.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from forebay.errors import UpstreamMisbehaved, UpstreamUnreachable
from forebay.model import Ask, Fields, Head
from tests.fakes.resources import OriginRequest, Resource, answer

PIECE_BYTES = 16_384


class GivenResponse:
    """``ports.UpstreamResponse`` with the faults of its resource."""

    def __init__(self, upstream: AnsweringUpstream, resource: Resource, ask: Ask) -> None:
        self._upstream = upstream
        self._resource = resource
        self._faulty = (
            resource.fault_times is None or resource.requests_seen <= resource.fault_times
        )
        request = OriginRequest(ask.method, ask.url, ask.fields, b"", 1, reused=False)
        made = answer(resource, request)
        has_body = ask.method != "HEAD" and made.status not in {204, 304}
        self._body = made.body if has_body else b""
        fields = made.fields
        if resource.content_length and not resource.chunked and made.status not in {204, 304}:
            fields = fields.with_field("content-length", str(len(made.body)))
        self.head = Head(made.status, fields, "Given")
        self.url = ask.url
        self.redirects: tuple[Head, ...] = ()
        self.framed = resource.chunked or resource.content_length
        self.unread_bytes = 0

    async def is_here(self, within_seconds: float) -> bool:
        faults = (self._resource.stall_at, *self._breaks())
        return self._resource.comes_at_once and faults == (None, None, None)

    async def chunks(self) -> AsyncIterator[bytes]:
        position = 0
        while True:
            await self._meet_faults(position)
            if position == len(self._body):
                return
            stop = min(len(self._body), position + PIECE_BYTES)
            for at in (self._resource.stall_at, *self._breaks()):
                if at is not None and position < at < stop:
                    stop = at
            piece, position = self._body[position:stop], stop
            self._upstream.body_bytes_sent += len(piece)
            yield piece
            await asyncio.sleep(0)

    def _breaks(self) -> tuple[int | None, int | None]:
        if not self._faulty:
            return None, None
        return self._resource.truncate_at, self._resource.reset_at

    async def _meet_faults(self, position: int) -> None:
        if position == self._resource.stall_at and self._faulty:
            await self._resource.go_on.wait()
        truncate_at, reset_at = self._breaks()
        if position == truncate_at:
            raise UpstreamMisbehaved("The upstream closed the connection before the body's end.")
        if position == reset_at:
            raise UpstreamUnreachable("The connection to the upstream failed.")


class AnsweringUpstream:
    """Answers by URL. ``asks`` are in the order they came, ``open_now`` counts open responses.

    ``errors`` has what to raise for a URL; ``held`` an event that a head of a URL waits for.
    """

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self.bodies: list[bytes] = []
        self.errors: dict[str, Exception] = {}
        self.held: dict[str, asyncio.Event] = {}
        self.open_now = 0
        self.body_bytes_sent = 0
        self._resources: dict[str, Resource] = {}

    def add(self, url: str, **script: Any) -> Resource:
        """Serve a ``Resource`` made of these attributes at this URL."""
        self._resources[url] = Resource(**script)
        return self._resources[url]

    def hold(self, url: str) -> asyncio.Event:
        """Let heads of this URL wait until the event is set."""
        return self.held.setdefault(url, asyncio.Event())

    def fields_of(self, number: int) -> Fields:
        """The fields of one ask."""
        return self.asks[number].fields

    @asynccontextmanager
    async def open(self, ask: Ask) -> AsyncIterator[GivenResponse]:
        self.asks.append(ask)
        self.bodies.append(b"".join([piece async for piece in ask.body]) if ask.body else b"")
        await asyncio.sleep(0)
        if ask.url in self.held:
            await self.held[ask.url].wait()
        if ask.url in self.errors:
            raise self.errors[ask.url]
        resource = self._resources.get(ask.url) or Resource(status=404, body=b"no", ranges=False)
        resource.requests_seen += 1
        if resource.change_after is not None and resource.requests_seen > resource.change_after:
            assert resource.changed is not None, "change_after needs changed"
            resource = resource.changed
            resource.requests_seen += 1
        self.open_now += 1
        try:
            yield GivenResponse(self, resource, ask)
        finally:
            self.open_now -= 1
