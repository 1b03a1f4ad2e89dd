"""Straight through: what goes up, what comes down, and what is checked on the way."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import pytest

from forebay.errors import UpstreamChanged, UpstreamUnreachable
from forebay.model import Mount
from tests.service.scene import BODY, FRESH, HOST, URL_MOUNT, Scene, read, until

PRIVATE = ("cache-control", "private")
MIRROR = "http://mirror.example"
TWO = Mount(name="two", prefix="/two/", upstreams=(HOST + "/", MIRROR + "/"))


async def test_an_unsafe_method_carries_its_body_and_fields(scene: Scene) -> None:
    scene.add()
    told = await scene.get(
        "/f",
        "content-type: text/plain",
        "connection: x-hop",
        "x-hop: 1",
        method="POST",
        body=b"new",
    )
    assert told.body == BODY
    assert told.cache == "forebay; fwd=method; fwd-status=200; detail=method"
    ask = scene.upstream.asks[0]
    assert (ask.method, ask.body_length_bytes, scene.upstream.bodies[0]) == ("POST", 3, b"new")
    assert ask.fields.get("content-type") == "text/plain"
    assert "x-hop" not in ask.fields
    assert not ask.follow_redirects


async def test_strangers_get_no_ambient_credentials_and_set_no_cookies(scene: Scene) -> None:
    scene.add(headers=[PRIVATE, ("set-cookie", "a=b")])
    told = await scene.get("/f", "cookie: a=b", "origin: http://x", "referer: http://x/y")
    second = scene.upstream.asks[-1]
    assert not {"cookie", "origin", "referer"} & {name for name, _ in second.fields}
    assert told.field("set-cookie") is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(("forward", "passed"), [((), None), (("cookie",), "a=b")])
async def test_cookies_pass_both_ways_by_the_mounts_word_and_else_neither(
    method: str, forward: tuple[str, ...], passed: str | None
) -> None:
    scene = Scene(replace(TWO, forward=forward))
    scene.add(headers=[PRIVATE, ("set-cookie", "c=d")])
    for line in ("x-any: 1", "authorization: Basic YW5uYQ==", "cache-control: no-store"):
        told = await scene.get_at("/two/f", "cookie: a=b", line, method=method)
        assert (told.field("set-cookie") is None) == (passed is None)
    assert {ask.fields.get("cookie") for ask in scene.upstream.asks} == {passed}
    await scene.close()


async def test_what_a_forwarded_cookie_brought_is_for_that_cookie_alone() -> None:
    scene = Scene(replace(TWO, forward=("cookie",)))
    scene.add(headers=[("cache-control", "max-age=60")])
    for line in ("cookie: a=b", "cookie: c=d", "cookie: a=b", "x-none: 1"):
        await scene.get_at("/two/f", line)
        await scene.settled()
    sent = [ask.fields.get("cookie") for ask in scene.upstream.asks]
    assert sent == ["a=b", "c=d", None]
    await scene.close()


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("DELETE", 204)])
async def test_an_answer_without_a_body_has_none_and_lets_its_connection_go(
    scene: Scene, method: str, status: int
) -> None:
    scene.add(status=status, headers=[PRIVATE])
    reply = await scene.open(method=method)
    assert (reply.status, reply.body) == (status, None)
    await scene.settled()


async def test_what_may_change_something_is_sent_once_and_to_the_first_upstream() -> None:
    scene = Scene(TWO)
    scene.upstream.errors[HOST + "/f"] = UpstreamUnreachable("The connection failed.")
    scene.upstream.add(MIRROR + "/f", body=BODY)
    scene.mirrors.note_failure(HOST + "/f")
    with pytest.raises(UpstreamUnreachable):
        await scene.get_at("/two/f", method="POST", body=b"once")
    assert [ask.url for ask in scene.upstream.asks] == [HOST + "/f"]
    assert (await scene.get_at("/two/f")).body == BODY
    await scene.close()


async def test_who_leaves_before_there_is_an_answer_leaves_nothing_open(scene: Scene) -> None:
    scene.add(headers=[PRIVATE])
    hold = scene.upstream.hold(HOST + "/f")
    waiting = asyncio.create_task(scene.open(method="POST"))
    await until(lambda: bool(scene.upstream.asks))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    hold.set()
    await asyncio.sleep(0.01)
    assert scene.upstream.open_now == 0


async def test_who_leaves_in_mid_body_releases_upstream(scene: Scene) -> None:
    scene.add(headers=[PRIVATE], stall_at=1000)
    reply = await scene.open()
    assert reply.body is not None
    await reply.body.next_piece()
    await reply.body.aclose()
    await reply.body.aclose()
    await scene.settled()


DIGEST = (("sha-256", hashlib.sha256(BODY).hexdigest()),)
WRONG = (("sha-256", "00" * 32),)


@pytest.mark.parametrize("headers", [[PRIVATE], [FRESH]], ids=["passed through", "stored"])
async def test_a_right_digest_is_delivered(scene: Scene, headers: list[tuple[str, str]]) -> None:
    scene.add(headers=headers)
    told = await scene.get("/f", expected_digests=DIGEST)
    assert (told.body, told.error) == (BODY, None)


@pytest.mark.parametrize("headers", [[PRIVATE], [FRESH]], ids=["passed through", "stored"])
async def test_a_wrong_digest_ends_short_and_keeps_nothing(
    scene: Scene, headers: list[tuple[str, str]]
) -> None:
    scene.add(headers=headers)
    told = await scene.get("/f", expected_digests=WRONG)
    assert isinstance(told.error, UpstreamChanged)
    assert len(told.body) < len(BODY)
    assert BODY.startswith(told.body)
    await scene.settled()
    assert await scene.entries() == 0


async def test_a_part_or_an_error_is_not_held_against_the_digest_of_the_whole(
    scene: Scene,
) -> None:
    scene.add(headers=[PRIVATE])
    part = await scene.get("/f", "range: bytes=0-9", expected_digests=WRONG)
    assert (part.status, part.error) == (206, None)
    missing = await scene.get("/none", expected_digests=WRONG)
    assert (missing.status, missing.error) == (404, None)


async def test_an_empty_body_has_a_digest_too(scene: Scene) -> None:
    scene.add(body=b"", headers=[PRIVATE])
    right = (("sha-256", hashlib.sha256(b"").hexdigest()),)
    assert (await scene.get("/f", expected_digests=right)).error is None
    assert isinstance((await scene.get("/f", expected_digests=WRONG)).error, UpstreamChanged)


async def test_a_body_that_breaks_upstream_breaks_here(scene: Scene) -> None:
    scene.add(headers=[PRIVATE], truncate_at=1000)
    told = await read(await scene.open())
    assert (told.body, told.error is not None) == (BODY[:1000], True)


async def test_the_url_way_in_and_a_mount_do_not_share() -> None:
    scene = Scene(TWO, URL_MOUNT)
    scene.add()
    await scene.get()
    await scene.settled()
    assert "hit" not in (await scene.get_at("/two/f")).cache
    await scene.close()
