"""Going out: one flight per question, and what its answer turns out to be.

A flight opens the upstream response, looks at its head, and lands as one of

* ``Confirmed``: a 304, or anything else that proves a stored entry good;
* ``Filling``: a transfer that everybody who waits may read from;
* ``Live``: an answer that is not for sharing; one client takes it, the others ask for themselves;
* ``Vanished``: what we asked on the strength of is no longer so; look again.

The frame that opened the response pumps it and releases it; the transfer may go on
afterwards with connections of its own, in the same task.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from forebay.errors import (
    EntryDamaged,
    StoreError,
    UpstreamChanged,
    UpstreamError,
    UpstreamUnreachable,
)
from forebay.model import Ask, Entry, Fields, Identity, Interval, Request, Target
from forebay.ports import Draft, Store, UpstreamResponse
from forebay.rules import coverage as cov
from forebay.rules.content_range import content_range_of
from forebay.rules.proof import Changed, Proven, joining_validator, prove
from forebay.rules.storing import DoNotStore, storable, stored_head
from forebay.rules.validation import freshens, identity_of, refreshed
from forebay.rules.vary import selecting_values, vary_names
from forebay.streaming.crew import Subject, Surroundings
from forebay.streaming.flight import Flight, Flights
from forebay.streaming.relay import Relay
from forebay.streaming.segment import Source
from forebay.streaming.transfer import Transfer

VARIANT = ":variant"
"""Name in ``Entry.vary`` of what a target itself selects by; no field can be called so."""

TRY_ELSEWHERE = frozenset({429, 500, 502, 503, 504})
"""Statuses after which another mirror is asked, if there is one."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The entry holds, with these fields and times."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Filling:
    """The answer is being stored."""

    transfer: Transfer


@dataclass(frozen=True, slots=True)
class Live:
    """The answer is for one client only."""

    relay: Relay
    why: str


@dataclass(frozen=True, slots=True)
class Vanished:
    """Look again: the entry that was asked about is gone."""


Landing: TypeAlias = Confirmed | Filling | Live | Vanished


@dataclass(frozen=True, slots=True)
class Order:
    """What a flight is to ask.

    ``fields`` go upstream beside the target's own. ``entry`` is the one that is asked about:
    with ``wanted``, for these missing bytes of it; without, whether it still holds.
    ``keep`` false passes the answer through whatever it is.
    """

    target: Target
    request: Request
    fields: Fields = field(default_factory=Fields)
    entry: Entry | None = None
    wanted: Interval | None = None
    keep: bool = True
    body: AsyncIterator[bytes] | None = None
    body_length_bytes: int | None = None

    def ask(self, url: str) -> Ask:
        """The request of ours to one of the target's addresses."""
        return Ask(
            url,
            method=self.request.method if not self.keep else "GET",
            fields=Fields((*self.target.forwarded, *self.fields)),
            body=self.body,
            body_length_bytes=self.body_length_bytes,
            follow_redirects=self.request.method in {"GET", "HEAD"},
            unguarded=bool(self.target.mount.upstreams),
        )


class Fetcher:
    """All flights and transfers of one service."""

    def __init__(self, store: Store, around: Surroundings) -> None:
        self._store = store
        self._around = around
        self._flights: Flights[Landing] = Flights()
        self.transfers: dict[str, Transfer] = {}
        """Running transfers by ``entry_id``."""
        self.fetched_bytes = 0
        """Body bytes from upstream in flights that have ended."""

    def join(self, key: str, order: Order) -> tuple[Flight[Landing], bool]:
        """The flight under this key, and whether this order started it."""
        return self._flights.join(key, lambda flight: self._fly(flight, order))

    def launch(self, order: Order) -> Flight[Landing]:
        """A flight of its own, that nobody joins."""
        return self._flights.launch(lambda flight: self._fly(flight, order))

    def forget_flights(self, key: str | None) -> None:
        """After a purge of this key (None: of much): who comes now asks upstream anew."""
        self._flights.forget(lambda name: key is None or name.startswith(key))

    def fetched_bytes_so_far(self) -> int:
        """Body bytes from upstream since start, those of running transfers included."""
        return self.fetched_bytes + sum(t.fetched_bytes for t in self.transfers.values())

    async def close(self) -> None:
        """Stop every flight; what is covered stays as partial entries."""
        await self._flights.close()

    # One flight.

    async def _fly(self, flight: Flight[Landing], order: Order) -> None:
        transfer: Transfer | None = None
        try:
            request_time = self._around.wall_clock()
            async with self._open(order) as (response, source):
                landing = await self._judge(order, response, request_time)
                match landing:
                    case Filling(transfer):
                        if flight.forgotten:
                            # Purged before it had an answer: who waits gets it, nobody later.
                            entry = transfer.entry
                            await self._store.forget(entry.entry_id, entry.key)
                        part = content_range_of(response.head)
                        self.transfers[transfer.entry.entry_id] = transfer
                        flight.land(landing)
                        await transfer.fill(response, source, part.interval if part else None)
                    case Live(relay):
                        flight.land(landing)
                        await relay.pump(response)
                        self.fetched_bytes += relay.passed_bytes
                    case _:
                        flight.land(landing)
            if transfer is not None:
                await transfer.finish()
        finally:
            if transfer is not None:
                await self._retire(transfer)

    async def _retire(self, transfer: Transfer) -> None:
        """After this the store alone says what there is of the entry."""
        entry = transfer.entry
        try:
            await transfer.close()
            if isinstance(transfer.error, UpstreamChanged):
                await self._store.forget(entry.entry_id, entry.key)
        finally:
            self.fetched_bytes += transfer.fetched_bytes
            self.transfers.pop(entry.entry_id, None)
            transfer.settled.set()

    @asynccontextmanager
    async def _open(self, order: Order) -> AsyncGenerator[tuple[UpstreamResponse, Source]]:
        """The first good answer among the mirrors, the best one asked first."""
        health = self._around.health
        urls = health.order(order.target.urls)
        for url in urls:
            is_last = url == urls[-1]
            async with AsyncExitStack() as stack:
                try:
                    stack.enter_context(health.using(url))
                    opening = self._around.upstream.open(order.ask(url))
                    response = await stack.enter_async_context(opening)
                except UpstreamError:
                    health.note_failure(url)
                    if is_last:
                        raise
                    continue
                if response.head.status in TRY_ELSEWHERE and not is_last:
                    health.note_failure(url)
                    continue
                yield response, source_of(order.target, url)
                return
        raise UpstreamUnreachable("No upstream is configured for this path.")

    # What an answer means.

    async def _judge(
        self, order: Order, response: UpstreamResponse, request_time: float
    ) -> Landing:
        if not order.keep:
            return Live(Relay(response), "bypass")
        times = (request_time, self._around.wall_clock())
        entry = order.entry
        if entry is not None and response.head.status == 304:
            return await self._confirm(entry, response, times)
        if entry is not None and order.wanted is not None:
            landing = await self._continue(order, entry, response, times)
            if landing is not None:
                return landing
        return await self._keep(order, response, times)

    async def _confirm(
        self, entry: Entry, response: UpstreamResponse, times: tuple[float, float]
    ) -> Landing:
        if not freshens(entry, response.head):
            await self._store.forget(entry.entry_id, entry.key)
            return Vanished()
        return Confirmed(await self.renew(refreshed(entry, response.head, *times)))

    async def renew(self, entry: Entry) -> Entry:
        """Make these fields and times those of the stored entry, and of its running transfer."""
        transfer = self.transfers.get(entry.entry_id)
        if transfer is not None:
            transfer.refresh(entry)
        await self._store.refresh(entry)
        return entry

    async def _continue(
        self, order: Order, entry: Entry, response: UpstreamResponse, times: tuple[float, float]
    ) -> Landing | None:
        """A transfer of what a partial entry misses; None where the answer is something new."""
        policy, head = order.target.mount.transfer, response.head
        if order.wanted is None:
            return None
        verdict = prove(head, order.wanted, entry.head, entry.identity, policy.identity, times[1])
        match verdict:
            case Proven():
                entry = await self.renew(refreshed(entry, head, *times))
                try:
                    draft = await self._store.resume(entry)
                except EntryDamaged:
                    return Vanished()
                except StoreError as trouble:
                    return self._live(order, response, trouble.detail)
                return self._fill(order, draft, entry)
            case Changed():
                await self._store.forget(entry.entry_id, entry.key)
                return None if head.status == 200 else Vanished()
        return self._live(order, response, verdict.why if hasattr(verdict, "why") else "busy")

    async def _keep(
        self, order: Order, response: UpstreamResponse, times: tuple[float, float]
    ) -> Landing:
        target, head = order.target, response.head
        policy = target.mount.policy
        verdict = storable(order.request, head, policy, target.path)
        if isinstance(verdict, DoNotStore):
            return self._live(order, response, verdict.reason)
        if not response.framed:
            return self._live(order, response, "body without declared end")
        identity = identity_of(head)
        if head.status == 206 and (
            identity.length_bytes is None or joining_validator(head) is None
        ):
            return self._live(order, response, "part without strong validator")
        entry = self._new_entry(order, response, identity, times)
        try:
            draft = await self._store.begin(entry, _expected_bytes(order, identity))
        except StoreError as trouble:
            return self._live(order, response, trouble.detail)
        return self._fill(order, draft, entry)

    def _live(self, order: Order, response: UpstreamResponse, why: str) -> Landing:
        """Hand the answer to one client, if it answers what a client would understand."""
        if order.wanted is not None and order.entry is not None:
            # It was asked for with our range and If-Range, not a client's: no client's answer.
            raise UpstreamUnreachable(f"The rest of a stored file cannot be fetched: {why}.")
        return Live(Relay(response), why)

    def _fill(self, order: Order, draft: Draft, entry: Entry) -> Filling:
        target = order.target
        subject = Subject(
            sources=tuple(source_of(target, url) for url in target.urls),
            fields=target.forwarded,
            head=entry.head,
            identity=entry.identity,
            policy=target.mount.transfer,
        )
        transfer = Transfer(draft, subject, self._around, expected_digests=target.expected_digests)
        transfer.refresh(entry)
        return Filling(transfer)

    def _new_entry(
        self,
        order: Order,
        response: UpstreamResponse,
        identity: Identity,
        times: tuple[float, float],
    ) -> Entry:
        target, policy = order.target, order.target.mount.policy
        names = vary_names(response.head) or ()
        vary = selecting_values(order.request, names, policy)
        if target.variant:
            vary = ((VARIANT, target.variant), *vary)
        return Entry(
            key=target.key,
            entry_id=uuid.uuid4().hex,
            name=target.name,
            mount=target.mount.name,
            head=stored_head(response.head, times[1]),
            identity=identity,
            request_time=times[0],
            response_time=times[1],
            vary=vary,
            stored_time=times[1],
        )


def source_of(target: Target, url: str) -> Source:
    """One of the target's addresses as a source of segments."""
    return Source(url, mirror=url, unguarded=bool(target.mount.upstreams))


def _expected_bytes(order: Order, identity: Identity) -> int | None:
    """What the transfer will bring at first: room is made for that."""
    if order.wanted is not None and not order.target.mount.transfer.complete_ranges:
        return order.wanted.length_bytes
    return identity.length_bytes


def covered(entry: Entry, needed: tuple[Interval, ...]) -> bool:
    """Whether all of these bytes are on disk."""
    return entry.complete or all(cov.contains(entry.coverage, part) for part in needed)
