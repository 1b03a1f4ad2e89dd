"""Look-ups that were made lately, so that a hot key costs no thread and no database."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from forebay.model import Entry
from forebay.store.generation import Generation

REMEMBERED_KEYS = 16384
"""At some 3 KB for a key with one variant this is 50 MB; colder keys cost one thread hop."""


class Lookups:
    """A bounded memory in front of the index, never older than the last change of it.

    Changes of this process are told by ``drop``; those of other workers are noticed by the
    ``Generation``, and empty the memory. Simultaneous look-ups of one key become one.
    Misses are not remembered: what follows a miss is a fetch, beside which a look-up is nothing.
    """

    def __init__(
        self,
        read: Callable[[str], Awaitable[tuple[Entry, ...]]],
        generation: Generation | None,
        limit: int = REMEMBERED_KEYS,
    ) -> None:
        self._read = read
        self._generation = generation
        self._limit = limit
        self._known: OrderedDict[str, tuple[Entry, ...]] = OrderedDict()
        self._flights: dict[str, asyncio.Future[tuple[Entry, ...]]] = {}
        self._token: bytes | None = None

    def cached(self, key: str) -> tuple[Entry, ...] | None:
        """What is stored under this key, None when only the index knows."""
        if self._generation is not None:
            self._notice_others()
        entries = self._known.get(key)
        if entries is not None:
            self._known.move_to_end(key)
        return entries

    async def find(self, key: str) -> tuple[Entry, ...]:
        """What is stored under this key. Raises what reading the index raises."""
        entries = self.cached(key)
        if entries is not None:
            return entries
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.ensure_future(self._read(key))
            self._flights[key] = flight
            flight.add_done_callback(lambda landed: self._land(key, landed))
        # One caller that leaves must not take the others' answer away.
        return await asyncio.shield(flight)

    def drop(self, key: str) -> None:
        """The index has changed here: what was read before may not be remembered or joined."""
        self._known.pop(key, None)
        self._flights.pop(key, None)

    def clear(self) -> None:
        """The index has changed anywhere."""
        self._known.clear()
        self._flights.clear()

    def _notice_others(self) -> None:
        if self._generation is None:
            return
        token = self._generation.read()
        if token is None or token != self._token:
            self.clear()
            self._token = token

    def _land(self, key: str, flight: asyncio.Future[tuple[Entry, ...]]) -> None:
        """Remember what came, unless the index has changed since it was asked."""
        self._notice_others()
        if self._flights.get(key) is not flight:
            return
        del self._flights[key]
        if flight.cancelled() or flight.exception() is not None or not flight.result():
            return
        self._known[key] = flight.result()
        if len(self._known) > self._limit:
            self._known.popitem(last=False)
