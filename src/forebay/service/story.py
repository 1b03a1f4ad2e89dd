"""The story of one request: target, entry, decision, source, outcome, selection, reader, reply.

Each round looks at what is stored now and decides. A round that finds the ground moved (an
entry purged, a flight that brought something else) gives None, and the next one looks again:
whoever has waited must not act on what he saw before. After a few rounds the request is passed
straight through, so that nobody is kept waiting by a moving target.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import assert_never

from forebay.errors import NotStored, StoreError, UpstreamError
from forebay.model import (
    CacheOutcome,
    CacheStatus,
    Entry,
    Fields,
    Head,
    Interval,
    Policy,
    Request,
    Target,
)
from forebay.ports import Body, Reply, Store
from forebay.rules import coverage as cov
from forebay.rules import freshness
from forebay.rules.content_range import format_range
from forebay.rules.heads import fields_to_forward, fields_to_pass, response_fields
from forebay.rules.lifetimes import current_age, freshness_lifetime
from forebay.rules.proof import joining_validator
from forebay.rules.ranges import IntRange, format_specs, if_range_holds, range_bounds_hint
from forebay.rules.validation import conditional_fields, head_updates
from forebay.rules.vary import select_variant
from forebay.service import replies
from forebay.service.fetching import (
    VARIANT,
    Confirmed,
    Fetcher,
    Filling,
    Landing,
    Live,
    Order,
    Vanished,
    covered,
)
from forebay.streaming.flight import Flight
from forebay.streaming.reader import StoredReader
from forebay.streaming.relay import Relay
from forebay.streaming.transfer import Transfer

MAX_ROUNDS = 4
UNSHAREABLE_SECONDS = 30.0
"""How long the answers of a target that could not be shared are not waited for in common.
Varnish keeps its hit-for-miss for 120 s; nothing is lost here when it is short."""
SICK_STATUSES = frozenset({500, 502, 503, 504})
"""Answers in whose place a stale one may be given (RFC 5861 §4)."""


class Story:
    """Answers GET and HEAD from the store and through it, and lets the rest pass."""

    def __init__(self, store: Store, fetcher: Fetcher, clock: Callable[[], float]) -> None:
        self._store = store
        self._fetcher = fetcher
        self._clock = clock
        self._unshareable: dict[str, float] = {}

    async def tell(
        self,
        request: Request,
        target: Target,
        body: AsyncIterator[bytes] | None = None,
        body_length_bytes: int | None = None,
    ) -> Reply:
        """The reply to this request for this target. Raises ``ForebayError``."""
        policy = target.mount.policy
        for _ in range(MAX_ROUNDS):
            now = self._clock()
            entry, others = await self._look_up(request, target)
            decision = freshness.decide(
                request, entry, now, policy, target.path, has_other_variants=others
            )
            match decision:
                case freshness.Reuse():
                    reply = await self._reuse(request, target, decision, now)
                case freshness.Validate():
                    reply = await self._validate(request, target, decision)
                case freshness.Fetch():
                    reply = await self._fetch(request, target, decision)
                case freshness.Bypass(reason, detail):
                    return await self.pass_through(
                        request, target, reason, detail, body, body_length_bytes
                    )
                case freshness.Refuse(detail):
                    raise NotStored(f"only-if-cached was asked, and the file is {detail}.")
                case unknown:
                    assert_never(unknown)
            if reply is not None:
                return reply
        return await self.pass_through(request, target, CacheOutcome.BYPASS, "moving target")

    async def _look_up(self, request: Request, target: Target) -> tuple[Entry | None, bool]:
        """The entry that this request selects, as it is now, and whether there are others."""
        stored = await self._store.find(target.key)
        entries = [e for e in stored if dict(e.vary).get(VARIANT, "") == target.variant]
        entry = select_variant(request, entries, target.mount.policy)
        if entry is None:
            return None, bool(stored)
        transfer = self._fetcher.transfers.get(entry.entry_id)
        if transfer is not None:
            entry = transfer.snapshot()
        elif not entry.complete and (
            joining_validator(entry.head) is None or entry.length_bytes is None
        ):
            # A rest that nothing can be joined to (a crash leaves such): of no use.
            await self._store.forget(entry.entry_id, entry.key)
            return None, False
        return entry, False

    # From what is stored.

    async def _reuse(
        self, request: Request, target: Target, decision: freshness.Reuse, now: float
    ) -> Reply | None:
        if decision.revalidate_behind:
            self._ask_behind(request, target, decision.entry)
        status = CacheStatus(CacheOutcome.HIT, ttl_seconds=decision.ttl_seconds)
        return await self._answer(
            request, target, decision.entry, status, now, may_forward=decision.may_forward
        )

    async def _answer(
        self,
        request: Request,
        target: Target,
        entry: Entry,
        status: CacheStatus,
        now: float,
        *,
        may_forward: bool = True,
    ) -> Reply | None:
        """The reply from an entry that may be used; None to look again."""
        shaped = replies.shape(request, entry)
        wanted = replies.needed(shaped, entry)
        age = current_age(entry, now)
        transfer = self._fetcher.transfers.get(entry.entry_id)
        if transfer is not None:
            if transfer.is_over:
                await transfer.settled.wait()
                return None
            if not _has_arrived(transfer, shaped, wanted):
                status = _joined(status)
            if isinstance(shaped, replies.Bytes):
                self._store.touch(entry)
            return replies.finish(shaped, entry, status, now, age, transfer.reader)
        if isinstance(shaped, replies.Plain) or covered(entry, wanted):
            return self._from_disk(entry, shaped, status, now, age)
        if not may_forward:
            raise NotStored("only-if-cached was asked, and a part of the file is not stored.")
        return await self._continue(request, target, entry, wanted, status)

    def _from_disk(
        self,
        entry: Entry,
        shaped: replies.Plain | replies.Bytes,
        status: CacheStatus,
        now: float,
        age: float,
    ) -> Reply | None:
        def open_part(interval: Interval | None) -> Body:
            whole = Interval(0, entry.length_bytes or 0)
            return StoredReader(self._store.open_reader(entry), interval or whole)

        try:
            reply = replies.finish(shaped, entry, status, now, age, open_part)
        except StoreError:
            # Damaged (the store has forgotten it) or unreadable now: the next round fetches.
            return None
        self._store.touch(entry)
        return reply

    async def _continue(
        self,
        request: Request,
        target: Target,
        entry: Entry,
        wanted: tuple[Interval, ...],
        status: CacheStatus,
    ) -> Reply | None:
        """Fetch what the entry lacks of these bytes, and answer while it comes."""
        missing = cov.subtract(cov.normalise(wanted), entry.coverage)[0]
        fields = Fields([("range", format_range(missing))])
        validator = joining_validator(entry.head)
        if validator is not None:
            fields = fields.with_field("if-range", validator)
        order = Order(target, request, fields, entry, missing)
        flight, leads = self._fetcher.join(_flight_key(target, entry.entry_id), order)
        landing = await flight.wait()
        if not isinstance(landing, Filling):
            return None
        partial = CacheStatus(
            CacheOutcome.PARTIAL if status.outcome is CacheOutcome.HIT else status.outcome,
            stored=True,
            collapsed=not leads,
        )
        return await self._from_transfer(request, landing.transfer, partial)

    # From upstream.

    async def _fetch(
        self, request: Request, target: Target, decision: freshness.Fetch
    ) -> Reply | None:
        key = _flight_key(target)
        if request.method == "HEAD":
            return await self.pass_through(request, target, decision.reason, "")
        if decision.alone or self._unshareable.get(key, 0.0) > self._clock():
            return await self.pass_through(request, target, decision.reason, "not shareable")
        order = Order(target, request, _range_to_begin_with(request))
        flight, leads = self._fetcher.join(key, order)
        return await self._land(request, target, flight, decision.reason, leads=leads)

    async def _validate(
        self, request: Request, target: Target, decision: freshness.Validate
    ) -> Reply | None:
        entry = decision.entry
        if request.method == "HEAD":
            return await self._validate_by_head(request, target, decision)
        if decision.alone:
            return await self.pass_through(request, target, decision.reason, "not shareable")
        order = Order(target, request, conditional_fields(entry), entry)
        flight, leads = self._fetcher.join(_flight_key(target, "validate", entry.entry_id), order)
        try:
            landing = await flight.wait()
        except UpstreamError as error:
            if not decision.serve_if_disconnected:
                raise
            return await self._answer_stale(request, target, entry, error.detail)
        if isinstance(landing, Live) and landing.relay.head.status in SICK_STATUSES:
            if decision.serve_if_error:
                if leads:
                    await landing.relay.aclose()
                return await self._answer_stale(
                    request, target, entry, f"upstream answered {landing.relay.head.status}"
                )
        elif isinstance(landing, Live) and leads:
            # Another answer stands in its place now, and must not be kept (RFC 9111 §4.3.3).
            await self._store.forget(entry.entry_id, entry.key)
        return await self._land(request, target, flight, decision.reason, leads=leads)

    async def _validate_by_head(
        self, request: Request, target: Target, decision: freshness.Validate
    ) -> Reply | None:
        """A HEAD upstream answers a HEAD, and says whether the entry holds (RFC 9111 §4.3.5)."""
        entry, asked = decision.entry, self._clock()
        try:
            reply = await self.pass_through(request, target, decision.reason, decision.detail)
        except UpstreamError as error:
            if not decision.serve_if_disconnected:
                raise
            return await self._answer_stale(request, target, entry, error.detail)
        updated = head_updates(entry, Head(reply.status, reply.fields), asked, self._clock())
        if updated is None:
            await self._store.forget(entry.entry_id, entry.key)
        elif updated is not entry:
            await self._fetcher.renew(updated)
        return reply

    async def _answer_stale(
        self, request: Request, target: Target, entry: Entry, why: str
    ) -> Reply | None:
        now = self._clock()
        ttl = _ttl_seconds(entry, target, now)
        status = CacheStatus(CacheOutcome.HIT, ttl_seconds=ttl, detail=f"stale: {why}")
        return await self._answer(request, target, entry, status, now)

    async def _land(
        self,
        request: Request,
        target: Target,
        flight: Flight[Landing],
        reason: CacheOutcome,
        *,
        leads: bool,
    ) -> Reply | None:
        match await flight.wait():
            case Filling(transfer):
                if not _selects(request, target, transfer.entry):
                    return None
                status = CacheStatus(
                    reason,
                    stored=True,
                    collapsed=not leads,
                    fwd_status=transfer.entry.head.status,
                )
                return await self._from_transfer(request, transfer, status)
            case Confirmed(entry):
                now = self._clock()
                ttl = _ttl_seconds(entry, target, now)
                status = CacheStatus(reason, collapsed=not leads, fwd_status=304, ttl_seconds=ttl)
                return await self._answer(request, target, entry, status, now)
            case Live(relay, why):
                self._note_unshareable(_flight_key(target))
                if leads and _answers(request, relay) and relay.claim():
                    status = CacheStatus(reason, fwd_status=relay.head.status, detail=why)
                    return self._pass_on(request, target, relay, status)
                if leads:
                    await relay.aclose()
                return await self.pass_through(request, target, reason, why)
            case Vanished():
                return None
            case unknown:
                assert_never(unknown)

    async def _from_transfer(
        self, request: Request, transfer: Transfer, status: CacheStatus
    ) -> Reply | None:
        """A slice of what is being fetched for this request, or was a moment ago."""
        if transfer.is_over:
            await transfer.settled.wait()
            return None
        entry = transfer.snapshot()
        shaped = replies.shape(request, entry)
        return replies.finish(shaped, entry, status, self._clock(), None, transfer.reader)

    def _ask_behind(self, request: Request, target: Target, entry: Entry) -> None:
        """One conditional request that nobody waits for (RFC 5861 §3)."""
        order = Order(target, request, conditional_fields(entry), entry)
        self._fetcher.join(_flight_key(target, "validate", entry.entry_id), order)

    # Straight through.

    async def pass_through(
        self,
        request: Request,
        target: Target,
        reason: CacheOutcome,
        detail: str,
        body: AsyncIterator[bytes] | None = None,
        body_length_bytes: int | None = None,
    ) -> Reply:
        """An upstream answer for this client alone; nothing of it is kept."""
        order = Order(
            target,
            request,
            _fields_to_pass_on(request, target),
            keep=False,
            body=body,
            body_length_bytes=body_length_bytes,
        )
        landing = await self._fetcher.launch(order).wait()
        if not isinstance(landing, Live) or not landing.relay.claim():
            raise UpstreamError("The upstream's answer could not be passed on. Ask again.")
        head = landing.relay.head
        status = CacheStatus(reason, fwd_status=head.status, detail=detail or None)
        return self._pass_on(request, target, landing.relay, status)

    def _pass_on(
        self, request: Request, target: Target, relay: Relay, status: CacheStatus
    ) -> Reply:
        head = relay.head
        own_origin = bool(target.mount.hosts)
        fields = fields_to_pass(head, cookies=bool(target.mount.upstreams), own_origin=own_origin)
        fields = response_fields(fields, status, now=self._clock(), accept_ranges=False)
        length = fields.get("content-length")
        bodiless = request.method == "HEAD" or head.status in {204, 304}
        return Reply(
            head.status,
            fields,
            None if bodiless else relay,
            status,
            target.name,
            int(length) if length is not None and length.isdigit() else None,
            head.reason,
        )

    def _note_unshareable(self, key: str) -> None:
        if len(self._unshareable) > 10_000:
            self._unshareable.clear()
        self._unshareable[key] = self._clock() + UNSHAREABLE_SECONDS


def _flight_key(target: Target, *parts: str) -> str:
    return "/".join((target.key, target.variant, *parts))


def _selects(request: Request, target: Target, entry: Entry) -> bool:
    """Whether what a flight brought is this request's variant, too (RFC 9111 §4.1)."""
    return select_variant(request, (entry,), target.mount.policy) is not None


def _range_to_begin_with(request: Request) -> Fields:
    """What to ask of an object never seen: the first bytes that this request wants."""
    specs = range_bounds_hint(request)
    if specs is None or specs[0] == IntRange(0):
        return Fields()
    return Fields([("range", format_specs(specs[:1]))])


def _answers(request: Request, relay: Relay) -> bool:
    """Whether a live answer to the range that *we* asked for is right for the client's If-Range."""
    ranged = relay.head.status in {206, 416}
    return not ranged or ("range" in request.fields and if_range_holds(request, relay.head))


def _fields_to_pass_on(request: Request, target: Target) -> Fields:
    fields = fields_to_forward(request.fields)
    if not target.mount.upstreams:
        # Upstreams that do not trust each other share our origin: no ambient credentials.
        fields = fields.without("cookie", "origin", "referer")
    own = tuple(name for name, _ in target.forwarded)
    return fields.without("accept-encoding", "user-agent", *own)


def _has_arrived(
    transfer: Transfer, shaped: replies.Plain | replies.Bytes, wanted: tuple[Interval, ...]
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


def _ttl_seconds(entry: Entry, target: Target, now: float) -> int:
    policy: Policy = target.mount.policy
    lifetime = freshness_lifetime(entry.head, policy, target.path, entry.response_time)
    return int(lifetime - current_age(entry, now))
