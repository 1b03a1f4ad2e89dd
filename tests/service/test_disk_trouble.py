"""The cache is optional: whatever the disk does, downloads go on, or break off without a lie."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from forebay.errors import EntryDamaged, NotStored, StoreError
from forebay.model import Entry
from tests.fakes.resources import Resource
from tests.service.scene import BODY, HOST, STALE, Scene, Told, read, read_some, until


@pytest.mark.parametrize(("full", "trouble"), [(True, None), (False, "The disk is out of order.")])
async def test_without_room_or_disk_everybody_is_passed_through(
    scene: Scene, full: bool, trouble: str | None
) -> None:
    scene.add()
    scene.store.faults.full, scene.store.faults.trouble = full, trouble
    told = await asyncio.gather(*(scene.get() for _ in range(3)))
    assert all(one.body == BODY for one in told)
    detail = "No room could be made." if full else trouble
    assert all(f'detail="{detail}"' in one.cache for one in told)
    scene.store.faults.full, scene.store.faults.trouble = False, None
    assert "stored" in (await scene.get()).cache, "the next one is kept again"


async def test_a_cold_range_without_room_passes_through(scene: Scene) -> None:
    scene.add()
    scene.store.faults.full = True
    told = await scene.get("/f", "range: bytes=5-9")
    assert (told.status, told.body) == (206, BODY[5:10])


async def test_a_partial_entry_that_cannot_be_continued_passes_through(scene: Scene) -> None:
    scene.add()
    await scene.get("/f", "range: bytes=0-99")
    await scene.settled()
    scene.store.faults.full = True
    told = await scene.get()
    assert told.body == BODY
    assert 'fwd=partial; fwd-status=200; detail="No room could be made."' in told.cache


async def test_an_entry_whose_bytes_are_gone_is_fetched_anew(scene: Scene) -> None:
    scene.add()
    await scene.get()
    await scene.settled()
    scene.store.damage((await scene.service.objects()).objects[0].entry_id)
    told = await scene.get()
    assert told.body == BODY
    assert "fwd=uri-miss" in told.cache


async def test_a_partial_entry_whose_bytes_are_gone_is_fetched_anew(scene: Scene) -> None:
    scene.add()
    await scene.get("/f", "range: bytes=0-99")
    await scene.settled()
    scene.store.damage((await scene.service.objects()).objects[0].entry_id)
    assert (await scene.get()).body == BODY


async def test_a_disk_that_gives_no_descriptor_is_passed_by(scene: Scene) -> None:
    class NoDescriptors(type(scene.store)):  # type: ignore[misc]
        def open_reader(self, entry: Entry) -> int:
            raise StoreError("Too many open files.")

    scene.add()
    await scene.get()
    await scene.settled()
    scene.store.__class__ = NoDescriptors
    told = await scene.get()
    assert told.body == BODY
    assert told.cache == 'forebay; fwd=bypass; fwd-status=200; detail="Too many open files."'
    assert await scene.entries() == 1
    with pytest.raises(NotStored):
        await scene.get("/f", "cache-control: only-if-cached")


async def test_parts_that_were_opened_before_one_that_cannot_be_are_closed(scene: Scene) -> None:
    class FewDescriptors(type(scene.store)):  # type: ignore[misc]
        opened: ClassVar[list[int]] = []

        def open_reader(self, entry: Entry) -> int:
            if self.opened:
                raise EntryDamaged("The stored file is gone.")
            self.opened.append(super().open_reader(entry))
            return self.opened[0]

    scene.add()
    await scene.get()
    await scene.settled()
    scene.store.__class__ = FewDescriptors
    told = await scene.get("/f", "range: bytes=0-9, 1000-1009")
    assert told.status == 206  # and nothing is left open, says the fixture
    assert FewDescriptors.opened


async def test_an_index_that_cannot_forget_does_not_fail_requests(scene: Scene) -> None:
    class Keeps(type(scene.store)):  # type: ignore[misc]
        async def forget(self, entry_id: str, key: str) -> None:
            raise StoreError("The index refuses.")

    scene.add(headers=[STALE])
    await scene.get()
    await scene.settled()
    scene.store.__class__ = Keeps
    scene.add(status=404, body=b"gone", etag=None, headers=[], ranges=False)
    assert (await scene.get()).body == b"gone"


async def test_who_is_passed_by_a_sick_disk_is_told_what_ails_it(scene: Scene) -> None:
    class Forgetful(type(scene.store)):  # type: ignore[misc]
        async def refresh(self, entry: object) -> bool:
            self.faults.trouble = "The disk of the cache is full: free some space on it."
            return False

    scene.add(headers=[STALE])
    await scene.get()
    await scene.settled()
    scene.store.__class__ = Forgetful
    told = await scene.get()
    assert (told.body, "is full" in told.cache) == (BODY, True)


async def test_a_digester_that_finds_no_descriptor_means_passing_through(scene: Scene) -> None:
    from tests.fakes.store import MemoryDraft, MemoryStore

    class Blind(MemoryDraft):
        def open_reader(self) -> int:
            raise StoreError("Too many open files.")

    class BlindStore(MemoryStore):
        async def begin(self, entry: Entry, expected_bytes: int | None = None) -> MemoryDraft:
            draft = await super().begin(entry, expected_bytes)
            draft.__class__ = Blind
            return draft

    scene.store.__class__ = BlindStore
    scene.add()
    expected = (("sha-256", "00" * 32),)
    told = await scene.get("/f", expected_digests=expected)
    assert told.error is not None, "the digest is still checked"
    assert not scene.store.drafts
    plain = await scene.get()
    assert plain.body == BODY


# Trouble in mid-body.


async def _broken_by_the_disk(scene: Scene, resource: Resource, *lines: str) -> Told:
    """A download during which the disk begins to refuse writes."""
    reply = await scene.open("/f", *lines)
    first = await read_some(reply, 50_000)
    scene.store.faults.fail_writes_after_bytes = 0
    resource.go_on.set()
    told = await read(reply)
    return Told(reply, first + told.body, told.error)


async def test_a_client_is_fed_on_when_the_disk_fails_in_mid_body(scene: Scene) -> None:
    resource = scene.add(stall_at=50_000, fault_times=1)
    told = await _broken_by_the_disk(scene, resource)
    assert (told.body, told.error) == (BODY, None)
    last = scene.upstream.asks[-1]
    assert last.fields.get("if-range") == '"one"'
    assert last.fields.get("range") == "bytes=50000-299999"


async def test_an_upstream_without_ranges_feeds_on_from_its_whole(scene: Scene) -> None:
    resource = scene.add(stall_at=50_000, fault_times=1, whole_for_range=True)
    told = await _broken_by_the_disk(scene, resource)
    assert (told.body, told.error) == (BODY, None)


async def test_a_part_is_fed_on_to_its_own_end(scene: Scene) -> None:
    resource = scene.add(stall_at=50_000, fault_times=1)
    told = await _broken_by_the_disk(scene, resource, "range: bytes=100-199999")
    assert (told.body, told.error) == (BODY[100:200_000], None)


async def test_every_reader_is_fed_on_from_where_it_stands(scene: Scene) -> None:
    resource = scene.add(stall_at=50_000, fault_times=1)
    first, second = await scene.open(), await scene.open("/f", "range: bytes=10-")
    begun = await read_some(first, 50_000)
    scene.store.faults.fail_writes_after_bytes = 0
    resource.go_on.set()
    assert begun + (await read(first)).body == BODY
    assert (await read(second)).body == BODY[10:]


async def test_a_connection_that_breaks_while_feeding_on_is_replaced(scene: Scene) -> None:
    resource = scene.add(stall_at=50_000, fault_times=1)
    reply = await scene.open()
    first = await read_some(reply, 50_000)
    scene.store.faults.fail_writes_after_bytes = 0
    scene.add(truncate_at=40_000, fault_times=3)
    resource.go_on.set()
    told = await read(reply)
    assert (first + told.body, told.error) == (BODY, None)


@pytest.mark.parametrize(
    "script",
    [
        {"etag": '"two"'},
        {"etag": '"two"', "ranges": False},
        {"status": 404},
        {"truncate_at": 0},
        {"truncate_at": 0, "ranges": False},
    ],
    ids=["changed", "changed, whole", "gone", "nothing comes", "nothing of the whole comes"],
)
async def test_what_cannot_be_proved_or_had_is_cut_never_guessed(
    scene: Scene, script: dict[str, Any]
) -> None:
    resource = scene.add(stall_at=50_000, fault_times=1)
    reply = await scene.open()
    first = await read_some(reply, 50_000)
    scene.store.faults.fail_writes_after_bytes = 0
    scene.add(**script)
    resource.go_on.set()
    told = await read(reply)
    assert told.error is not None
    assert BODY.startswith(first + told.body)


@pytest.mark.parametrize(
    "script", [{"etag": 'W/"weak"'}, {"etag": None}, {"chunked": True}], ids=str
)
async def test_without_validator_or_length_the_cut_stays(
    scene: Scene, script: dict[str, Any]
) -> None:
    resource = scene.add(stall_at=50_000, fault_times=1, **script)
    told = await _broken_by_the_disk(scene, resource)
    assert isinstance(told.error, StoreError)
    assert told.body == BODY[:50_000]
    assert len(scene.upstream.asks) == 1


async def test_who_leaves_while_feeding_on_leaves_nothing_open(scene: Scene) -> None:
    resource = scene.add(stall_at=50_000, fault_times=1)
    reply = await scene.open()
    await read_some(reply, 50_000)
    scene.store.faults.fail_writes_after_bytes = 0
    hold = scene.upstream.hold(HOST + "/f")
    resource.go_on.set()
    assert reply.body is not None
    waiting = asyncio.create_task(reply.body.next_piece())
    await until(lambda: len(scene.upstream.asks) == 2)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await reply.body.aclose()
    hold.set()
    await scene.settled()


async def test_a_commit_that_fails_costs_readers_nothing(scene: Scene) -> None:
    scene.add()
    scene.store.faults.fail_commits = True
    assert (await scene.get()).body == BODY
