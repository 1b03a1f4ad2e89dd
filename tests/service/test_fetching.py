"""Mirrors at the opening, flights and purges, counts, and the end of the service."""

from __future__ import annotations

import asyncio

import pytest

from forebay.errors import UpstreamMisbehaved, UpstreamUnreachable
from forebay.model import Fields, Mount, Request, Target
from forebay.ports import Selection
from forebay.rules import targets
from forebay.service.landings import Order, request_to_keep
from tests.service.scene import BODY, HOST, URL_MOUNT, Scene, read, read_some, until

MIRROR = "http://mirror.example"
TWO = Mount(name="two", prefix="/two/", upstreams=(HOST + "/", MIRROR + "/"))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_mirror_that_answers_badly_is_left_for_the_next(status: int) -> None:
    scene = Scene(TWO)
    scene.add(status=status, body=b"no", etag=None, headers=[], ranges=False)
    scene.upstream.add(MIRROR + "/f", body=BODY, etag='"one"')
    assert (await scene.get_at("/two/f")).body == BODY
    assert [ask.url for ask in scene.upstream.asks] == [HOST + "/f", MIRROR + "/f"]
    await scene.close()


async def test_the_last_mirrors_answer_counts_whatever_it_is() -> None:
    scene = Scene(TWO)
    scene.upstream.errors[HOST + "/f"] = UpstreamUnreachable("The connection failed.")
    scene.upstream.add(MIRROR + "/f", status=503, body=b"busy", ranges=False)
    assert (await scene.get_at("/two/f")).body == b"busy"
    scene.upstream.errors[MIRROR + "/f"] = UpstreamUnreachable("The connection failed.")
    with pytest.raises(UpstreamUnreachable):
        await scene.get_at("/two/f")
    await scene.close()


async def test_a_404_of_one_mirror_is_an_answer() -> None:
    scene = Scene(TWO)
    assert (await scene.get_at("/two/f")).status == 404
    assert len(scene.upstream.asks) == 1
    await scene.close()


def _selections(key: str) -> list[tuple[Selection, bool]]:
    return [
        (Selection(key=key), True),
        (Selection(key="other"), False),
        (Selection(prefix=HOST), True),
        (Selection(prefix="http://elsewhere"), False),
        (Selection(mount="url"), True),
        (Selection(mount="two"), False),
        (Selection(tag="any"), True),
        (Selection(everything=True), True),
    ]


@pytest.mark.parametrize("number", range(8))
async def test_a_purge_reaches_what_is_only_being_asked_for(scene: Scene, number: int) -> None:
    [key] = scene.service.keys_of(HOST + "/f")
    selection, is_meant = _selections(key)[number]
    scene.add()
    hold = scene.upstream.hold(HOST + "/f")
    first = asyncio.create_task(scene.get())
    await until(lambda: bool(scene.upstream.asks))
    await scene.service.purge(selection)
    second = asyncio.create_task(scene.get())
    await asyncio.sleep(0)
    hold.set()
    assert (await first).body == (await second).body == BODY
    assert len(scene.upstream.asks) == (2 if is_meant else 1), "who comes after asks anew"
    await scene.settled()
    assert await scene.entries() == 1
    assert "hit" in (await scene.get()).cache


async def test_what_was_asked_before_a_purge_is_not_kept(scene: Scene) -> None:
    scene.add()
    hold = scene.upstream.hold(HOST + "/f")
    first = asyncio.create_task(scene.get())
    await until(lambda: bool(scene.upstream.asks))
    await scene.service.purge(Selection(everything=True))
    hold.set()
    assert (await first).body == BODY
    await scene.settled()
    assert await scene.entries() == 0


async def test_a_dry_run_disturbs_nothing(scene: Scene) -> None:
    resource = scene.add(stall_at=1000)
    first = await scene.open()
    result = await scene.service.purge(Selection(everything=True), dry_run=True)
    assert (result.objects, result.dry_run) == (1, True)
    resource.go_on.set()
    await read(first)
    await scene.settled()
    assert await scene.entries() == 1


async def test_a_purge_during_a_download_is_not_undone_and_cuts_nobody(scene: Scene) -> None:
    resource = scene.add(stall_at=1000)
    first = await scene.open()
    begun = await read_some(first, 1000)
    assert (await scene.service.purge_url(HOST + "/f")).objects == 1
    resource.go_on.set()
    assert begun + (await read(first)).body == BODY
    await scene.settled()
    assert await scene.entries() == 0
    assert scene.store.commits == 0


async def test_the_service_closes_in_mid_flight_and_keeps_what_it_has(scene: Scene) -> None:
    scene.add(stall_at=100_000)
    scene.upstream.hold(HOST + "/held")
    reply = await scene.open()
    await read_some(reply, 100_000)
    waiting = asyncio.create_task(scene.get("/held"))
    await until(lambda: len(scene.upstream.asks) == 2)
    await scene.service.close()
    assert isinstance((await read(reply)).error, UpstreamMisbehaved)
    with pytest.raises(UpstreamUnreachable):
        await waiting
    [held] = (await scene.service.objects()).objects
    assert held.covered_bytes == 100_000


async def test_body_bytes_are_counted_wherever_they_go(scene: Scene) -> None:
    scene.add()
    scene.add("/p", headers=[("cache-control", "private")])
    await scene.get()
    await scene.get("/p")
    await scene.settled()
    assert (await scene.service.statistics()).upstream_bytes == 2 * len(BODY)


def _target(*lines: tuple[str, str], mount: Mount = URL_MOUNT) -> tuple[Request, Target]:
    request = Request("HEAD", f"/{HOST}/f", None, Fields(lines))
    return request, targets.resolve(request, (mount,))


async def test_what_is_to_be_kept_must_have_a_key(scene: Scene) -> None:
    request, target = _target()
    with pytest.raises(ValueError, match="under a key"):
        scene.service._fetcher.launch(Order(target, request))


def test_credentials_count_only_where_they_were_sent() -> None:
    request, target = _target(("authorization", "Basic eDp5"))
    assert request_to_keep(request, target).fields == Fields()
    sends = Mount(name="url", prefix="/", forward=("authorization",))
    request, target = _target(("authorization", "Basic eDp5"), mount=sends)
    kept = request_to_keep(request, target)
    assert (kept.method, kept.fields) == ("GET", request.fields)
