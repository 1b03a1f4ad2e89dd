"""What a transfer needs around it, in memory, and the frame that flies it.

``Rig.read`` is the way of a request in short: join the running transfer, or read what is
stored, or go out for what is missing. It does what the service's fetching does, without HTTP.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from itertools import count

from forebay.errors import UpstreamChanged, UpstreamError
from forebay.model import Ask, Entry, Fields, Head, Interval, Octets, TransferPolicy, Window
from forebay.ports import Body, Draft, MirrorHealth, UpstreamResponse
from forebay.rules import coverage as cov
from forebay.rules.content_range import content_range_of, format_range
from forebay.rules.proof import Changed, Proven, joining_validator, may_join, prove
from forebay.rules.validation import identity_of
from forebay.streaming.crew import Subject, Surroundings
from forebay.streaming.flight import Flight, Flights
from forebay.streaming.pace import Slots
from forebay.streaming.reader import StoredReader
from forebay.streaming.segment import Source
from forebay.streaming.transfer import Transfer
from forebay.upstream.mirrors import Mirrors
from tests.fakes.store import MemoryStore
from tests.fakes.upstream import Representation, ScriptedUpstream

URL = "http://one.test/f"
OTHER = "http://two.test/f"
THIRD = "http://three.test/f"
KEY = "key"
NOW = 1_700_000_000.0

SMALL = TransferPolicy(min_segment_bytes=4000, max_tries=3)
"""A policy whose pieces suit objects of some ten kilobytes."""


def content(length: int, version: int = 0) -> bytes:
    """Bytes of which any few tell their position and their version."""
    return random.Random(version).randbytes(length)


class Rig:
    """One upstream, one store, and the transfers between them."""

    def __init__(
        self,
        *,
        urls: Sequence[str] = (URL,),
        policy: TransferPolicy = SMALL,
        digests: tuple[tuple[str, str], ...] = (),
        health: MirrorHealth | None = None,
        slots: Slots | None = None,
    ) -> None:
        clock = asyncio.get_running_loop().time
        self.urls = tuple(urls)
        self.policy = policy
        self.digests = digests
        self.upstream = ScriptedUpstream()
        self.store = MemoryStore()
        self.slots = slots or Slots(64, 16)
        self.health = health or Mirrors(clock=clock)
        self.around = Surroundings(
            self.upstream, self.health, self.slots, clock, lambda: NOW + clock()
        )
        self.flights: Flights[Transfer] = Flights()
        self.running: Transfer | None = None
        self.transfers: list[Transfer] = []
        self.written: dict[str, list[Interval]] = {}
        """What was written into each entry's blob, in order."""
        self._ids = count(1)

    def hold(self, representation: Representation, *urls: str) -> None:
        """Let these URLs (all where none is named) hold this."""
        for url in urls or self.urls:
            self.upstream.holdings[url] = representation

    async def start(self, wanted: Interval | None = None) -> Transfer:
        """The transfer of what is missing, or of the whole; one that is running is joined."""
        flight, _ = self.flights.join(KEY, lambda flight: self._fly(flight, wanted))
        return await flight.wait()

    async def read(self, wanted: Interval | None = None) -> Body:
        """A reader of this slice (None: everything), wherever its bytes come from."""
        for _ in range(5):
            if self.running is not None:
                if not self.running.is_over:
                    return self.running.reader(wanted)
                await self.running.settled.wait()
            entry = await self._entry_of_use()
            if self.running is not None:
                continue  # it began while we looked
            if entry is not None:
                slice_ = _within(wanted, entry.length_bytes or 0)
                missing = cov.missing(entry.coverage, slice_)
                if entry.complete or (not missing and entry.length_bytes is not None):
                    return StoredReader(self.store.open_reader(entry), slice_)
                wanted_now = missing[0]
                transfer = await self.start(wanted_now)
            else:
                transfer = await self.start(wanted)
            if not transfer.is_over:
                return transfer.reader(wanted)
        raise UpstreamError("The ground kept moving.")

    async def entry(self) -> Entry | None:
        """What the store says of the object."""
        return next(iter(await self.store.find(KEY)), None)

    async def _entry_of_use(self) -> Entry | None:
        """The same, unless it is a part to which nothing may be joined (as the service has it)."""
        entry = await self.entry()
        if entry is None or entry.complete:
            return entry
        may_go_on = entry.length_bytes is not None and may_join(entry.head, self.policy.identity)
        return entry if may_go_on else None

    async def close(self) -> None:
        await self.flights.close()
        await self.store.close()

    async def _fly(self, flight: Flight[Transfer], wanted: Interval | None) -> None:
        transfer: Transfer | None = None
        entry = await self._entry_of_use()
        url = self.health.order(self.urls)[0]
        fields = Fields()
        holding = self.upstream.holdings[url]
        if wanted is not None and (entry is not None or (holding.etag or "W").startswith('"')):
            fields = fields.with_field("range", format_range(wanted))
            validator = joining_validator(entry.head) if entry is not None else None
            if validator is not None:
                fields = fields.with_field("if-range", validator)
        try:
            async with self.upstream.open(Ask(url, fields=fields)) as response:
                draft = await self._draft(response, entry, wanted)
                transfer = self.make(draft)
                self.running = transfer
                flight.land(transfer)
                part = content_range_of(response.head)
                await transfer.fill(response, source(url), part.interval if part else None)
            await transfer.finish()
        except UpstreamError:
            self.health.note_failure(url)
            raise
        finally:
            if transfer is not None:
                await self._retire(transfer)

    async def _retire(self, transfer: Transfer) -> None:
        try:
            await transfer.close()
            if isinstance(transfer.error, UpstreamChanged):
                await self.store.forget(transfer.entry.entry_id, KEY)
        finally:
            if self.running is transfer:
                self.running = None
            transfer.settled.set()

    def make(self, draft: Draft) -> Transfer:
        """A transfer that has not begun."""
        draft = _NotingDraft(draft, self.written.setdefault(draft.entry.entry_id, []))
        subject = Subject(
            sources=tuple(source(url) for url in self.urls),
            fields=Fields(),
            head=draft.entry.head,
            identity=draft.entry.identity,
            policy=self.policy,
        )
        transfer = Transfer(draft, subject, self.around, expected_digests=self.digests)
        self.transfers.append(transfer)
        return transfer

    async def _draft(
        self, response: UpstreamResponse, entry: Entry | None, wanted: Interval | None
    ) -> Draft:
        head = response.head
        if entry is not None and wanted is not None:
            which, now = self.policy.identity, self.around.wall_clock()
            verdict = prove(head, wanted, entry.head, entry.identity, which, now)
            if isinstance(verdict, Proven):
                return await self.store.resume(entry)
            if not isinstance(verdict, Changed):
                raise UpstreamError("The rest cannot be fetched.")
            await self.store.forget(entry.entry_id, KEY)
        if head.status not in {200, 206} or (head.status == 206 and _part_is_useless(head, wanted)):
            raise UpstreamError("No use.")
        fresh = Entry(
            key=KEY,
            entry_id=f"e{next(self._ids)}",
            name=URL,
            mount="m",
            head=head,
            identity=identity_of(head),
            request_time=self.around.wall_clock(),
            response_time=self.around.wall_clock(),
        )
        return await self.store.begin(fresh)


class _NotingDraft:
    """A draft that notes what is written."""

    def __init__(self, draft: Draft, written: list[Interval]) -> None:
        self._draft = draft
        self._written = written
        self.open_reader = draft.open_reader
        self.checkpoint = draft.checkpoint
        self.commit = draft.commit
        self.close = draft.close
        self.wished_elsewhere = draft.wished_elsewhere

    @property
    def entry(self) -> Entry:
        return self._draft.entry

    async def write(self, position: int, pieces: Sequence[Octets]) -> None:
        await self._draft.write(position, pieces)
        self._written.append(Interval(position, position + sum(map(len, pieces))))


def _within(wanted: Interval | None, length: int) -> Interval:
    """The slice of an object of this length; empty where there is nothing of it."""
    if wanted is None:
        return Interval(0, length)
    return Interval(min(wanted.start, length), min(wanted.stop, length))


def source(url: str) -> Source:
    return Source(url, mirror=url)


def _part_is_useless(head: Head, wanted: Interval | None) -> bool:
    part = content_range_of(head)
    if part is None or part.complete_length is None or joining_validator(head) is None:
        return True
    return wanted is None or part.start != wanted.start or part.stop > wanted.stop


async def take(body: Body, most_bytes: int | None = None) -> bytes:
    """What the body gives until its end, or until there is this much; does not close it."""
    found = bytearray()
    while most_bytes is None or len(found) < most_bytes:
        piece = await body.next_piece()
        if piece is None:
            break
        if isinstance(piece, Window):
            piece = os.pread(piece.fileno, piece.stop - piece.start, piece.start)
        found += piece
    return bytes(found)


async def take_all(body: Body) -> bytes:
    """Everything, and the body closed."""
    try:
        return await take(body)
    finally:
        await body.aclose()
