"""The other workers on a shared directory, as the service meets them (``ports.Neighbours``)."""

from __future__ import annotations

import asyncio
import time

from forebay.errors import StoreError
from forebay.model import Entry
from forebay.ports import Report, Selection
from forebay.store.boards import Board
from forebay.store.engine import Engine
from forebay.store.orders import Moment, Orders
from forebay.store.progress import Following
from forebay.store.turns import Turns

_FIRST_PAUSE_SECONDS = 0.001
_MOST_PAUSE_SECONDS = 0.02
"""How late a worker notices that another has had its answer. Beside an upstream's round trip it
is little, and costs a microsecond each time."""
PATIENCE_SECONDS = 120.0
"""A worker that asks for longer than any timeout of ours is stopped or stuck: others go ahead."""
_FOLLOW_TRIES = 20
_FOLLOW_PAUSE_SECONDS = 0.002


class Turn:
    """The right to ask; others wait until it is given up."""

    def __init__(self, turns: Turns, question: str) -> None:
        self._turns: Turns | None = turns
        self._question = question

    def give_up(self) -> None:
        """Idempotent, and waits for nothing."""
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.give_up(self._question)


class DiskNeighbours:
    """Turns, drafts and purges of the workers that share a directory."""

    run = ""
    """The name of this start of the service: processes with the same one add up their counts."""

    def __init__(self, engine: Engine, turns: Turns) -> None:
        self._board: Board | None = None
        self._engine = engine
        self._turns = turns
        self._orders = Orders(engine.layout.orders)

    async def open(self) -> None:
        """Begin to count. Raises ``StoreError``."""
        self._board = board = Board(self._engine.layout.workers, self.run)
        await self._engine.with_blobs(board.open)

    def close(self) -> None:
        """Idempotent."""
        if self._board is not None:
            self._board.close()

    async def post(self, report: Report) -> None:
        """Let the others know this worker's counts (``ports.Neighbours.post``)."""
        if self._board is not None:
            board = self._board
            await self._engine.with_blobs(lambda: board.post(report))

    async def reports(self) -> list[Report]:
        """The counts of the others (``ports.Neighbours.reports``)."""
        return [] if self._board is None else await self._engine.with_blobs(self._board.others)

    async def turn(self, question: str) -> Turn | None:
        """The turn at this question (``ports.Neighbours.turn``)."""
        if self._turns.take(question):
            return Turn(self._turns, question)
        pause, deadline = _FIRST_PAUSE_SECONDS, time.monotonic() + PATIENCE_SECONDS
        while not self._turns.is_free(question):
            if time.monotonic() > deadline:
                return Turn(Turns(self._engine.layout.turns), question)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MOST_PAUSE_SECONDS)
        return None

    async def follow(self, entry: Entry) -> Following | None:
        """A view of the draft that another worker has of this entry (``ports.Neighbours.follow``).

        Raises ``StoreError``.
        """
        for _ in range(_FOLLOW_TRIES):
            found = await self._engine.with_blobs(lambda: self._look(entry.entry_id))
            if found is not True:
                return found or None
            await asyncio.sleep(_FOLLOW_PAUSE_SECONDS)
        return None

    def _look(self, entry_id: str) -> Following | bool:
        """In a thread: the draft; False where nobody writes, True where somebody is about to
        begin or to end."""
        engine = self._engine
        if not engine.blobs.is_being_written(entry_id):
            return False
        if entry_id in engine.room.claims:
            return False  # it is our own
        try:
            path = engine.layout.progress / entry_id
            return Following(path, engine.blobs, entry_id, engine.start_writing)
        except FileNotFoundError:
            return True

    async def moment(self) -> Moment | None:
        """What ``purged_since`` is to be asked with (``ports.Neighbours.moment``)."""
        try:
            return await self._engine.with_blobs(self._orders.now)
        except StoreError:
            return None

    async def tell_purge(self, selection: Selection) -> None:
        """Let the others know before anything is removed (``ports.Neighbours.tell_purge``)."""
        await self._engine.with_blobs(lambda: self._orders.note(selection))

    async def purged_since(self, moment: object) -> list[Selection] | None:
        """What was purged meanwhile (``ports.Neighbours.purged_since``)."""
        if not isinstance(moment, Moment):
            return None
        try:
            return await self._engine.with_blobs(lambda: self._orders.since(moment))
        except StoreError:
            return None
