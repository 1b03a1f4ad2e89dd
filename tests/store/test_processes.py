"""Several processes on one directory, and processes that die."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

import pytest

from forebay.errors import StoreError
from forebay.model import Entry
from forebay.ports import Following, Selection
from forebay.store.disk import DiskStore
from tests.store.processes import WorkerFailed, worker
from tests.store.support import (
    BLOCK,
    blob_files,
    cached,
    completed,
    disk_bytes,
    new_entry,
    pattern,
    put,
    read,
)
from tests.store.worker import CHURN_KEYS, churn_body


def open_store(directory: Path, *, shared: bool = False, limit: int | None = None) -> DiskStore:
    return DiskStore(directory, max_size_bytes=limit, min_free_bytes=0, shared=shared)


async def followed(store: DiskStore, entry: Entry) -> Following:
    assert store.neighbours is not None
    following = await store.neighbours.follow(entry)
    assert following is not None
    return following


# Sharing


async def test_workers_see_each_others_purges_and_objects_at_once(tmp_path: Path) -> None:
    store = open_store(tmp_path, shared=True)
    await store.open()
    async with worker(tmp_path, shared=True) as other:
        for turn in range(20):
            entry_id = await other.ask("put", "aa", 100 + turn)
            assert [e.entry_id for e in await store.find("aa")] == [entry_id]
            assert [e.entry_id for e in await cached(store, "aa")] == [entry_id]
            assert await other.ask("purge", "aa") == 1
            assert store.find_cached("aa") is None
            assert await store.find("aa") == ()
            ours = await put(store, pattern(50), key="aa")
            assert await other.ask("find", "aa") == [[ours.entry_id, True]]
            assert await other.ask("read", "aa") == pattern(50).decode()
            await store.remove(Selection(key="aa"))
            assert await other.ask("find", "aa") == []
    await store.close()


async def test_a_purge_in_one_worker_ends_a_draft_of_another(tmp_path: Path) -> None:
    store = open_store(tmp_path, shared=True)
    await store.open()
    async with worker(tmp_path, shared=True) as other:
        await other.ask("begin", "aa", 1000, 500)
        (partial,) = await store.find("aa")
        assert partial.coverage == ((0, 500),)
        reader = store.open_reader(partial)
        assert (await store.remove(Selection(key="aa"))).objects == 1
        assert await other.ask("finish") is False
        assert await store.find("aa") == ()
        assert read(reader) == pattern(1000)
    await store.settle()
    assert blob_files(tmp_path) == {}
    await store.close()


async def test_a_worker_that_starts_leaves_the_drafts_of_others_alone(tmp_path: Path) -> None:
    async with worker(tmp_path, shared=True) as other:
        await other.ask("begin", "covered", 1000, 500)
        await other.ask("begin", "aa", 1000, 0)
        store = open_store(tmp_path, shared=True)
        await store.open()
        swept = await store.swept()
        assert (swept.orphan_blobs, swept.dropped_rows, swept.is_finished) == (0, 0, True)
        (partial,) = await store.find("aa")
        with pytest.raises(StoreError, match="writing this entry"):
            await store.resume(partial)
        assert await other.ask("finish") is True
        (found,) = await store.find("aa")
        assert found.complete
        assert read(store.open_reader(found)) == pattern(1000)
        await store.close()


async def test_a_dead_workers_draft_is_taken_over(tmp_path: Path) -> None:
    store = open_store(tmp_path, shared=True)
    await store.open()
    async with worker(tmp_path, shared=True) as other:
        await other.ask("begin", "aa", 1000, 500)
        await other.kill()
    (partial,) = await store.find("aa")
    draft = await store.resume(partial)
    await draft.write(500, [pattern(1000)[500:]])
    assert await draft.commit(completed(draft.entry, 1000))
    await draft.close()
    (found,) = await store.find("aa")
    assert read(store.open_reader(found)) == pattern(1000)
    await store.close()


async def test_what_another_worker_has_just_written_is_followed(tmp_path: Path) -> None:
    store = open_store(tmp_path, shared=True)
    await store.open()
    async with worker(tmp_path, shared=True) as other:
        await other.ask("begin", "aa", 1000, 0)
        (partial,) = await store.find("aa")
        following = await followed(store, partial)
        assert following.coverage() == (), "nothing is there yet"
        await other.ask("write", 0, 100)
        reader = store.open_reader(partial)
        assert following.coverage() == ((0, 100),)
        await other.ask("write", 500, 200)
        assert following.coverage() == ((0, 100), (500, 700))
        assert (await store.find("aa"))[0].coverage == (), "the index claims what is durable"
        assert read(reader, 200, 500) == pattern(1000)[500:700]
        assert following.is_being_written()
        await other.ask("finish")
        assert not following.is_being_written()
        (found,) = await store.find("aa")
        assert found.complete
        assert store.neighbours is not None
        assert await store.neighbours.follow(found) is None
        assert (following.coverage(), following.proven_length_bytes()) == (((0, 1000),), 1000)
        following.close()
    assert list((tmp_path / "progress").iterdir()) == []
    await store.close()


async def test_a_writer_that_died_is_noticed_and_taken_over(tmp_path: Path) -> None:
    store = open_store(tmp_path, shared=True)
    await store.open()
    async with worker(tmp_path, shared=True) as other:
        await other.ask("begin", "aa", 1000, 300)
        await other.ask("write", 300, 400)
        (partial,) = await store.find("aa")
        following = await followed(store, partial)
        assert following.coverage() == ((0, 700),)
        await other.kill()
    assert not following.is_being_written()
    following.close()
    draft = await store.resume(partial)
    assert draft.entry.coverage == ((0, 700),), "no power was cut: what was written is there"
    assert (await store.find("aa"))[0].coverage == ((0, 700),)
    await draft.write(700, [pattern(1000)[700:]])
    assert await draft.commit(completed(draft.entry, 1000))
    await draft.close()
    assert store.neighbours is not None
    assert await store.neighbours.follow(draft.entry) is None
    await store.close()


async def test_notes_of_the_dead_stay_while_there_is_something_to_take_over(
    tmp_path: Path,
) -> None:
    async with worker(tmp_path, shared=True) as other:
        await other.ask("begin", "aa", 1000, 0)
        await other.ask("write", 0, 300)
        await other.ask("begin", "bb", 1000, 300)
        await other.kill()
    (tmp_path / "progress" / "nobody").touch()
    store = open_store(tmp_path, shared=True)
    await store.open()
    assert (await store.swept()).dropped_rows == 0
    assert len(list((tmp_path / "progress").iterdir())) == 2
    draft = await store.resume((await store.find("aa"))[0])
    assert draft.entry.coverage == ((0, 300),)
    await draft.close()
    await store.close()
    alone = open_store(tmp_path)
    await alone.open()
    await alone.swept()
    assert list((tmp_path / "progress").iterdir()) == []
    assert len(await alone.find("aa")) == 1
    await alone.close()


async def test_a_note_of_the_dead_never_claims_damaged_bytes_again(tmp_path: Path) -> None:
    async with worker(tmp_path, shared=True) as other:
        await other.ask("begin", "aa", 1000, 300)
        await other.ask("write", 300, 100)
        await other.kill()
    (blob,) = blob_files(tmp_path)
    path = next((tmp_path / "blobs").rglob(blob))
    path.write_bytes(b"rotten" + path.read_bytes()[6:])
    store = open_store(tmp_path, shared=True)
    await store.open()
    await store.swept()
    (partial,) = await store.find("aa")
    with pytest.raises(StoreError):
        await store.resume(partial)
    assert await store.find("aa") == ()
    await store.close()


async def test_workers_share_one_limit_and_spare_each_others_drafts(tmp_path: Path) -> None:
    store = open_store(tmp_path, shared=True, limit=100 * BLOCK)
    await store.open()
    async with worker(tmp_path, shared=True, max_size=100 * BLOCK) as other:
        await other.ask("begin", "draft", 60 * BLOCK, BLOCK)
        with pytest.raises(StoreError, match="no room"):
            await store.begin(new_entry("bb", length=50 * BLOCK), 50 * BLOCK)
        await put(store, pattern(40 * BLOCK), key="cc")
        assert await other.ask("finish") is True
        await put(store, pattern(40 * BLOCK), key="dd")
        assert [len(await store.find(key)) for key in ("draft", "cc", "dd")] == [1, 0, 1]
        assert (await other.ask("usage"))["size"] == 100 * BLOCK
    assert disk_bytes(tmp_path) == 100 * BLOCK
    await store.close()


@pytest.mark.parametrize(("first", "second"), [(False, False), (False, True), (True, False)])
async def test_a_second_service_is_told_who_has_the_directory(
    tmp_path: Path, first: bool, second: bool
) -> None:
    store = open_store(tmp_path, shared=first)
    await store.open()
    with pytest.raises(WorkerFailed, match=f"{tmp_path} is in use by another Forebay"):
        async with worker(tmp_path, shared=second):
            pass
    await put(store, b"unharmed")
    await store.close()
    async with worker(tmp_path, shared=second) as next_one:
        assert await next_one.ask("read", "aa") == "unharmed"


# Dying


async def check_everything(store: DiskStore) -> int:
    """Every byte that the index claims is right; gives the count of entries."""
    entries: list[Entry] = []
    for number in range(CHURN_KEYS):
        entries.extend(await store.find(f"churn{number}"))
    for entry in entries:
        if not entry.coverage:
            continue  # the sweep may be taking it away at this moment
        assert entry.length_bytes is not None
        body = churn_body(entry.key, entry.length_bytes)
        held = read(store.open_reader(entry))
        if entry.complete:
            assert held == body
        for start, stop in entry.coverage:
            assert held[start:stop] == body[start:stop]
    return len(entries)


@pytest.mark.parametrize("limit", [None, 300 * BLOCK])
async def test_after_kill_9_every_claimed_byte_is_right(tmp_path: Path, limit: int | None) -> None:
    choice = random.Random(7)
    checked = 0
    for round_number in range(4):
        async with worker(tmp_path, max_size=limit) as victim:
            await victim.ask("churn", round_number)
            await asyncio.sleep(choice.uniform(0.02, 0.25))
            await victim.kill()
        store = open_store(tmp_path, limit=limit)
        await store.open()
        checked += await check_everything(store)
        assert (await store.swept()).is_finished
        listed = [one async for one in store.list()]
        assert {one.entry.entry_id for one in listed} == set(blob_files(tmp_path))
        usage = await store.usage()
        assert usage.size_bytes == disk_bytes(tmp_path) == sum(one.size_bytes for one in listed)
        assert limit is None or usage.size_bytes <= limit
        assert await check_everything(store) == len(listed)
        await store.close()
    assert checked > 0


async def test_after_kill_9_of_a_sharing_worker_the_others_go_on(tmp_path: Path) -> None:
    store = open_store(tmp_path, shared=True)
    await store.open()
    async with worker(tmp_path, shared=True) as victim:
        await victim.ask("churn", 1)
        for number in range(30):
            await put(store, pattern(number + 1), key=f"ours{number}")
        await victim.kill()
    await check_everything(store)
    for number in range(30):
        (found,) = await store.find(f"ours{number}")
        assert read(store.open_reader(found)) == pattern(number + 1)
    await store.close()


# A disk that is full


async def test_a_full_disk_refuses_politely_and_is_used_again_when_it_can_be(
    tmp_path: Path,
) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare to mount a small file system")
    mount = f'mount -t tmpfs -o size=3m none "{tmp_path}" && exec "$@"'
    through = ["unshare", "-rm", "sh", "-c", mount, "sh"]
    try:
        async with worker(tmp_path, through=through) as one:
            troubles = await one.ask("fill", 30, 200_000)
            assert troubles
            assert all(told.startswith("StoreFull: ") for told in troubles)
            kept = [n for n in range(30) if await one.ask("find", f"fill{n}")]
            assert len(kept) >= 5, "what is left of 15 when five make way"
            for number in kept:
                assert await one.ask("holds", f"fill{number}", 200_000) is True
            assert await one.ask("purge", "nothing") == 0
            for number in kept:
                await one.ask("purge", f"fill{number}")
            assert [n for n in kept if await one.ask("find", f"fill{n}")] == []
            await one.ask("flush")
            assert await one.ask("fill", 1, 100_000) == []
            assert (await one.ask("usage"))["healthy"] is True
    except WorkerFailed as error:
        if "died" not in str(error):
            raise
        pytest.skip("may not mount a small file system here")
