"""Answers to Authorization: shared by upstream's explicit leave, and by nothing else (§3.5)."""

from __future__ import annotations

import asyncio

import pytest

from forebay.model import Mount
from tests.service.scene import BODY, HOST, URL_MOUNT, Scene

OTHER = BODY[::-1]

ANNA, BERT = "authorization: Basic YW5uYQ==", "authorization: Basic YmVydA=="
MORE = 'if-none-match: "elsewhere"'
MOUNT = Mount(name="m", prefix="/m/", upstreams=(HOST + "/",))


def _sent(scene: Scene) -> list[str | None]:
    return [
        scene.upstream.fields_of(i).get("authorization") for i in range(len(scene.upstream.asks))
    ]


@pytest.mark.parametrize(
    ("directives", "shared"),
    [
        ("max-age=60", False),
        ("max-age=60, public", True),
        ("max-age=60, public=x", False),
        ("s-maxage=60", True),
        ("s-maxage=0", False),
        ("max-age=60, must-revalidate", True),
        ("max-age=60, proxy-revalidate", False),
        ("max-age=60, private, must-revalidate", False),
        ("public, no-store, max-age=60", False),
    ],
)
async def test_an_answer_to_credentials_is_shared_only_by_upstreams_leave(
    scene: Scene, directives: str, shared: bool
) -> None:
    scene.add(headers=[("cache-control", directives)])
    for line in (ANNA, BERT):
        assert (await scene.get("/f", line)).body == BODY
        await scene.settled()
    assert len(scene.upstream.asks) == (1 if shared else 2)
    assert await scene.entries() == (1 if shared else 0)


async def test_who_asks_with_credentials_at_the_same_time_waits_for_nobody_elses(
    scene: Scene,
) -> None:
    scene.add(headers=[("cache-control", "private")])
    await asyncio.gather(*(scene.get("/f", line) for line in (ANNA, BERT)))
    assert sorted(filter(None, _sent(scene))) == [ANNA[15:], BERT[15:]]


async def test_a_request_that_says_more_is_passed_on_whole_until_leave_is_known() -> None:
    scene = Scene(MOUNT)
    scene.add(headers=[("cache-control", "public, max-age=60")])
    for _ in range(3):
        assert (await scene.get_at("/m/f", ANNA, MORE)).body == BODY
        await scene.settled()
    assert len(scene.upstream.asks) == 2
    # What is shared was asked for without what selects nothing.
    assert scene.upstream.fields_of(0).get("if-none-match") == '"elsewhere"'
    assert "if-none-match" not in scene.upstream.fields_of(1)
    await scene.close()


async def test_a_condition_on_what_is_private_costs_one_request(scene: Scene) -> None:
    scene.add(headers=[("cache-control", "private")])
    told = await scene.get("/f", ANNA, 'if-none-match: "one"')
    assert told.status == 304
    assert len(scene.upstream.asks) == 1


@pytest.mark.parametrize(("directives", "asked"), [("private", 2), ("public, max-age=60", 1)])
async def test_a_range_of_what_needs_credentials_costs_one_request(
    scene: Scene, directives: str, asked: int
) -> None:
    scene.add(headers=[("cache-control", directives)])
    for _ in range(2):
        told = await scene.get("/f", ANNA, "range: bytes=5-9")
        assert (told.status, told.body) == (206, BODY[5:10])
        await scene.settled()
    assert len(scene.upstream.asks) == asked


async def test_leave_that_was_taken_back_is_noticed_and_nothing_lost() -> None:
    scene = Scene(MOUNT)
    scene.add(headers=[("cache-control", "public, max-age=60")])
    await scene.get_at("/m/f", ANNA, MORE)
    scene.add(body=OTHER, headers=[("cache-control", "private")])
    assert (await scene.get_at("/m/f", ANNA, MORE)).body == OTHER
    assert scene.upstream.fields_of(2).get("if-none-match") == '"elsewhere"'
    await scene.settled()
    assert await scene.entries() == 0
    await scene.close()


async def test_a_shared_answer_is_validated_with_the_credentials_of_who_asks(scene: Scene) -> None:
    scene.add(headers=[("cache-control", "public, max-age=1")])
    await scene.get("/f", ANNA)
    await scene.settled()
    scene.now += 5
    told = await scene.get("/f", BERT)
    assert "fwd-status=304" in told.cache
    assert told.body == BODY
    assert _sent(scene) == [ANNA[15:], BERT[15:]]


async def test_who_is_refused_gets_that_and_the_others_keep_what_they_share(scene: Scene) -> None:
    scene.add(headers=[("cache-control", "public, max-age=1")])
    await scene.get("/f", ANNA)
    await scene.settled()
    scene.now += 5
    scene.add(status=401, body=b"no", etag=None, headers=[], ranges=False)
    assert (await scene.get("/f", BERT)).status == 401
    assert (await scene.get("/f")).status == 401
    assert await scene.entries() == 1


async def test_every_connection_of_a_transfer_has_the_credentials(scene: Scene) -> None:
    scene.add(headers=[("cache-control", "public, max-age=60")], truncate_at=100, fault_times=1)
    told = await scene.get("/f", ANNA)
    assert (told.body, told.error) == (BODY, None)
    assert _sent(scene) == [ANNA[15:]] * 2


async def test_fields_that_private_or_no_cache_names_are_for_whoever_brought_them() -> None:
    mount = Mount(name="m", prefix="/m/", upstreams=(HOST + "/",), forward=("cookie",))
    scene = Scene(mount, URL_MOUNT)
    named = ("cache-control", 'max-age=60, no-cache="set-cookie", private="x-you"')
    scene.add(headers=[named, ("set-cookie", "a=b"), ("x-you", "anna"), ("x-all", "1")])
    first, second = await asyncio.gather(scene.get_at("/m/f"), scene.get_at("/m/f"))
    later = await scene.get_at("/m/f")
    assert [one.field("x-you") for one in (first, second, later)] == ["anna", None, None]
    assert [one.field("set-cookie") for one in (first, second, later)] == ["a=b", None, None]
    assert later.field("x-all") == "1"
    assert len(scene.upstream.asks) == 1
    await scene.close()


async def test_what_a_304_brings_counts_although_the_entry_is_just_being_committed(
    scene: Scene,
) -> None:
    scene.store.faults.hold_commits = asyncio.Event()
    scene.add(headers=[("cache-control", "max-age=0"), ("x-a", "1")])
    await scene.get()
    scene.add(headers=[("cache-control", "max-age=60"), ("x-a", "2")])
    asking = asyncio.create_task(scene.get())
    for _ in range(50):
        await asyncio.sleep(0)
    scene.store.faults.hold_commits.set()
    await asking
    await scene.settled()
    told = await scene.get()
    assert (told.field("x-a"), told.cache) == ("2", "forebay; hit; ttl=60")
    assert len(scene.upstream.asks) == 2
