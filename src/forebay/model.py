"""The words of the house: plain immutable values that every floor understands.

No I/O, no clock, no asyncio. Positions are in bytes and half-open: ``[start, stop)``.
Times are seconds since the epoch. Terms are those of RFC 9110 (fields, target, validators)
and RFC 9111 (cache key, stored response, age).
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Self, TypeAlias

Octets: TypeAlias = bytes | memoryview
"""Bytes on their way: ready ones, or a view of a buffer that is used again for others once nobody
has a view of it."""


class Fields:
    """Header fields in the order they came, with lower-case names (RFC 9110 §5).

    Values are ``str`` decoded as Latin-1, so that each character is one octet as it was on
    the wire: obs-text in an entity tag is compared and sent on unchanged. Immutable;
    every change gives a new object.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items = tuple([(name.lower(), value) for name, value in items])

    @classmethod
    def from_raw(cls, raw: Iterable[tuple[bytes, bytes]]) -> Self:
        """Fields from octets, as ASGI and httpx give them."""
        return cls((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw)

    def to_raw(self) -> list[tuple[bytes, bytes]]:
        """Fields as octets, as ASGI and httpx take them."""
        return [(n.encode("latin-1"), v.encode("latin-1")) for n, v in self._items]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        wanted = name.lower()
        # Plain loops here and below: these run dozens of times for each request.
        for line in self._items:  # noqa: SIM110
            if line[0] == wanted:
                return True
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fields) and self._items == other._items

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"Fields({list(self._items)!r})"

    def get(self, name: str) -> str | None:
        """The first line's value, or None. For fields of which only one is allowed."""
        wanted = name.lower()
        for line in self._items:
            if line[0] == wanted:
                return line[1]
        return None

    def get_all(self, name: str) -> tuple[str, ...]:
        """The value of every line with this name, in order."""
        wanted = name.lower()
        return tuple([value for n, value in self._items if n == wanted])

    def combined(self, name: str) -> str | None:
        """All lines joined with ``", "`` (RFC 9110 §5.2), or None where there is none."""
        values = self.get_all(name)
        return ", ".join(values) if values else None

    def without(self, *names: str) -> Self:
        """A copy that lacks these fields."""
        gone = {name.lower() for name in names}
        return self._of(tuple([line for line in self._items if line[0] not in gone]))

    def with_field(self, name: str, value: str) -> Self:
        """A copy in which this field stands once, with this value, at the end."""
        name = name.lower()
        return self._of((*[line for line in self._items if line[0] != name], (name, value)))

    def with_line(self, name: str, value: str) -> Self:
        """A copy with one more line; earlier lines of the same name stay."""
        return self._of((*self._items, (name.lower(), value)))

    @classmethod
    def _of(cls, items: tuple[tuple[str, str], ...]) -> Self:
        """Fields from lines whose names are in lower case."""
        fields = cls.__new__(cls)
        fields._items = items
        return fields


@dataclass(frozen=True, slots=True)
class Head:
    """Status and fields of a response, without its body (RFC 9110 §6.2)."""

    status: int
    fields: Fields
    reason: str = ""


class Interval(NamedTuple):
    """The bytes ``start`` to ``stop``, ``stop`` not included. Never empty in a coverage."""

    start: int
    stop: int

    @property
    def length_bytes(self) -> int:
        return self.stop - self.start


Intervals: TypeAlias = tuple[Interval, ...]
"""Sorted, disjoint, not touching, none empty: the normal form that ``rules.coverage`` keeps."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks, as it came over the wire.

    ``raw_path`` and ``raw_query`` are the octets of the request line, decoded as Latin-1 and
    *not* percent-decoded; ``raw_query`` is None where there is no ``?``. ``authority`` is
    the Host field or the authority of an absolute-form target. ``absolute`` is true where
    the client used absolute-form (RFC 9112 §3.2.2), that is, took us for a proxy.
    """

    method: str
    raw_path: str
    raw_query: str | None = None
    fields: Fields = field(default_factory=Fields)
    scheme: str = "http"
    authority: str = ""
    client_host: str = ""
    absolute: bool = False
    port: int | None = None
    """The local port at which the request came in, where that is known."""
    on_interim: Callable[[Head], None] | None = field(default=None, compare=False, repr=False)
    """Called for each interim response (RFC 9110 §15.2) that the client may have while it waits;
    None where it takes none. Waits for nothing and does not raise."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a mount may decide about caching; the defaults follow RFC 9111 to the letter.

    All durations in seconds. ``None`` means "as upstream says".
    """

    default_ttl_seconds: float | None = None
    """Freshness where upstream gives none and no heuristic applies."""
    force_ttl_seconds: float | None = None
    """Freshness whatever upstream says (its no-store, private and Set-Cookie still count)."""
    immutable_patterns: tuple[str, ...] = ()
    """Regular expressions over the target's path and query; a full match never goes stale."""
    ttl_patterns: tuple[tuple[str, float], ...] = ()
    """(regular expression, seconds); the first that matches the path and query wins."""
    heuristic_fraction: float = 0.1
    heuristic_max_seconds: float = 86_400.0
    negative_ttl_seconds: float = 0.0
    """Freshness of 404 and 410 without explicit freshness; 0 stores none of them."""
    stale_if_error_seconds: float = 0.0
    stale_while_revalidate_seconds: float = 0.0
    share_authorized: bool = False
    """Whether an answer to a request with Authorization may be shared without upstream's leave."""
    ignore_vary: tuple[str, ...] = ()
    ignore_cache_control: bool = False
    obey_targeted: bool = True
    """Whether CDN-Cache-Control counts before Cache-Control (RFC 9213)."""
    drop_query: tuple[str, ...] = ()
    """Query parameters left out of the key (not of the request); ``*`` drops them all."""


class Share(enum.StrEnum):
    """What a mount does with a client's Authorization, and to whom it gives what was fetched with
    it (RFC 9111 §3.5 leaves that to explicit leave)."""

    PASS = "pass"  # noqa: S105 - a word of Varnish's, and no password
    """It goes upstream, and what it brought to this client alone, without upstream's leave."""
    REFUSE = "refuse"
    """It is not taken: a request with it is refused."""
    PRIVATE = "private"
    """To who shows the same credential: entries of its own for each."""
    VERIFY = "verify"
    """To whoever the upstream, asked with his own credential, would give it as well."""
    PUBLIC = "public"
    """To everybody who reaches the mount."""


class WhenAlone(enum.StrEnum):
    """What a transfer does when its last reader leaves."""

    FINISH = "finish"
    STOP = "stop"
    FINISH_IF_NEAR = "finish-if-near"
    """Finish when more than ``finish_share`` is done or less than ``finish_bytes`` is left."""


class UpstreamDigests(enum.StrEnum):
    """What the digests are worth that an upstream tells of what it sends (RFC 9530 §3)."""

    CHECK = "check"
    """What does not come to them is not kept, and ends short for whoever reads it."""
    IGNORE = "ignore"
    """They are passed on, and not compared."""


@dataclass(frozen=True, slots=True)
class TransferPolicy:
    """How a mount's transfers use upstream; sizes in bytes, times in seconds."""

    max_segments: int = 4
    """Upstream connections at work on one transfer; 1 turns parallel ranges off."""
    min_segment_bytes: int = 4 * 1024 * 1024
    """Missing intervals shorter than twice this are not split."""
    read_ahead_bytes: int = 0
    """What a range request brings beyond what it asked for."""
    complete_ranges: bool = False
    """Whether a range request lets the rest of the object be fetched behind it."""
    when_alone: WhenAlone = WhenAlone.FINISH
    finish_share: float = 0.5
    finish_bytes: int = 16 * 1024 * 1024
    max_tries: int = 4
    """Tries in a row without one byte of progress before a transfer fails."""
    max_object_bytes: int | None = None
    """The largest body that is kept; a larger one goes straight through."""
    refuse_larger: bool = False
    """Whether a larger one is refused instead."""
    identity: frozenset[str] = frozenset({"etag", "last-modified", "length"})
    """Which of etag, last-modified, length must agree between responses of one object."""
    upstream_digests: UpstreamDigests = UpstreamDigests.CHECK


@dataclass(frozen=True, slots=True)
class Mount:
    """A named way in, mapped to one or more upstreams (mirrors) with a policy of its own.

    ``prefix`` begins with ``/`` and ends with ``/``; ``upstreams`` are base URLs that end
    with ``/``. The built-in URL-in-path way in is a mount with no upstreams and the name
    ``"url"``.
    """

    name: str
    prefix: str
    upstreams: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    port: int | None = None
    """A local port of ours at which every path belongs to this mount."""
    preset: str = "generic"
    policy: Policy = field(default_factory=Policy)
    transfer: TransferPolicy = field(default_factory=TransferPolicy)
    forward: tuple[str, ...] = ("accept",)
    """Request fields that go upstream, and so belong to the key when they say something."""
    link_hosts: tuple[str, ...] = ()
    """Hosts, patterns like ``*.example.org`` or ``*``, to which links in this mount's indexes are
    led through it; its upstreams' own are always."""
    rewrite_links: bool | None = None
    """Whether links in indexes are led through the mount; None leaves it to the preset."""
    checksums: tuple[str, ...] = ()
    """Where the digests of objects stand: paths relative to an object's directory, ``{name}``
    being the object's own name (``rules.checksum_files``)."""
    share: Share = Share.PASS
    verify_seconds: float = 60.0
    """How long a client that was verified need not be again, for the same bytes."""

    @property
    def passes_cookies(self) -> bool:
        """Whether cookies pass both ways: to upstreams of its own, where ``forward`` has them."""
        return bool(self.upstreams) and "cookie" in self.forward


@dataclass(frozen=True, slots=True)
class Target:
    """What a request names, normalised (RFC 9110 §7.1).

    ``urls`` holds the same object's address at each mirror, the first preferred; the path
    and query are percent-encoded as the client sent them. ``key`` is the primary cache key
    (RFC 9111 §2), a hex digest: the same for every spelling of one target, and nothing can be
    read back from it. ``name`` is what people see in listings and logs: the first URL, with the
    values of query parameters that look like credentials or signatures masked.
    """

    key: str
    name: str
    urls: tuple[str, ...]
    mount: Mount
    path: str
    """Path and query below the mount (or at the host), what policy patterns are matched with."""
    forwarded: Fields = field(default_factory=Fields)
    """Request fields that go upstream with every fetch of this target, already in the key."""
    expected_digests: tuple[tuple[str, str], ...] = ()
    """(algorithm as in RFC 9530, lower-case hex) that the whole body must have."""
    variant: str = ""
    """What the target selects by beside its key: ``forwarded`` and ``expected_digests`` as one
    text. Variants share a key, so that a purge of the URL takes them all."""
    admission: str = ""
    """A keyed digest of the credential that upstream must accept before stored bytes are given
    (``Share.VERIFY``); empty where none has to."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What proves that two responses are bytes of one representation.

    ``etag`` is a *strong* entity tag with its quotes, or None; ``last_modified`` is the
    field's value as it came, or None; ``length_bytes`` is the complete length, or None.
    """

    length_bytes: int | None = None
    etag: str | None = None
    last_modified: str | None = None

    @property
    def is_strong(self) -> bool:
        """Whether bytes of two responses may be joined on this evidence (RFC 9110 §8.8.1)."""
        return self.etag is not None and self.length_bytes is not None


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored response (RFC 9111 §3); partial until its coverage is the whole length.

    ``entry_id`` names the entry's blob and never comes back: a replaced entry gets another.
    ``vary`` holds (field name, normalised request value) for each member of the response's
    Vary field, as the request that brought the response had them (RFC 9111 §4.1).
    """

    key: str
    entry_id: str
    name: str
    mount: str
    head: Head
    identity: Identity
    request_time: float
    response_time: float
    coverage: Intervals = ()
    complete: bool = False
    """Set only by the one atomic step that follows proof of every byte."""
    vary: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    digests: tuple[tuple[str, str], ...] = ()
    """(algorithm as in RFC 9530, lower-case hex) of the whole body, computed or verified by us."""
    stored_time: float = 0.0

    @property
    def length_bytes(self) -> int | None:
        """The complete length of the body, where it is known."""
        return self.identity.length_bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of ours to an upstream: what is to be opened, in full.

    ``url`` was normalised by ``rules.targets``; ``fields`` are sent as they stand, beside
    Host, User-Agent, Via and ``Accept-Encoding: identity``, which the client adds. A
    ``body`` is sent only with methods that have one and is never retried.
    """

    url: str
    method: str = "GET"
    fields: Fields = field(default_factory=Fields)
    body: AsyncIterator[bytes] | None = None
    body_length_bytes: int | None = None
    follow_redirects: bool = True
    unguarded: bool = False
    """True where the operator named this upstream in a mount, so that its own address may be
    private; a redirect from there to elsewhere is checked all the same."""
    on_interim: Callable[[Head], None] | None = field(default=None, compare=False, repr=False)
    """Called for each interim response as it comes. Waits for nothing and does not raise."""


class Window(NamedTuple):
    """Bytes ``[start, stop)`` of an open file that may be sent now.

    ``fileno`` stays open until the body that gave this window is closed.
    """

    fileno: int
    start: int
    stop: int


class CacheOutcome(enum.StrEnum):
    """The words of our Cache-Status field and metrics (RFC 9211 §2)."""

    HIT = "hit"
    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    STALE = "stale"
    PARTIAL = "partial"
    BYPASS = "bypass"
    METHOD = "method"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """One member of Cache-Status (RFC 9211 §2): what we did with this request."""

    outcome: CacheOutcome
    stored: bool = False
    collapsed: bool = False
    fwd_status: int | None = None
    ttl_seconds: int | None = None
    detail: str | None = None
