"""The service's face: purges by address, invalidation, listings and counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from forebay.errors import InvalidTarget, StoreError
from forebay.model import Mount, Policy, Request
from forebay.ports import Removed, Selection, StoredObject
from forebay.service.service import VIEWS_AT_ONCE
from tests.service.scene import BODY, FRESH, HOST, STALE, URL_MOUNT, Scene, read, read_some

DEB = Mount(name="deb", prefix="/deb/", upstreams=(HOST + "/debian/", "http://mirror.example/d/"))


async def test_a_url_is_purged_under_every_way_in() -> None:
    scene = Scene(DEB, URL_MOUNT)
    scene.add("/debian/f")
    scene.upstream.add("http://mirror.example/d/f", body=BODY, etag='"one"')
    await scene.get("/debian/f")
    await scene.get_at("/deb/f")
    await scene.settled()
    assert (await scene.service.purge_url(HOST + "/debian/f", dry_run=True)).objects == 2
    assert await scene.entries() == 2
    result = await scene.service.purge_url("HTTP://ORIGIN.example:80/debian/./f")
    assert (result.objects, result.dry_run) == (2, False)
    assert result.size_bytes >= 2 * len(BODY)
    await scene.close()


async def test_a_url_at_a_mirror_names_the_mounts_object() -> None:
    scene = Scene(DEB)
    scene.add("/debian/f")
    await scene.get_at("/deb/f")
    await scene.settled()
    assert scene.service.keys_of("http://mirror.example/d/f") == scene.service.keys_of(
        HOST + "/debian/f"
    )
    assert scene.service.keys_of("http://elsewhere.example/f") == ()
    assert (await scene.service.purge_url("http://mirror.example/d/f")).objects == 1
    await scene.close()


async def test_all_variants_of_a_url_go_together(scene: Scene) -> None:
    scene.add()
    await scene.get("/f", "accept: text/html")
    await scene.get("/f", "accept: application/json")
    await scene.settled()
    assert (await scene.service.purge_url(HOST + "/f")).objects == 2


async def test_what_is_no_url_is_said_to_be_none(scene: Scene) -> None:
    with pytest.raises(InvalidTarget):
        await scene.service.purge_url("not a url")


async def test_the_purge_method_names_its_object_as_get_does(scene: Scene) -> None:
    scene.add()
    await scene.get()
    await scene.settled()
    request = Request("PURGE", f"/{HOST}/f")
    assert (await scene.service.purge_request(request)).objects == 1
    assert (await scene.service.purge_request(request)).objects == 0


@pytest.mark.parametrize(
    ("method", "status", "location", "left"),
    [
        ("POST", 200, None, {"/g"}),
        ("POST", 201, "/g", set()),
        ("POST", 200, "http://elsewhere.example/g", {"/g"}),
        ("POST", 500, "/g", {"/f", "/g"}),
        ("OPTIONS", 200, "/g", {"/f", "/g"}),
        ("M-SEARCH", 200, None, {"/g"}),
        ("POST", 200, "http://origin.example/a b\x7f", {"/g"}),
    ],
)
async def test_an_unsafe_request_ends_what_it_may_have_changed(
    scene: Scene, method: str, status: int, location: str | None, left: set[str]
) -> None:
    scene.add("/f")
    scene.add("/g")
    await scene.get("/f")
    await scene.get("/g")
    await scene.settled()
    headers = [("location", location)] if location is not None else []
    scene.add("/f", status=status, body=b"done", etag=None, headers=headers, ranges=False)
    assert (await scene.get("/f", method=method)).body == b"done"
    names = {view.name.removeprefix(HOST) for view in (await scene.service.objects()).objects}
    assert names == left


async def test_an_answer_is_not_lost_because_the_index_refuses(scene: Scene) -> None:
    class Sick(type(scene.store)):  # type: ignore[misc]
        async def remove(self, selection: Selection, *, dry_run: bool = False) -> Removed:
            raise StoreError("The index refuses.")

    scene.add(body=b"done")
    scene.store.__class__ = Sick
    assert (await scene.get(method="POST")).body == b"done"


async def test_a_long_listing_lets_everybody_else_go_on(scene: Scene) -> None:
    scene.add("/f")
    await scene.get("/f")
    await scene.settled()
    turns = turns_at_last = 0

    class Long(type(scene.store)):  # type: ignore[misc]
        async def latest(self, **selected: Any) -> Sequence[StoredObject]:
            nonlocal turns_at_last
            [one] = await super().latest(**selected)
            turns_at_last = turns
            return [one] * 10_000

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    scene.store.__class__ = Long
    counting = asyncio.create_task(count())
    page = await scene.service.objects(limit=10_000)
    counting.cancel()
    assert len(page.objects) == 10_000
    assert turns - turns_at_last >= 10_000 / VIEWS_AT_ONCE


async def test_objects_are_listed_with_what_people_ask_about(scene: Scene) -> None:
    resource = scene.add("/arriving", stall_at=1000)
    scene.add("/old", headers=[STALE])
    await scene.get("/old")
    await scene.settled()
    scene.now += 5
    first = await scene.open("/arriving")
    await read_some(first, 1000)
    arriving, old = (await scene.service.objects()).objects
    assert (arriving.name, arriving.complete, arriving.covered_bytes) == (
        HOST + "/arriving",
        False,
        1000,
    )
    assert (arriving.fresh, old.fresh) == (True, False)
    assert (old.age_seconds, old.etag, old.length_bytes) == (5, '"one"', len(BODY))
    page = await scene.service.objects(prefix=HOST + "/o")
    assert ([o.name for o in page.objects], page.next) == ([HOST + "/old"], None)
    newest = await scene.service.objects(limit=1)
    oldest = await scene.service.objects(limit=1, after=newest.next)
    assert (*newest.objects, *oldest.objects) == (arriving, old)
    with pytest.raises(InvalidTarget, match="after"):
        await scene.service.objects(after="no place")
    [running] = scene.service.transfers()
    assert (running.name, running.covered_bytes) == (HOST + "/arriving", 1000)
    resource.go_on.set()
    await read(first)


@pytest.mark.parametrize("way", ["/deb/pool/f", f"/{HOST}/debian/pool/f"])
async def test_freshness_in_a_listing_is_by_the_mounts_own_patterns(way: str) -> None:
    policy = Policy(immutable_patterns=("/pool/.*", "/debian/pool/.*"))
    mount = Mount(name="deb", prefix="/deb/", upstreams=(HOST + "/debian/",), policy=policy)
    scene = Scene(mount, Mount(name="url", prefix="/", policy=policy))
    scene.add("/debian/pool/f", headers=[STALE])
    await scene.get_at(way)
    await scene.settled()
    assert "hit" in (await scene.get_at(way)).cache
    assert (await scene.service.objects()).objects[0].fresh
    await scene.close()


async def test_objects_of_a_mount_that_is_no_more_are_listed_as_stale(scene: Scene) -> None:
    scene.add()
    await scene.get()
    await scene.settled()
    scene.service._mount_of.clear()
    assert not (await scene.service.objects()).objects[0].fresh


async def test_replies_are_counted_by_outcome(scene: Scene) -> None:
    scene.add(headers=[FRESH])
    miss = await scene.get()
    await scene.settled()
    hit = await scene.get()
    for told in (miss, hit, hit):
        scene.service.note_served(told.reply, len(told.body))
    counted = await scene.service.statistics()
    assert counted.requests["hit"] == 2
    assert counted.requests["uri-miss"] == 1
    assert counted.requests["collapsed"] == 0
    assert counted.served_bytes == 3 * len(BODY)
    assert counted.saved_bytes == 2 * len(BODY)
    assert (counted.objects, counted.running_transfers, counted.healthy) == (1, 0, True)


async def test_collapsed_replies_are_counted_beside_their_outcome(scene: Scene) -> None:
    resource = scene.add(stall_at=1000)
    first, late = await scene.open(), await scene.open()
    resource.go_on.set()
    for reply in (first, late):
        scene.service.note_served(reply, len((await read(reply)).body))
    requests = (await scene.service.statistics()).requests
    assert (requests["uri-miss"], requests["partial"], requests["collapsed"]) == (1, 1, 1)
