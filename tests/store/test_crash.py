"""The power fails, hundreds of times: nothing that was claimed is wrong, nothing sure is lost."""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from forebay.model import Entry, Interval
from forebay.ports import Selection
from forebay.rules import coverage as cov
from forebay.store.disk import DiskStore
from tests.store.powercut import LossyOs
from tests.store.support import blob_files, completed, disk_bytes, new_entry, read
from tests.store.worker import churn_body

CUTS_PER_LIFE = 50
AT_ONCE = 6
KEYS = 8


def store_at(directory: Path) -> DiskStore:
    return DiskStore(directory, max_size_bytes=None, min_free_bytes=0)


@dataclass
class Sure:
    """What may not be lost: entries by key that were complete, and keys that were purged, when
    the index was last synced, and have not been touched since."""

    complete: dict[str, str] = field(default_factory=dict)
    purged: set[str] = field(default_factory=set)

    def touch(self, key: str) -> None:
        self.complete.pop(key, None)
        self.purged.discard(key)

    def copy(self) -> Sure:
        return Sure(dict(self.complete), set(self.purged))


class Life:
    """One run of a store that does everything a service does to it, and is cut off again and
    again on the way."""

    def __init__(self, directory: Path, seed: int) -> None:
        self._directory = directory
        self._choice = random.Random(seed)
        self._sure = Sure()
        self._done: dict[str, str] = {}
        self._steps = 0
        self.cuts: list[tuple[Path, Sure]] = []
        self.disk = LossyOs(directory / "live", self._step)

    def _step(self) -> None:
        self._steps += 1
        if self._choice.random() < 0.12 and len(self.cuts) < CUTS_PER_LIFE:
            target = self._directory / f"cut{len(self.cuts)}"
            self.disk.cut(target, self._choice)
            self.cuts.append((target, self._sure.copy()))

    async def live(self) -> None:
        choice = self._choice
        store = store_at(self._directory / "live")
        await store.open()
        await store.swept()
        while len(self.cuts) < CUTS_PER_LIFE:
            key = f"churn{choice.randrange(KEYS)}"
            self._sure.touch(key)
            self._done.pop(key, None)
            match choice.randrange(10):
                case 0:
                    await store.remove(Selection(key=key))
                    self._sure.purged.add(key)
                case 1:
                    await store.remove(Selection(mount=key))
                    self._sure.purged.add(key)
                case 2:
                    await self._refresh(store, key)
                case 3 | 4:
                    await self._put(store, key)
                case _:
                    await self._fill(store, key)
            if choice.random() < 0.3:
                await store.flush()
                self._sure.complete = dict(self._done)
        await store.close()

    async def _refresh(self, store: DiskStore, key: str) -> None:
        for entry in await store.find(key):
            await store.refresh(entry)

    async def _put(self, store: DiskStore, key: str) -> None:
        """Some small objects at once, the last of which is the one under this key."""
        putting = []
        for name in (*(f"churn{KEYS + n}" for n in range(self._choice.randrange(3))), key):
            self._sure.touch(name)
            body = churn_body(name, self._choice.randrange(60_000))
            entry = completed(new_entry(name, length=len(body), mount=name), len(body))
            self._done[name] = entry.entry_id
            putting.append(store.put(entry, body))
        await asyncio.gather(*putting)

    async def _fill(self, store: DiskStore, key: str) -> None:
        """Begin or continue an object in pieces; finish it more often than not."""
        choice = self._choice
        found = await store.find(key)
        if found and not found[0].complete:
            draft = await store.resume(found[0])
        else:
            length = choice.randrange(1, 60_000)
            draft = await store.begin(new_entry(key, length=length, mount=key), length)
        length = draft.entry.length_bytes or 0
        body, covered = churn_body(key, length), draft.entry.coverage
        for start, stop in cov.missing(covered, Interval(0, length)):
            middle = choice.randint(start, stop)
            for run in (Interval(middle, stop), Interval(start, middle)):
                await draft.write(run.start, [body[run.start : run.stop]])
                covered = cov.add(covered, run)
                if choice.random() < 0.4:
                    await draft.checkpoint(covered)
        if choice.random() < 0.7 and await draft.commit(completed(draft.entry, length)):
            self._done[key] = draft.entry.entry_id
        await draft.close()


async def check(directory: Path, sure: Sure) -> int:
    """Start on what a power cut has left; gives how many partial entries were continued."""
    store = store_at(directory)
    await store.open()
    assert (await store.swept()).is_finished
    await store.settle()
    listed = [one async for one in store.list()]
    assert {one.entry.entry_id for one in listed} == set(blob_files(directory))
    usage = await store.usage()
    assert usage.objects == len(listed)
    assert usage.size_bytes == disk_bytes(directory) == sum(one.size_bytes for one in listed)
    for entry in [one.entry for one in listed]:
        check_bytes(store, entry)
        # Not only are they right: their sums say so too.
        assert await store.verify(entry, Interval(0, entry.length_bytes or 0)) is entry
    by_key = {one.entry.key: one.entry for one in listed}
    for key, entry_id in sure.complete.items():
        assert (by_key[key].entry_id, by_key[key].complete) == (entry_id, True)
    assert not sure.purged & by_key.keys()
    partial = [entry for entry in by_key.values() if not entry.complete]
    for entry in partial:
        await finish(store, entry)
    await store.close()
    return len(partial)


def check_bytes(store: DiskStore, entry: Entry) -> None:
    assert entry.length_bytes is not None
    body = churn_body(entry.key, entry.length_bytes)
    held = read(store.open_reader(entry))
    if entry.complete:
        assert hashlib.sha256(held).digest() == hashlib.sha256(body).digest()
    for start, stop in entry.coverage:
        assert held[start:stop] == body[start:stop]


async def finish(store: DiskStore, entry: Entry) -> None:
    body = churn_body(entry.key, entry.length_bytes or 0)
    draft = await store.resume(entry)
    for start, stop in cov.missing(draft.entry.coverage, Interval(0, len(body))):
        await draft.write(start, [body[start:stop]])
    assert await draft.commit(completed(entry, len(body)))
    await draft.close()
    check_bytes(store, draft.entry)


@pytest.mark.parametrize("seed", range(4))
async def test_after_a_power_cut_at_any_moment_nothing_is_wrong_and_nothing_sure_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    life = Life(tmp_path, seed)
    with monkeypatch.context() as patched:
        patched.setattr("forebay.store.blobs.os", life.disk)
        patched.setattr("forebay.store.index.os", life.disk)
        await life.live()
    continued = 0
    for first in range(0, CUTS_PER_LIFE, AT_ONCE):
        cuts = life.cuts[first : first + AT_ONCE]
        continued += sum(await asyncio.gather(*(check(*one) for one in cuts)))
    assert len(life.cuts) == CUTS_PER_LIFE
    assert continued > 0
