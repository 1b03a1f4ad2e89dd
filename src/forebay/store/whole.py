"""Small entries that come whole: stored many at a time, in two steps for all of them.

A draft is made for bytes that are still to come, and costs a handful of trips to threads, two
changes of the index and two syncs. What is small and all there needs none of that. Whatever came
while the last batch was being written is the next one: under load the batches grow by themselves,
and one that comes alone is written at once.

The order is that of ``entries``: bytes are written and summed, then synced, then named durably,
and only then claimed, complete, in one transaction with their sums. Before that the index knows
nothing of them, so that a crash leaves files without rows, which the sweep removes. What the index
cannot say yet is said by waiting: whoever looks for such an entry, or changes what may be one,
waits until it is stored (``settled``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from forebay.errors import EntryDamaged, StoreError, StoreFull
from forebay.model import Entry
from forebay.store import blobs
from forebay.store.blobs import Blobs
from forebay.store.checks import Known
from forebay.store.engine import Engine
from forebay.store.placing import displace
from forebay.store.room import Claim
from forebay.store.rows import Row
from forebay.store.sums import Sum
from forebay.store.trouble import log
from forebay.store.upkeep import Upkeep

MOST_BYTES = 64 * 1024
"""The longest body that is stored in this way: far below one block of the sums."""
MOST_WAITING_BYTES = 16 * 1024 * 1024
"""What may wait in memory together. Beyond it bodies are stored as drafts, which wait on disk."""
MOST_AT_ONCE = 64
"""Entries in one batch: some milliseconds for which others wait for the index."""


@dataclass(slots=True, eq=False)
class _Put:
    """One entry on its way."""

    entry: Entry
    content: bytes
    claim: Claim
    done: asyncio.Future[bool]
    fileno: int = -1
    size_bytes: int = 0
    trouble: Exception | None = None


class _Claimed(NamedTuple):
    """What a batch has pushed out of the index, and the headroom that is left."""

    replaced: list[Row]
    evicted: list[Row]
    headroom_bytes: int


class WholeEntries:
    """What is small and on its way into one store. Used on the event loop."""

    def __init__(self, engine: Engine, known: Known, upkeep: Upkeep) -> None:
        self._engine = engine
        self._known = known
        self._upkeep = upkeep
        self._waiting: list[_Put] = []
        self._waiting_bytes = 0
        self._under_way: dict[str, list[_Put]] = {}
        self._worker: asyncio.Task[None] | None = None
        self._headroom_bytes = 0
        self._is_full = False
        """Whether no room could be made, and none has been since: a draft tells of it at its begin,
        and so the client that brought it."""

    def takes(self, mount: str, length_bytes: int) -> bool:
        """Whether ``put`` is for this body (``ports.Store.takes``)."""
        engine, wanted = self._engine, blobs.rounded_up(length_bytes)
        limits = (engine.room.max_size_bytes, engine.room.quotas.get(mount))
        return (
            # Where others share the directory, they must see in it what is under way.
            not engine.shared
            and length_bytes <= MOST_BYTES
            and self._waiting_bytes + length_bytes <= MOST_WAITING_BYTES
            and engine.health.trouble is None
            and all(limit is None or wanted <= limit for limit in limits)
            and not self._is_full
        )

    def put(self, entry: Entry, content: bytes) -> asyncio.Future[bool]:
        """Store this entry, complete, with these bytes (``ports.Store.put``)."""
        if not entry.complete or entry.length_bytes != len(content):
            raise ValueError("what is put is complete, and as long as its bytes")
        engine = self._engine
        engine.blobs.check(entry.entry_id)
        stored = entry
        if not entry.stored_time:
            stored = replace(entry, stored_time=engine.clock())
        wanted = blobs.rounded_up(len(content))
        # As a draft without a row: what is promised to it is counted by this, and not by the index.
        claim = Claim(entry.entry_id, entry.mount, wanted, is_gone=True)
        engine.room.claims[entry.entry_id] = claim
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        one = _Put(stored, content, claim, done)
        engine.lookups.drop(entry.key)
        self._under_way.setdefault(entry.key, []).append(one)
        self._waiting.append(one)
        self._waiting_bytes += len(content)
        if self._worker is None:
            self._worker = engine.spawn(self._work())
        told = asyncio.shield(done)  # who gives up waiting stops nothing
        # Who does not wait for it is no mistake: mark an error as seen.
        told.add_done_callback(lambda told: told.cancelled() or told.exception())
        return told

    def note_room(self) -> None:
        """Room has been made for a draft: there may be some for others."""
        self._is_full = False

    def is_under_way(self, key: str) -> bool:
        """Whether anything under this key is on its way. One look-up."""
        return key in self._under_way

    async def settled(self, key: str | None = None) -> None:
        """Wait until what is on its way now, under this key or (None) any, is stored or not."""
        chosen = self._under_way.values() if key is None else (self._under_way.get(key, ()),)
        waiting = [one.done for puts in chosen for one in puts]
        if waiting:
            await asyncio.wait(waiting)

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[:MOST_AT_ONCE]
                del self._waiting[: len(batch)]
                try:
                    await self._store(batch)
                except StoreError as trouble:
                    _blame(batch, trouble)
                except Exception:
                    log.exception("storing small entries ended with a fault of ours")
                    _blame(batch, StoreError("The cache could not store what came."))
                await self._settle(batch)
        finally:
            self._worker = None

    async def _store(self, batch: list[_Put]) -> None:
        """Write and claim what can be; what cannot has its ``trouble``. Raises ``StoreError``."""
        engine = self._engine
        if self._lacks_room(batch):
            await self._make_room(batch)
        await engine.as_put(lambda: self._write(_sound(batch)))
        written = _sound(batch)
        claimed = await engine.in_index(lambda: self._claim(written))
        self._headroom_bytes = claimed.headroom_bytes
        for one in _sound(written):
            engine.lookups.drop(one.entry.key)
            self._known.add(one.entry.entry_id, one.entry.coverage)
        engine.room.count_evicted(claimed.evicted)
        engine.unlink((*claimed.replaced, *claimed.evicted))

    async def _settle(self, batch: list[_Put]) -> None:
        """Let go of what the batch holds, and tell those who wait."""
        engine = self._engine
        failed = [one for one in batch if one.trouble is not None]
        if failed:
            with suppress(StoreError):
                await engine.as_put(lambda: _remove(engine.blobs, failed))
        for one in batch:
            self._waiting_bytes -= len(one.content)
            engine.room.claims.pop(one.entry.entry_id, None)
            under_way = self._under_way[one.entry.key]
            under_way.remove(one)
            if not under_way:
                del self._under_way[one.entry.key]
            if isinstance(one.trouble, StoreFull):
                self._is_full = True
            if one.trouble is None:
                one.done.set_result(True)
            elif isinstance(one.trouble, OSError):
                one.done.set_exception(engine.health.failed("blobs", one.trouble))
            else:
                one.done.set_exception(one.trouble)

    # Room

    def _lacks_room(self, batch: list[_Put]) -> bool:
        """Whether something may have to go first, as far as that is known without asking."""
        self._headroom_bytes -= sum(one.claim.promised_bytes for one in batch)
        quotas = self._engine.room.quotas
        return self._headroom_bytes < 0 or any(one.entry.mount in quotas for one in batch)

    async def _make_room(self, batch: list[_Put]) -> None:
        """Before anything is written into it. All that is on its way counts already."""
        engine, room = self._engine, self._engine.room
        await self._upkeep.write_pending_uses()  # or the wrong ones might go

        def job() -> tuple[list[Row], int]:
            evicted = []
            for mount in {one.entry.mount for one in batch}:
                try:
                    with engine.index.transaction():
                        leaving = room.make(0, mount)
                except StoreFull as trouble:
                    _blame([one for one in batch if one.entry.mount == mount], trouble)
                else:
                    evicted += leaving
            return evicted, room.used_bytes()

        evicted, used_bytes = await engine.in_index(job)
        room.count_evicted(evicted)
        engine.unlink(evicted)
        await engine.make_way(used_bytes)

    # In threads

    def _write(self, batch: list[_Put]) -> None:
        """Bytes first, all of them, then the syncs: the first one takes the others' along."""
        files = self._engine.blobs
        for one in batch:
            with _noting(one):
                one.fileno = files.create(one.entry.entry_id)
                blobs.write_pieces(one.fileno, 0, [one.content])
        for one in _sound(batch):
            with _noting(one):
                measured = blobs.sync(one.fileno)
                if measured.length_bytes != len(one.content):
                    raise EntryDamaged("The stored file has not the length it should.")
                one.size_bytes = one.claim.written_bytes = measured.size_bytes
        for shard in _by_shard(_sound(batch)):
            try:
                files.sync_name(shard[0].entry.entry_id)
            except OSError as error:
                _blame(shard, error)

    def _claim(self, batch: list[_Put]) -> _Claimed:
        """In the index writer: all rows in one transaction; where there is no room for all of
        them, one by one."""
        try:
            replaced, evicted = self._insert(batch)
        except StoreFull as trouble:
            replaced, evicted = [], []
            if len(batch) == 1:
                _blame(batch, trouble)
            else:
                for one in batch:
                    alone = self._claim([one])
                    replaced += alone.replaced
                    evicted += alone.evicted
        for one in _sound(batch):
            # Locked until here: a sweep takes a file without row and lock for a leftover.
            blobs.release(one.fileno)
            one.fileno = -1
        return _Claimed(replaced, evicted, self._engine.room.headroom_bytes())

    def _insert(self, batch: list[_Put]) -> tuple[list[Row], list[Row]]:
        """Gives the rows that were replaced, and those that were evicted."""
        index, now = self._engine.index, self._engine.clock()
        replaced: list[Row] = []
        evicted: list[Row] = []
        with index.transaction():
            for one in batch:
                one.claim.promised_bytes = 0  # from here on it is its row's
                displaced = displace(index, one.entry)
                replaced += displaced.rows
                index.insert(one.entry, one.size_bytes, now, is_pinned=displaced.was_pinned)
                index.sums.begin(one.entry.entry_id, _sums_of(one.content))
            for mount in {one.entry.mount for one in batch}:
                evicted += self._engine.room.make(0, mount)
        return replaced, evicted


def _sound(batch: Iterable[_Put]) -> list[_Put]:
    """Those that nothing stands in the way of."""
    return [one for one in batch if one.trouble is None]


def _blame(batch: Iterable[_Put], trouble: Exception) -> None:
    for one in _sound(batch):
        one.trouble = trouble


@contextmanager
def _noting(one: _Put) -> Iterator[None]:
    """Let trouble with one file be no trouble of the others."""
    try:
        yield
    except (OSError, EntryDamaged) as trouble:
        one.trouble = trouble


def _by_shard(batch: Iterable[_Put]) -> list[list[_Put]]:
    """Those whose names lie in one directory together."""
    shards: dict[str, list[_Put]] = {}
    for one in batch:
        shards.setdefault(one.entry.entry_id[:2], []).append(one)
    return list(shards.values())


def _sums_of(content: bytes) -> list[Sum]:
    return [Sum(0, len(content), xxh3_64_intdigest(content))] if content else []


def _remove(files: Blobs, batch: Iterable[_Put]) -> None:
    """In a thread: the files of what could not be stored."""
    for one in batch:
        files.remove(one.entry.entry_id)
        if one.fileno >= 0:
            blobs.release(one.fileno)
