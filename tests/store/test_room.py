"""Who stays and who goes: quotas, pins, ranks, and purges of whole mounts."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from forebay.errors import StoreFull
from forebay.model import Entry, Interval
from forebay.ports import Removed, Selection
from forebay.rules.eviction import Eviction
from forebay.store.disk import DiskStore
from tests.store.support import BLOCK, blob_files, completed, disk_bytes, new_entry, pattern, put
from tests.store.test_contract import Clock


@asynccontextmanager
async def opened(
    directory: Path,
    *,
    limit: int | None = None,
    quotas: dict[str, int] | None = None,
    eviction: Eviction = Eviction.LRU,
    clock: Clock | None = None,
    pinned_mounts: tuple[str, ...] = (),
) -> AsyncIterator[DiskStore]:
    store = DiskStore(
        directory,
        max_size_bytes=limit,
        min_free_bytes=0,
        quotas=quotas,
        eviction=eviction,
        clock=clock or Clock(),
        pinned_mounts=pinned_mounts,
    )
    await store.open()
    try:
        await store.swept()
        yield store
    finally:
        await store.close()


async def put_blocks(store: DiskStore, key: str, blocks: int, mount: str = "url") -> Entry:
    entry = new_entry(key, length=blocks * BLOCK, mount=mount)
    return await put(store, pattern(blocks * BLOCK), entry)


async def kept(store: DiskStore) -> set[str]:
    return {one.entry.key async for one in store.list()}


# Quotas


async def test_a_mount_at_its_quota_evicts_its_own_and_nobody_elses(tmp_path: Path) -> None:
    async with opened(tmp_path, quotas={"m": 30 * BLOCK}) as store:
        await put_blocks(store, "old", 50, "other")
        for number in range(5):
            await put_blocks(store, f"m{number}", 10, "m")
        assert await kept(store) == {"old", "m2", "m3", "m4"}
        usage = await store.usage()
        assert (usage.evicted_objects, usage.evicted_bytes) == (2, 20 * BLOCK)


async def test_quota_and_limit_hold_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path, limit=40 * BLOCK, quotas={"m": 30 * BLOCK}) as store:
        await put_blocks(store, "a", 10, "other")
        await put_blocks(store, "b", 10, "other")
        await put_blocks(store, "m0", 20, "m")
        await put_blocks(store, "m1", 20, "m")
        assert await kept(store) == {"a", "b", "m1"}
        await put_blocks(store, "c", 10, "other")
        assert await kept(store) == {"b", "m1", "c"}


async def test_an_object_larger_than_its_mount_may_be_is_refused_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path, quotas={"m": 10 * BLOCK}) as store:
        await put_blocks(store, "small", 5, "m")
        with pytest.raises(StoreFull, match="its mount"):
            await put_blocks(store, "large", 11, "m")
        await put_blocks(store, "large", 11, "other")
        assert await kept(store) == {"small", "large"}


async def test_a_refusal_by_quota_evicts_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, quotas={"m": 30 * BLOCK}) as store:
        await put_blocks(store, "done", 10, "m")
        draft = await store.begin(
            new_entry("draft", length=15 * BLOCK, mount="m"), expected_bytes=15 * BLOCK
        )
        with pytest.raises(StoreFull, match="mount m has no room"):
            await put_blocks(store, "more", 16, "m")
        await draft.close()
        assert await kept(store) == {"done"}


async def test_a_body_of_unknown_length_grows_into_its_quota_and_no_further(tmp_path: Path) -> None:
    async with opened(tmp_path, quotas={"m": 20 * BLOCK}) as store:
        await put_blocks(store, "old", 10, "m")
        draft = await store.begin(new_entry("new", mount="m"))
        for number in range(20):
            await draft.write(number * BLOCK, [pattern(BLOCK)])
        assert "old" not in await kept(store)
        with pytest.raises(StoreFull):
            await draft.write(20 * BLOCK, [pattern(BLOCK)])
        await draft.close()


async def test_a_lower_quota_is_kept_without_a_request(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in range(6):
            await put_blocks(store, f"m{number}", 10, "m")
        await put_blocks(store, "other", 10)
    async with opened(tmp_path, quotas={"m": 25 * BLOCK}) as store:
        await store._upkeep.trim()
        assert await kept(store) == {"m4", "m5", "other"}
        await store.settle()
        assert disk_bytes(tmp_path) == 30 * BLOCK


# Pins


async def test_a_pinned_entry_stays_and_lets_others_go(tmp_path: Path) -> None:
    async with opened(tmp_path, limit=30 * BLOCK) as store:
        await put_blocks(store, "pinned", 10)
        assert await store.pin(Selection(key="pinned")) == 1
        assert await store.pin(Selection(key="pinned")) == 0
        for number in range(5):
            await put_blocks(store, f"k{number}", 10)
        assert await kept(store) == {"pinned", "k3", "k4"}
        with pytest.raises(StoreFull):
            await put_blocks(store, "large", 21)
    async with opened(tmp_path, limit=30 * BLOCK) as store:
        await put_blocks(store, "more", 10)
        assert "pinned" in await kept(store)
        assert await store.pin(Selection(everything=True), pinned=False) == 1
        await put_blocks(store, "large", 25)
        assert await kept(store) == {"large"}


async def test_what_replaces_a_pinned_entry_is_pinned(tmp_path: Path) -> None:
    async with opened(tmp_path, limit=30 * BLOCK) as store:
        await put_blocks(store, "pinned", 10)
        await store.pin(Selection(prefix="https://example.org/"))
        await put_blocks(store, "pinned", 5)
        for number in range(5):
            await put_blocks(store, f"k{number}", 10)
        assert await kept(store) == {"pinned", "k3", "k4"}


async def test_what_a_pinned_mount_has_stays_and_lets_others_go(tmp_path: Path) -> None:
    async with opened(tmp_path, limit=30 * BLOCK, pinned_mounts=("m",)) as store:
        for number in range(2):
            await put_blocks(store, f"m{number}", 10, "m")
        for number in range(3):
            await put_blocks(store, f"k{number}", 10)
        assert await kept(store) == {"m0", "m1", "k2"}
        with pytest.raises(StoreFull):
            await put_blocks(store, "large", 11)
        assert await store.pin(Selection(mount="m"), pinned=False) == 0, "nothing was ordered"
        assert {
            one.entry.key
            for one in await store.latest(prefix="", after=None, limit=9)
            if one.pinned
        } == {"m0", "m1"}
        assert (await store.remove(Selection(mount="m"))).objects == 2


async def test_a_mount_pins_what_it_had_before_and_frees_it_again_but_for_orders(
    tmp_path: Path,
) -> None:
    async def fill(store: DiskStore) -> set[str]:
        for number in range(3):
            await put_blocks(store, f"k{number}", 10)
        return await kept(store)

    clock = Clock()
    async with opened(tmp_path, limit=30 * BLOCK, clock=clock) as store:
        await put_blocks(store, "free", 10, "m")
        await put_blocks(store, "ordered", 10, "m")
        await store.pin(Selection(key="ordered"))
    async with opened(tmp_path, limit=30 * BLOCK, clock=clock, pinned_mounts=("m",)) as store:
        assert await fill(store) == {"free", "ordered", "k2"}
        await put_blocks(store, "free", 10, "m")  # what replaces it is pinned by no order
    async with opened(tmp_path, limit=30 * BLOCK, clock=clock) as store:
        left = await fill(store)
        assert ("ordered" in left, "free" in left) == (True, False)


async def test_a_pinned_entry_can_be_purged(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put_blocks(store, "pinned", 1)
        await store.pin(Selection(key="pinned"))
        assert (await store.remove(Selection(key="pinned"))).objects == 1
        assert await kept(store) == set()


# Ranks


async def test_gdsf_lets_a_scan_pass_by(tmp_path: Path) -> None:
    async with opened(tmp_path, limit=100 * BLOCK, eviction=Eviction.GDSF) as store:
        wanted = [await put_blocks(store, f"wanted{number}", 5) for number in range(5)]
        for _ in range(3):
            for entry in wanted:
                store.touch(entry)
        for number in range(40):
            await put_blocks(store, f"scan{number}", 5)
        assert {entry.key for entry in wanted} <= await kept(store)
        assert disk_bytes(tmp_path) <= 100 * BLOCK


async def test_gdsf_forgets_what_was_wanted_long_ago(tmp_path: Path) -> None:
    async with opened(tmp_path, limit=100 * BLOCK, eviction=Eviction.GDSF) as store:
        old = await put_blocks(store, "old", 5)
        for _ in range(5):
            store.touch(old)
        for number in range(200):
            await put_blocks(store, f"scan{number}", 5)
        assert "old" not in await kept(store)


async def test_gdsf_keeps_the_small_before_the_large(tmp_path: Path) -> None:
    async with opened(tmp_path, limit=100 * BLOCK, eviction=Eviction.GDSF) as store:
        await put_blocks(store, "small", 2)
        await put_blocks(store, "large", 80)
        await put_blocks(store, "next", 30)
        assert await kept(store) == {"small", "next"}


async def test_another_policy_ranks_what_is_there_anew(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as store:
        often = await put_blocks(store, "often", 10)
        await put_blocks(store, "late", 10)
        for _ in range(3):
            store.touch(often)
        await put_blocks(store, "latest", 10)
    gdsf, lru = Eviction.GDSF, Eviction.LRU
    async with opened(tmp_path, limit=30 * BLOCK, eviction=gdsf, clock=clock) as store:
        await put_blocks(store, "new", 20)
        assert await kept(store) == {"often", "new"}
    async with opened(tmp_path, limit=30 * BLOCK, eviction=lru, clock=clock) as store:
        await put_blocks(store, "newer", 10)
        assert await kept(store) == {"new", "newer"}


# Whole mounts


async def test_a_purged_mount_is_gone_at_once_and_its_disk_soon(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in range(600):
            await put_blocks(store, f"m{number}", 1, "m")
        await put_blocks(store, "other", 1)
        assert await store.find("m5") != ()
        removed = await store.remove(Selection(mount="m"))
        assert removed == Removed(600, 600 * BLOCK)
        # The files are deleted behind: nobody finds one of them meanwhile.
        assert await store.find("m5") == ()
        assert await kept(store) == {"other"}
        fresh = await put_blocks(store, "m5", 2, "m")
        await store.settle()
        assert await store.find("m5") == (fresh,)
        assert disk_bytes(tmp_path) == 3 * BLOCK
        usage = await store.usage()
        assert (usage.objects, usage.size_bytes) == (2, 3 * BLOCK)
        assert await store.remove(Selection(mount="m"), dry_run=True) == Removed(1, 2 * BLOCK)


async def test_a_purge_that_a_crash_cut_short_goes_on_at_the_next_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in range(5):
            await put_blocks(store, f"m{number}", 1, "m")
        index = store._engine.index

        def job() -> None:
            with index.transaction():
                index.mounts.end_epoch("m")

        await store._engine.in_index(job)
    assert len(blob_files(tmp_path)) == 5
    async with opened(tmp_path) as store:
        assert await store.find("m0") == ()
        await store.settle()
        assert blob_files(tmp_path) == {}
        assert (await store.usage()).objects == 0


async def test_the_purged_make_way_before_the_living(tmp_path: Path) -> None:
    async with opened(tmp_path, limit=30 * BLOCK) as store:
        await put_blocks(store, "oldest", 10)
        await put_blocks(store, "m", 20, "m")
        index = store._engine.index

        def purge_and_make_room() -> set[str]:
            with index.transaction():
                index.mounts.end_epoch("m")
                return {row.key for row in store._engine.room.make(15 * BLOCK, "url")}

        assert await store._engine.in_index(purge_and_make_room) == {"m"}


async def test_a_purge_of_its_mount_ends_a_draft(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        entry = new_entry("m", length=2 * BLOCK, mount="m")
        draft = await store.begin(entry, 2 * BLOCK)
        await draft.write(0, [pattern(BLOCK)])
        assert await draft.checkpoint((Interval(0, BLOCK),))
        assert await store.remove(Selection(mount="m")) == Removed(1, BLOCK)
        await draft.write(BLOCK, [pattern(BLOCK)])
        assert not await draft.commit(completed(entry, 2 * BLOCK))
        await draft.close()
        await store.settle()
        assert await store.find("m") == ()
        assert (await store.usage()).size_bytes == disk_bytes(tmp_path) == 0


async def test_counts_of_mounts_equal_their_rows_whatever_happens(tmp_path: Path) -> None:
    choice = random.Random(5)
    async with opened(tmp_path, limit=60 * BLOCK, quotas={"m": 20 * BLOCK}) as store:
        for _ in range(120):
            mount = choice.choice(["m", "n", "url"])
            try:
                await put_blocks(store, f"k{choice.randrange(20)}", choice.randrange(1, 12), mount)
            except StoreFull:
                pytest.fail("there is always something to evict")
            if choice.random() < 0.1:
                await store.remove(Selection(mount=choice.choice(["m", "n"])))
            if choice.random() < 0.1:
                await store.remove(Selection(key=f"k{choice.randrange(20)}"))
            counted = await store._engine.from_index(store._engine.index.mounts.all)
            listed = [one async for one in store.list()]
            for name, totals in counted.items():
                mine = [one.size_bytes for one in listed if one.entry.mount == name]
                assert totals == (len(mine), sum(mine))
            assert counted.get("m", (0, 0))[1] <= 20 * BLOCK
        await store.settle()
        assert len(await asyncio.to_thread(blob_files, tmp_path)) == len(listed)


async def test_a_full_store_writes_only_when_what_made_way_is_off_the_disk(tmp_path: Path) -> None:
    async with opened(tmp_path, limit=20 * BLOCK) as store:
        old = await put_blocks(store, "old", 16)
        disk_is_slow = threading.Event()
        store._engine._threads.unlinks.submit(disk_is_slow.wait)
        try:
            beginning = asyncio.create_task(
                store.begin(new_entry("new", length=16 * BLOCK), 16 * BLOCK)
            )
            await asyncio.wait([beginning], timeout=0.1)
            assert old.entry_id in blob_files(tmp_path)
            assert not beginning.done()
        finally:
            disk_is_slow.set()
        draft = await beginning
        assert old.entry_id not in blob_files(tmp_path)
        await draft.close()


async def test_a_store_with_room_to_spare_waits_for_no_unlinking(tmp_path: Path) -> None:
    async with opened(tmp_path, limit=40 * BLOCK) as store:
        old = await put_blocks(store, "old", 16)
        disk_is_slow = threading.Event()
        store._engine._threads.unlinks.submit(disk_is_slow.wait)
        try:
            await store.remove(Selection(key="old"))
            draft = await store.begin(new_entry("new", length=16 * BLOCK), 16 * BLOCK)
            assert old.entry_id in blob_files(tmp_path)
            await draft.close()
        finally:
            disk_is_slow.set()
