"""The fast lane: hits that can be answered at once, from memory, without waiting for anything.

The lane asks the same rules as ``story`` and keeps what they said for as long as nothing that
they looked at has changed. That is the request, which the caller keeps as a ``Question``; the
stored entries, which ``find_cached`` gives as another tuple after every change, by whichever
process; and of the clock only that the entry is still fresh. Age and ttl are told anew each time.

What may wait, or what depends on more than this, goes the ordinary way: whatever has to be asked
or joined, conditions, ranges, wishes in Cache-Control, large bodies, and blobs that are not in
the page cache. None always means that, and is never wrong.
"""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from forebay.errors import ForebayError, StoreError
from forebay.model import CacheOutcome, CacheStatus, Entry, Fields, Request, Target
from forebay.ports import Reply
from forebay.rules import freshness
from forebay.rules.cache_status import format_cache_status
from forebay.rules.dates import parse_http_date
from forebay.rules.fields import single
from forebay.rules.heads import format_age
from forebay.rules.lifetimes import current_age, freshness_lifetime
from forebay.rules.vary import select_variant
from forebay.service import replies
from forebay.service.landings import VARIANT
from forebay.streaming.reader import BytesBody

SMALL_BYTES = 64 * 1024
"""The longest body that is answered from memory. Longer ones leave by ``sendfile``, beside whose
work the ordinary way costs little."""
CONTENT_BYTES = 32 * 1024 * 1024
"""What all bodies in memory may take together. The page cache has them too: this spares opening,
reading and closing a file, and need only hold what is asked for many times a second."""

PLAIN_PRESETS = frozenset({"conda", "dnf", "generic", "go", "immutable", "maven"})
"""Presets of mounts whose replies are the entry's head and bytes, and nothing of our making."""

UNSUITED = frozenset(
    {
        "cache-control",
        "content-length",
        "expect",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "pragma",
        "range",
        "transfer-encoding",
        "upgrade",
        "via",
    }
)
"""Request fields with which a request goes the ordinary way. All others can only select the
target or the variant, and that is asked of the rules."""


@runtime_checkable
class PeekableStore(Protocol):
    """A store that knows some of its entries without waiting."""

    def find_cached(self, key: str) -> tuple[Entry, ...] | None:
        """What ``find`` would give, if that is known now. The same tuple object is given again
        for as long as nothing under this key has changed."""

    def open_reader(self, entry: Entry) -> int:
        """As ``ports.Store.open_reader``."""

    def needs_verification(self, entry: Entry) -> bool:
        """As ``ports.Store.needs_verification``."""

    def touch(self, entry: Entry) -> None:
        """As ``ports.Store.touch``."""


@dataclass(slots=True, eq=False)
class Question:
    """A request that may be answered at once, and what was found for it last."""

    request: Request
    target: Target
    entries: tuple[Entry, ...] | None = None
    hit: Hit | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Hit:
    """What the rules made of one request and one entry, good for as long as that is fresh.

    ``reply`` lacks a body, and its fields lack Age and our member of Cache-Status.
    """

    reply: Reply
    entry: Entry
    initial_age_seconds: float
    lifetime_seconds: float
    has_body: bool


class Answer(NamedTuple):
    """A hit at one moment; ``content`` is the whole body, empty for HEAD."""

    hit: Hit
    age_seconds: int
    ttl_seconds: int
    content: bytes

    def changing_fields(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """What is still to be added to the reply's fields, at their end."""
        status = CacheStatus(CacheOutcome.HIT, ttl_seconds=self.ttl_seconds)
        return (
            ("age", format_age(self.age_seconds)),
            ("cache-status", format_cache_status(status)),
        )


class Lane:
    """Answers what it can at once. Not safe for threads; nothing here waits.

    ``transfers`` are the entries (by id) that are being filled at the moment; ``resolve`` is the
    first step of ``Service.respond`` and raises ``ForebayError``.
    """

    def __init__(
        self,
        store: PeekableStore,
        transfers: Container[str],
        resolve: Callable[[Request], Target],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._transfers = transfers
        self._resolve = resolve
        self._clock = clock
        self._contents = Contents(CONTENT_BYTES)

    def take_up(self, request: Request) -> Question | None:
        """The question that this request asks; None if it is none for this lane."""
        if request.method not in {"GET", "HEAD"}:
            return None
        if any(name in UNSUITED for name, _ in request.fields):
            return None
        try:
            target = self._resolve(request)
        except ForebayError:
            return None
        return Question(request, target) if target.mount.preset in PLAIN_PRESETS else None

    def answer(self, question: Question) -> Answer | None:
        """The answer if there is one now. Notes the use of the entry."""
        entries = self._store.find_cached(question.target.key)
        if entries is None:
            return None
        hit = question.hit if entries is question.entries else self._look(question, entries)
        if hit is None:
            return None
        # The same arithmetic as in ``current_age``, so that both lanes give the same second.
        entry = hit.entry
        age = hit.initial_age_seconds + max(0.0, self._clock() - entry.response_time)
        if age >= hit.lifetime_seconds:
            return None
        content = self._content(entry) if hit.has_body else b""
        if content is None:
            return None
        self._store.touch(entry)
        return Answer(hit, math.floor(age), math.floor(hit.lifetime_seconds - age), content)

    def answer_now(self, request: Request) -> Reply | None:
        """The whole reply to this request, if it can be given at once."""
        question = self.take_up(request)
        answer = self.answer(question) if question is not None else None
        if answer is None:
            return None
        reply = answer.hit.reply
        return Reply(
            reply.status,
            Fields((*reply.fields, *answer.changing_fields())),
            BytesBody(answer.content) if answer.hit.has_body else None,
            CacheStatus(CacheOutcome.HIT, ttl_seconds=answer.ttl_seconds),
            reply.target_name,
            reply.length_bytes,
            reply.reason,
        )

    def _look(self, question: Question, entries: tuple[Entry, ...]) -> Hit | None:
        """Steps 3, 5 and 6 of the story; what they find is remembered, that there is nothing is
        not, since a transfer may end or a clock be set without a change of what is stored."""
        if not any(map(_is_small, entries)):
            return None
        request, target = question.request, question.target
        entry = selected(request, target, entries)
        now = self._clock()
        if entry is None or not _is_small(entry) or entry.entry_id in self._transfers:
            return None
        policy = target.mount.policy
        match freshness.decide(request, entry, now, policy, target.path):
            case freshness.Reuse(stale=False, revalidate_behind=False):
                pass
            case _:
                return None
        shaped = replies.shape(request, entry)
        if shaped.status != entry.head.status:
            return None
        status = CacheStatus(CacheOutcome.HIT)
        reply = replies.headed(shaped, entry, status, now, None)
        reply.fields = _lasting(reply.fields)
        question.entries = entries
        question.hit = Hit(
            reply,
            entry,
            current_age(entry, entry.response_time),
            freshness_lifetime(entry.head, policy, target.path, entry.response_time),
            isinstance(shaped, replies.Bytes),
        )
        return question.hit

    def _content(self, entry: Entry) -> bytes | None:
        """The entry's bytes, from memory or, where that waits for nothing, from the disk."""
        content = self._contents.get(entry.entry_id)
        if content is None:
            if self._store.needs_verification(entry):
                return None
            try:
                content = _read_resident(self._store.open_reader(entry), entry.length_bytes or 0)
            except (StoreError, OSError):
                return None
            if content is not None:
                self._contents.put(entry.entry_id, content)
        return content


class Contents:
    """Bodies by entry id, the least recently used leaving first when they take too much.

    What is stored under an id never changes, and an id is only known to who has found its entry:
    so nothing here can be out of date, and what was purged is never asked for again.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def get(self, entry_id: str) -> bytes | None:
        content = self._held.get(entry_id)
        if content is not None:
            self._held.move_to_end(entry_id)
        return content

    def put(self, entry_id: str, content: bytes) -> None:
        """Keep this content, which is not there yet, for as long as there is room."""
        self._held[entry_id] = content
        self._held_bytes += len(content)
        while self._held_bytes > self._limit_bytes:
            self._held_bytes -= len(self._held.popitem(last=False)[1])


def selected(request: Request, target: Target, entries: Iterable[Entry]) -> Entry | None:
    """The entry that this request selects among those under its target's key."""
    variants = [one for one in entries if dict(one.vary).get(VARIANT, "") == target.variant]
    return select_variant(request, variants, target.mount.policy)


def _is_small(entry: Entry) -> bool:
    """Whether this entry can answer from memory, and with a Date of its own: elsewhere Date is
    each reply's own time."""
    length = entry.length_bytes
    if not entry.complete or length is None or length > SMALL_BYTES:
        return False
    date = single(entry.head.fields, "date")
    return date is not None and parse_http_date(date) is not None


def _lasting(fields: Fields) -> Fields:
    """The fields without the lines of ``Answer.changing_fields``: ours is the last of its name."""
    lines = [line for line in fields if line[0] != "age"]
    ours = max(at for at, (name, _) in enumerate(lines) if name == "cache-status")
    return Fields(lines[:ours] + lines[ours + 1 :])


def _read_resident(fileno: int, length_bytes: int) -> bytes | None:
    """The first bytes of the blob if all are in memory, else None. Closes the descriptor."""
    buffer = bytearray(length_bytes)
    try:
        # One system call that fails rather than wait for the disk.
        got = os.preadv(fileno, [buffer], 0, getattr(os, "RWF_NOWAIT", 0)) if length_bytes else 0
    finally:
        os.close(fileno)
    return bytes(buffer) if got == length_bytes else None
