"""A reader of stored bytes that have not been looked at since they were written.

The store compares them with their checksums a step ahead of the client, so that neither the
first byte nor any later one waits for the whole. Where damage turns up, the store has discarded
the block; the reader leaves the file there and goes on with what ``fetch_rest`` opens, which
fetches the block again. Never is a byte sent that was found damaged.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from forebay.errors import StoreError
from forebay.model import Entry, Interval, Window
from forebay.ports import Body, Store

STEP_BYTES = 8 * 1024 * 1024
"""What is looked at ahead: some milliseconds of a disk, and few enough thread hops to cost
nothing beside them."""

FetchRest = Callable[[Interval], Awaitable[Body]]
"""Opens a body of exactly these bytes. Raises ``ForebayError`` where they cannot be had."""


def first_step(interval: Interval) -> Interval:
    """The bytes to verify before a reply is promised from these."""
    return Interval(interval.start, min(interval.stop, interval.start + STEP_BYTES))


class CheckedReader:
    """A slice of an entry as windows of a step each, verified before they are given."""

    def __init__(
        self, store: Store, entry: Entry, fileno: int, interval: Interval, fetch_rest: FetchRest
    ) -> None:
        """Takes over the descriptor."""
        self._store = store
        self._entry = entry
        self._fileno = fileno
        self._left = interval
        self._fetch_rest = fetch_rest
        self._rest: Body | None = None
        self._ahead: asyncio.Task[bool] | None = None
        self._closed = False

    async def next_piece(self) -> Window | bytes | None:
        if self._rest is None and self._left.length_bytes:
            step = first_step(self._left)
            looking = self._ahead or asyncio.ensure_future(self._is_sound(step))
            self._ahead = looking
            if await looking:
                self._left = Interval(step.stop, self._left.stop)
                self._look_ahead()
                return Window(self._fileno, *step)
            self._rest = await self._fetch_rest(self._left)
        return await self._rest.next_piece() if self._rest is not None else None

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._ahead is not None:
            self._ahead.cancel()
        os.close(self._fileno)
        if self._rest is not None:
            await self._rest.aclose()

    def _look_ahead(self) -> None:
        """While the client takes this step, look at the next."""
        self._ahead = None
        if self._left.length_bytes:
            self._ahead = asyncio.ensure_future(self._is_sound(first_step(self._left)))

    async def _is_sound(self, step: Interval) -> bool:
        """Whether this step may be sent from the file. Trouble while looking means no."""
        try:
            return await self._store.verify(self._entry, step) is self._entry
        except StoreError:
            return False
