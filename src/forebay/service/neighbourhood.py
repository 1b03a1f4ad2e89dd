"""One service in several processes: who asks upstream, who reads along, and who has purged.

The single process knows its flights and transfers, and needs none of this. Among several, a
flight takes a turn at its question before it asks; who has had to wait for a turn asks nothing,
and looks at what is stored again. There he finds the entry that the other process has begun, and
follows that (``streaming.follower``).
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import suppress

from forebay.errors import StoreError
from forebay.model import Entry, Target
from forebay.ports import Neighbours, Selection, Store, Turn
from forebay.service.landings import Order
from forebay.service.selecting import expected_digests
from forebay.streaming.crew import Surroundings
from forebay.streaming.follower import Arriving, Follower


class Neighbourhood:
    """The other processes, for the flights of this one. ``transfers`` are those that run here."""

    def __init__(
        self,
        neighbours: Neighbours,
        store: Store,
        around: Surroundings,
        transfers: MutableMapping[str, Arriving],
    ) -> None:
        self._neighbours = neighbours
        self._store = store
        self._around = around
        self._transfers = transfers

    async def turn(self, question: str, order: Order) -> Turn | None:
        """The turn to ask this; None where what is stored must be looked at again."""
        turn = await self._neighbours.turn(question)
        if turn is not None and await self._is_news(order):
            turn.give_up()
            return None
        return turn

    async def _is_news(self, order: Order) -> bool:
        """Whether what the order was decided on is no longer so: somebody has had an answer
        between the look at the store and the turn."""
        stored = await self._store.find(order.target.key)
        about = order.entry
        if about is None:
            return any((entry.entry_id, entry.complete) not in order.seen for entry in stored)
        now = next((entry for entry in stored if entry.entry_id == about.entry_id), None)
        if now is None:
            return True
        if order.wanted is None:
            return now.response_time > about.response_time
        return now.complete or await self.follow(now, order.target) is not None

    async def follow(self, entry: Entry, target: Target) -> Arriving | None:
        """What brings the rest of this partial entry now, here or in another process."""
        following = None
        with suppress(StoreError):
            following = await self._neighbours.follow(entry)
        here = self._transfers.get(entry.entry_id)
        if following is None or here is not None:
            if following is not None:
                following.close()
            return here

        def forget() -> None:
            if self._transfers.get(entry.entry_id) is follower:
                del self._transfers[entry.entry_id]

        follower = Follower(
            entry,
            following,
            proves_whole=bool(expected_digests(target, entry.head) or target.mount.checksums),
            now=self._around.wall_clock(),
            on_over=forget,
        )
        self._transfers[entry.entry_id] = follower
        return follower

    async def moment(self) -> object:
        """A mark, to be had before anything is asked."""
        return await self._neighbours.moment()

    async def purged_since(self, moment: object) -> tuple[Selection, ...]:
        """What was purged since then; everything, where that cannot be told."""
        purged = await self._neighbours.purged_since(moment)
        return (Selection(everything=True),) if purged is None else tuple(purged)

    async def tell_purge(self, selection: Selection) -> None:
        """Before anything is removed. Raises ``StoreError``."""
        await self._neighbours.tell_purge(selection)

    async def close(self) -> None:
        """Let every follower end."""
        for one in tuple(self._transfers.values()):
            if isinstance(one, Follower):
                await one.close()
