"""The segments at work for one transfer: opened, proved, watched, and replaced when they fail.

The transfer says which bytes (by the plan); the crew decides from which mirror, over how many
connections, and what a failure means:

* overloaded (429, 503, refused): that mirror is left alone for a while, and no more
  connections are added than run now (RFC 6585 §4, RFC 9110 §10.2.3);
* failed, stalled, or far slower than another: its missing bytes are taken from elsewhere;
* another representation: that mirror is out. Where it is the only one, nobody is added any more,
  and the connections at work may still finish what they promised;
* too many failures in a row without one new byte, or nobody left to ask for a byte that is
  missing: the crew gives up, with the last error.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from itertools import zip_longest

from forebay.errors import (
    ForebayError,
    StoreError,
    UpstreamChanged,
    UpstreamMisbehaved,
    UpstreamTooSlow,
    UpstreamUnreachable,
)
from forebay.model import Head, Interval, Intervals, Octets
from forebay.ports import Draft, UpstreamResponse
from forebay.rules import coverage as cov
from forebay.rules.plan import Limits, Work
from forebay.rules.proof import may_join
from forebay.rules.targets import masked_text
from forebay.streaming.asking import RangesIgnored, UpstreamBusy, ask_for, examine
from forebay.streaming.pace import Growth
from forebay.streaming.roster import Roster, host_of
from forebay.streaming.segment import Segment, are_behind
from forebay.streaming.steadfast import see_through
from forebay.streaming.subject import Subject, Surroundings
from forebay.streaming.tee import bound, clip
from forebay.streaming.trials import Trials
from forebay.views import SegmentView

NEAR_BYTES = 1024 * 1024
"""A reader so little ahead of a segment waits for it: another request would hardly be sooner."""
LAGGARD_HOLD_SECONDS = 15.0
BUSY_HOLD_SECONDS = 2.0
PATIENCE_SECONDS = 30.0
"""Where every mirror asks to be left alone for longer than this, readers are not kept waiting."""

log = logging.getLogger("forebay.streaming")


__all__ = ["Crew", "Subject", "Surroundings"]


class Crew:
    """Runs segments; tells its transfer of bytes written (``on_written``) and of changes.

    What is refused now (``open`` gives False) may be had later: the transfer asks again at
    every change, and a few times a second.
    """

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
        self._roster = Roster(subject.sources, around.health, around.slots, around.clock)
        self._trials = Trials(self._roster, around.health, subject.policy.max_tries)
        self._closing = False
        self._fetched_before = 0
        self._last_error: ForebayError | None = None
        self.error: ForebayError | None = None
        policy = subject.policy
        self._joinable = subject.identity.length_bytes is not None and may_join(
            subject.head, policy.identity
        )
        accepts = (subject.head.fields.get("accept-ranges") or "").strip().lower()
        self.ranges_work = self._joinable and accepts != "none"
        self.growth = Growth(policy.max_segments, around.clock())

    # What the transfer looks at.

    def view(self) -> tuple[SegmentView, ...]:
        """What people are shown of it."""
        now = self._around.clock()
        return tuple(
            SegmentView(
                masked_text(one.source.mirror),
                one.start,
                one.received,
                one.stop,
                one.meter.rate(now),
            )
            for one in self._running
        )

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
        now = self._around.clock()
        return tuple(
            Work(segment.received, segment.stop, segment.meter.rate(now))
            for segment in self._running
            if segment.stop is not None
        )

    def arriving(self, coverage: Intervals) -> Intervals:
        """The coverage with what has been received and is on its way to disk."""
        for segment in (*self._running, *self._leaving):
            coverage = cov.add(coverage, Interval(segment.written, segment.received))
        return coverage

    def limits(self) -> Limits:
        """What the plan may use now."""
        policy = self._subject.policy
        if not self._roster.remaining:
            # Nothing can be added: the plan is to say so at once where a byte has nobody to bring
            # it, and otherwise to leave those at work in peace.
            most = len(self._running) + 1
            return Limits(most, most, sys.maxsize, sys.maxsize)
        if not self.ranges_work:
            # Each connection starts over at byte 0: everybody waits for the one that runs.
            return Limits(1, 1, policy.min_segment_bytes, sys.maxsize)
        most = policy.max_segments
        near_bytes = min(NEAR_BYTES, policy.min_segment_bytes)
        allowed = min(most, self.growth.allowed)
        return Limits(most, allowed, policy.min_segment_bytes, near_bytes)

    # What the transfer orders.

    async def bring_first(self, segment: Segment, response: UpstreamResponse, skip: int) -> None:
        """Work on a response that the caller has open, until its segment ends.

        Raises nothing but a cancellation. The caller counts this connection as in use.
        """
        task = asyncio.create_task(self._bring(segment, response, skip))
        segment.is_proved = True
        self._enrol(segment, task, ExitStack())
        try:
            await asyncio.wait([task])
        finally:
            # Cancelled ourselves: the caller closes the response, so nobody may read it then.
            if not task.done():
                self._closing = True
                task.cancel()
                await see_through(task)

    def may_open(self) -> bool:
        """Whether a mirror may be asked now, as far as that depends on mirrors."""
        return not self._closing and self._roster.wait_seconds() == 0

    def open(self, interval: Interval) -> bool:
        """Start a segment; a running one that reaches into the interval ends where it starts.

        False where none may be started now. Where nobody will ever bring these bytes, or not
        in time, ``error`` says so.
        """
        source = None if self._closing else self._roster.pick(added=bool(self._running))
        if source is None:
            self._give_up_if_stranded()
            return False
        for segment in list(self._running):
            if segment.stop is not None and segment.received <= interval.start < segment.stop:
                segment.cut(interval.start)
                self._end_if_finished(segment)
        segment = Segment(source, *interval, self._around.clock())
        in_use = ExitStack()
        in_use.enter_context(self._around.health.using(source.url))
        self._enrol(segment, asyncio.create_task(self._fetch(segment)), in_use)
        return True

    def cut(self, index: int) -> None:
        """End this running segment now."""
        self._cut(tuple(self._running)[index])

    def cut_all(self) -> None:
        """End every segment now; what was received is still written."""
        for segment in tuple(self._running):
            self._cut(segment)

    def blame(self) -> None:
        """The whole has proved false: remember that of every mirror that brought some of it."""
        self._trials.blame()

    async def aclose(self) -> None:
        """Cancel what runs and wait until every connection is released."""
        self._closing = True
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
            self.growth.tick(now, self.rate(), remaining_bytes, is_behind=are_behind(self._running))
        if self.growth.allowed < allowed:
            for segment in tuple(self._running)[self.growth.allowed :]:
                self._cut(segment)
        self._leave_laggards()
        self._on_change()

    # How it is done.

    def _enrol(self, segment: Segment, task: asyncio.Task[None], in_use: ExitStack) -> None:
        """Count a segment as running until its task is done, however that comes about.

        A callback, since a task that is cancelled before its first step runs no ``finally``.
        """
        host = host_of(segment.source)
        self._around.slots.take(host)
        in_use.callback(self._around.slots.give, host)
        self._running[segment] = task

        def done(task: asyncio.Task[None]) -> None:
            in_use.close()
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, ForebayError):
                log.error("a segment ended with a fault of ours", exc_info=error)
                error = UpstreamMisbehaved("The fetch failed inside the cache. Ask again.")
            self._ended(segment, error)

        task.add_done_callback(done)

    async def _fetch(self, segment: Segment) -> None:
        """Open a connection for this segment and work on it, in this one frame."""
        asked = segment.todo
        segment.natural_stop = asked.stop
        ask = ask_for(self._subject, segment.source, asked)
        async with self._around.upstream.open(ask) as response:
            skip = self._prove(segment, asked, response.head)
            await self._bring(segment, response, skip)

    async def _bring(self, segment: Segment, response: UpstreamResponse, skip: int) -> None:
        chunks: AsyncIterator[Octets] = response.chunks()
        most_bytes = self._subject.policy.max_object_bytes
        if most_bytes is not None and self._subject.identity.length_bytes is None:
            chunks = bound(chunks, most_bytes)
        if skip:
            chunks = clip(chunks, skip)
        segment.unread_bytes = lambda: response.unread_bytes
        await segment.bring(chunks, self._draft, self._on_written, self._around.clock)

    def _prove(self, segment: Segment, asked: Interval, answer: Head) -> int:
        """How many bytes of the body to skip. Raises ``UpstreamError`` where it is of no use.

        ``asked`` is what the request said; the segment may have to bring less by now.
        """
        proven = examine(self._subject, asked, answer, self._around.wall_clock())
        if proven.whole:
            self.ranges_work = self.ranges_work and len(self._roster.remaining) > 1
            if len(self._running) > 1:
                raise RangesIgnored("The upstream does not give ranges.")
            segment.natural_stop = self._subject.identity.length_bytes
        else:
            segment.natural_stop = proven.interval.stop
            segment.cut(proven.interval.stop)
        segment.is_proved = True
        return segment.start if proven.whole else 0

    def _cut(self, segment: Segment) -> None:
        segment.cut(segment.received)
        self._end_if_finished(segment)

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
        self._trials.note_brought(segment, self._around.clock())
        if segment.disk_error is not None:
            # Whatever else happened: bytes that were received are not there.
            self.error = segment.disk_error
        elif error is not None and not segment.is_finished():
            self._hand_back(segment)
            self._note_failure(segment, error)
        self._on_change()

    def _hand_back(self, segment: Segment) -> None:
        """A try that brought nothing was no reason to end the one before it early."""
        if segment.received > segment.start:
            return
        for other in self._running:
            if other.is_proved and other.stop == segment.start:
                other.extend(segment.stop)

    def _note_failure(self, segment: Segment, error: ForebayError) -> None:
        self._last_error = error
        mirror, health = segment.source.mirror, self._around.health
        match error:
            case _ if not self._joinable or isinstance(error, StoreError):
                # Nothing can be put beside the bytes that are there.
                self.error = error
                return
            case UpstreamChanged():
                self._roster.exclude(mirror)
                if not self._roster.remaining:
                    self._rely_on_those_at_work()
                return
            case RangesIgnored():
                if self.ranges_work:
                    self._roster.hold(mirror, LAGGARD_HOLD_SECONDS)
                else:
                    self._rely_on_those_at_work()
                return
            case UpstreamBusy(retry_after_seconds=seconds):
                self._roster.hold(mirror, BUSY_HOLD_SECONDS if seconds is None else seconds)
                self.growth.give_back(len(self._running))
                health.note_failure(segment.source.url, seconds, why=error.detail)
            case UpstreamUnreachable() if self._running and not segment.meter.total_bytes:
                self.growth.give_back(len(self._running))
                health.note_failure(segment.source.url, why=error.detail)
            case _:
                health.note_failure(segment.source.url, why=error.detail)
        dripped = isinstance(error, UpstreamTooSlow)
        are_enough = self._trials.count(segment, self.fetched_bytes, dripped=dripped)
        if are_enough and not self._running:
            self.error = error

    def _rely_on_those_at_work(self) -> None:
        """Nobody can be added, now that the last mirror has changed or gives no ranges.

        Each connection that works goes on as far as its response and its neighbour allow;
        those that have not been answered yet will get the same answer, and are given up.
        """
        for segment in tuple(self._running):
            if not segment.is_proved:
                self._cut(segment)
        ordered = sorted(self._running, key=lambda segment: segment.received)
        for segment, following in zip_longest(ordered, ordered[1:]):
            segment.extend(None if following is None else following.received)

    def _give_up_if_stranded(self) -> None:
        wait = self._roster.wait_seconds()
        if wait == math.inf or (self.idle and wait > PATIENCE_SECONDS):
            self.error = self._last_error or UpstreamUnreachable("No upstream is left to ask.")

    def _leave_laggards(self) -> None:
        """Take the work of a mirror that is far slower than another."""
        if len(self._roster.remaining) < 2:
            return
        slow = self._roster.laggards(self._running)
        for mirror in slow:
            self._roster.hold(mirror, LAGGARD_HOLD_SECONDS)
        for segment in tuple(self._running):
            if segment.source.mirror in slow:
                self._cut(segment)
