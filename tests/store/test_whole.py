"""Small entries that are stored many at a time: room, trouble, and the thread that does it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from forebay.errors import StoreError, StoreFull
from forebay.model import Entry, Interval
from forebay.ports import Selection
from forebay.store.disk import DiskStore
from forebay.store.threads import Worker
from forebay.store.whole import MOST_AT_ONCE, MOST_WAITING_BYTES
from tests.store.support import BLOCK, blob_files, completed, disk_bytes, new_entry, pattern, put
from tests.store.test_room import kept, opened


def whole(key: str, length: int = BLOCK, mount: str = "url") -> Entry:
    return completed(new_entry(key, length=length, mount=mount), length)


async def put_all(store: DiskStore, keys: list[str], mount: str = "url") -> list[bool]:
    putting = [store.put(whole(key, mount=mount), pattern(BLOCK)) for key in keys]
    return await asyncio.gather(*putting)


async def test_many_at_once_are_all_stored_and_their_sums_hold_after_a_start(
    tmp_path: Path,
) -> None:
    keys = [f"k{number}" for number in range(2 * MOST_AT_ONCE + 3)]
    async with opened(tmp_path) as store:
        assert await put_all(store, keys) == [True] * len(keys)
    async with opened(tmp_path) as store:
        assert await kept(store) == set(keys)
        for key in keys:
            (entry,) = await store.find(key)
            assert store.needs_verification(entry)
            assert await store.verify(entry, Interval(0, BLOCK)) is entry
        assert (await store.usage()).verified_bytes == len(keys) * BLOCK


async def test_one_that_rots_is_found_by_its_sum(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put_all(store, ["a"])
    (blob,) = [tmp_path / "blobs" / name[:2] / name for name in blob_files(tmp_path)]
    blob.write_bytes(b"rot" + pattern(BLOCK)[3:])
    async with opened(tmp_path) as store:
        (entry,) = await store.find("a")
        with pytest.raises(StoreError):
            await store.verify(entry, Interval(0, BLOCK))
        assert await kept(store) == set()


async def test_a_store_that_closes_stores_what_it_has_taken(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in range(5):
            store.put(whole(f"k{number}"), pattern(BLOCK))
    async with opened(tmp_path) as store:
        assert len(await kept(store)) == 5


async def test_whoever_waits_may_leave(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        waiting = asyncio.ensure_future(put_all(store, ["a"]))
        await asyncio.sleep(0)
        waiting.cancel()
        assert [one.key for one in await store.find("a")] == ["a"]


# Room


async def test_a_full_cache_lets_the_least_used_go_and_never_takes_more(tmp_path: Path) -> None:
    async with opened(tmp_path, limit=10 * BLOCK) as store:
        for number in range(30):
            await put_all(store, [f"k{number}"])
        await store.settle()
        assert await kept(store) == {f"k{number}" for number in range(20, 30)}
        assert disk_bytes(tmp_path) == (await store.usage()).size_bytes == 10 * BLOCK
        assert (await store.usage()).evicted_objects == 20


async def test_a_mount_at_its_quota_lets_its_own_go(tmp_path: Path) -> None:
    async with opened(tmp_path, quotas={"m": 3 * BLOCK}) as store:
        await put_all(store, ["other"])
        for number in range(6):
            await put_all(store, [f"m{number}"], "m")
        assert await kept(store) == {"other", "m3", "m4", "m5"}


async def test_without_room_nothing_is_left_behind_and_drafts_are_asked_next(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, limit=2 * BLOCK) as store:
        await put(store, pattern(2 * BLOCK), new_entry("pinned", length=2 * BLOCK))
        await store.pin(Selection(key="pinned"))
        with pytest.raises(StoreFull):
            await store.put(whole("a"), pattern(BLOCK))
        assert await kept(store) == {"pinned"}
        assert len(blob_files(tmp_path)) == 1
        assert not store.takes("url", BLOCK)
        with pytest.raises(StoreFull):
            await store.begin(new_entry("a", length=BLOCK), BLOCK)
        assert not store.takes("url", BLOCK)
        await store.pin(Selection(key="pinned"), pinned=False)
        await put(store, pattern(BLOCK), new_entry("a", length=BLOCK))
        assert store.takes("url", BLOCK)


async def test_of_a_batch_for_which_there_is_no_room_some_stay(tmp_path: Path) -> None:
    async with opened(tmp_path, limit=4 * BLOCK) as store:
        await put(store, pattern(2 * BLOCK), new_entry("pinned", length=2 * BLOCK))
        await store.pin(Selection(key="pinned"))
        putting = [store.put(whole(f"k{n}"), pattern(BLOCK)) for n in range(6)]
        await asyncio.gather(*putting, return_exceptions=True)
        await store.settle()
        usage = await store.usage()
        assert usage.size_bytes == disk_bytes(tmp_path) <= 4 * BLOCK
        assert {one.key for n in range(6) for one in await store.find(f"k{n}")} == (
            await kept(store) - {"pinned"}
        )


@pytest.mark.parametrize("settings", [{"limit": BLOCK}, {"quotas": {"url": BLOCK}}])
async def test_what_can_never_fit_is_not_taken(tmp_path: Path, settings: dict[str, object]) -> None:
    async with opened(tmp_path, **settings) as store:  # type: ignore[arg-type]
        assert store.takes("url", BLOCK)
        assert not store.takes("url", BLOCK + 1)


async def test_what_waits_in_memory_has_a_bound(tmp_path: Path) -> None:
    size_bytes = 64 * 1024
    async with opened(tmp_path) as store:
        taken = 0
        while store.takes("url", size_bytes):
            store.put(whole(f"k{taken}", size_bytes), bytes(size_bytes))
            taken += 1
        assert taken == MOST_WAITING_BYTES // size_bytes


# Trouble


async def test_one_that_cannot_be_written_is_no_trouble_of_the_others(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        odd = whole("odd")
        (tmp_path / "blobs" / odd.entry_id[:2] / odd.entry_id).mkdir()
        putting = [store.put(one, pattern(BLOCK)) for one in (whole("a"), odd, whole("b"))]
        found = await asyncio.gather(*putting, return_exceptions=True)
        assert (found[0], found[2]) == (True, True)
        assert isinstance(found[1], StoreError)
        assert await kept(store) == {"a", "b"}
        assert not store.takes("url", 1), "a disk in trouble is asked by drafts"


async def test_what_the_index_refuses_leaves_no_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put_all(store, ["a"])
        (first,) = await store.find("a")
        again = whole("b")
        object.__setattr__(again, "entry_id", first.entry_id)
        with pytest.raises(StoreError):
            await store.put(again, pattern(BLOCK))
        assert await kept(store) == {"a"}


async def test_a_directory_that_was_deleted_begins_anew(tmp_path: Path) -> None:
    async with opened(tmp_path / "cache") as store:
        for path in sorted((tmp_path / "cache").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (tmp_path / "cache").rmdir()
        await put_all(store, ["a"])
        assert await kept(store) == {"a"}


# The thread


async def test_jobs_run_in_one_thread_in_order_and_tell_what_they_give() -> None:
    worker = Worker("test")
    seen: list[int] = []

    def job(number: int) -> tuple[int, str]:
        seen.append(number)
        if number == 3:
            raise KeyError(number)
        return number, threading.current_thread().name

    outcomes = [worker.submit(lambda number=number: job(number)) for number in range(50)]  # type: ignore[misc]
    found = await asyncio.gather(*outcomes, return_exceptions=True)
    assert isinstance(found.pop(3), KeyError)
    assert found == [(number, "test") for number in range(50) if number != 3]
    assert seen == list(range(50))
    worker.stop()


async def test_a_job_that_is_cancelled_before_it_begins_is_left_out() -> None:
    worker, go, seen = Worker("test"), threading.Event(), list[str]()
    first = worker.submit(lambda: go.wait(20))
    second = worker.submit(lambda: seen.append("second"))
    third = worker.submit(lambda: seen.append("third"))
    second.cancel()
    go.set()
    assert await first
    await third
    assert seen == ["third"]
    worker.stop()


async def test_outcomes_of_many_loops_of_submitting_are_none_of_them_lost() -> None:
    worker = Worker("test")
    for _ in range(200):
        assert await asyncio.gather(*(worker.submit(lambda: 1) for _ in range(3))) == [1, 1, 1]
    worker.stop()
    worker.stop()
