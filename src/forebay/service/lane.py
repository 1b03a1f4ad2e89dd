"""The fast lane: hits that can be answered at once, without waiting for anything.

The lane asks the same rules as ``story`` and keeps what they said for as long as nothing that
they looked at has changed. That is the request, which the caller keeps as a ``Question``; the
stored entries, which ``find_cached`` gives as another tuple after every change, by whichever
process; and of the clock only that the entry is still fresh. Age and ttl are told anew each time.

Range is no part of a question: of all that is decided only the interval depends on it, once it
is known to apply, and hardly two requests for parts are the same. So one question holds what was
decided for the whole and what was decided for any one part.

What may wait, or what depends on more than this, goes the ordinary way: whatever has to be asked
or joined, several ranges and those that cannot be satisfied, wishes in Cache-Control, bytes that
are to be verified first, and small pieces that are not in the page cache. None always means that,
and is never wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container
from dataclasses import replace
from typing import Protocol, runtime_checkable

from forebay.errors import ForebayError, StoreError
from forebay.model import CacheOutcome, CacheStatus, Entry, Fields, Interval, Request, Target
from forebay.presets import preset_of
from forebay.presets.contract import unchanged_reply
from forebay.rules import freshness, ranges
from forebay.rules.dates import parse_http_date
from forebay.rules.fields import single
from forebay.rules.lifetimes import current_age, freshness_lifetime
from forebay.service import replies
from forebay.service.held import Content, Contents, HeldFile, HeldFiles, Scratch
from forebay.service.hits import SMALL_BYTES, Answer, Hit, Question
from forebay.service.selecting import selected

CONTENT_BYTES = 64 * 1024 * 1024
"""What all bodies in memory may take together. The page cache has them too: this spares opening,
reading and closing a file, and need only hold what is asked for many times a second."""

UNSUITED = frozenset(
    {
        "cache-control",
        "content-length",
        "expect",
        "pragma",
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

    def needs_verification(self, entry: Entry, wanted: Interval | None = None) -> bool:
        """As ``ports.Store.needs_verification``."""

    def touch(self, entry: Entry) -> None:
        """As ``ports.Store.touch``."""


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
        self._files = HeldFiles()
        self._scratch = Scratch(SMALL_BYTES)

    def close(self) -> None:
        """Let go of every descriptor that nothing is being sent from."""
        self._files.clear()

    def take_up(self, request: Request) -> Question | None:
        """The question that this request asks; None if it is none for this lane.

        Its Range goes to ``answer`` as ``range_value`` each time.
        """
        if request.method not in {"GET", "HEAD"}:
            return None
        if any(name in UNSUITED for name, _ in request.fields):
            return None
        if len(request.fields.get_all("range")) > 1:
            return None
        request = replace(request, fields=request.fields.without("range"))
        try:
            target = self._resolve(request)
        except ForebayError:
            return None
        if target.admission or not _is_plain(request, target):
            return None
        return Question(request, target)

    def answer(
        self, question: Question, range_value: str | None = None, may_send_files: bool = True
    ) -> Answer | None:
        """The answer if there is one now. Notes the use of the entry.

        Where ``may_send_files`` is false, none that is longer than ``SMALL_BYTES``.
        """
        entries = self._store.find_cached(question.target.key)
        if entries is None:
            return None
        if entries is not question.entries:
            question.entries, question.whole, question.part = entries, None, None
        if range_value is None or question.request.method != "GET":
            # Only GET has ranges (RFC 9110 §14.2).
            hit = question.whole or self._look(question, entries, None)
            interval = None if hit is None else hit.whole
        else:
            hit = question.part or self._look(question, entries, range_value)
            interval = None if hit is None else _interval(hit, range_value)
        if hit is None or interval is None:
            return None
        ages = hit.ages_at(self._clock())
        if ages is None:
            return None
        file: HeldFile | None = None
        content: bytes | memoryview | None
        if hit.is_small:
            content = self._octets(hit)
            if content is not None and interval is not hit.whole:
                content = content[interval.start : interval.stop]
        elif interval.stop - interval.start <= SMALL_BYTES:
            content = self._part(hit.entry, interval)
        else:
            content, file = None, self._file(hit.entry, interval) if may_send_files else None
        if content is None and file is None:
            return None
        self._store.touch(hit.entry)
        return Answer(hit, ages, interval, content, file)

    def _look(
        self, question: Question, entries: tuple[Entry, ...], range_value: str | None
    ) -> Hit | None:
        """Steps 3, 5 and 6 of the story; what they find is remembered, that there is nothing is
        not, since a transfer may end or a clock be set without a change of what is stored."""
        if not any(map(_suits, entries)):
            return None
        request, target = question.request, question.target
        entry = selected(request, target, entries)
        now = self._clock()
        if entry is None or not _suits(entry) or entry.entry_id in self._transfers:
            return None
        match freshness.decide(request, entry, now, target.mount.policy, target.path):
            case freshness.Reuse(stale=False, revalidate_behind=False):
                pass
            case _:
                return None
        if range_value is not None:
            request = replace(request, fields=request.fields.with_field("range", range_value))
        shaped = replies.shape(request, entry)
        if "date" not in shaped.fields:
            return None  # A 412's Date is each reply's own time.
        is_part = _is_one_part(shaped)
        if not (range_value is None or is_part or shaped.status == 304):
            return None  # What it is instead may be another thing for another Range.
        reply = replies.headed(shaped, entry, CacheStatus(CacheOutcome.HIT), now, None)
        reply.fields = _lasting(reply.fields, is_part=is_part)
        born, policy = entry.response_time, target.mount.policy
        hit = Hit(
            reply,
            entry,
            current_age(entry, born),
            freshness_lifetime(entry.head, policy, target.path, born),
            entry.length_bytes if isinstance(shaped, replies.Bytes) else None,
            is_part=is_part,
        )
        if range_value is None:
            question.whole = hit
        else:
            question.part = hit
        return hit

    def _octets(self, hit: Hit) -> bytes | None:
        """The whole body of a small hit, from memory or from disk where that waits for nothing."""
        if not hit.length_bytes:
            return b""
        held = hit.content
        if held is None or held.octets is None:
            held = self._contents.get(hit.entry.entry_id) or self._loaded(hit.entry)
            if held is None:
                return None
            hit.content = held
        held.is_used = True
        return held.octets

    def _loaded(self, entry: Entry) -> Content | None:
        if self._store.needs_verification(entry):
            return None
        try:
            fileno = self._store.open_reader(entry)
        except StoreError:
            return None
        try:
            octets = self._scratch.read(fileno, Interval(0, entry.length_bytes or 0))
        finally:
            os.close(fileno)
        return None if octets is None else self._contents.put(entry.entry_id, bytes(octets))

    def _part(self, entry: Entry, interval: Interval) -> memoryview | None:
        """A small part of a large entry, where reading it waits for nothing."""
        file = self._proven(entry, interval)
        return None if file is None else self._scratch.read(file.fileno, interval)

    def _file(self, entry: Entry, interval: Interval) -> HeldFile | None:
        """The file to send this from, in use."""
        file = self._proven(entry, interval)
        return None if file is None else file.use()

    def _proven(self, entry: Entry, interval: Interval) -> HeldFile | None:
        """The entry's file, where these bytes of it may be sent as they are."""
        if self._store.needs_verification(entry, interval):
            return None
        file = self._files.get(entry.entry_id)
        if file is None:
            try:
                file = self._files.put(entry.entry_id, self._store.open_reader(entry))
            except StoreError:
                return None
        return file


def _is_plain(request: Request, target: Target) -> bool:
    """Whether the reply is the entry's head and bytes, and nothing of our making."""
    preset = preset_of(target.mount)
    return preset.shape_reply is unchanged_reply and (
        preset.rewrite_for(request.method, target.path, target.mount) is None
    )


def _suits(entry: Entry) -> bool:
    """Whether this entry is whole, and has a Date of its own: elsewhere Date is each reply's own
    time."""
    if not entry.complete or entry.length_bytes is None:
        return False
    date = single(entry.head.fields, "date")
    return date is not None and parse_http_date(date) is not None


def _is_one_part(shaped: replies.Plain | replies.Bytes) -> bool:
    """Whether this is a 206 with a single part (RFC 9110 §15.3.7.1)."""
    return isinstance(shaped, replies.Bytes) and shaped.status == 206 and shaped.layout is None


def _interval(hit: Hit, range_value: str) -> Interval | None:
    """The bytes of the entry that follow the head; None where Range says something else than
    one part."""
    if hit.length_bytes is None:
        return hit.whole
    plain = ranges.plain_part(range_value, hit.length_bytes)
    if plain is not None:
        return plain
    specs = ranges.parse_range(range_value)
    match None if specs is None else ranges.select_specs(specs, hit.length_bytes):
        case ranges.Part(interval):
            return interval
        case _:
            return None


def _lasting(fields: Fields, *, is_part: bool) -> Fields:
    """The fields without the lines of ``Answer.changing_fields``: ours is the last of its name."""
    gone = {"age", "content-range", "content-length"} if is_part else {"age"}
    lines = [line for line in fields if line[0] not in gone]
    ours = max(at for at, (name, _) in enumerate(lines) if name == "cache-status")
    return Fields(lines[:ours] + lines[ours + 1 :])
