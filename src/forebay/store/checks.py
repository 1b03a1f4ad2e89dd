"""Whether stored bytes are still those that were written, and what happens when they are not.

Bytes are compared with their sums (``sums``) when they are first used after a start, or at every
use, or never; what was found sound is remembered. A damaged block leaves the coverage in one
transaction with its sum: the entry is partial from then on, and whoever wants the block has it
fetched by the ordinary way of partial entries. Readers elsewhere in the blob notice nothing.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from forebay.errors import EntryDamaged, StoreError
from forebay.model import Entry, Interval, Intervals
from forebay.rules import coverage as cov
from forebay.store.engine import Engine
from forebay.store.rows import Row
from forebay.store.sums import Sum, blocks_of, sum_of
from forebay.store.trouble import log

REMEMBERED_ENTRIES = 65_536
"""Some 20 MB. An entry that is forgotten is verified once more when it is used again."""

_DAMAGE = {errno.EIO, errno.EBADMSG}
"""What a disk answers that cannot read a sector, or knows itself that its content is wrong."""


class Verify(enum.StrEnum):
    """When stored bytes are compared with their sums."""

    FIRST_USE = "first-use"
    ALWAYS = "always"
    NEVER = "never"


class Verdict(NamedTuple):
    """What a look at some blocks found. ``unsummed`` have no sum to be compared with."""

    sound: Intervals
    damaged: Intervals
    unsummed: Intervals


@dataclass(slots=True)
class CheckCounts:
    """What was looked at since the start."""

    verified_bytes: int = 0
    damaged_blocks: int = 0


class Known:
    """What this process has written itself or found sound, by entry id."""

    def __init__(self, limit: int = REMEMBERED_ENTRIES) -> None:
        self._limit = limit
        self._sound: OrderedDict[str, Intervals] = OrderedDict()

    def has(self, entry_id: str, coverage: Intervals, wanted: Interval | None = None) -> bool:
        """Whether all of these bytes, or those of them that are wanted, are known to be sound."""
        sound = self._sound.get(entry_id)
        if sound is None or sound == coverage:
            return sound is not None
        return not cov.subtract(coverage if wanted is None else (wanted,), sound)

    def sound(self, entry_id: str) -> Intervals:
        """The bytes of this entry that are known to be sound."""
        return self._sound.get(entry_id, ())

    def add(self, entry_id: str, intervals: Intervals) -> None:
        """These bytes are sound."""
        self._sound[entry_id] = cov.union(self._sound.get(entry_id, ()), intervals)
        if len(self._sound) > self._limit:
            self._sound.popitem(last=False)

    def drop(self, entry_id: str, intervals: Intervals | None = None) -> None:
        """These bytes (None: all) are not."""
        sound = self._sound.pop(entry_id, ())
        if intervals is not None:
            self._sound[entry_id] = cov.subtract(sound, intervals)


class Checker:
    """Verifies entries of one store. Used on the event loop."""

    def __init__(self, engine: Engine, mode: Verify) -> None:
        self._engine = engine
        self._mode = mode
        self._running: dict[tuple[str, Interval], asyncio.Task[Entry]] = {}
        self.known = Known()
        self.counts = CheckCounts()

    def needs(self, entry: Entry, wanted: Interval | None = None) -> bool:
        """Whether any byte of the entry, or of this interval, is to be verified before it is
        served. One look-up."""
        if self._mode is Verify.FIRST_USE:
            return not self.known.has(entry.entry_id, entry.coverage, wanted)
        return self._mode is Verify.ALWAYS

    async def verify(self, entry: Entry, wanted: Interval) -> Entry:
        """Look at the blocks that hold these bytes (``ports.Store.verify``).

        Those who ask for the same at the same time wait for one look.
        """
        if not self.needs(entry):
            return entry
        key = (entry.entry_id, wanted)
        task = self._running.get(key)
        if task is None:
            task = self._engine.spawn(self._verify(entry, wanted))
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(task)

    async def verify_all(self, entry: Entry) -> Entry:
        """Look at every block; for those who cannot do it piece by piece."""
        if not entry.coverage:
            return entry
        return await self.verify(entry, Interval(entry.coverage[0].start, entry.coverage[-1].stop))

    async def look(self, entry: Entry, blocks: Intervals) -> Verdict:
        """Compare these blocks with their sums, in a thread. Raises ``StoreError``.

        ``EntryDamaged`` where there is no file to look at.
        """
        engine = self._engine
        sums = await engine.from_index(lambda: engine.index.sums.of(entry.entry_id, blocks))
        verdict = await engine.as_check(lambda: self._compare(entry.entry_id, blocks, sums))
        self.counts.verified_bytes += cov.total_bytes(verdict.sound)
        return verdict

    async def discard(self, entry: Entry, damaged: Intervals) -> Entry:
        """Let the index claim these bytes no more; gives the entry as it is then.

        Raises ``EntryDamaged`` when nothing is left of it, ``StoreError`` on trouble and while
        somebody is writing the entry: what they have verified themselves counts.
        """
        engine = self._engine

        def job() -> tuple[Entry | None, list[Row]]:
            with engine.index.transaction():
                if engine.blobs.is_being_written(entry.entry_id):
                    raise StoreError("Another transfer is writing this entry at the moment.")
                # A note that a dead writer left behind would claim the damaged bytes again.
                (engine.layout.progress / entry.entry_id).unlink(missing_ok=True)
                left = engine.index.uncover(entry.key, entry.entry_id, damaged)
                if left is None or left.coverage:
                    return left, []
                row = engine.index.get(entry.key, entry.entry_id)
                rows = [row] if row is not None else []
                engine.index.delete(rows)
                return None, rows

        left, rows = await engine.in_index(job)
        engine.lookups.drop(entry.key)
        engine.unlink(rows)
        self.known.drop(entry.entry_id, damaged)
        if left is None:
            raise EntryDamaged("The stored bytes are damaged: fetch them again.")
        return left

    async def _verify(self, entry: Entry, wanted: Interval) -> Entry:
        blocks = tuple(
            block
            for block in blocks_of(entry.coverage)
            if block.start < wanted.stop and block.stop > wanted.start
        )
        if self._mode is Verify.FIRST_USE:
            sound = self.known.sound(entry.entry_id)
            blocks = tuple(block for block in blocks if not cov.contains(sound, block))
        if not blocks:
            return entry
        try:
            verdict = await self.look(entry, blocks)
        except EntryDamaged:
            await self._engine.drop_quietly(entry.key, entry.entry_id)
            raise
        if verdict.damaged:
            self.note_damage(entry, verdict.damaged)
            return await self.discard(entry, verdict.damaged)
        self.known.add(entry.entry_id, cov.union(verdict.sound, verdict.unsummed))
        return entry

    def note_damage(self, entry: Entry, damaged: Intervals) -> None:
        """Count damage, and tell the operator which object it has met."""
        self.counts.damaged_blocks += sum(1 for _ in blocks_of(damaged))
        log.warning(
            "%d bytes of %s are damaged on the disk of the cache; they are fetched again when "
            "they are wanted.",
            cov.total_bytes(damaged),
            entry.name,
        )

    def _compare(self, entry_id: str, blocks: Intervals, sums: list[Sum]) -> Verdict:
        """In a thread: read the blocks. Only a sum of exactly this block says anything."""
        expected = {(one.start, one.stop): one.value for one in sums}
        sound, damaged, unsummed = [], [], []
        fileno = self._engine.blobs.open_for_reading(entry_id, 0, exactly=False)
        try:
            for block in blocks:
                value = expected.get(block)
                if value is None:
                    unsummed.append(block)
                elif _found(fileno, block) == value:
                    sound.append(block)
                else:
                    damaged.append(block)
        finally:
            os.close(fileno)
        return Verdict(cov.normalise(sound), cov.normalise(damaged), cov.normalise(unsummed))


def _found(fileno: int, block: Interval) -> int | None:
    """The sum of what the disk gives, None where it knows itself that it cannot."""
    try:
        return sum_of(fileno, block)
    except OSError as error:
        if error.errno in _DAMAGE:
            return None
        raise
