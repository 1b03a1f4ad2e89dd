"""A store in memory: real descriptors, no disk, and faults that a test can ask for.

It keeps the same promises as ``forebay.store.disk.DiskStore``; ``tests/store/test_contract.py``
holds for both.
"""

from __future__ import annotations

import asyncio
import errno
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from forebay.errors import EntryDamaged, StoreError, StoreFull
from forebay.model import Entry, Interval, Intervals, Octets
from forebay.ports import Removed, Scrubbed, Selection, StoredObject, StoreUsage
from forebay.rules import coverage as cov
from forebay.rules.eviction import Candidate, shortfall_bytes, victims

_FREE_BYTES = 1 << 40
_BLOCK_BYTES = 4096
_SMALL_BYTES = 64 * 1024


@dataclass(slots=True)
class _Held:
    """One entry and its bytes."""

    entry: Entry
    fileno: int
    last_used_time: float
    promised_bytes: int = 0
    hits: int = 0
    is_damaged: bool = False
    rotten: Intervals = ()
    is_pinned: bool = False

    @property
    def size_bytes(self) -> int:
        return os.fstat(self.fileno).st_blocks * 512


@dataclass(slots=True)
class Faults:
    """What goes wrong, while it is set."""

    full: bool = False
    """No room for anything: ``begin`` and ``write`` raise ``StoreFull``."""
    trouble: str | None = None
    """The disk refuses all work with this sentence; look-ups find nothing."""
    fail_writes_after_bytes: int | None = None
    """Writes that bring the total of all drafts beyond this raise ``write_error``."""
    write_error: StoreError = field(default_factory=lambda: StoreFull("The disk is full."))
    fail_commits: bool = False
    fail_checkpoints: bool = False
    hold_writes: asyncio.Event | None = None
    """Writes wait until this is set."""
    hold_commits: asyncio.Event | None = None
    """The same for commits, with what they are to write in hand."""
    hold_finds: asyncio.Event | None = None
    """The same for look-ups, with what they have found in hand."""
    hold_checkpoints: asyncio.Event | None = None
    """The same for checkpoints."""
    is_holding: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by a checkpoint that waits."""


class MemoryDraft:
    """``ports.Draft`` over a memory file."""

    def __init__(self, store: MemoryStore, held: _Held) -> None:
        self._store = store
        self._held = held
        self._fileno = os.dup(held.fileno)
        self.is_closed = False

    @property
    def entry(self) -> Entry:
        return self._held.entry

    def open_reader(self) -> int:
        self._check_open()
        return _reader_of(self._fileno)

    async def write(self, position: int, pieces: Sequence[Octets]) -> None:
        self._check_open()
        store, faults = self._store, self._store.faults
        length = sum(map(len, pieces))
        if length == 0:
            return
        if faults.hold_writes is not None:
            await faults.hold_writes.wait()
        await asyncio.sleep(0)
        self._check_open()
        store.check_well()
        limit = faults.fail_writes_after_bytes
        if limit is not None and store.written_bytes + length > limit:
            raise faults.write_error
        wanted = os.fstat(self._fileno).st_blocks * 512 + _rounded_up(length)
        if self.entry.length_bytes is not None:
            wanted = min(wanted, _rounded_up(self.entry.length_bytes))
        if wanted > self._held.promised_bytes:
            store.make_room(wanted - self._held.promised_bytes, sparing=self._held)
            self._held.promised_bytes = wanted
        for piece in pieces:
            os.pwrite(self._fileno, piece, position)
            position += len(piece)
        store.written_bytes += length

    async def checkpoint(self, coverage: Intervals) -> bool:
        self._check_open()
        await asyncio.sleep(0)
        if self._store.faults.hold_checkpoints is not None:
            self._store.faults.is_holding.set()
            await self._store.faults.hold_checkpoints.wait()
        self._store.check_well()
        if self._store.faults.fail_checkpoints:
            raise StoreError("The checkpoint failed.")
        self._store.checkpoints += 1
        if not self._store.holds(self._held):
            return False
        self._held.entry = replace(self._held.entry, coverage=coverage)
        self._store.touch_written(self._held)
        return True

    def wished_elsewhere(self) -> Intervals:
        return ()

    async def commit(self, entry: Entry) -> bool:
        if entry.entry_id != self.entry.entry_id or not entry.complete:
            raise ValueError("a draft commits its own entry, complete")
        self._check_open()
        await asyncio.sleep(0)
        if self._store.faults.hold_commits is not None:
            await self._store.faults.hold_commits.wait()
        self._store.check_well()
        if self._store.faults.fail_commits:
            raise StoreError("The commit failed.")
        there = os.fstat(self._fileno).st_size
        length = there if entry.length_bytes is None else entry.length_bytes
        if there != length:
            self._store.discard(self._held)
            raise EntryDamaged("The stored file has not the length it should.")
        if not self._store.holds(self._held):
            return False
        self._held.entry = replace(
            entry,
            identity=replace(entry.identity, length_bytes=length),
            coverage=(Interval(0, length),) if length else (),
        )
        self._store.commits += 1
        self._store.touch_written(self._held)
        return True

    async def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        os.close(self._fileno)
        self._held.promised_bytes = 0
        self._store.drafts.discard(self)
        entry = self.entry
        if not entry.complete and (not entry.coverage or entry.length_bytes is None):
            self._store.discard(self._held)

    def is_of(self, held: _Held) -> bool:
        return self._held is held

    def _check_open(self) -> None:
        if self.is_closed:
            raise StoreError("This draft is closed.")


class MemoryStore:
    """``ports.Store`` in memory; ``faults`` may be changed at any time.

    Counts what tests ask about. ``close`` closes the memory files; descriptors handed out
    stay their callers'.
    """

    def __init__(
        self, *, max_size_bytes: int | None = None, clock: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.faults = Faults()
        self.drafts: set[MemoryDraft] = set()
        self.begun = self.resumed = self.commits = self.checkpoints = 0
        self.written_bytes = 0
        self.evicted_objects = self.evicted_bytes = 0
        self._max_size_bytes = max_size_bytes
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._puts: set[asyncio.Task[bool]] = set()
        self.scrubbed: Scrubbed | None = None

    async def open(self) -> None: ...

    async def close(self) -> None:
        for draft in tuple(self.drafts):
            await draft.close()
        for put in tuple(self._puts):
            put.cancel()
        if self._puts:
            await asyncio.wait(self._puts)
        for held in tuple(self._held.values()):
            self.discard(held)

    async def settle(self) -> None: ...

    # Look-ups

    def find_cached(self, key: str) -> tuple[Entry, ...] | None:
        """What ``find`` gives; this store always knows."""
        if self.faults.trouble is not None:
            return None
        found = [held.entry for held in self._held.values() if held.entry.key == key]
        return tuple(sorted(found, key=lambda entry: entry.response_time, reverse=True)) or None

    async def find(self, key: str) -> tuple[Entry, ...]:
        found = self.find_cached(key) or ()
        if self.faults.hold_finds is not None:
            await self.faults.hold_finds.wait()
        await asyncio.sleep(0)
        return found

    def open_reader(self, entry: Entry) -> int:
        held = self._held.get(entry.entry_id)
        needed = entry.coverage[-1].stop if entry.coverage else 0
        if held is None or held.is_damaged or os.fstat(held.fileno).st_size < needed:
            if held is not None:
                self.discard(held)
            raise EntryDamaged("The stored file is gone.")
        return _reader_of(held.fileno)

    def needs_verification(self, entry: Entry, wanted: Interval | None = None) -> bool:
        held = self._held.get(entry.entry_id)
        return held is not None and bool(held.rotten)

    async def verify(self, entry: Entry, wanted: Interval) -> Entry:
        await asyncio.sleep(0)
        held = self._held.get(entry.entry_id)
        if held is None:
            return entry
        found = cov.subtract((wanted,), cov.subtract((wanted,), held.rotten))
        if not found:
            return entry
        held.rotten = cov.subtract(held.rotten, found)
        left = cov.subtract(held.entry.coverage, found)
        if not left:
            self.discard(held)
            raise EntryDamaged("The stored bytes are damaged.")
        held.entry = replace(held.entry, complete=False, coverage=left)
        return held.entry

    def begin_scrub(self) -> Scrubbed:
        self.scrubbed = Scrubbed(objects=len(self._held), finished=True)
        return self.scrubbed

    def touch(self, entry: Entry) -> None:
        held = self._held.get(entry.entry_id)
        if held is not None:
            held.hits += 1
            held.last_used_time = max(held.last_used_time, self._clock())

    # Drafts

    def new_id(self) -> str:
        return uuid.uuid4().hex

    async def begin(self, entry: Entry, expected_bytes: int | None = None) -> MemoryDraft:
        await asyncio.sleep(0)
        self.check_well()
        if entry.entry_id in self._held:
            raise StoreError("There is an entry with this id already.")
        wanted = _rounded_up(expected_bytes or 0)
        replaced = [
            held
            for held in self._held.values()
            if (held.entry.key, held.entry.vary) == (entry.key, entry.vary)
        ]
        self.make_room(wanted, instead_of=replaced)
        for held in replaced:
            self.discard(held)
        fresh = replace(
            entry, coverage=(), complete=False, stored_time=entry.stored_time or self._clock()
        )
        held = _Held(fresh, os.memfd_create(entry.entry_id), self._clock(), wanted)
        self._held[entry.entry_id] = held
        self.begun += 1
        return self._draft(held)

    def takes(self, mount: str, length_bytes: int) -> bool:
        return length_bytes <= _SMALL_BYTES and not self.faults.full and not self.faults.trouble

    def put(self, entry: Entry, content: bytes) -> asyncio.Task[bool]:
        if not entry.complete or entry.length_bytes != len(content):
            raise ValueError("what is put is complete, and as long as its bytes")
        # Nobody may see an index without it from now on, so it stands there before it counts.
        replaced = [
            held
            for held in self._held.values()
            if (held.entry.key, held.entry.vary) == (entry.key, entry.vary)
        ]
        for held in replaced:
            self.discard(held)
        held = _Held(entry, os.memfd_create(entry.entry_id), self._clock())
        os.pwrite(held.fileno, content, 0)
        self._held[entry.entry_id] = held
        self.begun += 1
        task = asyncio.ensure_future(self._put(held))
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._puts.add(task)
        task.add_done_callback(self._puts.discard)
        return task

    async def _put(self, held: _Held) -> bool:
        try:
            if self.faults.hold_commits is not None:
                await self.faults.hold_commits.wait()
            await asyncio.sleep(0)
            self.check_well()
            if self.faults.fail_commits:
                raise StoreError("The commit failed.")
            self.make_room(0, sparing=held)
        except StoreError:
            self.discard(held)
            raise
        self.commits += 1
        self.written_bytes += held.entry.length_bytes or 0
        return self.holds(held)

    async def resume(self, entry: Entry) -> MemoryDraft:
        await asyncio.sleep(0)
        self.check_well()
        held = self._held.get(entry.entry_id)
        if held is not None and any(draft.is_of(held) for draft in self.drafts):
            raise StoreError("Another transfer is writing this entry at the moment.")
        if held is None or held.entry.length_bytes is None:
            raise EntryDamaged("The entry cannot be continued.")
        os.close(self.open_reader(held.entry))
        for run in held.rotten:
            await self.verify(held.entry, run)
        self.resumed += 1
        return self._draft(held)

    # Changes

    async def refresh(self, entry: Entry) -> bool:
        await asyncio.sleep(0)
        self.check_well()
        held = self._held.get(entry.entry_id)
        if held is None:
            return False
        held.entry = replace(
            held.entry,
            head=entry.head,
            request_time=entry.request_time,
            response_time=entry.response_time,
        )
        return True

    async def add_digests(self, entry: Entry, digests: tuple[tuple[str, str], ...]) -> bool:
        await asyncio.sleep(0)
        self.check_well()
        held = self._held.get(entry.entry_id)
        if held is None or not held.entry.complete:
            return False
        both = {**dict(held.entry.digests), **dict(digests)}
        held.entry = replace(held.entry, digests=tuple(sorted(both.items())))
        return True

    async def forget(self, entry_id: str, key: str) -> None:
        held = self._held.get(entry_id)
        if held is not None and held.entry.key == key:
            self.discard(held)

    async def remove(self, selection: Selection, *, dry_run: bool = False) -> Removed:
        chosen = (selection.key, selection.prefix, selection.mount, selection.tag)
        if sum(one is not None for one in chosen) + selection.everything != 1:
            raise ValueError("a selection selects by exactly one thing")
        await asyncio.sleep(0)
        self.check_well()
        meant = [held for held in self._held.values() if _is_meant(held.entry, selection)]
        size_bytes = sum(held.size_bytes for held in meant)
        if not dry_run:
            for held in meant:
                self.discard(held)
        if selection.mount is not None or selection.everything:
            return Removed(len(meant), size_bytes)
        return Removed(len(meant), size_bytes, tuple(held.entry.entry_id for held in meant))

    # What is there

    async def latest(self, *, prefix: str, after: str | None, limit: int) -> Sequence[StoredObject]:
        found = [one async for one in self.list(prefix=prefix)]
        found.sort(key=lambda one: (-one.last_used_time, one.entry.entry_id))
        begin = int(after or 0)
        return [
            replace(one, place=str(number))
            for number, one in enumerate(found[begin : begin + limit], begin + 1)
        ]

    async def pin(self, selection: Selection, *, pinned: bool = True) -> int:
        await asyncio.sleep(0)
        changed = 0
        for held in self._held.values():
            if _is_meant(held.entry, selection) and held.is_pinned != pinned:
                held.is_pinned = pinned
                changed += 1
        return changed

    async def list(self, *, prefix: str = "") -> AsyncIterator[StoredObject]:
        for held in tuple(self._held.values()):
            if held.entry.name.startswith(prefix):
                yield StoredObject(
                    held.entry,
                    held.size_bytes,
                    held.last_used_time,
                    held.hits,
                    pinned=held.is_pinned,
                )

    async def usage(self) -> StoreUsage:
        return StoreUsage(
            objects=len(self._held),
            size_bytes=sum(held.size_bytes for held in self._held.values()),
            limit_bytes=self._max_size_bytes,
            free_bytes=_FREE_BYTES,
            evicted_objects=self.evicted_objects,
            evicted_bytes=self.evicted_bytes,
            healthy=self.faults.trouble is None,
            trouble=self.faults.trouble,
        )

    # For tests and drafts

    def damage(self, entry_id: str) -> None:
        """Let the entry's bytes be missing for those who look from now on."""
        self._held[entry_id].is_damaged = True

    def rot(self, entry_id: str, interval: Interval) -> None:
        """Let these bytes be wrong, and let ``verify`` find out."""
        held = self._held[entry_id]
        os.pwrite(held.fileno, b"\xff" * interval.length_bytes, interval.start)
        held.rotten = cov.add(held.rotten, interval)

    def check_well(self) -> None:
        """Raise what the faults say."""
        if self.faults.trouble is not None:
            raise StoreError(self.faults.trouble)
        if self.faults.full:
            raise StoreFull("No room could be made.")

    def touch_written(self, held: _Held) -> None:
        """Whoever writes an entry uses it."""
        held.last_used_time = max(held.last_used_time, self._clock())

    def holds(self, held: _Held) -> bool:
        return self._held.get(held.entry.entry_id) is held

    def discard(self, held: _Held) -> None:
        if self.holds(held):
            del self._held[held.entry.entry_id]
            os.close(held.fileno)

    def make_room(
        self,
        wanted_bytes: int,
        *,
        instead_of: Iterable[_Held] = (),
        sparing: _Held | None = None,
    ) -> None:
        """Evict for so many more bytes, or raise ``StoreFull``."""
        leaving = list(instead_of)
        staying = [held for held in self._held.values() if held not in leaving]
        used_bytes = sum(max(held.size_bytes, held.promised_bytes) for held in staying)
        needed = shortfall_bytes(
            used_bytes=used_bytes,
            limit_bytes=self._max_size_bytes,
            free_bytes=_FREE_BYTES,
            min_free_bytes=0,
            wanted_bytes=wanted_bytes,
        )
        chosen = victims(
            (
                Candidate(held.entry.entry_id, held.size_bytes, held.last_used_time)
                for held in staying
                if held is not sparing
                and not held.is_pinned
                and not any(d.is_of(held) for d in self.drafts)
            ),
            needed,
        )
        if needed and not chosen:
            raise StoreFull("The cache has no room for this object.")
        for candidate in chosen:
            self.discard(self._held[candidate.entry_id])
            self.evicted_objects += 1
            self.evicted_bytes += candidate.size_bytes

    def _draft(self, held: _Held) -> MemoryDraft:
        draft = MemoryDraft(self, held)
        self.drafts.add(draft)
        return draft


def _is_meant(entry: Entry, selection: Selection) -> bool:
    return (
        selection.everything
        or entry.key == selection.key
        or (selection.prefix is not None and entry.name.startswith(selection.prefix))
        or entry.mount == selection.mount
        or selection.tag in entry.tags
    )


def _rounded_up(size_bytes: int) -> int:
    return -(-size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES


def _reader_of(fileno: int) -> int:
    """A descriptor with an offset of its own, read-only, as the disk store's are."""
    try:
        return os.open(f"/proc/self/fd/{fileno}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return os.dup(fileno)
        raise
