"""The story of one request: target, entry, decision, source, outcome, selection, reader, reply.

Each round looks at what is stored now and decides. A round that finds the ground moved (an
entry purged, a flight that brought something else) gives None, and the next one looks again:
whoever has waited must not act on what he saw before. After a few rounds the request is passed
straight through, so that nobody is kept waiting by a moving target.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar, assert_never
from urllib.parse import urlsplit

from forebay.errors import NotStored, Overloaded, UpstreamError, UpstreamTimeout
from forebay.model import CacheOutcome, CacheStatus, Entry, Fields, Head, Mount, Request, Target
from forebay.ports import Reply, Store
from forebay.rules import freshness
from forebay.rules.lifetimes import STALE_IF_ERROR_STATUSES
from forebay.rules.proof import may_join
from forebay.rules.ranges import IntRange, format_specs, range_bounds_hint
from forebay.rules.storing import DoNotStore, storable
from forebay.rules.storing import Store as MayStore
from forebay.rules.validation import conditional_fields, head_updates
from forebay.rules.vary import select_variant
from forebay.service.answering import Answers, ttl_seconds
from forebay.service.fetching import Fetcher
from forebay.service.landings import (
    Confirmed,
    Filling,
    Landing,
    Live,
    Order,
    Vanished,
    flight_key,
    request_to_keep,
)
from forebay.service.passing import Passage, answers, carries_more
from forebay.service.remembering import Remembered
from forebay.service.selecting import selected
from forebay.service.sharing import Admission
from forebay.streaming.flight import Flight

MAX_ROUNDS = 4
UNSHAREABLE_SECONDS = 30.0
"""How long the answers of a target that could not be shared are not waited for in common.
Varnish keeps its hit-for-miss for 120 s; nothing is lost here when it is short."""
SHARED_SECONDS = 3600.0
"""How long it is remembered that answers to credentials may be shared: no longer than this is a
request with credentials asked twice in vain when upstream changes its mind."""
STALE_PATIENCE_SECONDS = 3.0
"""How long a client that may have a stale answer waits for a fresh one. Long enough for a far
upstream's head with TLS; a registry in front of a dead one was seen to take 10 minutes."""
SLOW_SECONDS = 15.0
"""How long an upstream that has used up somebody's patience is asked behind the others' backs."""

T = TypeVar("T")


class Found(NamedTuple):
    """What a look at the store gave: the selected entry, and everything under its key.

    ``others`` is true where there are variants, and none of them is selected.
    """

    entry: Entry | None
    stored: tuple[Entry, ...]
    others: bool = False


class Story:
    """Answers GET and HEAD from the store and through it, and lets the rest pass."""

    def __init__(
        self,
        store: Store,
        fetcher: Fetcher,
        clock: Callable[[], float],
        stale_patience_seconds: float = STALE_PATIENCE_SECONDS,
        mounts: Sequence[Mount] = (),
    ) -> None:
        self._store = store
        self._fetcher = fetcher
        self._clock = clock
        self._passage = Passage(fetcher, clock)
        self._admission = Admission(self._passage, clock, mounts)
        self._answers = Answers(store, fetcher, self._passage, clock)
        self._stale_patience_seconds = stale_patience_seconds
        self._unshareable = Remembered(clock, UNSHAREABLE_SECONDS)
        self._shared = Remembered(clock, SHARED_SECONDS)
        self._slow = Remembered(clock, SLOW_SECONDS)

    async def close(self) -> None:
        """Stop what is asked beside the fetches."""
        await self._admission.close()

    async def tell(
        self,
        request: Request,
        target: Target,
        body: AsyncIterator[bytes] | None = None,
        body_length_bytes: int | None = None,
    ) -> Reply:
        """The reply to this request for this target. Raises ``ForebayError``."""
        for _ in range(MAX_ROUNDS):
            now = self._clock()
            found = await self._look_up(request, target)
            entry = found.entry
            if entry is not None and not await self._admission.admits(request, target, entry):
                return await self._passage.ask(
                    request, target, CacheOutcome.BYPASS, "not verified for this credential"
                )
            decision = freshness.decide(
                request,
                entry,
                now,
                target.mount.policy,
                target.path,
                has_other_variants=found.others,
            )
            match decision:
                case freshness.Reuse():
                    reply = await self._reuse(request, target, decision, now)
                case freshness.Validate():
                    reply = await self._validate(request, target, decision)
                case freshness.Fetch():
                    reply = await self._fetch(request, target, decision, found)
                case freshness.Bypass(reason, detail):
                    return await self._passage.ask(
                        request, target, reason, detail, body, body_length_bytes
                    )
                case freshness.Refuse(detail):
                    raise NotStored(f"only-if-cached was asked, and the file is {detail}.")
                case unknown:
                    assert_never(unknown)
            if reply is not None:
                return reply
        trouble = (await self._store.usage()).trouble
        why = trouble or "what is stored of it changed at every look"
        return await self._passage.ask(request, target, CacheOutcome.BYPASS, why)

    async def _look_up(
        self, request: Request, target: Target, *, is_second_look: bool = False
    ) -> Found:
        """The entry that this request selects, as it is now, and all that is stored."""
        stored = await self._store.find(target.key)
        entry = selected(request, target, stored)
        if entry is None:
            return Found(None, stored, others=bool(stored))
        transfer = await self._fetcher.arriving(entry, target)
        if transfer is not None:
            return Found(transfer.snapshot(), stored)
        if not (entry.complete or is_second_look):
            # What brought it may have ended, and all be there, since the store was asked.
            return await self._look_up(request, target, is_second_look=True)
        if not entry.complete and (
            entry.length_bytes is None or not may_join(entry.head, target.mount.transfer.identity)
        ):
            # A rest that nothing can be joined to: a crash leaves such. Of no use here, and
            # replaced by what is fetched now.
            return Found(None, stored)
        return Found(entry, stored)

    async def _reuse(
        self, request: Request, target: Target, decision: freshness.Reuse, now: float
    ) -> Reply | None:
        if decision.revalidate_behind:
            self._ask_whether_it_holds(request, target, decision.entry, behind=True)
        status = CacheStatus(
            CacheOutcome.HIT,
            ttl_seconds=decision.ttl_seconds,
            detail="stale" if decision.stale else None,
        )
        return await self._answers.from_entry(
            request, target, decision.entry, status, now, may_forward=decision.may_forward
        )

    async def _fetch(
        self, request: Request, target: Target, decision: freshness.Fetch, found: Found
    ) -> Reply | None:
        key, reason = flight_key(target), decision.reason
        if request.method == "HEAD":
            return await self._passage.ask(request, target, reason, "")
        outgrown = target.key in self._fetcher.outgrown
        unshareable = outgrown or key in self._unshareable
        if unshareable or (
            decision.alone and carries_more(request, target) and key not in self._shared
        ):
            return await self._ask_alone(request, target, reason)
        asked, fields = request_to_keep(request, target), _range_to_begin_with(request)
        if decision.alone:
            asked = replace(request, method="GET")
            fields = Fields((*fields, *_credentials(request, target)))
            # Nobody joins: only the answer's head can give leave to share it (RFC 9111 §3.5).
            key = flight_key(target, "credentials", uuid.uuid4().hex)
        seen = frozenset((entry.entry_id, entry.complete) for entry in found.stored)
        flight, leads = self._fetcher.join(key, Order(target, asked, fields, seen=seen))
        return await self._land(request, target, await flight.wait(), reason, leads=leads)

    async def _ask_alone(self, request: Request, target: Target, reason: CacheOutcome) -> Reply:
        """All that the client says goes upstream, and nothing of the answer is kept. Where that
        gives leave to share it, the next who asks with credentials brings it for everybody."""
        relay = await self._passage.open(request, target)
        if self._gives_leave(request, target, relay.head):
            self._shared.note(flight_key(target))
        status = CacheStatus(reason, fwd_status=relay.head.status, detail="not shareable")
        return self._passage.answer(request, target, relay, status)

    @staticmethod
    def _gives_leave(request: Request, target: Target, head: Head) -> bool:
        """Whether this answer to this request, credentials and all, may be shared."""
        verdict = storable(replace(request, method="GET"), head, target.mount.policy, target.path)
        return "authorization" in request.fields and isinstance(verdict, MayStore)

    # Validation (RFC 9111 §4.3).

    async def _validate(
        self, request: Request, target: Target, decision: freshness.Validate
    ) -> Reply | None:
        if request.method == "HEAD":
            return await self._validate_by_head(request, target, decision)
        entry = decision.entry
        if decision.alone and not self._gives_leave(request, target, entry.head):
            return await self._ask_alone(request, target, decision.reason)
        flight, leads = self._ask_whether_it_holds(request, target, entry)
        try:
            landing = await self._patiently(target, decision, flight.wait())
        except (UpstreamError, Overloaded) as error:
            if not decision.serve_if_disconnected:
                raise
            return await self._answers.stale(request, target, entry, error.detail)
        if isinstance(landing, Live) and decision.serve_if_error:
            answered = landing.relay.head.status
            if answered in STALE_IF_ERROR_STATUSES:
                if leads:
                    await landing.relay.aclose()
                return await self._answers.stale(
                    request, target, entry, f"upstream answered {answered}"
                )
        return await self._land(request, target, landing, decision.reason, leads=leads)

    async def _validate_by_head(
        self, request: Request, target: Target, decision: freshness.Validate
    ) -> Reply | None:
        """A HEAD upstream answers a HEAD, and says whether the entry holds (RFC 9111 §4.3.5)."""
        entry, asked = decision.entry, self._clock()
        opening = self._passage.open(request, target)
        try:
            relay = await self._patiently(target, decision, opening)
        except (UpstreamError, Overloaded) as error:
            if not decision.serve_if_disconnected:
                raise
            return await self._answers.stale(request, target, entry, error.detail)
        answered = relay.head.status
        if decision.serve_if_error and answered in STALE_IF_ERROR_STATUSES:
            await relay.aclose()
            return await self._answers.stale(
                request, target, entry, f"upstream answered {answered}"
            )
        if not decision.alone:
            await self._update_by_head(request, target, entry, relay.head, asked)
        status = CacheStatus(decision.reason, fwd_status=answered, detail=decision.detail)
        return self._passage.answer(request, target, relay, status)

    async def _update_by_head(
        self, request: Request, target: Target, entry: Entry, head: Head, asked: float
    ) -> None:
        judge, policy = self._fetcher.judge, target.mount.policy
        updated = head_updates(entry, head, asked, self._clock())
        if updated is entry:
            return
        to_keep = request_to_keep(request, target)
        if updated is None or isinstance(
            storable(to_keep, updated.head, policy, target.path), DoNotStore
        ):
            await judge.forget(entry)
        else:
            await judge.renew(updated)

    def _ask_whether_it_holds(
        self, request: Request, target: Target, entry: Entry, *, behind: bool = False
    ) -> tuple[Flight[Landing], bool]:
        """One conditional request for all who ask at the same time; ``behind`` is one that
        nobody waits for (RFC 5861 §3)."""
        asked, fields = request_to_keep(request, target), conditional_fields(entry)
        if self._gives_leave(request, target, entry.head):
            asked = replace(request, method="GET")
            fields = Fields((*fields, *_credentials(request, target)))
        order = Order(target, asked, fields, entry, behind=behind)
        return self._fetcher.join(flight_key(target, "validate", entry.entry_id), order)

    async def _patiently(
        self, target: Target, decision: freshness.Validate, answer: Awaitable[T]
    ) -> T:
        """The answer; ``UpstreamTimeout`` where it takes longer than a stale one should wait.

        What was asked goes on, for those who come later.
        """
        if not decision.serve_if_disconnected:
            return await answer
        server = urlsplit(target.urls[0]).netloc
        patience = 0.0 if server in self._slow else self._stale_patience_seconds
        try:
            async with asyncio.timeout(patience):
                return await answer
        except TimeoutError:
            self._slow.note(server)
            raise UpstreamTimeout("upstream is slow") from None

    # What a flight has brought.

    async def _land(
        self,
        request: Request,
        target: Target,
        landing: Landing,
        reason: CacheOutcome,
        *,
        leads: bool,
    ) -> Reply | None:
        match landing:
            case Filling(transfer, answered, own):
                if select_variant(request, (transfer.entry,), target.mount.policy) is None:
                    return None
                status = CacheStatus(reason, stored=True, collapsed=not leads, fwd_status=answered)
                reply = await self._answers.from_transfer(request, target, transfer, status)
                return _with_own(reply, own) if leads else reply
            case Confirmed(entry, answered, own):
                now = self._clock()
                ttl = ttl_seconds(entry, target, now)
                status = CacheStatus(
                    reason, collapsed=not leads, fwd_status=answered, ttl_seconds=ttl
                )
                reply = await self._answers.from_entry(request, target, entry, status, now)
                return _with_own(reply, own) if leads else reply
            case Live():
                return await self._take_live(request, target, landing, reason, leads=leads)
            case Vanished():
                return None
            case unknown:
                assert_never(unknown)

    async def _take_live(
        self, request: Request, target: Target, landing: Live, reason: CacheOutcome, *, leads: bool
    ) -> Reply | None:
        """An answer for one client: the leader's, if it answers what he asked."""
        relay = landing.relay
        if not landing.shareable:
            self._unshareable.note(flight_key(target))
        # Who comes with credentials and more was asked for without that: see ``carries_more``.
        told_all = "authorization" not in request.fields or not carries_more(request, target)
        if leads and told_all and answers(request, relay) and relay.claim():
            status = CacheStatus(reason, fwd_status=relay.head.status, detail=landing.why)
            return self._passage.answer(request, target, relay, status)
        if leads:
            await relay.aclose()
        elif relay.head.status in {206, 416}:
            # The leader's range brought this, and says nothing of what the others asked.
            return None
        return await self._passage.ask(request, target, reason, landing.why)


def _credentials(request: Request, target: Target) -> Fields:
    """The credentials to send beside the target's own fields."""
    if "authorization" in target.forwarded:
        return Fields()
    return Fields(line for line in request.fields if line[0] == "authorization")


def _with_own(reply: Reply | None, own: Fields) -> Reply | None:
    if reply is not None and own and reply.status < 300:
        reply.fields = Fields((*reply.fields, *own))
    return reply


def _range_to_begin_with(request: Request) -> Fields:
    """What to ask of an object never seen: the first bytes that this request wants."""
    specs = range_bounds_hint(request)
    if specs is None or specs[0] == IntRange(0):
        return Fields()
    return Fields([("range", format_specs(specs[:1]))])
