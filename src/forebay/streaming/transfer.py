"""A transfer: the live object that brings the missing bytes of one entry into its blob.

::

    FILLING --goal covered, more is missing--> STOPPED   the entry stays, partial
       |  ^--a new reader wants more-- (before it has stopped)
       |--every byte there--> FINISHING --proved and durable--> COMPLETE
       |                          '--digest wrong--> FAILED
       '--the crew gave up, or disk trouble--> FAILED        the entry stays, partial, where
                                                             its bytes are not in doubt

Readers may join until the transfer is *over* (STOPPED, COMPLETE, FAILED); then the store's
entry says all there is to say, and whoever comes must look there. The index knows the
entry from before the first byte, so that it is found, and purged, at any moment.

No client drives this: a reader that crawls, leaves or fails only takes itself away.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from dataclasses import replace

from forebay.errors import ForebayError, StoreError, UpstreamMisbehaved
from forebay.model import Entry, Interval, Intervals
from forebay.ports import Draft, UpstreamResponse
from forebay.rules import coverage as cov
from forebay.rules.plan import Cut, Open, Situation, goes_on_alone, next_step
from forebay.streaming.audience import Audience
from forebay.streaming.crew import Crew, Subject, Surroundings
from forebay.streaming.keeping import Keeper
from forebay.streaming.pace import LOOK_AFTER_SECONDS
from forebay.streaming.proving import LookUp, Proof
from forebay.streaming.reader import TransferReader
from forebay.streaming.segment import Segment, Source
from forebay.streaming.steadfast import see_through
from forebay.views import TransferView

WATCH_EVERY_SECONDS = 0.1
ABANDONED_AFTER_SECONDS = 5.0
"""How long a transfer that is not to go on alone waits for whoever began it to come and read."""
CHECKPOINT_EVERY_SECONDS = 2.0
"""A crash loses at most this much progress, and one write-back of the disk."""

log = logging.getLogger("forebay.streaming")


class State(enum.StrEnum):
    """The life of a transfer; the legal moves are drawn above."""

    FILLING = "filling"
    FINISHING = "finishing"
    STOPPED = "stopped"
    COMPLETE = "complete"
    FAILED = "failed"


OVER = frozenset({State.STOPPED, State.COMPLETE, State.FAILED})


class Transfer:
    """Fills one entry, for any number of readers at any offset."""

    def __init__(
        self,
        draft: Draft,
        subject: Subject,
        around: Surroundings,
        *,
        expected_digests: tuple[tuple[str, str], ...] = (),
        look_up: LookUp | None = None,
    ) -> None:
        self.entry: Entry = draft.entry
        self.coverage: Intervals = draft.entry.coverage
        self.length_bytes: int | None = draft.entry.length_bytes
        self.state = State.FILLING
        self.error: ForebayError | None = None
        self.settled = asyncio.Event()
        self._draft = draft
        self._policy = subject.policy
        self._around = around
        self._crew = Crew(subject, around, draft, self._note_written, self._kick)
        self._goal: Intervals = ()
        self._readers = Audience()
        self._elsewhere: dict[int, int] = {}
        self._begun = False
        self._quiet = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._proof = Proof(
            draft,
            expected_digests,
            look_up,
            is_to_tell=around.tells_digests and draft.entry.head.status == 200,
        )
        self._keeper = Keeper(draft, proves_whole=self._proof.is_awaited)
        self.started_time = around.wall_clock()

    # For those who read.

    @property
    def is_closing(self) -> bool:
        """Whether the entry is being committed or given up, or has been: what ``refresh`` is
        told from then on may not reach the store by this transfer."""
        return self.state is not State.FILLING

    @property
    def is_over(self) -> bool:
        return self.state in OVER

    @property
    def fetched_bytes(self) -> int:
        return self._crew.fetched_bytes

    def reader(self, interval: Interval | None) -> TransferReader:
        """A reader of this slice (None: everything), and the demand that its bytes be fetched.

        Only while the transfer is not over. The descriptor is opened in the same tick.
        """
        start, stop = interval if interval is not None else (0, None)
        reader = TransferReader(self, self._draft.open_reader(), start, stop)
        self._readers.add(reader)
        self.want(interval)
        return reader

    def want(self, interval: Interval | None) -> None:
        """Let these bytes (None: all) be fetched, until the last reader leaves at least."""
        if self.length_bytes is None:
            return
        whole = Interval(0, self.length_bytes)
        if interval is None or self._policy.complete_ranges:
            interval = whole
        ahead = interval.stop + self._policy.read_ahead_bytes
        self._goal = cov.add(self._goal, Interval(interval.start, min(whole.stop, ahead)))
        self._quiet.clear()
        self._kick()

    def readable_until(self, position: int) -> int:
        until = cov.covered_until(self.coverage, position)
        if self.length_bytes in {None, until} and self._is_to_be_proved():
            # The last byte waits until the whole is proved: nobody may end happily with bytes
            # that are not what was expected.
            return max(position, until - 1)
        return until

    async def wait_for(self, reader: TransferReader) -> None:
        await self._readers.wait_for_bytes(reader, self, self._why_over, self._kick)

    def _why_over(self) -> ForebayError:
        return self.error or UpstreamMisbehaved("The transfer ended before these bytes.")

    def leave(self, reader: TransferReader) -> None:
        self._readers.remove(reader)
        if self._is_alone() and not self.is_over and not self._goes_on_alone():
            self.stop()

    def stop(self) -> None:
        """Fetch no more than there is; what is there stays."""
        self._goal = ()
        self._crew.cut_all()
        self._kick()

    def refresh(self, entry: Entry) -> None:
        """Take over head and times of an entry that upstream has just confirmed."""
        self.entry = replace(entry, coverage=self.coverage, complete=False)

    def snapshot(self) -> Entry:
        """The entry as it is now: with all that is readable, and the length if it is known."""
        identity = replace(self.entry.identity, length_bytes=self.length_bytes)
        return replace(self.entry, coverage=self.coverage, identity=identity)

    def view(self) -> TransferView:
        return TransferView(
            name=self.entry.name,
            mount=self.entry.mount,
            entry_id=self.entry.entry_id,
            state=self.state,
            length_bytes=self.length_bytes,
            covered_bytes=cov.total_bytes(self.coverage),
            coverage=tuple((run.start, run.stop) for run in self.coverage),
            readers=self._readers.positions(),
            segments=self._crew.view(),
            fetched_bytes=self.fetched_bytes,
            rate_bytes_per_second=self._crew.rate(),
            started_time=self.started_time,
        )

    # For the task that flies it.

    async def fill(
        self,
        response: UpstreamResponse,
        source: Source,
        part: Interval | None,
    ) -> None:
        """Work on the response that began it; returns when that is used up. Never raises.

        ``part`` says which bytes a 206 brings; None means that the response is the whole.
        """
        if part is None and self.coverage:
            # A part was asked for, and the whole came.
            self._crew.ranges_work = False
        # Whoever made us ask for these bytes may still be on the way to read them.
        self._goal = cov.add(self._goal, part or Interval(0, self.length_bytes or 0))
        start = part.start if part is not None else cov.covered_until(self.coverage, 0)
        stop = part.stop if part is not None else self.length_bytes
        segment = Segment(source, start, stop, self._around.clock())
        self._watcher = asyncio.create_task(self._watch())
        self._begun = True
        await self._crew.bring_first(segment, response, 0 if part is not None else start)
        if self.length_bytes is None:
            self._settle_length(segment)

    async def finish(self) -> None:
        """See it to its end: returns when it is over. Raises only when cancelled."""
        while not self.is_over:
            self._kick()
            await self._quiet.wait()
            if self._crew.error is not None:
                await self._checkpoint()
                self._end(State.FAILED, self._crew.error)
            elif self._is_whole():
                await self._complete()
            else:
                noted = self.coverage
                await self._checkpoint()
                # Somebody may have asked for more meanwhile, and may even have had it: look
                # again, and end in this tick.
                if self.coverage != noted or cov.subtract(self._goal, self.coverage):
                    self._quiet.clear()
                else:
                    self._end(State.STOPPED)

    async def close(self) -> None:
        """Release everything; one that is not over yet is stopped, and keeps what it has.

        Goes on to its end when the caller is cancelled.
        """
        closing = asyncio.create_task(self._close())
        await see_through(closing)
        closing.result()

    async def _close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        await self._crew.aclose()
        if not self.is_over:
            await self._checkpoint()
            self._end(State.FAILED, UpstreamMisbehaved("The service stopped. Ask again."))
        await self._proof.aclose()
        await self._draft.close()

    async def _complete(self) -> None:
        self.state = State.FINISHING
        try:
            digests = await self._proof.prove(self.length_bytes or 0)
            if digests is None:
                await self._checkpoint()
            else:
                await self._commit(digests)
        except StoreError as error:
            # The bytes can be read, only their keeping failed: readers go on undisturbed.
            log.warning("%s cannot be kept: %s", self.entry.name, error)
        except ForebayError as error:
            self._crew.blame()
            self._end(State.FAILED, error)
            return
        self._end(State.COMPLETE)

    async def _commit(self, digests: tuple[tuple[str, str], ...]) -> None:
        self.entry = replace(
            self.entry,
            identity=replace(self.entry.identity, length_bytes=self.length_bytes),
            coverage=self.coverage,
            complete=True,
            digests=digests or self.entry.digests,
        )
        if not await self._keeper.commit(self.entry):
            log.info("%s was purged while it was fetched; it is not kept", self.entry.name)

    # Inner workings; all of it synchronous: decided over plain values, then done.

    def _kick(self) -> None:
        """Do what the plan says, and notice the end."""
        if self.is_over or not self._begun:
            return
        if self._proof.is_awaited and self._wants_whole():
            self._proof.begin()
        if self._crew.error is None and self.length_bytes is not None:
            self._follow_plan()
        if self._crew.error is not None:
            self._crew.cut_all()
        missing = self.length_bytes is not None and cov.subtract(self._goal, self.coverage)
        if self._crew.idle and (self._crew.error is not None or not missing):
            self._quiet.set()

    def _follow_plan(self) -> None:
        for _ in range(4 * self._policy.max_segments + 4):
            step = next_step(self._situation(), self._crew.limits())
            match step:
                case Open(interval):
                    if not self._crew.open(interval):
                        return
                case Cut(index):
                    # Nothing is won by a place that cannot be filled.
                    if not self._crew.may_open():
                        return
                    self._crew.cut(index)
                case None:
                    return

    def _situation(self) -> Situation:
        arriving = self._crew.arriving(self.coverage)
        waiting = (reader.position for reader in self._readers.waiting())
        return Situation(
            goal=self._goal,
            coverage=arriving,
            running=self._crew.work(),
            waiting=tuple(
                position
                for position in (*waiting, *self._elsewhere)
                if cov.covered_until(arriving, position) == position
                and cov.covered_until(self._goal, position) > position
            ),
            readers=(*self._readers.positions(), *self._elsewhere),
        )

    def _note_written(self, interval: Interval) -> None:
        self.coverage = cov.add(self.coverage, interval)
        if self._proof.is_awaited:
            self._proof.grow(cov.covered_until(self.coverage, 0))
        self._readers.wake(self.readable_until)

    def _end(self, state: State, error: ForebayError | None = None) -> None:
        """Entry and transfer settle in the same tick, and everybody is told."""
        self.state, self.error = state, error
        self._keeper.end()
        self._readers.wake()

    def _settle_length(self, segment: Segment) -> None:
        """A body of unknown length ends where its framing proved that it ends."""
        if segment.body_ended and self._crew.error is None:
            self.length_bytes = segment.received
            self._goal = cov.normalise([Interval(0, segment.received)])
            self._readers.wake()
        elif self._crew.error is None:
            self._crew.error = UpstreamMisbehaved("The upstream stopped in mid-body. Ask again.")
        self._quiet.clear()

    def _is_whole(self) -> bool:
        length = self.length_bytes
        return length is not None and cov.contains(self.coverage, Interval(0, length))

    def _is_to_be_proved(self) -> bool:
        """Whether digests are expected, not compared yet, and the whole is on its way."""
        return self._proof.is_awaited and self.state is not State.COMPLETE and self._wants_whole()

    def _wants_whole(self) -> bool:
        length = self.length_bytes
        wanted = cov.union(self._goal, self.coverage)
        return length is None or cov.contains(wanted, Interval(0, length))

    def _heed_wishes(self) -> None:
        """Of readers in other processes, who wait as ours do."""
        for wish in self._draft.wished_elsewhere():
            if self.length_bytes is not None and wish.start < self.length_bytes:
                self._elsewhere[wish.start] = wish.stop
                self.want(wish)
        for start in [one for one in self._elsewhere if self.readable_until(one) > one]:
            del self._elsewhere[start]

    def _is_alone(self) -> bool:
        return not self._readers and not self._elsewhere

    def _goes_on_alone(self) -> bool:
        return goes_on_alone(self._policy, self.length_bytes, self.coverage)

    async def _watch(self) -> None:
        """Look at rates often, and at the disk now and then."""
        began = checkpointed = self._around.clock()
        pause_seconds = LOOK_AFTER_SECONDS
        while not self.is_over:
            await asyncio.sleep(pause_seconds)
            pause_seconds = WATCH_EVERY_SECONDS
            is_late = self._around.clock() - began >= ABANDONED_AFTER_SECONDS
            self._heed_wishes()
            if is_late and self._is_alone() and not self._goes_on_alone():
                self.stop()
            missing = cov.subtract(self._goal, self.coverage)
            self._crew.watch(cov.total_bytes(missing))
            if self._around.clock() - checkpointed >= CHECKPOINT_EVERY_SECONDS:
                await self._checkpoint()
                checkpointed = self._around.clock()

    async def _checkpoint(self) -> None:
        await self._keeper.checkpoint(self.coverage, self.length_bytes)
