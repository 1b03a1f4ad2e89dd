"""Connections in number: kept for the next request, bounded, and never lost count of.

A slot is one connection, busy or idle. It is taken before dialling and given back by the one
call that closes the connection, so that a cancellation at any await leaves the count right:
httpcore 1.0.9 loses a slot there (encode/httpcore#1093), and we cancel a lot. What is decided
is decided between two awaits; no lock is held across one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from forebay.errors import Overloaded, UpstreamUnreachable
from forebay.upstream.wire import Wire

Origin: TypeAlias = tuple[str, bool]
"""Scheme with authority, and whether the connection was made without the guard: what was
connected to for a trusted mount is never handed to a stranger's request."""

_Turn: TypeAlias = "asyncio.Future[Wire | None]"
"""What a waiting request is given: a connection to its origin, or with None a free slot."""

KEEP_IDLE_SECONDS = 30.0
"""How long a connection is kept unused. nginx keeps 75 s, Node 5 s: one that the other side
closes first is noticed at once, and the race that remains costs one silent retry."""


class Pool:
    """At most ``max_connections`` connections, of which at most ``max_idle`` are unused.

    A request that finds no slot free waits ``wait_seconds`` and then raises ``Overloaded``.
    """

    def __init__(
        self, *, max_connections: int, max_idle: int | None = None, wait_seconds: float = 10.0
    ) -> None:
        self._max = max_connections
        self._max_idle = max(1, max_connections // 2) if max_idle is None else max_idle
        self._wait_seconds = wait_seconds
        self._idle: dict[Wire, Origin] = {}  # oldest first
        self._open: set[Wire] = set()
        self._dialling = 0
        self._closed = False
        self._waiting: deque[tuple[Origin, _Turn]] = deque()

    @property
    def open_connections(self) -> int:
        """Slots in use: busy, idle and being dialled."""
        return len(self._open) + self._dialling

    async def take(
        self, origin: Origin, dial: Callable[[], Awaitable[Wire]], *, fresh: bool = False
    ) -> Wire:
        """An idle connection to this origin, or with ``fresh`` or none idle, one that ``dial``
        makes. Raises ``Overloaded``, after ``close`` ``UpstreamUnreachable``, and what ``dial``
        raises."""
        wire = None if fresh else self._take_idle(origin)
        if wire is None:
            wire = await self._slot(origin)
        if wire is not None:
            return wire
        try:
            self._check_open()
            wire = await dial()
            if self._closed:
                wire.close()
            if not wire.closed:
                self._open.add(wire)
                wire.on_lost = self._lost
            return wire
        finally:
            self._dialling -= 1
            self._wake_next()

    def give_back(self, wire: Wire, origin: Origin) -> None:
        """End the connection's exchange; keep the connection if it is clean, else close it."""
        if wire.release():
            self._keep(wire, origin)

    def _keep(self, wire: Wire, origin: Origin) -> None:
        if wire.closed:
            return
        for waiting in self._waiting:
            where, turn = waiting
            if where == origin and not turn.done():
                self._waiting.remove(waiting)
                turn.set_result(wire)
                return
        wire.idle_since = asyncio.get_running_loop().time()
        self._idle[wire] = origin
        while len(self._idle) > self._max_idle or (self._waiting and self._idle):
            next(iter(self._idle)).close()

    def close(self) -> None:
        """Close every connection, busy ones too, and make no more. Idempotent."""
        self._closed = True
        for wire in tuple(self._open):
            wire.close()

    def _check_open(self) -> None:
        if self._closed:
            raise UpstreamUnreachable("The service is shutting down.")

    def _take_idle(self, origin: Origin) -> Wire | None:
        """The idle connection that was used last; those that are too old are closed."""
        oldest = asyncio.get_running_loop().time() - KEEP_IDLE_SECONDS
        while self._idle and (wire := next(iter(self._idle))).idle_since < oldest:
            wire.close()
            self._idle.pop(wire, None)
        for wire, where in reversed(self._idle.items()):
            if where == origin:
                del self._idle[wire]
                return wire
        return None

    async def _slot(self, origin: Origin) -> Wire | None:
        """Wait for a turn: a connection to this origin, or None with a slot for a new one."""
        if not self._free() and self._idle:
            next(iter(self._idle)).close()
        if self._free():
            self._dialling += 1
            return None
        turn: _Turn = asyncio.get_running_loop().create_future()
        self._waiting.append((origin, turn))
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await turn
        except TimeoutError:
            self._renounce(origin, turn)
            raise Overloaded("All connections to upstreams are in use; try again soon.") from None
        except asyncio.CancelledError:
            self._renounce(origin, turn)
            raise

    def _renounce(self, origin: Origin, turn: _Turn) -> None:
        """Who waited has gone; what was given in the same moment goes to the next."""
        if (origin, turn) in self._waiting:
            self._waiting.remove((origin, turn))
        if turn.cancelled() or not turn.done():
            return
        wire = turn.result()
        if wire is not None:
            self._keep(wire, origin)
        else:
            self._dialling -= 1
            self._wake_next()

    def _free(self) -> bool:
        return self.open_connections < self._max

    def _wake_next(self) -> None:
        """Give a free slot to who has waited longest: counted for them from now on."""
        while self._waiting and self._free():
            _, turn = self._waiting.popleft()
            if not turn.done():
                self._dialling += 1
                turn.set_result(None)

    def _lost(self, wire: Wire) -> None:
        self._idle.pop(wire, None)
        self._open.discard(wire)
        self._wake_next()
