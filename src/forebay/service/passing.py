"""Straight through: what is for one client only, and is not stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from forebay.errors import UpstreamChanged, UpstreamError
from forebay.model import (
    CacheOutcome,
    CacheStatus,
    Entry,
    Fields,
    Head,
    Interval,
    Request,
    Target,
)
from forebay.ports import Body, Reply
from forebay.rules import conditions
from forebay.rules.content_range import format_range
from forebay.rules.digest_fields import Digests, claimed_by, digests_of
from forebay.rules.heads import (
    fields_to_forward,
    fields_to_pass,
    response_fields,
    with_fewer_forwards,
)
from forebay.rules.proof import joining_validator
from forebay.rules.ranges import if_range_holds, range_bounds_hint
from forebay.rules.targets import NEVER_FORWARDED
from forebay.service.fetching import Fetcher
from forebay.service.landings import Live, Order, request_to_keep
from forebay.service.verifying import VerifiedBody
from forebay.streaming.relay import Relay


class Passage:
    """Passes requests and answers on, as RFC 9110 §7.6 has intermediaries do it."""

    def __init__(self, fetcher: Fetcher, clock: Callable[[], float]) -> None:
        self._fetcher = fetcher
        self._clock = clock

    async def ask(
        self,
        request: Request,
        target: Target,
        reason: CacheOutcome,
        detail: str,
        body: AsyncIterator[bytes] | None = None,
        body_length_bytes: int | None = None,
    ) -> Reply:
        """An upstream answer for this client alone, as a reply. Raises ``ForebayError``."""
        relay = await self.open(request, target, body, body_length_bytes)
        status = CacheStatus(reason, fwd_status=relay.head.status, detail=detail or None)
        return self.answer(request, target, relay, status)

    async def open(
        self,
        request: Request,
        target: Target,
        body: AsyncIterator[bytes] | None = None,
        body_length_bytes: int | None = None,
    ) -> Relay:
        """An upstream answer for this client alone: whoever gets it closes it."""
        fields = fields_to_pass_on(request, target)
        order = Order(
            target,
            request,
            fields if body is not None else fields.without("expect"),
            keep=False,
            body=body,
            body_length_bytes=body_length_bytes,
        )
        return await self._landed(order)

    async def rest(self, request: Request, target: Target, entry: Entry, wanted: Interval) -> Body:
        """These bytes of the entry, past the store.

        Raises ``UpstreamError`` where they cannot be had, or not be proved to be the entry's.
        """
        validator = joining_validator(entry.head, target.mount.transfer.identity)
        if validator is None:
            raise UpstreamChanged("Nothing proves that more bytes would belong to the same file.")
        fields = Fields([("range", format_range(wanted)), ("if-range", validator)])
        request = request_to_keep(request, target)
        return await self._landed(
            Order(target, request, fields, entry=entry, wanted=wanted, keep=False)
        )

    async def _landed(self, order: Order) -> Relay:
        """The claimed answer to an order that nobody else can join."""
        flight = self._fetcher.launch(order)
        try:
            landing = await flight.wait()
        except asyncio.CancelledError:
            order.abandoned = True
            raise
        if not isinstance(landing, Live) or not landing.relay.claim():
            raise UpstreamError("The upstream's answer could not be passed on. Ask again.")
        return landing.relay

    def answer(self, request: Request, target: Target, relay: Relay, status: CacheStatus) -> Reply:
        """The reply that hands a claimed live answer to its client."""
        head, mount = relay.head, target.mount
        own_origin = bool(mount.hosts)
        fields = fields_to_pass(head, cookies=mount.passes_cookies, own_origin=own_origin)
        fields = response_fields(fields, status, now=self._clock(), accept_ranges=False)
        length = fields.get("content-length")
        body: Body | None = relay
        if request.method == "HEAD" or head.status in {204, 304}:
            body = None
        elif expected := _expected(request, target, head):
            body = VerifiedBody(relay, expected, digests_of(head))
        return Reply(
            head.status,
            fields,
            body,
            status,
            target.name,
            int(length) if length is not None and length.isdigit() else None,
            head.reason,
        )


def _expected(request: Request, target: Target, head: Head) -> Digests:
    """What the body must come to: by the client's word, and by upstream's own of what is got."""
    if head.status != 200:
        return ()
    worth = target.mount.transfer.upstream_digests
    told = claimed_by(head, worth) if request.method == "GET" else ()
    return tuple({**dict(told), **dict(target.expected_digests)}.items())


def answers(request: Request, relay: Relay) -> bool:
    """Whether a live answer to what *we* asked is also right for what this client asked: we may
    have asked with its first range, and without its conditions."""
    ranged = relay.head.status in {206, 416}
    if ranged:
        specs = range_bounds_hint(request)
        return specs is not None and len(specs) == 1 and if_range_holds(request, relay.head)
    return isinstance(conditions.evaluate(request, relay.head), conditions.Proceed)


def carries_more(request: Request, target: Target) -> bool:
    """Whether passing the request on would tell upstream more than asking to share the answer
    does, which is the mount's ``forward`` fields, credentials and a range."""
    told = fields_to_pass_on(request, target).without("authorization", "if-range")
    return any(name.startswith("if-") or name not in NEVER_FORWARDED for name, _ in told)


def fields_to_pass_on(request: Request, target: Target) -> Fields:
    """The request's fields for an upstream that answers this client alone."""
    fields = fields_to_forward(request.method, request.fields)
    if request.method in {"OPTIONS", "TRACE"}:
        fields = with_fewer_forwards(fields)
    if not target.mount.upstreams:
        # Upstreams that do not trust each other share our origin.
        fields = fields.without("origin", "referer")
    own = tuple(name for name, _ in target.forwarded)
    # All mounts of a name share its cookies, too: they go where ``forward`` says so, as its own.
    return fields.without("accept-encoding", "cookie", "user-agent", *own)
