"""Going out: one flight per question, and the frame that holds its connection.

A flight opens the upstream response, has it judged (``judging``), and lands as one of

* ``Confirmed``: a 304, or anything else that proves a stored entry good;
* ``Filling``: a transfer that everybody who waits may read from;
* ``Live``: an answer that is not for sharing; one client takes it, the others ask for themselves;
* ``Vanished``: what we asked on the strength of is no longer so; look again.

The frame that opened the response pumps it and releases it; the transfer may go on
afterwards with connections of its own, in the same task.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from forebay.errors import ObjectOutgrown, UpstreamChanged, UpstreamError, UpstreamUnreachable
from forebay.model import Entry, Target
from forebay.ports import Neighbours, Selection, Store, UpstreamResponse
from forebay.rules.content_range import content_range_of
from forebay.service.judging import Judge
from forebay.service.landings import Filling, Landing, Live, Order, Vanished, source_of
from forebay.service.neighbourhood import Neighbourhood
from forebay.service.remembering import Remembered
from forebay.service.summing import Summing
from forebay.streaming.crew import Surroundings
from forebay.streaming.flight import Flight, Flights
from forebay.streaming.follower import Arriving, Follower
from forebay.streaming.segment import Source
from forebay.streaming.transfer import Transfer
from forebay.streaming.trials import NOT_AS_PROMISED
from forebay.streaming.whole import Whole

TRY_ELSEWHERE = frozenset({429, 500, 502, 503, 504})
"""Statuses after which another mirror is asked, if there is one."""
OUTGROWN_SECONDS = 3600.0
"""How long what grew too large is passed on from its beginning, and not tried again."""


@dataclass(slots=True)
class Fetched:
    """Body bytes from upstream in flights that have ended."""

    size_bytes: int = 0


class Fetcher:
    """All flights and transfers of one service."""

    def __init__(
        self, store: Store, around: Surroundings, neighbours: Neighbours | None = None
    ) -> None:
        self._store = store
        self._around = around
        self._flights: Flights[Landing] = Flights()
        self._targets: dict[str, Target] = {}
        self._fetched = Fetched()
        self.transfers: dict[str, Arriving] = {}
        """What is arriving, here or by another process's work, by ``entry_id``."""
        self.outgrown = Remembered(around.wall_clock, OUTGROWN_SECONDS)
        """Keys of what grew larger on its way than its mount keeps."""
        self.judge = Judge(store, around, self.transfers)
        self.summing = Summing(store, lambda: bool(self.transfers), around.clock)
        self._hood = (
            None if neighbours is None else Neighbourhood(neighbours, store, around, self.transfers)
        )

    def join(self, key: str, order: Order) -> tuple[Flight[Landing], bool]:
        """The flight under this key, and whether this order started it."""
        flight, leads = self._flights.join(key, lambda flight: self._begin(flight, order, key))
        if leads:
            self._note_target(flight, key, order.target)
        return flight, leads

    def _note_target(self, flight: Flight[Landing], key: str, target: Target) -> None:
        """Remember what is asked under this key for as long as there is no answer."""
        self._targets[key] = target

        def forget() -> None:
            if self._targets.get(key) is target:
                del self._targets[key]

        flight.on_landing(forget)

    def launch(self, order: Order) -> Flight[Landing]:
        """A flight of its own, that nobody joins and that keeps nothing."""
        if order.keep:
            raise ValueError("what is to be kept must be found by a purge: join it under a key")
        return self._flights.launch(lambda flight: self._fly(flight, order))

    async def forget_flights(self, selection: Selection) -> None:
        """Before a purge: who comes now asks anew, and nothing that is under way is kept.

        Raises ``StoreError`` where other processes cannot be told.
        """
        self._flights.forget(lambda key: _may_bring(self._targets.get(key), selection))
        if self._hood is not None:
            await self._hood.tell_purge(selection)

    async def arriving(self, entry: Entry, target: Target) -> Arriving | None:
        """What is bringing this entry now, None where nothing does."""
        found = self.transfers.get(entry.entry_id)
        if found is None and self._hood is not None and not entry.complete:
            found = await self._hood.follow(entry, target)
        return found

    def count_transfers(self) -> int:
        """How many transfers run in this process."""
        return sum(not isinstance(one, Follower) for one in self.transfers.values())

    def fetched_bytes_so_far(self) -> int:
        """Body bytes from upstream since start, those of running transfers included."""
        running = sum(transfer.fetched_bytes for transfer in self.transfers.values())
        return self._fetched.size_bytes + running

    async def close(self) -> None:
        """Stop every flight; what is covered stays as partial entries."""
        await self._flights.close()
        if self._hood is not None:
            await self._hood.close()
        await self.summing.close()

    def note_whole(self, entry: Entry) -> None:
        """An entry that is stored whole: let its digest be known, where that is wanted."""
        if self._around.tells_digests:
            self.summing.note(entry)

    async def _begin(self, flight: Flight[Landing], order: Order, key: str) -> None:
        """Ask when it is this process's turn; else what is stored is to be looked at again."""
        moment = None
        if self._hood is not None:
            moment = await self._hood.moment()
            turn = await self._hood.turn(key, order)
            if turn is None:
                flight.land(Vanished())
                return
            flight.on_landing(turn.give_up)
        await self._fly(flight, order, moment)

    async def _fly(
        self, flight: Flight[Landing], order: Order, moment: object | None = None
    ) -> None:
        transfer: Transfer | Whole | None = None
        try:
            request_time = self._around.wall_clock()
            async with self._open(order) as (response, source):
                times = (request_time, self._around.wall_clock())
                landing = await self.judge.judge(order, response, times)
                match landing:
                    case Filling(Whole() as whole):
                        transfer = whole
                        self._take(flight, landing, whole, source)
                    case Filling(Transfer() as filling):
                        transfer = filling
                        await self._heed_purges(flight, order, moment)
                        await self._fill(flight, landing, filling, response, source)
                    case Live():
                        await self._pass_on(flight, order, landing, response)
                    case _:
                        flight.land(landing)
            if transfer is not None:
                await transfer.finish()
        finally:
            if transfer is not None:
                await self._retire(transfer)

    async def _heed_purges(
        self, flight: Flight[Landing], order: Order, moment: object | None
    ) -> None:
        """Purges by other processes since it was asked count as those by this one."""
        if self._hood is not None:
            purged = await self._hood.purged_since(moment)
            flight.forgotten |= any(_may_bring(order.target, one) for one in purged)

    async def _fill(
        self,
        flight: Flight[Landing],
        landing: Filling,
        transfer: Transfer,
        response: UpstreamResponse,
        source: Source,
    ) -> None:
        if flight.forgotten:
            # Purged before it had an answer: who waits gets it, nobody later.
            await self.judge.forget(transfer.entry)
        part = content_range_of(response.head)
        self.transfers[transfer.entry.entry_id] = transfer
        flight.land(landing)
        await transfer.fill(response, source, part.interval if part else None)

    def _take(
        self, flight: Flight[Landing], landing: Filling, whole: Whole, source: Source
    ) -> None:
        """Let the store have what is here, and everybody who waits, in one tick: whoever looks
        or purges from now on finds it there."""
        health = self._around.health
        if whole.error is not None:
            health.note_failure(source.url, why=NOT_AS_PROMISED)
        else:
            health.note_success(source.url)
            # Purged before it had an answer: who waits gets it, nobody later.
            if not flight.forgotten:
                whole.note_storing(self._store.put(whole.complete_entry(), whole.content))
        self.transfers[whole.entry.entry_id] = whole
        flight.land(landing)

    async def _pass_on(
        self, flight: Flight[Landing], order: Order, landing: Live, response: UpstreamResponse
    ) -> None:
        relay = landing.relay
        if order.behind or order.abandoned:
            await relay.aclose()
        flight.land(landing)
        try:
            await relay.pump(response, skip_bytes=landing.skip_bytes)
        finally:
            self._fetched.size_bytes += relay.passed_bytes

    async def _retire(self, transfer: Transfer | Whole) -> None:
        """After this the store alone says what there is of the entry."""
        entry = transfer.entry
        if isinstance(transfer.error, ObjectOutgrown):
            self.outgrown.note(entry.key)
        try:
            await transfer.close()
            if isinstance(transfer.error, UpstreamChanged | ObjectOutgrown):
                await self.judge.forget(entry)
            self.note_whole(transfer.entry)
        finally:
            self._fetched.size_bytes += transfer.fetched_bytes
            self.transfers.pop(entry.entry_id, None)
            transfer.settled.set()

    @asynccontextmanager
    async def _open(self, order: Order) -> AsyncGenerator[tuple[UpstreamResponse, Source]]:
        """The first good answer among the mirrors, the best one asked first."""
        health = self._around.health
        urls = health.order(order.urls)
        for url in urls:
            is_last = url == urls[-1]
            with health.using(url):
                async with AsyncExitStack() as stack:
                    opening = self._around.upstream.open(order.ask(url))
                    try:
                        response = await stack.enter_async_context(opening)
                    except UpstreamError as error:
                        health.note_failure(url, why=error.detail)
                        if is_last:
                            raise
                        continue
                    if response.head.status in TRY_ELSEWHERE and not is_last:
                        health.note_failure(url, why=f"It answers {response.head.status}.")
                        continue
                    yield response, source_of(order.target, url)
                    return
        raise UpstreamUnreachable("No upstream is configured for this path.")


def _may_bring(target: Target | None, selection: Selection) -> bool:
    """Whether the flight for this target may bring what a purge takes. Tags come with an
    answer only: until then it may."""
    if target is None or selection.everything or selection.tag is not None:
        return True
    if selection.prefix is not None:
        return target.name.startswith(selection.prefix)
    return selection.key == target.key or selection.mount == target.mount.name
