"""What an upstream's answer means for what is stored.

Every way out of here is a ``Landing``. Trouble with the disk is none of the client's: an
answer that cannot be kept goes straight through, and what cannot be forgotten now is noted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

from forebay.errors import (
    EntryDamaged,
    ObjectTooLarge,
    StoreError,
    UpstreamChanged,
    UpstreamMisbehaved,
)
from forebay.model import Entry, Fields, Head, Identity, Interval
from forebay.ports import Draft, Store, UpstreamResponse
from forebay.rules.content_range import content_range_of
from forebay.rules.heads import fields_to_pass
from forebay.rules.proof import (
    Changed,
    Proven,
    Verdict,
    brings_what_was_asked,
    may_join,
    prove,
    says_which_part,
)
from forebay.rules.storing import DoNotStore, named_fields, storable, stored_head
from forebay.rules.storing import Store as MayStore
from forebay.rules.tags import surrogate_keys
from forebay.rules.validation import freshens, identity_of, refreshed
from forebay.rules.vary import selecting_values, vary_names
from forebay.service.landings import (
    VARIANT,
    Confirmed,
    Filling,
    Landing,
    Live,
    Order,
    Vanished,
    source_of,
)
from forebay.service.selecting import expected_digests
from forebay.service.sidecars import Sidecars
from forebay.streaming.crew import Subject, Surroundings
from forebay.streaming.follower import Arriving
from forebay.streaming.proving import LookUp
from forebay.streaming.relay import Relay
from forebay.streaming.transfer import Transfer
from forebay.streaming.whole import Whole, comes_whole, gathered

Times: TypeAlias = tuple[float, float]
"""When we asked, and when the head came."""

GONE = frozenset({404, 410})
REFUSED = frozenset({401, 407})

log = logging.getLogger("forebay.service")


class Judge:
    """Judges answers; begins and resumes what they fill. ``transfers`` are those that run."""

    def __init__(
        self, store: Store, around: Surroundings, transfers: Mapping[str, Arriving]
    ) -> None:
        self._store = store
        self._around = around
        self._transfers = transfers
        self.sidecars: Sidecars | None = None
        """Who looks up checksums beside objects; set once there is a story to ask by."""

    async def judge(self, order: Order, response: UpstreamResponse, times: Times) -> Landing:
        """The landing for this answer. Raises ``UpstreamError`` where it is no answer at all."""
        asked_range = order.fields.get("range")
        if response.head.status == 206 and not says_which_part(response.head, asked_range):
            raise UpstreamMisbehaved("The upstream sent a part, and not which, or unasked.")
        most_bytes = _most_bytes_for_anybody(order, response.head)
        if not order.keep:
            if order.entry is not None and order.wanted is not None:
                return _rest(order, order.entry, order.wanted, response, times[1])
            return Live(Relay(response, most_bytes), "bypass")
        if response.head.status == 304 and not order.is_conditional:
            raise UpstreamMisbehaved("The upstream answered 304 to a request without conditions.")
        if order.entry is None:
            return await self._keep(order, response, times)
        if order.wanted is not None:
            return await self._continue(order, order.entry, order.wanted, response, times)
        return await self._validated(order, order.entry, response, times)

    async def renew(self, entry: Entry) -> bool:
        """Make these fields and times those of the stored entry, and of its running transfer.

        False if it is no longer stored. Where the disk cannot note them now, they count for
        who has them in hand, and are asked for again by the next.
        """
        transfer = self._transfers.get(entry.entry_id)
        if transfer is not None:
            transfer.refresh(entry)
            if transfer.is_closing:
                # What it commits was taken before this, and must not be written after it.
                await transfer.settled.wait()
        try:
            return await self._store.refresh(entry)
        except StoreError as trouble:
            log.warning("%s stays stale: %s", entry.name, trouble)
            return True

    async def forget(self, entry: Entry) -> None:
        """Remove the entry if it is there; never raises."""
        try:
            await self._store.forget(entry.entry_id, entry.key)
        except StoreError as trouble:
            log.warning("%s cannot be forgotten: %s", entry.name, trouble)

    # A stored entry was asked about.

    async def _validated(
        self, order: Order, entry: Entry, response: UpstreamResponse, times: Times
    ) -> Landing:
        """The answer to a conditional request (RFC 9111 §4.3.3)."""
        head = response.head
        if head.status == 304:
            if not freshens(entry, head):
                await self.forget(entry)
                return Vanished()
            return await self._renewed(order, entry, head, times)
        if self._is_what_we_have(order, entry, head):
            return await self._renewed(order, entry, head, times)
        landing = await self._keep(order, response, times)
        refused = head.status in REFUSED and _gives_leave(order, entry)
        if isinstance(landing, Live) and _stands_in_place(head.status) and not refused:
            # Another answer stands in its place now, and must not be kept.
            await self.forget(entry)
        return landing

    def _is_what_we_have(self, order: Order, entry: Entry, head: Head) -> bool:
        """Whether a 200 brings, by its strong tag and length, the very bytes that are stored, as
        from servers that have tags and know no conditions: the body is left unread."""
        whole = entry.complete or entry.entry_id in self._transfers
        identity = identity_of(head)
        return (
            head.status == entry.head.status == 200
            and whole
            and identity.is_strong
            and (identity.etag, identity.length_bytes)
            == (entry.identity.etag, entry.identity.length_bytes)
            and head.fields.combined("content-encoding")
            == entry.head.fields.combined("content-encoding")
            and isinstance(self._may_store(order, head), MayStore)
        )

    async def _renewed(self, order: Order, entry: Entry, head: Head, times: Times) -> Landing:
        """The entry with what the answer says of it, unless that forbids to keep it."""
        entry = refreshed(entry, head, *times)
        if isinstance(self._may_store(order, entry.head), DoNotStore):
            await self.forget(entry)
            return Vanished()
        if not await self.renew(entry):
            return Vanished()
        return Confirmed(entry, head.status, _own_fields(order, head))

    async def _continue(
        self, order: Order, entry: Entry, wanted: Interval, response: UpstreamResponse, times: Times
    ) -> Landing:
        """A transfer of what a partial entry misses, if the answer brings that."""
        head = response.head
        match _proof(order, entry, wanted, head, times[1]):
            case Proven():
                landing = await self._renewed(order, entry, head, times)
                if not isinstance(landing, Confirmed):
                    return landing
                try:
                    draft = await self._store.resume(landing.entry)
                    return await self._fill(order, draft, landing.entry, head)
                except EntryDamaged:
                    return Vanished()
                except StoreError as trouble:
                    return await _nobodys(response, trouble.detail)
            case Changed():
                await self.forget(entry)
                if head.status == 200:
                    return await self._keep(order, response, times)
                return Vanished()
            case _:
                if head.status in GONE:
                    await self.forget(entry)
                why = f"upstream answered {head.status} to a range request"
                return await _nobodys(response, why)

    # Something new has come.

    async def _keep(self, order: Order, response: UpstreamResponse, times: Times) -> Landing:
        head = response.head
        verdict = self._may_store(order, head)
        if isinstance(verdict, DoNotStore):
            forbids = head.status < 400 and head.status != 206
            relay = Relay(response, _most_bytes_for_anybody(order, head))
            return Live(relay, verdict.reason, shareable=not forbids)
        if not response.framed:
            relay = Relay(response, _most_bytes_for_anybody(order, head))
            return Live(relay, "body without declared end", shareable=False)
        identity = identity_of(head)
        if _is_larger(order, head):
            return Live(Relay(response), "larger than is kept", shareable=False)
        if head.status == 206:
            if not brings_what_was_asked(head, order.fields.get("range")):
                raise UpstreamMisbehaved("The upstream sent another part than was asked for.")
            which = order.target.mount.transfer.identity
            if identity.length_bytes is None or not may_join(head, which):
                return Live(Relay(response), "part without strong validator")
        entry = self._new_entry(order, response, identity, times)
        if await self._comes_whole(order, entry, response):
            return await self._whole(order, entry, response)
        try:
            draft = await self._store.begin(entry, _expected_bytes(order, head, identity))
            return await self._fill(order, draft, entry, head)
        except StoreError as trouble:
            return Live(Relay(response), trouble.detail)

    async def _fill(self, order: Order, draft: Draft, entry: Entry, answer: Head) -> Filling:
        """The transfer that writes this draft. Raises ``StoreError``, the draft then closed."""
        target = order.target
        subject = Subject(
            sources=tuple(source_of(target, url) for url in target.urls),
            fields=Fields((*target.forwarded, *order.credentials)),
            head=entry.head,
            identity=entry.identity,
            policy=target.mount.transfer,
        )
        expected = expected_digests(target, entry.head)
        try:
            transfer = Transfer(
                draft,
                subject,
                self._around,
                expected_digests=expected,
                look_up=self._look_up_for(order, entry),
            )
        except BaseException:
            await draft.close()
            raise
        transfer.refresh(entry)
        return Filling(transfer, answer.status, _own_fields(order, answer))

    async def _comes_whole(self, order: Order, entry: Entry, response: UpstreamResponse) -> bool:
        """Whether there is nothing to wait for, and nothing to ask, before it is stored."""
        length = entry.length_bytes
        return (
            length is not None
            and response.head.status != 206
            and self._store.takes(entry.mount, length)
            and self._look_up_for(order, entry) is None
            and await comes_whole(response, length)
        )

    async def _whole(self, order: Order, entry: Entry, response: UpstreamResponse) -> Filling:
        """The body, which is here, proved; nothing has been stored yet."""
        content = await gathered(response.chunks())
        whole = Whole(
            entry,
            content,
            expected_digests(order.target, entry.head),
            is_to_tell=self._around.tells_digests and entry.head.status == 200,
            now=self._around.wall_clock(),
        )
        return Filling(whole, response.head.status, _own_fields(order, response.head))

    def _look_up_for(self, order: Order, entry: Entry) -> LookUp | None:
        """How to ask for digests that are told beside the object."""
        if self.sidecars is None or entry.head.status != 200:
            return None
        return self.sidecars.look_up_for(order.request, order.target)

    def _new_entry(
        self, order: Order, response: UpstreamResponse, identity: Identity, times: Times
    ) -> Entry:
        target, policy = order.target, order.target.mount.policy
        names = vary_names(response.head) or ()
        vary = selecting_values(order.request, names, policy)
        if target.variant:
            vary = ((VARIANT, target.variant), *vary)
        return Entry(
            key=target.key,
            entry_id=self._store.new_id(),
            name=target.name,
            mount=target.mount.name,
            head=stored_head(response.head, times[1], own_origin=bool(target.mount.hosts)),
            identity=identity,
            request_time=times[0],
            response_time=times[1],
            vary=vary,
            tags=surrogate_keys(response.head),
            stored_time=times[1],
        )

    def _may_store(self, order: Order, head: Head) -> MayStore | DoNotStore:
        target = order.target
        return storable(order.request, head, target.mount.policy, target.path)


def _is_larger(order: Order, head: Head) -> bool:
    """Whether the object is, by its head, larger than its mount keeps."""
    most_bytes, length = (
        order.target.mount.transfer.max_object_bytes,
        identity_of(head).length_bytes,
    )
    return most_bytes is not None and length is not None and length > most_bytes


def _most_bytes_for_anybody(order: Order, head: Head) -> int | None:
    """Where a body must end; None for no bound. Raises ``ObjectTooLarge`` where it is known now
    that it will not."""
    policy = order.target.mount.transfer
    if not policy.refuse_larger or head.status not in {200, 206}:
        return None
    if _is_larger(order, head):
        raise ObjectTooLarge("The object is larger than max_object_size of its mount.")
    return policy.max_object_bytes


def _rest(
    order: Order, entry: Entry, wanted: Interval, response: UpstreamResponse, now: float
) -> Live:
    """The bytes that one reader still misses, past a disk that failed; proved or refused."""
    verdict = _proof(order, entry, wanted, response.head, now)
    if not isinstance(verdict, Proven):
        raise UpstreamChanged("The rest of the file cannot be proved to belong to it.")
    return Live(Relay(response), "disk trouble", wanted.start if verdict.whole else 0)


def _proof(order: Order, entry: Entry, wanted: Interval, head: Head, now: float) -> Verdict:
    which = order.target.mount.transfer.identity
    return prove(head, wanted, entry.head, entry.identity, which, now)


def _own_fields(order: Order, head: Head) -> Fields:
    """The fields that no-cache or private names, as far as a client gets them at all."""
    named, mount = named_fields(head.fields), order.target.mount
    if not named:
        return Fields()
    passed = fields_to_pass(head, cookies=mount.passes_cookies, own_origin=bool(mount.hosts))
    return Fields((name, value) for name, value in passed if name in named)


def _gives_leave(order: Order, entry: Entry) -> bool:
    """Whether the entry may have come by credentials: then a refusal of others', or of none, says
    nothing of it (RFC 9111 §3.5)."""
    with_credentials = replace(
        order.request, fields=order.request.fields.with_field("authorization", "any")
    )
    policy, path = order.target.mount.policy, order.target.path
    return isinstance(storable(with_credentials, entry.head, policy, path), MayStore)


def _stands_in_place(status: int) -> bool:
    """Whether an answer to a validation speaks of the resource, and not of a server's troubles."""
    return status < 500 and status not in {408, 429}


async def _nobodys(response: UpstreamResponse, why: str) -> Live:
    """An answer to our own range request, which no client would understand."""
    relay = Relay(response)
    await relay.aclose()
    return Live(relay, why)


def _expected_bytes(order: Order, head: Head, identity: Identity) -> int | None:
    """What the transfer will bring at first: room is made for that."""
    part = content_range_of(head)
    if part is None or order.target.mount.transfer.complete_ranges:
        return identity.length_bytes
    return part.interval.length_bytes
