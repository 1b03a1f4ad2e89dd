"""A service between a store in memory and an upstream without sockets, and a client of it."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from forebay.errors import ForebayError
from forebay.model import Fields, Mount, Request, Window
from forebay.ports import Reply
from forebay.service import Service
from forebay.streaming.crew import Surroundings
from forebay.streaming.pace import Slots
from forebay.upstream.mirrors import Mirrors
from tests.fakes.answers import AnsweringUpstream
from tests.fakes.resources import Resource
from tests.fakes.store import MemoryStore
from tests.patience import PATIENCE_SECONDS

HOST = "http://origin.example"
BODY = random.Random(5).randbytes(300_000)
URL_MOUNT = Mount(name="url", prefix="/")
FRESH = ("cache-control", "max-age=600")
STALE = ("cache-control", "max-age=0")


@dataclass(slots=True)
class Told:
    """A reply, its body, and the error that broke it off, if one did."""

    reply: Reply
    body: bytes
    error: ForebayError | None = None

    @property
    def status(self) -> int:
        return self.reply.status

    @property
    def cache(self) -> str:
        return self.reply.fields.get_all("cache-status")[-1]

    def field(self, name: str) -> str | None:
        return self.reply.fields.get(name)


class Scene:
    """The service and all around it; ``now`` is the wall clock, which stands still."""

    def __init__(
        self,
        *mounts: Mount,
        patience_seconds: float = PATIENCE_SECONDS,
        tells_digests: bool = False,
    ) -> None:
        self.now = 1_700_000_000.0
        self.store = MemoryStore(clock=lambda: self.now)
        self.upstream = AnsweringUpstream()
        self.mirrors = Mirrors()
        self.service = Service(
            store=self.store,
            around=Surroundings(
                upstream=self.upstream,
                health=self.mirrors,
                slots=Slots(16, 16),
                clock=time.monotonic,
                wall_clock=lambda: self.now,
                tells_digests=tells_digests,
            ),
            mounts=mounts or (URL_MOUNT,),
            pseudonym="forebay-test",
            stale_patience_seconds=patience_seconds,
        )

    def add(self, path: str = "/f", **script: Any) -> Resource:
        """Serve something at the origin; an honest file with a strong tag unless told otherwise."""
        script = {"body": BODY, "etag": '"one"', "headers": [FRESH], **script}
        script["headers"] = [("date", _http_date(self.now)), *script["headers"]]
        return self.upstream.add(HOST + path, **script)

    async def open(self, path: str = "/f", *lines: str, method: str = "GET", **more: Any) -> Reply:
        """The reply to a request for something at the origin, its body unread."""
        return await self.ask(f"/{HOST}{path}", *lines, method=method, **more)

    async def ask(
        self,
        raw_path: str,
        *lines: str,
        method: str = "GET",
        body: bytes | None = None,
        **more: Any,
    ) -> Reply:
        """The same for a request target as it stands in the request line."""
        path, mark, query = raw_path.partition("?")
        pairs = [tuple(line.split(": ", 1)) for line in lines]
        request = Request(method, path, query if mark else None, Fields(pairs))  # type: ignore[arg-type]
        if body is not None:
            more |= {"body": _one(body), "body_length_bytes": len(body)}
        return await self.service.respond(request, **more)

    async def get(self, path: str = "/f", *lines: str, method: str = "GET", **more: Any) -> Told:
        """A whole exchange for something at the origin."""
        return await read(await self.open(path, *lines, method=method, **more))

    async def get_at(self, raw_path: str, *lines: str, **more: Any) -> Told:
        """A whole exchange for a request target as it stands in the request line."""
        return await read(await self.ask(raw_path, *lines, **more))

    async def entries(self) -> int:
        """How many entries the store has."""
        return (await self.store.usage()).objects

    async def settled(self) -> None:
        """Return when no flight goes on and nothing upstream is open."""
        await until(lambda: not (self.upstream.open_now or self.service.transfers()))

    async def close(self) -> None:
        await self.service.close()
        assert self.upstream.open_now == 0
        assert not self.store.drafts
        await self.store.close()


async def until(condition: Callable[[], bool]) -> None:
    """Return when this has become true, whatever makes it so; ``TimeoutError`` after 5 s."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0)


async def read(reply: Reply) -> Told:
    """Read a reply's body to its end or to its break, and close it."""
    body, error = bytearray(), None
    if reply.body is not None:
        try:
            while (piece := await reply.body.next_piece()) is not None:
                body += octets(piece)
        except ForebayError as raised:
            error = raised
        finally:
            await reply.body.aclose()
    return Told(reply, bytes(body), error)


async def read_some(reply: Reply, count: int) -> bytes:
    """At least so many bytes of a body, the reading to be gone on with."""
    body = bytearray()
    assert reply.body is not None
    while len(body) < count:
        piece = await reply.body.next_piece()
        assert piece is not None
        body += octets(piece)
    return bytes(body)


def octets(piece: Window | bytes) -> bytes:
    if isinstance(piece, bytes):
        return piece
    return os.pread(piece.fileno, piece.stop - piece.start, piece.start)


def _http_date(seconds: float) -> str:
    return formatdate(seconds, usegmt=True)


async def _one(body: bytes) -> AsyncIterator[bytes]:
    yield body
