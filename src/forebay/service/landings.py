"""What a flight is to ask, and as what its answer may land: plain values."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from forebay.model import Ask, Entry, Fields, Head, Interval, Request, Target
from forebay.rules.heads import COOKIE_FIELDS, fields_to_pass
from forebay.streaming.relay import Relay
from forebay.streaming.segment import Source
from forebay.streaming.transfer import Transfer
from forebay.streaming.whole import Whole

VARIANT = ":variant"
"""Name in ``Entry.vary`` of what a target itself selects by; no field can be called so."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The entry holds, with these fields and times; ``status`` is what upstream answered.

    ``own`` as for ``Filling``.
    """

    entry: Entry
    status: int = 304
    own: Fields = field(default_factory=Fields)


@dataclass(frozen=True, slots=True)
class Filling:
    """The answer is being stored; ``status`` is what upstream answered.

    ``own`` are the fields that no-cache or private keeps out of the entry: they are for whoever
    brought the answer, and for nobody else (RFC 9111 §5.2.2.4, §5.2.2.7).
    """

    transfer: Transfer | Whole
    status: int
    own: Fields = field(default_factory=Fields)


@dataclass(frozen=True, slots=True)
class Live:
    """The answer is for one client only, without its first ``skip_bytes``.

    ``shareable`` is false where the answer itself forbids sharing, and true where only this
    request, this range or our disk stood in the way.
    """

    relay: Relay
    why: str
    skip_bytes: int = 0
    shareable: bool = True


@dataclass(frozen=True, slots=True)
class Vanished:
    """Look again: what was asked on the strength of is no longer so."""


Landing: TypeAlias = Confirmed | Filling | Live | Vanished


@dataclass(slots=True, eq=False)
class Order:
    """What a flight is to ask.

    ``fields`` go upstream beside the target's own. ``entry`` is the one that is asked about:
    with ``wanted``, for these missing bytes of it; without, whether it still holds.
    ``keep`` false stores nothing, whatever comes. With ``behind`` nobody waits for the answer;
    ``abandoned`` is set when who waited has left, and nobody else can take it.
    """

    target: Target
    request: Request
    fields: Fields = field(default_factory=Fields)
    entry: Entry | None = None
    wanted: Interval | None = None
    keep: bool = True
    behind: bool = False
    abandoned: bool = False
    seen: frozenset[tuple[str, bool]] = frozenset()
    """The entries that were there when it was decided to ask, and whether complete; any other is
    news."""
    body: AsyncIterator[bytes] | None = None
    body_length_bytes: int | None = None

    @property
    def method(self) -> str:
        """What is stored or joined to what is stored is got; the rest is asked as it came."""
        return "GET" if self.keep or self.wanted is not None else self.request.method

    @property
    def is_conditional(self) -> bool:
        """Whether 304 can be an answer to this."""
        return any(name.startswith("if-") for name, _ in self.fields)

    @property
    def credentials(self) -> Fields:
        """What the further requests of a transfer need, too, to be given the same bytes."""
        return Fields(line for line in self.fields if line[0] == "authorization")

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses that may be asked in turn. What may change something is asked for once,
        and of the first upstream, to which the others are mirrors."""
        safe = self.method in {"GET", "HEAD"} and self.body is None
        return self.target.urls if safe else self.target.urls[:1]

    def ask(self, url: str) -> Ask:
        """The request of ours to one of these addresses."""
        fields = Fields((*self.target.forwarded, *self.fields))
        if "via" not in fields:
            # What it came through goes on with it, so that a circle of caches is seen.
            fields = Fields((*fields, *(f for f in self.request.fields if f[0] == "via")))
        return Ask(
            url,
            method=self.method,
            fields=fields,
            body=self.body,
            body_length_bytes=self.body_length_bytes,
            follow_redirects=self.method in {"GET", "HEAD"},
            unguarded=bool(self.target.mount.upstreams),
            on_interim=None if self.behind else hints_for(self.request, self.target),
        )


def hints_for(request: Request, target: Target) -> Callable[[Head], None] | None:
    """What passes 103 (RFC 8297) on to the client of this request; other interim responses
    speak of the connection to upstream and end here (RFC 9110 §15.2)."""
    tell = request.on_interim
    if tell is None:
        return None

    def pass_on(head: Head) -> None:
        if head.status == 103:
            own_origin = bool(target.mount.hosts)
            fields = fields_to_pass(head, cookies=False, own_origin=own_origin)
            tell(Head(103, fields.without("content-length", *COOKIE_FIELDS), head.reason))

    return pass_on


def request_to_keep(request: Request, target: Target) -> Request:
    """The request as whoever judges a stored answer must see it: a GET, and without the
    credentials that were not sent upstream (RFC 9111 §3.5 is about those that were)."""
    fields = request.fields
    if "authorization" not in target.forwarded:
        fields = fields.without("authorization")
    return replace(request, method="GET", fields=fields)


def source_of(target: Target, url: str) -> Source:
    """One of the target's addresses as a source of segments."""
    return Source(url, mirror=url, unguarded=bool(target.mount.upstreams))


def alongside(target: Target, other: Target) -> Target:
    """The other target, of the same mount, asked and shared as this one is: with its credential,
    among those who may have it (``sharing``)."""
    credential = target.forwarded.get("authorization")
    if credential is None:
        return other
    _, mark, whose = target.variant.partition(":")
    return replace(
        other,
        forwarded=other.forwarded.with_field("authorization", credential),
        variant=f"{other.variant}{mark}{whose}",
        admission=target.admission,
    )


def flight_key(target: Target, *parts: str) -> str:
    """The key under which equal questions share a flight. It begins with the target's.

    Where a client must be admitted, the answer to one is no proof for another (``sharing``).
    """
    admission = (target.admission,) if target.admission else ()
    return "/".join((target.key, target.variant, *admission, *parts))
