"""What every store promises (``ports.Store`` and ``ports.Draft``): disk and memory alike."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from forebay.errors import EntryDamaged, StoreError, StoreFull
from forebay.model import Fields, Head, Identity, Interval
from forebay.ports import Removed, Selection, Store
from forebay.store.disk import DiskStore
from tests.fakes.store import MemoryStore
from tests.store.support import BLOCK, cached, completed, new_entry, pattern, put, read

AnyStore: TypeAlias = DiskStore | MemoryStore


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture(params=["disk", "memory", "shared disk"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyStore]:
    made: AnyStore
    if request.param == "memory":
        made = MemoryStore(max_size_bytes=100 * BLOCK, clock=Clock())
    else:
        made = DiskStore(
            tmp_path,
            max_size_bytes=100 * BLOCK,
            min_free_bytes=0,
            shared=request.param == "shared disk",
            clock=Clock(),
        )
    await made.open()
    yield made
    await made.close()


def as_port(store: AnyStore) -> Store:
    """Checked by mypy: both are stores."""
    return store


# Look-ups and complete entries


async def test_an_unknown_key_finds_nothing(store: AnyStore) -> None:
    assert await store.find("nothing") == ()
    assert store.find_cached("nothing") is None


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 5])
async def test_what_was_committed_is_found_and_read(store: AnyStore, length: int) -> None:
    body = pattern(length)
    entry = new_entry(length=length, tags=("t",), vary=(("accept", "a"),))
    entry = replace(entry, digests=(("sha-256", "00"),), stored_time=5.0)
    await put(as_port(store), body, entry)
    assert await store.find("aa") == (completed(entry, length),)
    assert await cached(store, "aa") == (completed(entry, length),)
    assert read(store.open_reader(completed(entry, length))) == body


# What is put whole


@pytest.mark.parametrize("length", [0, 1, BLOCK, 64 * 1024])
async def test_what_was_put_is_found_and_read(store: AnyStore, length: int) -> None:
    body, entry = pattern(length), completed(new_entry(length=length, tags=("t",)), length)
    entry = replace(entry, digests=(("sha-256", "00"),), stored_time=5.0)
    if isinstance(store, MemoryStore) or store.neighbours is None:
        assert store.takes("url", length)
    assert await store.put(entry, body)
    assert await store.find("aa") == (entry,)
    assert read(store.open_reader(entry)) == body
    assert not store.needs_verification(entry)
    assert (await store.usage()).objects == 1


async def test_what_is_too_long_is_not_taken(store: AnyStore) -> None:
    assert not store.takes("url", 64 * 1024 + 1)


async def test_what_is_put_takes_the_place_of_what_was_there_at_once(store: AnyStore) -> None:
    await put(as_port(store), b"older")
    await store.find("aa")
    entry = completed(new_entry(length=5), 5)
    putting = store.put(entry, b"newer")
    assert [one.entry_id for one in store.find_cached("aa") or (entry,)] == [entry.entry_id]
    assert [one.entry_id for one in await store.find("aa")] == [entry.entry_id]
    assert await putting
    await store.settle()
    assert (await store.usage()).objects == 1


async def test_of_two_that_are_put_the_later_stays_and_of_put_and_begun_too(
    store: AnyStore,
) -> None:
    entries = [completed(new_entry(length=3), 3) for _ in range(3)]
    for entry in entries:
        store.put(entry, b"abc")
    assert [one.entry_id for one in await store.find("aa")] == [entries[-1].entry_id]
    store.put(completed(new_entry(length=3), 3), b"abc")
    begun = await put(as_port(store), b"begun")
    assert [one.entry_id for one in await store.find("aa")] == [begun.entry_id]


@pytest.mark.parametrize(
    "selection",
    [Selection(key="aa"), Selection(tag="t"), Selection(mount="url"), Selection(everything=True)],
)
async def test_a_purge_takes_what_is_being_put(store: AnyStore, selection: Selection) -> None:
    store.put(completed(new_entry(length=3, tags=("t",)), 3), b"abc")
    assert (await store.remove(selection)).objects == 1
    assert await store.find("aa") == ()


async def test_what_is_being_put_can_be_forgotten_renewed_and_listed(store: AnyStore) -> None:
    first = completed(new_entry(length=3), 3)
    store.put(first, b"abc")
    assert await store.refresh(replace(first, response_time=2000.0))
    assert [one.response_time for one in await store.find("aa")] == [2000.0]
    other = completed(new_entry("bb", length=3), 3)
    store.put(other, b"abc")
    assert {one.entry.key async for one in store.list()} == {"aa", "bb"}
    store.put(completed(new_entry("cc", length=3), 3), b"abc")
    assert len(await store.latest(prefix="", after=None, limit=9)) == 3
    await store.forget(other.entry_id, "bb")
    assert await store.find("bb") == ()


@pytest.mark.parametrize("complete", [True, False])
async def test_only_what_is_complete_and_as_long_as_it_says_is_put(
    store: AnyStore, complete: bool
) -> None:
    entry = new_entry(length=3)
    with pytest.raises(ValueError, match="complete"):
        store.put(completed(entry, 3) if complete else entry, b"ab" if complete else b"abc")


async def test_names_of_new_entries_never_come_twice(store: AnyStore) -> None:
    names = {store.new_id() for _ in range(1000)}
    assert len(names) == 1000
    assert await store.put(replace(completed(new_entry(length=1), 1), entry_id=names.pop()), b"x")


async def test_a_body_of_unknown_length_gets_the_length_it_has(store: AnyStore) -> None:
    entry = new_entry(length=None)
    draft = await store.begin(entry)
    await draft.write(0, [b"abc", b"", b"def"])
    assert await draft.commit(replace(entry, complete=True))
    await draft.close()
    (found,) = await store.find("aa")
    assert found.complete
    assert found.length_bytes == 6
    assert found.coverage == ((0, 6),)


async def test_variants_are_found_newest_first_and_live_side_by_side(store: AnyStore) -> None:
    for number in (2, 3, 1):
        entry = new_entry(length=1, vary=(("accept", str(number)),), response_time=1000.0 + number)
        await put(as_port(store), b"x", entry)
    found = await store.find("aa")
    assert [entry.vary[0][1] for entry in found] == ["3", "2", "1"]


async def test_a_new_variant_is_found_beside_those_that_were_looked_up(store: AnyStore) -> None:
    first = await put(as_port(store), b"1", new_entry(length=1, vary=(("accept", "1"),)))
    assert await store.find("aa") == (first,)
    other = new_entry(length=1, vary=(("accept", "2"),), response_time=2000.0)
    draft = await store.begin(other, 1)
    assert [e.entry_id for e in await store.find("aa")] == [other.entry_id, first.entry_id]
    await draft.close()


async def test_keys_that_begin_alike_are_kept_apart(store: AnyStore) -> None:
    for key in ("a", "ab", "a0"):
        await put(as_port(store), key.encode(), key=key)
    for key in ("a", "ab", "a0"):
        (found,) = await store.find(key)
        assert read(store.open_reader(found)) == key.encode()


# Drafts


async def test_a_draft_is_found_before_its_first_byte(store: AnyStore) -> None:
    entry = new_entry(length=3)
    draft = await store.begin(entry, 3)
    (found,) = await store.find("aa")
    assert (found.entry_id, found.complete, found.coverage) == (entry.entry_id, False, ())
    await draft.close()


async def test_a_written_byte_is_read_at_once_by_every_descriptor(store: AnyStore) -> None:
    draft = await store.begin(new_entry(length=10), 10)
    before = draft.open_reader()
    await draft.write(4, [b"ab", b"cd"])
    after = draft.open_reader()
    assert read(before) == read(after) == b"\0\0\0\0abcd"
    await draft.close()


async def test_writes_of_different_places_may_overlap_in_time(store: AnyStore) -> None:
    body = pattern(20 * BLOCK)
    entry = new_entry(length=len(body))
    draft = await store.begin(entry, len(body))
    places = range(0, len(body), BLOCK)
    await asyncio.gather(*(draft.write(at, [body[at : at + BLOCK]]) for at in places))
    assert await draft.commit(completed(entry, len(body)))
    assert read(draft.open_reader()) == body
    await draft.close()


async def test_many_small_pieces_are_written_in_order(store: AnyStore) -> None:
    body = pattern(5000)
    draft = await store.begin(new_entry(length=5000), 5000)
    await draft.write(0, [body[at : at + 1] for at in range(5000)])
    assert read(draft.open_reader()) == body
    await draft.close()


async def test_only_a_checkpoint_makes_the_index_claim_bytes(store: AnyStore) -> None:
    entry = new_entry(length=10)
    draft = await store.begin(entry, 10)
    await draft.write(0, [b"abcd"])
    assert (await store.find("aa"))[0].coverage == ()
    assert await draft.checkpoint((Interval(0, 4),))
    (found,) = await store.find("aa")
    assert found.coverage == ((0, 4),)
    assert not found.complete
    assert draft.entry == found
    await draft.close()


async def test_what_the_last_checkpoint_claims_stays_after_close(store: AnyStore) -> None:
    draft = await store.begin(new_entry(length=10), 10)
    await draft.write(0, [b"abcd"])
    await draft.checkpoint((Interval(0, 4),))
    await draft.write(4, [b"ef"])
    await draft.close()
    await draft.close()
    (found,) = await store.find("aa")
    assert found.coverage == ((0, 4),)
    assert read(store.open_reader(found), 4) == b"abcd"


async def test_a_closed_draft_with_nothing_covered_leaves_nothing(store: AnyStore) -> None:
    draft = await store.begin(new_entry(length=10), 10)
    await draft.write(0, [b"abcd"])
    await draft.close()
    assert await store.find("aa") == ()
    assert (await store.usage()).objects == 0


async def test_a_closed_draft_of_unknown_length_leaves_nothing(store: AnyStore) -> None:
    draft = await store.begin(new_entry(length=None))
    await draft.write(0, [b"abcd"])
    await draft.checkpoint((Interval(0, 4),))
    await draft.close()
    assert await store.find("aa") == ()


async def test_a_closed_draft_refuses_work(store: AnyStore) -> None:
    entry = new_entry(length=1)
    draft = await store.begin(entry, 1)
    await draft.close()
    with pytest.raises(StoreError):
        await draft.write(0, [b"x"])
    with pytest.raises(StoreError):
        await draft.checkpoint(())
    with pytest.raises(StoreError):
        await draft.commit(completed(entry, 1))
    with pytest.raises(StoreError):
        draft.open_reader()


async def test_a_partial_entry_is_resumed_and_completed(store: AnyStore) -> None:
    entry = new_entry(length=6)
    draft = await store.begin(entry, 6)
    await draft.write(3, [b"def"])
    await draft.checkpoint((Interval(3, 6),))
    await draft.close()
    (found,) = await store.find("aa")
    draft = await store.resume(found)
    assert draft.entry == found
    await draft.write(0, [b"abc"])
    assert await draft.commit(completed(found, 6))
    await draft.close()
    (found,) = await store.find("aa")
    assert found.complete
    assert read(store.open_reader(found)) == b"abcdef"


async def test_an_entry_has_one_draft_at_a_time(store: AnyStore) -> None:
    draft = await store.begin(new_entry(length=6), 6)
    await draft.write(0, [b"abc"])
    await draft.checkpoint((Interval(0, 3),))
    with pytest.raises(StoreError) as caught:
        await store.resume(draft.entry)
    assert not isinstance(caught.value, EntryDamaged)
    await draft.close()
    resumed = await store.resume(draft.entry)
    await resumed.close()


async def test_what_is_gone_cannot_be_resumed(store: AnyStore) -> None:
    draft = await store.begin(new_entry(length=6), 6)
    await draft.write(0, [b"abc"])
    await draft.checkpoint((Interval(0, 3),))
    await draft.close()
    await store.remove(Selection(key="aa"))
    with pytest.raises(EntryDamaged):
        await store.resume(draft.entry)


async def test_a_commit_of_fewer_bytes_than_declared_is_refused(store: AnyStore) -> None:
    entry = new_entry(length=10)
    draft = await store.begin(entry, 10)
    await draft.write(0, [b"abc"])
    with pytest.raises(EntryDamaged):
        await draft.commit(completed(entry, 10))
    await draft.close()
    assert await store.find("aa") == ()


async def test_a_draft_commits_nothing_but_its_own_complete_entry(store: AnyStore) -> None:
    entry = new_entry(length=0)
    draft = await store.begin(entry, 0)
    with pytest.raises(ValueError, match="own entry"):
        await draft.commit(completed(new_entry(length=0), 0))
    with pytest.raises(ValueError, match="own entry"):
        await draft.commit(entry)
    await draft.close()


async def test_the_committed_head_is_the_final_one(store: AnyStore) -> None:
    entry = new_entry(length=1)
    draft = await store.begin(entry, 1)
    await draft.write(0, [b"x"])
    final = replace(completed(entry, 1), head=Head(200, Fields([("etag", '"v2"')])))
    await draft.commit(final)
    await draft.close()
    assert (await store.find("aa"))[0].head == final.head


# Replacing and purging


async def test_a_new_draft_replaces_the_same_variant_from_the_start(store: AnyStore) -> None:
    old = await put(as_port(store), b"old")
    kept = await put(as_port(store), b"v", new_entry(length=1, vary=(("accept", "x"),)))
    reader = store.open_reader(old)
    fresh = new_entry(length=3)
    draft = await store.begin(fresh, 3)
    assert {e.entry_id for e in await store.find("aa")} == {fresh.entry_id, kept.entry_id}
    assert read(reader) == b"old"
    await draft.close()
    assert [e.entry_id for e in await store.find("aa")] == [kept.entry_id]


async def test_a_replaced_draft_cannot_commit(store: AnyStore) -> None:
    first_entry, second_entry = new_entry(length=1), new_entry(length=1)
    first = await store.begin(first_entry, 1)
    second = await store.begin(second_entry, 1)
    await first.write(0, [b"1"])
    assert not await first.commit(completed(first_entry, 1))
    await second.write(0, [b"2"])
    assert await second.commit(completed(second_entry, 1))
    await first.close()
    await second.close()
    (found,) = await store.find("aa")
    assert read(store.open_reader(found)) == b"2"


async def test_a_purge_during_a_draft_is_not_undone_by_its_end(store: AnyStore) -> None:
    entry = new_entry(length=6)
    draft = await store.begin(entry, 6)
    await draft.write(0, [b"abc"])
    assert await draft.checkpoint((Interval(0, 3),))
    removed = await store.remove(Selection(key="aa"))
    assert removed.entry_ids == (entry.entry_id,)
    assert await store.find("aa") == ()
    await draft.write(3, [b"def"])
    reader = draft.open_reader()
    assert not await draft.checkpoint((Interval(0, 6),))
    assert not await draft.commit(completed(entry, 6))
    await draft.close()
    assert await store.find("aa") == ()
    assert read(reader) == b"abcdef"
    assert (await store.usage()).size_bytes == 0


async def test_a_forgotten_entry_is_gone_and_its_readers_read_on(store: AnyStore) -> None:
    entry = await put(as_port(store), b"body")
    reader = store.open_reader(entry)
    await store.forget(entry.entry_id, entry.key)
    await store.forget(entry.entry_id, entry.key)
    await store.settle()
    assert await store.find("aa") == ()
    assert read(reader) == b"body"
    with pytest.raises(EntryDamaged):
        store.open_reader(entry)


async def fill_for_purge(store: AnyStore) -> dict[str, str]:
    """Five objects; their ids by name."""
    told = {}
    for number, (name, mount, tags) in enumerate(
        [
            ("https://a/x", "url", ("t1",)),
            ("https://a/x/y", "url", ("t1", "t2")),
            ("https://a/xz", "m", ()),
            ("https://b/x", "m", ("t2",)),
            ("https://a/", "other", ()),
        ]
    ):
        entry = new_entry(f"k{number}", length=1, name=name, mount=mount, tags=tags)
        told[name] = (await put(as_port(store), b"x", entry)).entry_id
    return told


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        (Selection(key="k0"), {"https://a/x"}),
        (Selection(key="k"), set()),
        (Selection(prefix="https://a/x"), {"https://a/x", "https://a/x/y", "https://a/xz"}),
        (Selection(prefix="https://c"), set()),
        (Selection(prefix="x"), set()),
        (Selection(mount="m"), {"https://a/xz", "https://b/x"}),
        (Selection(tag="t2"), {"https://a/x/y", "https://b/x"}),
        (Selection(tag="t"), set()),
        (
            Selection(everything=True),
            {"https://a/x", "https://a/x/y", "https://a/xz", "https://b/x", "https://a/"},
        ),
        (
            Selection(prefix=""),
            {"https://a/x", "https://a/x/y", "https://a/xz", "https://b/x", "https://a/"},
        ),
    ],
)
async def test_a_purge_takes_what_it_names_and_counts_it(
    store: AnyStore, selection: Selection, names: set[str]
) -> None:
    ids = await fill_for_purge(store)
    dry = await store.remove(selection, dry_run=True)
    assert {one.entry.name async for one in store.list()} == set(ids)
    removed = await store.remove(selection)
    assert removed.objects == dry.objects == len(names)
    assert removed.size_bytes == dry.size_bytes == len(names) * BLOCK
    told = () if selection.mount or selection.everything else (ids[name] for name in names)
    assert set(removed.entry_ids) == set(dry.entry_ids) == set(told)
    assert {one.entry.name async for one in store.list()} == set(ids) - names
    assert await store.remove(selection) == Removed(0, 0)


@pytest.mark.parametrize("selection", [Selection(), Selection(key="a", everything=True)])
async def test_a_purge_of_nothing_in_particular_is_refused(
    store: AnyStore, selection: Selection
) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        await store.remove(selection)


# Refreshing, using, listing


async def test_a_refresh_changes_head_and_times_and_nothing_else(store: AnyStore) -> None:
    entry = await put(as_port(store), b"body")
    newer = replace(
        entry,
        head=Head(200, Fields([("x", "y")])),
        request_time=5.0,
        response_time=6.0,
        coverage=(),
        complete=False,
        identity=Identity(),
    )
    assert await store.refresh(newer)
    (found,) = await store.find("aa")
    assert found == replace(entry, head=newer.head, request_time=5.0, response_time=6.0)


async def test_digests_are_added_to_what_is_there_and_whole(store: AnyStore) -> None:
    entry = await put(as_port(store), b"body")
    assert await store.find("aa") == (entry,)
    assert await store.add_digests(entry, (("sha-256", "00"),))
    assert await store.add_digests(entry, (("md5", "11"),))
    assert await store.refresh(replace(entry, digests=()))
    told = replace(entry, digests=(("md5", "11"), ("sha-256", "00")))
    assert await store.find("aa") == (told,)
    draft = await store.begin(new_entry("part", length=10))
    assert not await store.add_digests(draft.entry, (("sha-256", "00"),))
    await draft.close()
    await store.remove(Selection(everything=True))
    assert not await store.add_digests(entry, (("sha-256", "00"),))


async def test_a_refresh_does_not_bring_back_what_is_gone(store: AnyStore) -> None:
    entry = await put(as_port(store), b"body")
    await store.remove(Selection(everything=True))
    assert not await store.refresh(entry)
    assert await store.find("aa") == ()


async def test_a_listing_names_size_uses_and_last_use(store: AnyStore) -> None:
    entry = await put(as_port(store), pattern(2 * BLOCK))
    (fresh,) = [one async for one in store.list()]
    for _ in range(3):
        store.touch(entry)
    (listed,) = [one async for one in store.list()]
    assert listed.entry == entry
    assert listed.size_bytes == 2 * BLOCK
    assert (fresh.hits, listed.hits) == (0, 3)
    assert listed.last_used_time > fresh.last_used_time


async def test_a_listing_by_prefix_has_every_such_name_once(store: AnyStore) -> None:
    await fill_for_purge(store)
    names = [one.entry.name async for one in store.list(prefix="https://a/x")]
    assert sorted(names) == ["https://a/x", "https://a/x/y", "https://a/xz"]


# Room


async def test_an_object_larger_than_the_store_is_refused_at_once(store: AnyStore) -> None:
    kept = await put(as_port(store), b"kept")
    with pytest.raises(StoreFull):
        await store.begin(new_entry("bb", length=101 * BLOCK), 101 * BLOCK)
    assert await store.find("bb") == ()
    assert await store.find("aa") == (kept,)


async def test_a_refused_draft_replaces_nothing(store: AnyStore) -> None:
    kept = await put(as_port(store), b"kept")
    with pytest.raises(StoreFull):
        await store.begin(new_entry(length=101 * BLOCK), 101 * BLOCK)
    assert await store.find("aa") == (kept,)


async def test_the_least_recently_used_make_way(store: AnyStore) -> None:
    entries = [
        await put(as_port(store), pattern(30 * BLOCK, number), key=f"k{number}")
        for number in range(3)
    ]
    store.touch(entries[0])
    reader = store.open_reader(entries[1])
    await put(as_port(store), pattern(30 * BLOCK, 3), key="k3")
    assert [len(await store.find(f"k{number}")) for number in range(4)] == [1, 0, 1, 1]
    assert read(reader) == pattern(30 * BLOCK, 1)
    usage = await store.usage()
    assert (usage.evicted_objects, usage.evicted_bytes) == (1, 30 * BLOCK)
    assert usage.size_bytes == 90 * BLOCK


async def test_a_promise_to_a_draft_is_kept_against_others(store: AnyStore) -> None:
    first = await store.begin(new_entry("k1", length=60 * BLOCK), 60 * BLOCK)
    with pytest.raises(StoreFull):
        await store.begin(new_entry("k2", length=60 * BLOCK), 60 * BLOCK)
    await first.write(0, [pattern(60 * BLOCK)])
    assert await first.commit(completed(first.entry, 60 * BLOCK))
    await first.close()
    second = await store.begin(new_entry("k2", length=60 * BLOCK), 60 * BLOCK)
    assert await store.find("k1") == ()
    await second.close()


async def test_a_draft_of_unknown_length_makes_room_as_it_grows(store: AnyStore) -> None:
    await put(as_port(store), pattern(50 * BLOCK), key="old")
    entry = new_entry("new")
    draft = await store.begin(entry)
    assert await store.find("old") != ()
    for number in range(80):
        await draft.write(number * BLOCK, [pattern(BLOCK)])
    assert await store.find("old") == ()
    assert (await store.usage()).size_bytes == 80 * BLOCK
    with pytest.raises(StoreFull):
        await draft.write(80 * BLOCK, [pattern(21 * BLOCK)])
    assert (await store.usage()).size_bytes <= 100 * BLOCK
    await draft.close()
    assert (await store.usage()).size_bytes == 0


async def test_sparse_entries_count_what_they_take(store: AnyStore) -> None:
    draft = await store.begin(new_entry(length=1 << 40))
    await draft.write(1 << 39, [pattern(BLOCK)])
    await draft.checkpoint((Interval(1 << 39, (1 << 39) + BLOCK),))
    await draft.close()
    (listed,) = [one async for one in store.list()]
    assert listed.size_bytes == (await store.usage()).size_bytes < 4 * BLOCK


async def test_usage_says_what_is_there_and_that_all_is_well(store: AnyStore) -> None:
    await put(as_port(store), b"x", key="k1")
    await put(as_port(store), pattern(3 * BLOCK), key="k2")
    usage = await store.usage()
    assert (usage.objects, usage.size_bytes, usage.limit_bytes) == (2, 4 * BLOCK, 100 * BLOCK)
    assert usage.free_bytes > 0
    assert usage.healthy
    assert usage.trouble is None


# Cancelling


def open_blobs() -> int:
    """How many descriptors of blobs this process holds."""
    held = 0
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{number}")
            held += "/blobs/" in target or "memfd:" in target
    return held


async def test_cancelled_work_leaks_no_descriptor_and_no_draft(store: AnyStore) -> None:
    await put(as_port(store), b"x")
    await store.settle()
    before = open_blobs()
    for turns in range(12):
        entry = new_entry("kk", length=2)

        async def work(entry=entry) -> None:  # type: ignore[no-untyped-def]
            draft = await store.begin(entry, 2)
            try:
                await draft.write(0, [b"ab"])
                await draft.checkpoint((Interval(0, 1),))
                await draft.commit(completed(entry, 2))
            finally:
                await draft.close()

        task = asyncio.create_task(work())
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.settle()
        usage = await store.usage()
        assert usage.size_bytes <= 2 * BLOCK
        await store.remove(Selection(key="kk"))
    await store.settle()
    assert open_blobs() == before
