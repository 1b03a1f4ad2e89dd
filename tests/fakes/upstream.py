"""An upstream in memory that does as its script says: honest, slow, broken or lying.

It fulfils ``ports.Upstream``. What it holds is a ``Representation`` per URL, which a test may
replace at any time; how the next request is answered is an ``Act``. Nothing waits in real
time: a pause is a sleep of the running loop (virtual in ``tests/streaming``), and a ``Gate`` lets
chunks pass one by one.
"""

from __future__ import annotations

import asyncio
import enum
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from forebay.errors import (
    ForebayError,
    UpstreamMisbehaved,
    UpstreamTimeout,
    UpstreamTooSlow,
    UpstreamUnreachable,
)
from forebay.model import Ask, Fields, Head, Interval
from forebay.ports import UpstreamResponse

STALL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Representation:
    """What a URL holds. Without ``has_ranges`` Range is ignored, without ``declares_length`` no
    Content-Length is sent."""

    content: bytes
    etag: str | None = '"v1"'
    last_modified: str | None = None
    has_ranges: bool = True
    declares_length: bool = True
    fields: Fields = field(default_factory=Fields)


class Ending(enum.Enum):
    """How a body ends that does not come to its end."""

    TRUNCATED = "truncated"
    RESET = "reset"
    STALLED = "stalled"
    DRIPPED = "dripped"
    """Bytes came, but too few in too long a time."""
    QUIET = "quiet"
    """Too early, and as if nothing were wrong; only where the head has told the length."""


class Gate:
    """Lets so many chunks pass, or all, or an error instead of the next."""

    def __init__(self) -> None:
        self._permits = 0.0
        self._error: ForebayError | None = None
        self._changed = asyncio.Event()

    def let(self, chunks: float = 1) -> None:
        self._permits += chunks
        self._changed.set()

    def open(self) -> None:
        self.let(float("inf"))

    def fail(self, error: ForebayError) -> None:
        self._error = error
        self._changed.set()

    async def wait(self) -> None:
        while self._permits < 1:
            if self._error is not None:
                raise self._error
            self._changed.clear()
            await self._changed.wait()
        self._permits -= 1


@dataclass(frozen=True, slots=True)
class Act:
    """How one request is answered; the default is honest and fast."""

    refuse: ForebayError | None = None
    """Raised instead of a head."""
    status: int | None = None
    """An answer without the representation: 404, 429, 503 …"""
    retry_after: str | None = None
    head_after_seconds: float = 0.0
    head_gate: Gate | None = None
    chunk_bytes: int = 1000
    pause_seconds: float = 0.0
    """Before each chunk."""
    gate: Gate | None = None
    """What each chunk waits at."""
    unread_bytes: int = 0
    """What is said to wait behind each chunk."""
    ends_after_bytes: int | None = None
    ending: Ending = Ending.TRUNCATED
    most_bytes: int | None = None
    """A 206 that brings less than was asked for, and says so."""
    ignores_range: bool = False
    surplus: bytes = b""
    """Sent behind the declared end."""
    replaced: tuple[tuple[str, str | None], ...] = ()
    """Fields of the head with other values than the truth; None leaves one out."""


class ScriptedResponse:
    """One answer (``ports.UpstreamResponse``). Reading it after its release is a failure."""

    def __init__(self, upstream: ScriptedUpstream, ask: Ask, act: Act) -> None:
        self.ask = ask
        self.act = act
        self.is_open = True
        self.given_bytes = 0
        self._upstream = upstream
        self._holding = upstream.holdings.get(ask.url)
        self._interval = Interval(0, 0)
        self._head = self._make_head()

    @property
    def head(self) -> Head:
        return self._head

    @property
    def url(self) -> str:
        return self.ask.url

    @property
    def redirects(self) -> tuple[Head, ...]:
        return ()

    @property
    def framed(self) -> bool:
        return True

    @property
    def unread_bytes(self) -> int:
        return self.act.unread_bytes

    async def is_here(self, within_seconds: float) -> bool:
        return False

    async def chunks(self) -> AsyncIterator[bytes]:
        act, start, stop = self.act, *self._interval
        content = b"" if self._holding is None else self._holding.content
        end = stop if act.ends_after_bytes is None else min(stop, start + act.ends_after_bytes)
        while start < end:
            await self._pass()
            piece = content[start : min(start + act.chunk_bytes, end)]
            self._upstream.delivered.append(Interval(start, start + len(piece)))
            self.given_bytes += len(piece)
            start += len(piece)
            yield piece
        if act.ends_after_bytes is not None and end < stop:
            await self._break()
        elif act.surplus and not self._is_framed_by_its_end:
            await self._pass()
            yield act.surplus

    async def _pass(self) -> None:
        if self.act.gate is not None:
            await self.act.gate.wait()
        if self.act.pause_seconds:
            await asyncio.sleep(self.act.pause_seconds)
        assert self.is_open, "a response was read after its release"

    async def _break(self) -> None:
        ending = self.act.ending
        if ending is Ending.QUIET and self._is_framed_by_its_end:
            ending = Ending.TRUNCATED
        match ending:
            case Ending.TRUNCATED:
                raise UpstreamMisbehaved("The body ended before its declared end.")
            case Ending.RESET:
                raise UpstreamUnreachable("The connection was reset.")
            case Ending.STALLED:
                await asyncio.sleep(STALL_SECONDS)
                raise UpstreamTimeout("The upstream was silent for too long.")
            case Ending.DRIPPED:
                await asyncio.sleep(STALL_SECONDS)
                raise UpstreamTooSlow("The upstream sends too slowly.")
            case Ending.QUIET:
                return

    @property
    def _is_framed_by_its_end(self) -> bool:
        """Whether the last chunk alone says where the body ends: then that is its true end."""
        holding = self._holding
        return holding is not None and not holding.declares_length and self._head.status == 200

    def _make_head(self) -> Head:
        act, holding = self.act, self._holding
        if act.status is not None or holding is None:
            lines = [("retry-after", act.retry_after)] if act.retry_after else []
            return Head(act.status or 404, Fields([*lines, ("content-length", "0")]))
        fields, complete = holding.fields, len(holding.content)
        for name, value in (("etag", holding.etag), ("last-modified", holding.last_modified)):
            if value is not None:
                fields = fields.with_field(name, value)
        asked = None if act.ignores_range else self._asked_range(complete)
        status = 200 if asked is None else 206
        self._interval = asked or Interval(0, complete)
        if asked is not None and asked.start >= asked.stop:
            self._interval = Interval(0, 0)
            return Head(416, fields.with_field("content-range", f"bytes */{complete}"))
        if asked is not None:
            if act.most_bytes is not None:
                self._interval = Interval(
                    asked.start, min(asked.stop, asked.start + act.most_bytes)
                )
            first, last = self._interval.start, self._interval.stop - 1
            fields = fields.with_field("content-range", f"bytes {first}-{last}/{complete}")
        if holding.declares_length:
            fields = fields.with_field("content-length", str(self._interval.length_bytes))
        for name, replacement in act.replaced:
            fields = fields.without(name)
            if replacement is not None:
                fields = fields.with_field(name, replacement)
        return Head(status, fields)

    def _asked_range(self, complete: int) -> Interval | None:
        assert self._holding is not None
        match = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", self.ask.fields.get("range") or "")
        condition = self.ask.fields.get("if-range")
        holds = condition in {None, self._holding.etag, self._holding.last_modified}
        if match is None or not holds or not self._holding.has_ranges:
            return None
        last = int(match[2]) if match[2] else complete - 1
        return Interval(int(match[1]), min(last + 1, complete))


class ScriptedUpstream:
    """Holds representations, performs acts, and remembers what it was asked and what it gave."""

    def __init__(self, holdings: dict[str, Representation] | None = None) -> None:
        self.holdings = holdings if holdings is not None else {}
        self.script: dict[str, deque[Act]] = {}
        """Acts for the next requests to a URL; ``choose`` answers when they are used up."""
        self.choose: Callable[[Ask], Act] = lambda _: Act()
        self.asks: list[Ask] = []
        self.responses: list[ScriptedResponse] = []
        self.delivered: list[Interval] = []
        """Each chunk that was handed out, whatever became of it."""

    @property
    def open_responses(self) -> int:
        return sum(response.is_open for response in self.responses)

    @property
    def ranges(self) -> list[str | None]:
        """The Range field of every request, in order."""
        return [ask.fields.get("range") for ask in self.asks]

    def then(self, url: str, *acts: Act) -> None:
        """Let the next requests to this URL be answered so."""
        self.script.setdefault(url, deque()).extend(acts)

    def times_delivered(self, position: int) -> int:
        """How often the byte at this position was handed out."""
        return sum(start <= position < stop for start, stop in self.delivered)

    def delivered_bytes(self) -> int:
        return sum(chunk.length_bytes for chunk in self.delivered)

    def open(self, ask: Ask) -> AbstractAsyncContextManager[UpstreamResponse]:
        return self._open(ask)

    @asynccontextmanager
    async def _open(self, ask: Ask) -> AsyncGenerator[UpstreamResponse]:
        self.asks.append(ask)
        waiting = self.script.get(ask.url)
        act = waiting.popleft() if waiting else self.choose(ask)
        if act.head_gate is not None:
            await act.head_gate.wait()
        await asyncio.sleep(act.head_after_seconds)
        if act.refuse is not None:
            raise act.refuse
        response = ScriptedResponse(self, ask, act)
        self.responses.append(response)
        try:
            yield response
        finally:
            response.is_open = False
