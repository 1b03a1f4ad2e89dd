"""Answers from what is stored, and from what is being stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from forebay.errors import EntryDamaged, NotStored, StoreError
from forebay.model import (
    CacheOutcome,
    CacheStatus,
    Entry,
    Fields,
    Interval,
    Policy,
    Request,
    Target,
)
from forebay.ports import Body, Reply, Store
from forebay.rules import coverage as cov
from forebay.rules.content_range import format_range
from forebay.rules.lifetimes import current_age, freshness_lifetime, request_directives
from forebay.rules.proof import joining_validator
from forebay.service import replies
from forebay.service.checking import CheckedReader, first_step
from forebay.service.continuing import ContinuingBody
from forebay.service.fetching import Fetcher
from forebay.service.landings import Filling, Live, Order, flight_key, request_to_keep
from forebay.service.passing import Passage
from forebay.streaming.follower import Arriving, Follower
from forebay.streaming.reader import StoredReader

REST_ROUNDS = 4
"""How often the rest of an entry is looked for in the store before it is fetched past it."""


class Answers:
    """Makes replies from entries. None in place of a reply means: look again, things moved."""

    def __init__(
        self, store: Store, fetcher: Fetcher, passage: Passage, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._fetcher = fetcher
        self._passage = passage
        self._clock = clock

    async def from_entry(
        self,
        request: Request,
        target: Target,
        entry: Entry,
        status: CacheStatus,
        now: float,
        *,
        may_forward: bool = True,
    ) -> Reply | None:
        """The reply from an entry that may be used as it is."""
        transfer = self._fetcher.transfers.get(entry.entry_id)
        if transfer is not None and transfer.is_over:
            await transfer.settled.wait()
            settled = await self._as_settled(entry)
            if settled is None:
                return None
            entry, transfer = settled, self._fetcher.transfers.get(entry.entry_id)
        shaped = replies.shape(request, entry)
        wanted = replies.needed(shaped, entry)
        if transfer is None:
            if isinstance(shaped, replies.Plain) or _covered(entry, wanted):
                return await self._from_disk(request, target, entry, shaped, status, now)
            if not may_forward:
                raise NotStored("only-if-cached was asked, and a part of the file is not stored.")
            return await self._continue(request, target, entry, wanted, status)
        if not _has_arrived(transfer, shaped, wanted):
            if not may_forward:
                raise NotStored("only-if-cached was asked, and the file is still arriving.")
            status = _joined(status)
        if isinstance(shaped, replies.Bytes):
            self._store.touch(entry)
        age = current_age(entry, now)
        return await self._read(request, target, transfer, shaped, entry, status, now, age)

    async def _as_settled(self, entry: Entry) -> Entry | None:
        """The same entry as the store has it now that its transfer is over, if it was kept.

        Who has had it confirmed by upstream must not be sent to ask again.
        """
        stored = await self._store.find(entry.key)
        return next((found for found in stored if found.entry_id == entry.entry_id), None)

    async def from_transfer(
        self, request: Request, target: Target, transfer: Arriving, status: CacheStatus
    ) -> Reply | None:
        """A slice of what is being fetched for this request, or was a moment ago."""
        if transfer.is_over:
            await transfer.settled.wait()
            return None
        entry = transfer.snapshot()
        shaped = replies.shape(request, entry)
        return await self._read(
            request, target, transfer, shaped, entry, status, self._clock(), None
        )

    async def stale(self, request: Request, target: Target, entry: Entry, why: str) -> Reply | None:
        """The reply from an entry that upstream would not, or could not, confirm."""
        now = self._clock()
        status = CacheStatus(
            CacheOutcome.HIT, ttl_seconds=ttl_seconds(entry, target, now), detail=f"stale: {why}"
        )
        return await self.from_entry(request, target, entry, status, now)

    async def _read(
        self,
        request: Request,
        target: Target,
        transfer: Arriving,
        shaped: replies.Plain | replies.Bytes,
        entry: Entry,
        status: CacheStatus,
        now: float,
        age_seconds: float | None,
    ) -> Reply | None:
        async def fetch_rest(wanted: Interval) -> Body:
            if isinstance(transfer, Follower):
                # Not the disk has failed, but the process that fetched.
                return await self._rest(request, target, transfer.snapshot(), wanted)
            return await self._passage.rest(request, target, transfer.snapshot(), wanted)

        def open_part(interval: Interval | None) -> Body:
            return ContinuingBody(transfer, interval, fetch_rest)

        try:
            return await replies.finish(shaped, entry, status, now, age_seconds, open_part)
        except StoreError as trouble:
            return await self._past_the_disk(request, target, trouble)

    async def _from_disk(
        self,
        request: Request,
        target: Target,
        entry: Entry,
        shaped: replies.Plain | replies.Bytes,
        status: CacheStatus,
        now: float,
    ) -> Reply | None:
        async def fetch_rest(wanted: Interval) -> Body:
            return await self._rest(request, target, entry, wanted)

        def open_part(interval: Interval | None) -> Body:
            part = interval or Interval(0, entry.length_bytes or 0)
            fileno = self._store.open_reader(entry)
            if self._store.needs_verification(entry):
                return CheckedReader(self._store, entry, fileno, part, fetch_rest)
            return StoredReader(fileno, part)

        try:
            if not await self._begins_sound(entry, replies.needed(shaped, entry)):
                return None
            age = current_age(entry, now)
            reply = await replies.finish(shaped, entry, status, now, age, open_part)
        except EntryDamaged:
            await self._fetcher.judge.forget(entry)
            return None
        except StoreError as trouble:
            return await self._past_the_disk(request, target, trouble)
        self._store.touch(entry)
        self._fetcher.note_whole(entry)
        return reply

    async def _begins_sound(self, entry: Entry, wanted: tuple[Interval, ...]) -> bool:
        """Whether the first bytes of each part may be sent; if not, the entry has lost them.

        Raises ``StoreError`` as ``Store.verify`` does.
        """
        if self._store.needs_verification(entry):
            for part in wanted:
                if await self._store.verify(entry, first_step(part)) is not entry:
                    return False
        return True

    async def _rest(self, request: Request, target: Target, entry: Entry, wanted: Interval) -> Body:
        """These bytes of an entry in which damage was found while it was read, or whose fetching
        another process has given up.

        Kept where they can be: the entry is partial now, and is continued as any other. Raises
        ``ForebayError`` where they cannot be had.
        """
        validator = joining_validator(entry.head, target.mount.transfer.identity)
        for _ in range(REST_ROUNDS if validator is not None else 0):
            left = await self._as_settled(entry)
            if left is None or validator is None:
                break
            transfer = await self._fetcher.arriving(left, target)
            if transfer is not None:
                left = transfer.snapshot()
            # If-Range, because what upstream has by now may be another representation.
            part = Fields([("range", format_range(wanted)), ("if-range", validator)])
            asked = replace(request_to_keep(request, target), fields=part)
            status = CacheStatus(CacheOutcome.PARTIAL)
            reply = await self.from_entry(asked, target, left, status, self._clock())
            if reply is None:
                continue  # it has moved: somebody else may be fetching it by now
            if reply.body is None:
                break
            if (reply.status, reply.length_bytes) == (206, wanted.length_bytes):
                return reply.body
            await reply.body.aclose()
            break
        return await self._passage.rest(request, target, entry, wanted)

    async def _past_the_disk(self, request: Request, target: Target, trouble: StoreError) -> Reply:
        if "only-if-cached" in request_directives(request):
            raise NotStored("only-if-cached was asked, and the store cannot be read.")
        return await self._passage.ask(request, target, CacheOutcome.BYPASS, trouble.detail)

    async def _continue(
        self,
        request: Request,
        target: Target,
        entry: Entry,
        wanted: tuple[Interval, ...],
        status: CacheStatus,
    ) -> Reply | None:
        """Fetch what the entry lacks of these bytes, and answer while it comes."""
        if "no-store" in request_directives(request):
            # Nothing that this request brings may be kept (RFC 9111 §5.2.1.5).
            return await self._passage.ask(request, target, CacheOutcome.REQUEST, "no-store")
        missing = cov.subtract(cov.normalise(wanted), entry.coverage)[0]
        fields = Fields([("range", format_range(missing))])
        validator = joining_validator(entry.head, target.mount.transfer.identity)
        if validator is not None:
            fields = fields.with_field("if-range", validator)
        asked = request_to_keep(request, target)
        order = Order(target, asked, fields, entry, missing)
        flight, leads = self._fetcher.join(flight_key(target, entry.entry_id), order)
        landing = await flight.wait()
        if isinstance(landing, Live):
            return await self._passage.ask(request, target, CacheOutcome.PARTIAL, landing.why)
        if not isinstance(landing, Filling):
            return None
        outcome = status.outcome
        partial = CacheStatus(
            CacheOutcome.PARTIAL if outcome is CacheOutcome.HIT else outcome,
            stored=True,
            collapsed=not leads,
            fwd_status=landing.status,
        )
        return await self.from_transfer(request, target, landing.transfer, partial)


def ttl_seconds(entry: Entry, target: Target, now: float) -> int:
    """The freshness that is left, negative where it is over."""
    policy: Policy = target.mount.policy
    lifetime = freshness_lifetime(entry.head, policy, target.path, entry.response_time)
    return int(lifetime - current_age(entry, now))


def _covered(entry: Entry, needed: tuple[Interval, ...]) -> bool:
    """Whether all of these bytes are on disk."""
    return entry.complete or all(cov.contains(entry.coverage, part) for part in needed)


def _has_arrived(
    transfer: Arriving, shaped: replies.Plain | replies.Bytes, wanted: tuple[Interval, ...]
) -> bool:
    if isinstance(shaped, replies.Plain):
        return True
    return transfer.length_bytes is not None and all(
        cov.contains(transfer.coverage, part) for part in wanted
    )


def _joined(status: CacheStatus) -> CacheStatus:
    if status.outcome is not CacheOutcome.HIT:
        return status
    return CacheStatus(CacheOutcome.PARTIAL, collapsed=True, ttl_seconds=status.ttl_seconds)
