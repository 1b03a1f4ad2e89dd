"""The segments at work for one transfer: opened, proved, watched, and replaced when they fail.

The transfer says which bytes (by the plan); the crew decides from which mirror, over how many
connections, and what a failure means:

* overloaded (429, 503, refused): that mirror is left alone for a while, and no more
  connections are added than run now (RFC 6585 §4, RFC 9110 §10.2.3);
* failed, stalled, or far slower than another: its missing bytes are taken from elsewhere;
* another representation: that mirror is out. Where it is the only one, nobody is added any more,
  and the connection that began all this may still finish what it promised;
* too many failures in a row without one new byte: the crew gives up, with the last error.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

from forebay.errors import (
    ForebayError,
    StoreError,
    UpstreamChanged,
    UpstreamError,
    UpstreamMisbehaved,
)
from forebay.model import Ask, Fields, Head, Identity, Interval, Intervals, TransferPolicy
from forebay.ports import Draft, MirrorHealth, Upstream, UpstreamResponse
from forebay.rules import coverage as cov
from forebay.rules.content_range import format_range
from forebay.rules.plan import Limits, Work
from forebay.rules.proof import Busy, Changed, Proven, joining_validator, prove
from forebay.streaming.pace import Growth, Slots
from forebay.streaming.segment import Segment, Source
from forebay.streaming.tee import clip

LAGGARD_AFTER_SECONDS = 2.0
LAGGARD_SHARE = 0.25
"""A mirror that gives less than this share of another's rate is left in mid-body."""
LAGGARD_HOLD_SECONDS = 15.0
BUSY_HOLD_SECONDS = 2.0
RETRY_FIRST_SECONDS = 0.05
RETRY_MOST_SECONDS = 2.0

log = logging.getLogger("forebay.streaming")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every transfer shares: the network, limits, what is known of mirrors, the clocks."""

    upstream: Upstream
    health: MirrorHealth
    slots: Slots
    clock: Callable[[], float]
    """Monotonic seconds."""
    wall_clock: Callable[[], float]
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is being fetched: addresses, the fields to ask with, and what proves its bytes."""

    sources: tuple[Source, ...]
    fields: Fields
    head: Head
    identity: Identity
    policy: TransferPolicy


class _Overloaded(UpstreamError):
    """An answer that asks for fewer requests."""

    def __init__(self, retry_after_seconds: float | None) -> None:
        super().__init__("The upstream is overloaded. Try again later.")
        self.retry_after_seconds = retry_after_seconds


class _RangesIgnored(UpstreamError):
    """The whole came where a part was asked for."""


class Crew:
    """Runs segments; tells its transfer of bytes written (``on_written``) and of changes."""

    def __init__(
        self,
        subject: Subject,
        around: Surroundings,
        draft: Draft,
        on_written: Callable[[Interval], None],
        on_change: Callable[[], None],
    ) -> None:
        self._subject = subject
        self._around = around
        self._draft = draft
        self._on_written = on_written
        self._on_change = on_change
        self._running: dict[Segment, asyncio.Task[None]] = {}
        self._leaving: dict[Segment, asyncio.Task[None]] = {}
        self._held_until: dict[str, float] = {}
        self._excluded: set[str] = set()
        self._fruitless = 0
        self._fetched_before = 0
        self._fetched_at_failure = 0
        self._first: Segment | None = None
        self.error: ForebayError | None = None
        self.validator = joining_validator(subject.head)
        self.ranges_work = (
            subject.identity.length_bytes is not None
            and self.validator is not None
            and (subject.head.fields.get("accept-ranges") or "").strip().lower() != "none"
        )
        self.growth = Growth(subject.policy.max_segments, around.clock())

    # What the transfer looks at.

    @property
    def segments(self) -> tuple[Segment, ...]:
        return tuple(self._running)

    @property
    def idle(self) -> bool:
        """Whether nothing is at work, not even something that is about to end."""
        return not self._running and not self._leaving

    @property
    def fetched_bytes(self) -> int:
        live = (*self._running, *self._leaving)
        return self._fetched_before + sum(segment.meter.total_bytes for segment in live)

    def rate(self) -> float:
        now = self._around.clock()
        return sum(segment.meter.rate(now) for segment in self._running)

    def work(self) -> tuple[Work, ...]:
        """The running segments in the plan's words. Only where the length is known."""
        return tuple(
            Work(segment.received, segment.stop)
            for segment in self._running
            if segment.stop is not None
        )

    def arriving(self, coverage: Intervals) -> Intervals:
        """The coverage with what has been received and is on its way to disk."""
        for segment in (*self._running, *self._leaving):
            coverage = cov.add(coverage, Interval(segment.written, segment.received))
        return coverage

    def limits(self) -> Limits:
        policy = self._subject.policy
        most = policy.max_segments if self.ranges_work else 1
        return Limits(most, min(most, self.growth.allowed), policy.min_segment_bytes)

    # What the transfer orders.

    async def bring_first(self, segment: Segment, response: UpstreamResponse, skip: int) -> None:
        """Work on a response that the caller has open, until its segment ends. Never raises."""
        self._first = segment
        task = asyncio.create_task(self._bring(segment, response, skip))
        self._enrol(segment, task)
        try:
            await asyncio.wait([task])
        finally:
            # Cancelled ourselves: the caller closes the response, so nobody may read it then.
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    def open(self, interval: Interval) -> bool:
        """Start a segment; a running one that reaches into the interval ends where it starts.

        False where none may be started now: ``on_change`` is called when to ask again.
        """
        source = self._pick_source()
        if source is None:
            return False
        host = urlsplit(source.url).netloc
        if self._running and not self._around.slots.has_room(host):
            return False
        start = interval.start
        for segment in list(self._running):
            if segment.stop is not None and segment.received <= interval.start < segment.stop:
                start = segment.cut(interval.start)
                self._end_if_finished(segment)
        segment = Segment(source, start, interval.stop, self._around.clock())
        self._enrol(segment, asyncio.create_task(self._fetch(segment)))
        return True

    def cut(self, index: int) -> None:
        """End this running segment now."""
        segment = tuple(self._running)[index]
        segment.cut(segment.received)
        self._end_if_finished(segment)

    def cut_all(self) -> None:
        """End every segment now; what was received is still written."""
        for segment in tuple(self._running):
            segment.cut(segment.received)
            self._end_if_finished(segment)

    async def aclose(self) -> None:
        """Cancel what runs and wait until every connection is released."""
        tasks = [*self._running.values(), *self._leaving.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def watch(self, remaining_bytes: int) -> None:
        """Look at rates; a few times a second."""
        now = self._around.clock()
        allowed = self.growth.allowed
        if self.ranges_work and self._running:
            self.growth.tick(now, self.rate(), remaining_bytes)
        if self.growth.allowed < allowed:
            for segment in tuple(self._running)[self.growth.allowed :]:
                segment.cut(segment.received)
                self._end_if_finished(segment)
        self._leave_laggards(now)
        self._on_change()

    # How it is done.

    def _enrol(self, segment: Segment, task: asyncio.Task[None]) -> None:
        """Count a segment as running until its task is done, however that comes about.

        A callback, since a task that is cancelled before its first step runs no ``finally``.
        """
        host = urlsplit(segment.source.url).netloc
        self._around.slots.take(host)
        in_use = ExitStack()
        in_use.enter_context(self._around.health.using(segment.source.url))
        self._running[segment] = task

        def done(task: asyncio.Task[None]) -> None:
            self._around.slots.give(host)
            in_use.close()
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, ForebayError):
                log.error("a segment ended with a fault of ours", exc_info=error)
                error = UpstreamMisbehaved("The fetch failed inside the cache. Ask again.")
            self._ended(segment, error)

        task.add_done_callback(done)

    async def _fetch(self, segment: Segment) -> None:
        """Open a connection for this segment and work on it, in this one frame."""
        async with self._around.upstream.open(self._ask(segment)) as response:
            skip = self._prove(segment, response.head)
            await self._bring(segment, response, skip)

    async def _bring(self, segment: Segment, response: UpstreamResponse, skip: int) -> None:
        chunks: AsyncIterator[bytes] = response.chunks()
        if skip:
            chunks = clip(chunks, skip)
        await segment.bring(chunks, self._draft, self._on_written, self._around.clock)

    def _ask(self, segment: Segment) -> Ask:
        fields = self._subject.fields.with_field("range", format_range(segment.asked))
        if self.validator is not None:
            fields = fields.with_field("if-range", self.validator)
        return Ask(segment.source.url, fields=fields, unguarded=segment.source.unguarded)

    def _prove(self, segment: Segment, answer: Head) -> int:
        """How many bytes of the body to skip. Raises ``UpstreamError`` where it is of no use."""
        subject = self._subject
        verdict = prove(
            answer,
            segment.asked,
            subject.head,
            subject.identity,
            subject.policy.identity,
            self._around.wall_clock(),
        )
        match verdict:
            case Proven(whole=True):
                self.ranges_work = False
                if len(self._running) > 1:
                    raise _RangesIgnored("The upstream does not give ranges.")
                return segment.start
            case Proven(interval):
                segment.cut(interval.stop)
                segment.natural_stop = interval.stop
                return 0
            case Busy(retry_after_seconds):
                raise _Overloaded(retry_after_seconds)
            case Changed(why):
                raise UpstreamChanged(f"The file changed while it was fetched: {why}. Ask again.")
        raise UpstreamMisbehaved(f"The upstream cannot be used: {verdict.why}.")

    def _end_if_finished(self, segment: Segment) -> None:
        """A segment that was cut where it stands would only notice with its next chunk."""
        if segment.is_finished():
            task = self._running.pop(segment)
            self._leaving[segment] = task
            task.cancel()

    def _ended(self, segment: Segment, error: ForebayError | None) -> None:
        self._running.pop(segment, None)
        self._leaving.pop(segment, None)
        self._fetched_before += segment.meter.total_bytes
        if segment.meter.total_bytes:
            rate = segment.meter.total_bytes / max(self._around.clock() - segment.started, 1e-3)
            self._around.health.note_success(segment.source.url, rate)
        if error is not None and not segment.is_finished():
            self._note_failure(segment, error)
        self._on_change()

    def _note_failure(self, segment: Segment, error: ForebayError) -> None:
        mirror = segment.source.mirror
        match error:
            case StoreError():
                self.error = error
                return
            case UpstreamChanged():
                self._excluded.add(mirror)
                if not self._candidates():
                    self._rely_on_first(error)
                return
            case _RangesIgnored():
                return
            case _Overloaded(retry_after_seconds=seconds):
                self._hold(mirror, BUSY_HOLD_SECONDS if seconds is None else seconds)
                self.growth.give_back(max(1, len(self._running)))
                self._around.health.note_failure(segment.source.url, seconds)
            case _:
                self._around.health.note_failure(segment.source.url)
        self._count_failure(error, mirror)

    def _count_failure(self, error: ForebayError, mirror: str) -> None:
        if self.fetched_bytes > self._fetched_at_failure:
            self._fruitless = 0
        self._fetched_at_failure = self.fetched_bytes
        self._fruitless += 1
        if self._fruitless > self._subject.policy.max_tries and not self._running:
            self.error = error
        delay = min(RETRY_FIRST_SECONDS * 2**self._fruitless, RETRY_MOST_SECONDS)
        self._hold(mirror, delay)

    def _rely_on_first(self, error: ForebayError) -> None:
        """Nobody else has our representation: the first connection finishes it, or nobody."""
        first = self._first
        self.ranges_work = False
        if first not in self._running:
            self.error = error
            return
        for segment in tuple(self._running):
            if segment is not first:
                segment.cut(segment.received)
                self._end_if_finished(segment)
        first.stop = first.natural_stop

    def _hold(self, mirror: str, seconds: float) -> None:
        until = self._around.clock() + seconds
        self._held_until[mirror] = max(until, self._held_until.get(mirror, 0.0))
        asyncio.get_running_loop().call_later(seconds + 0.001, self._on_change)

    def _candidates(self) -> Sequence[Source]:
        return [s for s in self._subject.sources if s.mirror not in self._excluded]

    def _pick_source(self) -> Source | None:
        """The mirror from which one more connection promises most, by what was measured."""
        now = self._around.clock()
        free = [s for s in self._candidates() if self._held_until.get(s.mirror, 0.0) <= now]
        if not free:
            return None
        best = self._around.health.order([source.url for source in free])[0]
        return next(source for source in free if source.url == best)

    def _leave_laggards(self, now: float) -> None:
        """Take the work of a mirror that is far slower than another at work right now."""
        if len(self._candidates()) < 2:
            return
        rates: dict[str, float] = {}
        for segment in self._running:
            if now - segment.started >= LAGGARD_AFTER_SECONDS:
                rate = segment.meter.rate(now)
                rates[segment.source.mirror] = max(rate, rates.get(segment.source.mirror, 0.0))
        fastest = max(rates.values(), default=0.0)
        for segment in tuple(self._running):
            if rates.get(segment.source.mirror, fastest) < LAGGARD_SHARE * fastest:
                self._hold(segment.source.mirror, LAGGARD_HOLD_SECONDS)
                segment.cut(segment.received)
                self._end_if_finished(segment)
