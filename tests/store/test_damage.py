"""Bit rot: found before it is served, discarded block by block, and fetched again."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from forebay.errors import EntryDamaged, StoreError
from forebay.model import Entry, Interval
from forebay.ports import Selection
from forebay.store.checks import Verify
from forebay.store.disk import DiskStore
from forebay.store.sums import BLOCK_BYTES, sum_of
from tests.store.support import blob_files, completed, new_entry, pattern, put, read

M = BLOCK_BYTES
LENGTH = 3 * M + 1000
BODY = pattern(LENGTH)


@asynccontextmanager
async def opened(
    directory: Path, verify: Verify = Verify.FIRST_USE, rate: float | None = None
) -> AsyncIterator[DiskStore]:
    store = DiskStore(
        directory,
        max_size_bytes=None,
        min_free_bytes=0,
        verify=verify,
    )
    store.scrub_rate_bytes_per_second = rate
    await store.open()
    try:
        await store.swept()
        yield store
    finally:
        await store.close()


async def stored(directory: Path) -> Entry:
    """A complete object, as an earlier run of the service has left it."""
    async with opened(directory) as store:
        return await put(store, BODY, key="aa")


async def stored_partly(directory: Path, *runs: tuple[int, int]) -> Entry:
    async with opened(directory) as store:
        draft = await store.begin(new_entry(length=LENGTH), LENGTH)
        coverage = tuple(Interval(*run) for run in runs)
        for start, stop in coverage:
            await draft.write(start, [BODY[start:stop]])
        await draft.checkpoint(coverage)
        await draft.close()
        return draft.entry


def rot(directory: Path, entry: Entry, position: int) -> None:
    """Flip one bit, as a disk does: neither length nor times tell."""
    path = directory / "blobs" / entry.entry_id[:2] / entry.entry_id
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x10]))


def whole(entry: Entry) -> Interval:
    return Interval(0, entry.length_bytes or 0)


# When it is looked for


async def test_what_was_just_written_needs_no_look(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        entry = await put(store, BODY)
        assert not store.needs_verification(entry)
        assert await store.verify(entry, whole(entry)) is entry


async def test_after_a_start_the_first_use_looks_and_the_second_does_not(tmp_path: Path) -> None:
    await stored(tmp_path)
    async with opened(tmp_path) as store:
        (entry,) = await store.find("aa")
        assert store.needs_verification(entry)
        assert await store.verify(entry, Interval(0, 5)) is entry
        assert store.needs_verification(entry)
        assert (await store.usage()).verified_bytes == M
        assert await store.verify(entry, whole(entry)) is entry
        assert not store.needs_verification(entry)
        assert (await store.usage()).verified_bytes == LENGTH


async def test_always_looks_again_and_never_looks_at_nothing(tmp_path: Path) -> None:
    entry = await stored(tmp_path)
    async with opened(tmp_path, Verify.ALWAYS) as store:
        for _ in range(3):
            assert store.needs_verification(entry)
            assert await store.verify(entry, whole(entry)) is entry
        assert (await store.usage()).verified_bytes == 3 * LENGTH
    rot(tmp_path, entry, 5)
    async with opened(tmp_path, Verify.NEVER) as store:
        assert not store.needs_verification(entry)
        assert await store.verify(entry, whole(entry)) is entry
        assert (await store.usage()).verified_bytes == 0


async def test_many_who_ask_at_once_wait_for_one_look(tmp_path: Path) -> None:
    entry = await stored(tmp_path)
    async with opened(tmp_path) as store:
        found = await asyncio.gather(*(store.verify(entry, whole(entry)) for _ in range(20)))
        assert all(one is entry for one in found)
        assert (await store.usage()).verified_bytes == LENGTH


# What is done about it


@pytest.mark.parametrize("block", range(4))
async def test_one_flipped_bit_costs_one_block(tmp_path: Path, block: int) -> None:
    entry = await stored(tmp_path)
    rot(tmp_path, entry, block * M + 500)
    async with opened(tmp_path) as store:
        reader = store.open_reader(entry)
        left = await store.verify(entry, whole(entry))
        assert not left.complete
        assert left.coverage == tuple(
            Interval(*run)
            for run in ((0, block * M), (min(LENGTH, (block + 1) * M), LENGTH))
            if run[0] < run[1]
        )
        assert await store.find("aa") == (left,)
        assert (await store.usage()).damaged_blocks == 1
        draft = await store.resume(left)
        stop = min(LENGTH, (block + 1) * M)
        await draft.write(block * M, [BODY[block * M : stop]])
        assert await draft.commit(completed(left, LENGTH))
        await draft.close()
        assert read(reader) == BODY
    async with opened(tmp_path) as store:
        (mended,) = await store.find("aa")
        assert await store.verify(mended, whole(mended)) is mended
        assert read(store.open_reader(mended)) == BODY


async def test_a_part_that_is_sound_is_served_while_another_is_not(tmp_path: Path) -> None:
    entry = await stored(tmp_path)
    rot(tmp_path, entry, 2 * M + 1)
    async with opened(tmp_path) as store:
        assert await store.verify(entry, Interval(0, M)) is entry
        left = await store.verify(entry, Interval(2 * M, 2 * M + 1))
        assert left.coverage == ((0, 2 * M), (3 * M, LENGTH))
        assert await store.verify(left, Interval(0, M)) is left


@pytest.mark.parametrize("position", [M - 100, M + 5, 2 * M + 50])
async def test_the_ragged_ends_of_a_partial_entry_are_looked_at(
    tmp_path: Path, position: int
) -> None:
    entry = await stored_partly(tmp_path, (M - 200, 2 * M + 100))
    rot(tmp_path, entry, position)
    async with opened(tmp_path) as store:
        left = await store.verify(entry, Interval(position, position + 1))
        assert not any(start <= position < stop for start, stop in left.coverage)
        assert sum(run.length_bytes for run in left.coverage) >= 300


async def test_bytes_that_nobody_has_claimed_may_be_anything(tmp_path: Path) -> None:
    entry = await stored_partly(tmp_path, (0, M), (2 * M, 3 * M))
    rot(tmp_path, entry, M + 500)
    async with opened(tmp_path) as store:
        assert await store.verify(entry, whole(entry)) is entry


async def test_what_is_resumed_has_been_looked_at(tmp_path: Path) -> None:
    entry = await stored_partly(tmp_path, (0, M + 10), (2 * M, 3 * M))
    rot(tmp_path, entry, 2 * M + 9)
    async with opened(tmp_path) as store:
        draft = await store.resume(entry)
        assert draft.entry.coverage == ((0, M + 10),)
        await draft.write(M + 10, [BODY[M + 10 :]])
        assert await draft.commit(completed(entry, LENGTH))
        await draft.close()
    async with opened(tmp_path) as store:
        (mended,) = await store.find("aa")
        assert await store.verify(mended, whole(mended)) is mended


async def test_an_entry_without_a_sound_block_is_forgotten(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        entry = await put(store, b"small", key="aa")
    rot(tmp_path, entry, 2)
    async with opened(tmp_path) as store:
        with pytest.raises(EntryDamaged):
            await store.verify(entry, whole(entry))
        await store.settle()
        assert await store.find("aa") == ()
        assert blob_files(tmp_path) == {}


async def test_a_file_that_is_gone_is_damage_too(tmp_path: Path) -> None:
    entry = await stored(tmp_path)
    async with opened(tmp_path) as store:
        (tmp_path / "blobs" / entry.entry_id[:2] / entry.entry_id).unlink()
        with pytest.raises(EntryDamaged):
            await store.verify(entry, whole(entry))
        assert await store.find("aa") == ()


async def test_a_purge_while_it_is_looked_at_is_not_undone(tmp_path: Path) -> None:
    entry = await stored(tmp_path)
    rot(tmp_path, entry, 0)
    async with opened(tmp_path) as store:
        await store.remove(Selection(key="aa"))
        with pytest.raises(EntryDamaged):
            await store.verify(entry, whole(entry))
        assert await store.find("aa") == ()


@pytest.mark.parametrize("code", [errno.EIO, errno.EBADMSG])
async def test_a_sector_that_cannot_be_read_is_a_damaged_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    entry = await stored(tmp_path)

    def reading(fileno: int, block: Interval) -> int | None:
        if block.start == M:
            raise OSError(code, os.strerror(code))
        return sum_of(fileno, block)

    monkeypatch.setattr("forebay.store.checks.sum_of", reading)
    async with opened(tmp_path) as store:
        left = await store.verify(entry, whole(entry))
        assert left.coverage == ((0, M), (2 * M, LENGTH))
        assert (await store.usage()).healthy


async def test_damage_in_what_is_being_written_is_left_to_who_writes(tmp_path: Path) -> None:
    entry = await stored_partly(tmp_path, (0, 2 * M))
    async with opened(tmp_path) as store:
        draft = await store.resume(entry)
        rot(tmp_path, entry, 5)
        assert await store.verify(draft.entry, Interval(0, 1)) is draft.entry
        store._checker.known.drop(entry.entry_id)
        with pytest.raises(StoreError, match="is writing this entry"):
            await store.verify(draft.entry, Interval(0, 1))
        await draft.close()


# The scrub


async def test_a_scrub_finds_what_nobody_has_asked_for(tmp_path: Path) -> None:
    entry = await stored(tmp_path)
    async with opened(tmp_path) as store:
        await put(store, b"sound", key="bb")
        small = await put(store, b"small", key="cc")
        rot(tmp_path, entry, 2 * M + 1)
        rot(tmp_path, small, 1)
        done = await store.scrub()
        assert (done.objects, done.read_bytes, done.finished) == (3, LENGTH + 5, True)
        assert (done.damaged_blocks, done.damaged_objects, done.summed_blocks) == (2, 2, 0)
        (left,) = await store.find("aa")
        assert left.coverage == ((0, 2 * M), (3 * M, LENGTH))
        assert await store.find("cc") == ()
        assert (await store.scrub()).damaged_blocks == 0


async def test_a_scrub_finds_rot_after_the_first_use(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        entry = await put(store, BODY)
        rot(tmp_path, entry, 7)
        assert not store.needs_verification(entry)
        assert (await store.scrub()).damaged_blocks == 1
        (left,) = await store.find("aa")
        assert left.coverage == ((M, LENGTH),)


async def test_a_scrub_leaves_drafts_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        draft = await store.begin(new_entry(length=LENGTH), LENGTH)
        await draft.write(0, [BODY[:M]])
        await draft.checkpoint((Interval(0, M),))
        done = await store.scrub()
        assert (done.objects, done.skipped_objects, done.finished) == (0, 1, True)
        await draft.close()


async def test_a_scrub_sums_what_an_older_format_has_left_without(tmp_path: Path) -> None:
    entry = await stored(tmp_path)
    with closing(sqlite3.connect(tmp_path / "index" / "cache.db", isolation_level=None)) as index:
        index.execute("DELETE FROM Forebay_sums")
    async with opened(tmp_path) as store:
        assert await store.verify(entry, whole(entry)) is entry
        assert (await store.scrub()).summed_blocks == 4
        rot(tmp_path, entry, 7)
        assert (await store.scrub()).damaged_blocks == 1


async def test_a_scrub_keeps_its_rate_and_ends_when_the_store_does(tmp_path: Path) -> None:
    async with opened(tmp_path, rate=1.0) as store:
        for number in range(3):
            await put(store, BODY, key=f"k{number}")
        scrubbing = asyncio.create_task(store.scrub())
        while store.scrubbed is None or not store.scrubbed.read_bytes:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    done = await scrubbing
    assert not done.finished
    assert done.read_bytes == LENGTH


async def test_sums_go_with_their_entry(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, BODY)
        await put(store, BODY, key="bb")
        await store.remove(Selection(everything=True))
        await store.settle()
    with closing(sqlite3.connect(tmp_path / "index" / "cache.db")) as index:
        assert index.execute("SELECT count(*) FROM Forebay_sums").fetchone() == (0,)
