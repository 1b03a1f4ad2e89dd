"""Small bodies that come whole with their head: stored in one step, and no client can tell."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from forebay.errors import UpstreamChanged
from forebay.ports import Selection
from tests.fakes.resources import Resource
from tests.service.scene import FRESH, HOST, Scene, until

SMALL = random.Random(7).randbytes(10_240)
SHA256 = hashlib.sha256(SMALL).hexdigest()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene(tells_digests=True)
    yield made
    await made.close()
    await made.store.close()


def small(scene: Scene, **script: Any) -> Resource:
    return scene.add(**{"body": SMALL, **script})


@pytest.mark.parametrize("comes_at_once", [True, False])
@pytest.mark.parametrize("size_bytes", [0, 1, 10_240, 64 * 1024, 64 * 1024 + 1])
async def test_a_miss_and_the_hit_behind_it_are_the_same_whichever_way_it_is_stored(
    scene: Scene, size_bytes: int, comes_at_once: bool
) -> None:
    body = random.Random(size_bytes).randbytes(size_bytes)
    scene.add(body=body, comes_at_once=comes_at_once)
    miss = await scene.get()
    await scene.settled()
    hit = await scene.get()
    assert (miss.status, miss.body, miss.cache) == (
        200, body, "forebay; fwd=uri-miss; fwd-status=200; stored",
    )  # fmt: skip
    assert miss.field("content-length") == str(size_bytes)
    assert miss.field("accept-ranges") == "bytes"
    assert miss.field("repr-digest") is None
    assert (hit.body, hit.cache.split(";")[1]) == (body, " hit")
    assert hit.field("repr-digest") is not None
    assert len(scene.upstream.asks) == scene.store.commits == 1
    assert scene.service.transfers() == []


async def test_it_is_never_a_draft(scene: Scene) -> None:
    small(scene)
    scene.store.faults.fail_writes_after_bytes = 0
    scene.store.faults.fail_checkpoints = True
    assert (await scene.get()).body == SMALL
    await scene.settled()
    assert "hit" in (await scene.get()).cache


@pytest.mark.parametrize("who", ["chunked", "without length", "stalled"])
async def test_what_is_not_here_with_its_end_proved_goes_the_ordinary_way(
    scene: Scene, who: str
) -> None:
    scripts: dict[str, dict[str, Any]] = {
        "chunked": {"chunked": True},
        "without length": {"content_length": False},
        "stalled": {"stall_at": 5000},
    }
    resource = small(scene, **scripts[who])
    resource.go_on.set()
    assert (await scene.get()).body == SMALL
    await scene.settled()
    assert await scene.entries() == (0 if who == "without length" else 1)


async def test_a_herd_is_one_request_and_each_gets_every_byte(scene: Scene) -> None:
    small(scene)
    told = await asyncio.gather(*(scene.get() for _ in range(20)))
    assert {one.body for one in told} == {SMALL}
    assert sum("collapsed" in one.cache for one in told) == 19
    assert len(scene.upstream.asks) == 1


async def test_ranges_and_conditions_are_answered_from_what_has_just_come(scene: Scene) -> None:
    small(scene)
    scene.store.faults.hold_commits = asyncio.Event()
    assert (await scene.get()).body == SMALL
    parts = await scene.get("/f", "Range: bytes=0-0,10200-")
    assert parts.status == 206
    assert SMALL[10_200:] in parts.body
    part = await scene.get("/f", "Range: bytes=100-199")
    assert (part.status, part.body, part.error) == (206, SMALL[100:200], None)
    same = await scene.get("/f", 'If-None-Match: "one"')
    assert (same.status, same.body) == (304, b"")
    view = scene.service.transfers()[0]
    assert (view.length_bytes, view.covered_bytes, view.state) == (10_240, 10_240, "finishing")
    scene.store.faults.hold_commits.set()
    await scene.settled()
    assert len(scene.upstream.asks) == 1


async def test_what_was_asked_before_a_purge_is_given_and_not_kept(scene: Scene) -> None:
    small(scene)
    hold = scene.upstream.hold(HOST + "/f")
    told = [asyncio.create_task(scene.get()) for _ in range(3)]
    await until(lambda: bool(scene.upstream.asks))
    await scene.service.purge(Selection(everything=True))
    hold.set()
    assert {one.body for one in await asyncio.gather(*told)} == {SMALL}
    await scene.settled()
    assert await scene.entries() == 0
    assert len(scene.upstream.asks) == 1


async def test_a_purge_while_it_is_being_stored_is_not_undone(scene: Scene) -> None:
    small(scene)
    scene.store.faults.hold_commits = held = asyncio.Event()
    assert (await scene.get()).body == SMALL
    assert (await scene.service.purge_url(HOST + "/f")).objects == 1
    held.set()
    await scene.settled()
    assert await scene.entries() == 0
    assert "uri-miss" in (await scene.get()).cache


async def test_a_disk_that_cannot_keep_it_is_none_of_the_clients_business(scene: Scene) -> None:
    small(scene)
    scene.store.faults.fail_commits = True
    told = await scene.get()
    assert (told.body, told.error) == (SMALL, None)
    await scene.settled()
    assert await scene.entries() == 0


@pytest.mark.parametrize("asked", [SHA256, "0" * 64])
async def test_what_is_not_what_was_expected_lacks_its_last_byte_and_is_not_kept(
    scene: Scene, asked: str
) -> None:
    small(scene)
    told = await scene.get(expected_digests=(("sha-256", asked),))
    await scene.settled()
    if asked == SHA256:
        assert (told.body, told.error, await scene.entries()) == (SMALL, None, 1)
        return
    assert told.body == SMALL[:-1]
    assert isinstance(told.error, UpstreamChanged)
    assert "sha-256" in told.error.detail
    assert await scene.entries() == 0
    assert [view.failures > 0 for view in scene.mirrors.view()] == [True]


async def test_what_upstream_says_of_its_own_bytes_is_checked(scene: Scene) -> None:
    small(scene, headers=[("content-md5", "AAAAAAAAAAAAAAAAAAAAAA=="), FRESH])
    told = await scene.get()
    assert told.body == SMALL[:-1]
    await scene.settled()
    assert await scene.entries() == 0


async def test_a_service_that_closes_meanwhile_leaves_it_stored_or_not(scene: Scene) -> None:
    small(scene)
    scene.store.faults.hold_commits = held = asyncio.Event()
    reply = await scene.open()
    closing = asyncio.create_task(scene.service.close())
    await asyncio.sleep(0)
    held.set()
    await closing
    assert reply.body is not None
    assert await reply.body.next_piece() == SMALL
    await reply.body.aclose()
