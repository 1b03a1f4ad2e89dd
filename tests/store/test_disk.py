"""What only the store on disk can do wrong: files, restarts, damage, trouble."""

from __future__ import annotations

import asyncio
import errno
import os
import pickle
import random
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forebay.errors import EntryDamaged, StoreError, StoreFull
from forebay.model import Entry, Interval
from forebay.ports import Selection
from forebay.store.blobs import Blobs
from forebay.store.disk import DiskStore
from forebay.store.placing import VARIANTS_PER_KEY
from tests.patience import PATIENCE_SECONDS
from tests.store.support import (
    BLOCK,
    blob_files,
    completed,
    disk_bytes,
    file_size_limit,
    new_entry,
    pattern,
    put,
    read,
)

MIB = 1024 * 1024


@asynccontextmanager
async def opened(
    directory: Path, *, limit: int | None = None, min_free: int = 0, shared: bool = False
) -> AsyncIterator[DiskStore]:
    store = DiskStore(directory, max_size_bytes=limit, min_free_bytes=min_free, shared=shared)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def database(directory: Path) -> sqlite3.Connection:
    return sqlite3.connect(directory / "index" / "cache.db", isolation_level=None)


def blob_path(directory: Path, entry: Entry) -> Path:
    return directory / "blobs" / entry.entry_id[:2] / entry.entry_id


async def put_partial(store: DiskStore, key: str, covered: int, length: int | None) -> Entry:
    """A partial entry as a crash leaves it: its draft is closed, its row is as it was."""
    draft = await store.begin(new_entry(key, length=length), length)
    await draft.write(0, [pattern(covered)])
    await draft.checkpoint((Interval(0, covered),) if covered else ())
    return draft.entry


# Starting again


async def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        entry = await put(store, pattern(1000))
        for _ in range(5):
            store.touch(entry)
    async with opened(tmp_path) as store:
        assert await store.find("aa") == (entry,)
        assert read(store.open_reader(entry)) == pattern(1000)
        (listed,) = [one async for one in store.list()]
        assert (listed.hits, listed.size_bytes) == (5, BLOCK)
        swept = await store.swept()
        assert swept.is_finished
        assert not swept.found_anything


async def test_uses_before_a_restart_decide_who_goes_after_it(tmp_path: Path) -> None:
    async with opened(tmp_path, limit=30 * BLOCK) as store:
        first, second, _ = [
            await put(store, pattern(10 * BLOCK), key=key) for key in ("k1", "k2", "k3")
        ]
        store.touch(second)
        store.touch(first)
    async with opened(tmp_path, limit=30 * BLOCK) as store:
        for key in ("k4", "k5"):
            await put(store, pattern(10 * BLOCK), key=key)
        left = {one.entry.key async for one in store.list()}
        assert left == {"k1", "k4", "k5"}


async def test_a_lower_limit_is_kept_after_the_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in range(10):
            await put(store, pattern(10 * BLOCK), key=f"k{number}")
    async with opened(tmp_path, limit=35 * BLOCK) as store:
        await store._upkeep.trim()
        assert {one.entry.key async for one in store.list()} == {"k7", "k8", "k9"}
        await store.settle()
        assert disk_bytes(tmp_path) == 30 * BLOCK


@pytest.mark.parametrize("content", ["3\n", "17", "", "\xff\xfe", "new"])
async def test_a_format_that_is_not_ours_is_refused(tmp_path: Path, content: str) -> None:
    async with opened(tmp_path):
        pass
    (tmp_path / "version").write_text(content, encoding="latin-1")
    store = DiskStore(tmp_path, max_size_bytes=None, min_free_bytes=0)
    with pytest.raises(StoreError, match=f"{tmp_path} has format .* reads formats up to 2"):
        await store.open()
    await store.close()
    (tmp_path / "version").write_text("2\n")
    async with opened(tmp_path):
        pass


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = DiskStore(tmp_path / "file" / "cache", max_size_bytes=None, min_free_bytes=0)
    with pytest.raises(StoreError, match=r"file/cache cannot be used .* choose another one"):
        await store.open()


async def test_a_directory_on_a_full_disk_is_refused_with_the_right_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = DiskStore(tmp_path / "cache", max_size_bytes=None, min_free_bytes=0)
    monkeypatch.setattr(Blobs, "prepare", full)
    with pytest.raises(StoreError, match="free some of its disk, or choose another one"):
        await store.open()


async def test_files_of_others_in_the_directory_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "admin-token").write_text("secret")
    async with opened(tmp_path) as store:
        await store.swept()
        await store.remove(Selection(everything=True))
    assert (tmp_path / "admin-token").read_text() == "secret"


# Sweeping


async def crash(directory: Path, store: DiskStore) -> Path:
    """A copy of the directory as it is now: what a killed process leaves behind."""
    copy = directory.with_name(directory.name + "-crashed")
    await store.settle()
    await asyncio.to_thread(shutil.copytree, directory, copy)
    return copy


async def test_leftovers_of_a_crash_are_swept_and_the_rest_stays(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    async with opened(origin) as store:
        whole = await put(store, pattern(1000), key="whole")
        lost = await put(store, pattern(1000), key="lost")
        partial = await put_partial(store, "partial", 500, 1_000_000)
        await put_partial(store, "empty", 0, 1000)
        await put_partial(store, "unknown", 500, None)
        short = await put_partial(store, "short", 500, 1000)
        crashed = await crash(origin, store)
    (crashed / "blobs" / "ab" / "abandoned").write_bytes(bytes(10_000))
    blob_path(crashed, lost).unlink()
    os.truncate(blob_path(crashed, short), 499)
    async with opened(crashed) as store:
        swept = await store.swept()
        assert (swept.orphan_blobs, swept.orphan_bytes) == (1, 3 * BLOCK)
        assert swept.dropped_rows == 4
        left = {one.entry.key: one async for one in store.list()}
        assert set(left) == {"whole", "partial"}
        assert set(blob_files(crashed)) == {whole.entry_id, partial.entry_id}
        assert left["partial"].size_bytes == BLOCK
        assert (await store.usage()).size_bytes == disk_bytes(crashed) == 2 * BLOCK
        draft = await store.resume(partial)
        assert draft.entry.coverage == ((0, 500),)
        await draft.close()


async def test_a_sweep_takes_nothing_from_those_who_work_beside_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        drafts = [await store.begin(new_entry(f"d{n}", length=10), 10) for n in range(20)]
        for _ in range(5):
            store._upkeep._start_sweep()
            await asyncio.gather(
                store.swept(),
                *(put(store, pattern(100), key=f"k{n}") for n in range(20)),
                *(draft.write(0, [b"x"]) for draft in drafts),
            )
        for draft in drafts:
            await draft.write(0, [b"0123456789"])
            assert await draft.commit(completed(draft.entry, 10))
            await draft.close()
        for number in range(20):
            assert await store.find(f"k{number}") != ()
        listed = [one async for one in store.list()]
        await store.settle()
        assert {one.entry.entry_id for one in listed} == set(blob_files(tmp_path))


# Accounting


async def test_the_accounting_equals_the_disk_whatever_happens(tmp_path: Path) -> None:
    choice = random.Random(3)
    async with opened(tmp_path, limit=80 * BLOCK) as store:
        for _ in range(150):
            key = f"k{choice.randrange(25)}"
            length = choice.choice([None, choice.randrange(40 * BLOCK)])
            written = choice.randrange((length or 20 * BLOCK) + 1)
            draft = await store.begin(
                new_entry(key, length=length), choice.choice([None, length, written])
            )
            await draft.write(0, [pattern(written)])
            if choice.random() < 0.5 and written:
                await draft.checkpoint((Interval(0, written),))
            if choice.random() < 0.2:
                await store.remove(Selection(key=key))
            if choice.random() < 0.7 and length in (None, written):
                await draft.commit(completed(draft.entry, written))
            await draft.close()
            await store.settle()
            usage = await store.usage()
            found = await asyncio.to_thread(blob_files, tmp_path)
            assert usage.objects == len(found)
            assert usage.size_bytes == sum(one.st_blocks * 512 for one in found.values())
            assert usage.size_bytes <= 80 * BLOCK
        assert usage.evicted_objects > 0


async def test_free_space_that_must_stay_free_is_not_taken(tmp_path: Path) -> None:
    space = os.statvfs(tmp_path)
    free = space.f_bavail * space.f_frsize
    async with opened(tmp_path, min_free=free + (1 << 34)) as store:
        with pytest.raises(StoreFull):
            await store.begin(new_entry(length=BLOCK), BLOCK)
        assert (await store.usage()).healthy
        assert blob_files(tmp_path) == {}
    async with opened(tmp_path, min_free=max(0, free - (1 << 34))) as store:
        await put(store, b"x")


async def test_a_key_keeps_its_newest_variants_only(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in range(VARIANTS_PER_KEY + 4):
            entry = new_entry(length=1, vary=(("cookie", str(number)),))
            await put(store, b"x", replace(entry, response_time=float(number)))
        found = await store.find("aa")
        assert [entry.response_time for entry in found] == [
            float(number) for number in range(VARIANTS_PER_KEY + 3, 3, -1)
        ]
        await store.settle()
        assert len(blob_files(tmp_path)) == VARIANTS_PER_KEY


async def test_a_draft_that_grows_takes_room_in_steps_and_gives_it_back(tmp_path: Path) -> None:
    async with opened(tmp_path, limit=6400 * BLOCK) as store:

        async def promised() -> int:
            return await store._engine.from_index(store._engine.room.used_bytes)

        draft = await store.begin(new_entry())
        await draft.write(0, [pattern(BLOCK)])
        assert await promised() == 100 * BLOCK
        assert (await store.usage()).size_bytes == BLOCK
        await draft.commit(completed(draft.entry, BLOCK))
        assert await promised() == BLOCK
        await draft.close()


# Damage


@pytest.mark.parametrize("length", [0, 999, 1001])
async def test_a_blob_of_another_length_is_damage_and_forgotten(
    tmp_path: Path, length: int
) -> None:
    async with opened(tmp_path) as store:
        entry = await put(store, pattern(1000))
        os.truncate(blob_path(tmp_path, entry), length)
        with pytest.raises(EntryDamaged):
            store.open_reader(entry)
        await store.settle()
        assert await store.find("aa") == ()
        assert blob_files(tmp_path) == {}


@pytest.mark.parametrize("how", ["missing", "short", "row without length"])
async def test_a_partial_entry_that_lost_bytes_is_not_continued(tmp_path: Path, how: str) -> None:
    origin = tmp_path / "origin"
    async with opened(origin) as store:
        length = None if how == "row without length" else 1000
        entry = await put_partial(store, "aa", 500, length)
        crashed = await crash(origin, store)
    async with opened(crashed, shared=True) as store:
        await store.swept()
        if how == "missing":
            blob_path(crashed, entry).unlink()
        elif how == "short":
            os.truncate(blob_path(crashed, entry), 499)
        with pytest.raises(EntryDamaged):
            await store.resume(entry)
        await store.settle()
        assert await store.find("aa") == ()
        assert blob_files(crashed) == {}


class Trap:
    """Unpickling this leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("place", ["value", "file", "key", "both"])
async def test_a_planted_pickle_is_damage_and_is_never_loaded(tmp_path: Path, place: str) -> None:
    mark = tmp_path / "sprung"
    cache = tmp_path / "cache"
    async with opened(cache) as store:
        kept = await put(store, b"kept", key="kept")
        entry = await put(store, b"body")
    evil = pickle.dumps(Trap(mark))
    (cache / "index" / "evil.val").write_bytes(evil)
    changes = {
        "value": ("mode = 4, value = ?", (evil,)),
        "file": ("mode = 4, filename = 'evil.val', value = NULL, tag = ?", ("x",)),
        "key": ("raw = 0, key = ?", (evil,)),
        "both": ("raw = 0, mode = 4, key = ?, value = ?", (evil, evil)),
    }
    change, values = changes[place]
    with closing(database(cache)) as connection:
        connection.execute(
            f"UPDATE Cache SET {change} WHERE filename = ?", (*values, entry.entry_id)
        )
    async with opened(cache) as store:
        assert await store.find("aa") == ()
        await store.swept()
        assert [one.entry async for one in store.list()] == [kept]
        assert (await store.usage()).objects == 1
        await store.settle()
        assert set(blob_files(cache)) == {kept.entry_id}
    assert not mark.exists()


@pytest.mark.parametrize(
    "change",
    [
        "value = 'nonsense'",
        "value = replace(value, '\"v\":1', '\"v\":2')",
        "value = CAST(x'7bff' AS TEXT)",
        "size = 'much'",
        "access_time = NULL",
        "access_count = 'often'",
        "key = 'aa/another'",
        "tag = 5",
    ],
)
async def test_a_row_with_a_flipped_bit_spoils_nothing_else(tmp_path: Path, change: str) -> None:
    async with opened(tmp_path, limit=100 * BLOCK) as store:
        kept = await put(store, b"kept", new_entry(length=4, vary=(("accept", "x"),)))
        entry = await put(store, b"body")
        with closing(database(tmp_path)) as connection:
            connection.execute(f"UPDATE Cache SET {change} WHERE filename = ?", (entry.entry_id,))
        store._engine.lookups.clear()
        assert kept in await store.find("aa")
        with pytest.raises(StoreFull):
            await store.begin(new_entry("full", length=100 * BLOCK), 101 * BLOCK)
        assert kept in [one.entry async for one in store.list()]
        fresh = await put(store, pattern(5))
        assert set(await store.find("aa")) >= {kept, fresh}


def damaged_indexes(directory: Path) -> list[str]:
    return sorted(name for name in os.listdir(directory) if name.startswith("index."))


def rot(path: Path) -> None:
    """Let everything behind the first pages of a database be noise."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(3 * BLOCK)
        file.write(os.urandom(size - 3 * BLOCK))


async def test_a_corrupt_index_is_set_aside_at_the_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, b"body")
    (tmp_path / "index" / "cache.db").write_bytes(b"This is no database." * 1000)
    for suffix in ("-wal", "-shm"):
        (tmp_path / "index" / f"cache.db{suffix}").unlink(missing_ok=True)
    async with opened(tmp_path) as store:
        assert await store.find("aa") == ()
        assert (await store.swept()).orphan_blobs == 1
        assert blob_files(tmp_path) == {}
        await put(store, b"again")
        assert len(await store.find("aa")) == 1
    assert damaged_indexes(tmp_path) == ["index.damaged-1"]


async def test_only_the_newest_damaged_index_is_kept(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        (tmp_path / f"index.damaged-{number}").mkdir()
    (tmp_path / "index.damaged-by-hand").mkdir()
    async with opened(tmp_path) as store:
        await store.swept()
    assert damaged_indexes(tmp_path) == ["index.damaged-10", "index.damaged-by-hand"]


async def test_an_index_that_rots_while_it_is_used_is_replaced(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.swept()
        for number in range(200):
            await put(store, b"x", new_entry(f"k{number}", length=1, tags=("t" * 500,)))
        await store.flush()
        with closing(database(tmp_path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        rot(tmp_path / "index" / "cache.db")
        for number in range(200):
            await store.find(f"k{number}")  # never raises
        for number in range(5):
            try:
                await put(store, b"new", key=f"new{number}")
            except StoreError:
                await store.settle()
        await put(store, b"new", key="last")
        (found,) = await store.find("last")
        assert read(store.open_reader(found)) == b"new"
        await store._upkeep._tick()
        await store.swept()
        assert (await store.usage()).healthy
        listed = {one.entry.entry_id async for one in store.list()}
        assert listed == set(blob_files(tmp_path))


# Trouble


@pytest.mark.parametrize("shared", [False, True])
async def test_a_directory_deleted_while_running_is_made_anew(tmp_path: Path, shared: bool) -> None:
    cache = tmp_path / "cache"
    async with opened(cache, shared=shared) as store:
        await store.swept()
        entry = await put(store, b"body")
        reader = store.open_reader(entry)
        draft = await store.begin(new_entry("draft", length=4), 4)
        shutil.rmtree(cache)
        assert read(reader) == b"body"
        with pytest.raises(EntryDamaged):
            store.open_reader(entry)
        await draft.write(0, [b"late"])
        assert read(draft.open_reader()) == b"late"
        assert not await draft.commit(completed(draft.entry, 4))
        await draft.close()
        fresh = await put(store, b"again")
        assert await store.find("aa") == (fresh,)
        assert read(store.open_reader(fresh)) == b"again"
        usage = await store.usage()
        assert (usage.objects, usage.size_bytes, usage.healthy) == (1, BLOCK, True)
        assert await store.find("draft") == ()
    async with opened(cache) as store:
        assert await store.find("aa") == (fresh,)


async def test_a_disk_that_refuses_bytes_is_reported_until_it_takes_them(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.swept()
        draft = await store.begin(new_entry(length=5 * MIB), 5 * MIB)
        with file_size_limit(4 * MIB), pytest.raises(StoreError, match="refuses work"):
            await draft.write(0, [bytes(5 * MIB)])
        usage = await store.usage()
        assert not usage.healthy
        assert usage.trouble is not None
        assert "File too large" in usage.trouble
        await draft.close()
        assert await store.find("aa") == ()
        await store._upkeep._tick()
        usage = await store.usage()
        assert (usage.healthy, usage.trouble, usage.size_bytes) == (True, None, 0)


async def test_a_sync_that_failed_is_not_believed_later(tmp_path: Path) -> None:
    """After a failed fsync the kernel may drop the bytes and let the next one succeed."""
    async with opened(tmp_path) as store:
        entry = new_entry(length=4)
        draft = await store.begin(entry, 4)
        await draft.write(0, [b"body"])
        pipe, other = os.pipe()  # syncing a pipe is EINVAL: a real error of a real descriptor
        kept = os.dup(draft._fileno)
        os.dup2(pipe, draft._fileno)
        with pytest.raises(StoreError, match="refuses work"):
            await draft.checkpoint((Interval(0, 4),))
        os.dup2(kept, draft._fileno)
        with pytest.raises(StoreError, match="lost bytes"):
            await draft.commit(completed(entry, 4))
        await draft.close()
        for fileno in (pipe, other, kept):
            os.close(fileno)
        assert await store.find("aa") == ()


async def test_a_locked_index_is_trouble_and_finding_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay.store.table.LOCK_TIMEOUT_SECONDS", 0.05)
    async with opened(tmp_path) as store:
        await store.swept()
        kept = await put(store, b"body")
        with closing(database(tmp_path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="index is locked"):
                await store.begin(new_entry(length=1), 1)
            store._engine.lookups.clear()
            assert await store.find("aa") == (kept,)
            assert not (await store.usage()).healthy
            connection.execute("ROLLBACK")
        assert set(blob_files(tmp_path)) == {kept.entry_id}
        await put(store, b"new")
        assert (await store.usage()).healthy


async def test_uses_that_could_not_be_written_are_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay.store.table.LOCK_TIMEOUT_SECONDS", 0.05)
    async with opened(tmp_path) as store:
        await store.swept()
        entry = await put(store, b"body")
        store.touch(entry)
        with closing(database(tmp_path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError):
                await store.flush()
            connection.execute("ROLLBACK")
        await store._upkeep._tick()
        (listed,) = [one async for one in store.list()]
        assert listed.hits == 1
        assert (await store.usage()).healthy


async def test_a_directory_that_another_service_took_is_left_to_it(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    async with opened(cache) as store:
        await store.swept()
        shutil.rmtree(cache)
        async with opened(cache) as other:
            kept = await put(other, b"theirs")
            with pytest.raises(StoreError, match="in use by another Forebay"):
                await put(store, b"ours")
            trouble = (await store.usage()).trouble
            assert trouble is not None
            assert "in use by another Forebay" in trouble
            await store.settle()
            assert await other.find("aa") == (kept,)
            assert set(blob_files(cache)) == {kept.entry_id}
        await put(store, b"ours")
        assert (await store.usage()).healthy


class SlowPieces(list[bytes]):
    """Pieces whose second reading, which is the writing thread's, waits."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__(pieces)
        self.readings = 0
        self.is_being_written = threading.Event()
        self.may_go_on = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        self.readings += 1
        if self.readings == 2:
            self.is_being_written.set()
            assert self.may_go_on.wait(PATIENCE_SECONDS)
        return super().__iter__()


async def test_a_draft_is_not_closed_under_a_write_whose_caller_has_left(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        draft = await store.begin(new_entry(length=8), 8)
        reader = draft.open_reader()
        pieces = SlowPieces([b"late", b"body"])
        writing = asyncio.create_task(draft.write(0, pieces))
        assert await asyncio.to_thread(pieces.is_being_written.wait, 10)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        closing_draft = asyncio.create_task(draft.close())
        await asyncio.wait({closing_draft}, timeout=0.2)
        assert not closing_draft.done()
        pieces.may_go_on.set()
        await closing_draft
        assert read(reader) == b"latebody"


async def test_no_descriptor_and_no_task_is_left_after_close(
    tmp_path: Path, no_leaks: None
) -> None:
    async with opened(tmp_path, shared=True) as store:
        entry = await put(store, b"body")
        await store.begin(new_entry("left open", length=4), 4)
        os.close(store.open_reader(entry))
        store.touch(entry)
        assert [one.entry.key async for one in store.list()] == ["aa", "left open"]
    await store.close()


async def test_what_was_used_last_is_listed_first_page_by_page(tmp_path: Path) -> None:
    now = 1000.0
    store = DiskStore(tmp_path, max_size_bytes=None, min_free_bytes=0, clock=lambda: now)
    await store.open()
    for number in range(7):
        now += 1
        name = f"https://a.example/{number % 2}/{number}"
        await put(store, b"x", replace(new_entry(f"k{number}", length=1), name=name))
    now += 1
    (second,) = await store.find("k2")
    store.touch(second)
    names, after = [], None
    while page := await store.latest(prefix="", after=after, limit=3):
        names += [one.entry.name[-1] for one in page]
        after = page[-1].place
    assert names == ["2", "6", "5", "4", "3", "1", "0"]
    odd = await store.latest(prefix="https://a.example/1/", after=None, limit=2)
    rest = await store.latest(prefix="https://a.example/1/", after=odd[-1].place, limit=2)
    assert [one.entry.name[-1] for one in (*odd, *rest)] == ["5", "3", "1"]
    assert await store.pin(Selection(prefix="https://a.example/1/")) == 3
    assert sum(one.pinned for one in await store.latest(prefix="", after=None, limit=9)) == 3
    for nonsense in ("", "1", "x/y", "1.0/"):
        with pytest.raises(ValueError, match=r".*"):
            await store.latest(prefix="", after=nonsense, limit=1)
    await store.close()
