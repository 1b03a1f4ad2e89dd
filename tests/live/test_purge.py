"""Purging over real sockets: by every order, by the PURGE method, with and without a token."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.origin import Origin
from tests.live.running import TOKEN, Running, running

BODY = random.Random(11).randbytes(1_500_000)
MAX_AGE = ("cache-control", "max-age=600")
BEARER = f"Authorization: Bearer {TOKEN}"


@pytest.fixture
async def service(tmp_path: Path, origin: Origin, no_leaks: None) -> AsyncIterator[Running]:
    mounts = [{"name": "deb", "upstream": origin.url("/debian/")}]
    async with running(tmp_path / "cache", origin, mounts=mounts) as made:
        yield made


def orders(origin: Origin) -> dict[str, dict[str, Any]]:
    return {
        "url": {"url": origin.url("/debian/f")},
        "prefix": {"prefix": origin.url("/deb")},
        "mount": {"mount": "deb"},
        "all": {"all": True},
    }


async def objects(service: Running) -> list[str]:
    return [view["name"] for view in (await service.admin("/-/objects")).json()["objects"]]


@pytest.mark.parametrize("kind", ["url", "prefix", "mount", "all"])
async def test_a_purge_during_a_download_is_not_undone_and_cuts_nobody(
    service: Running, origin: Origin, kind: str
) -> None:
    resource = origin.add("/debian/f", body=BODY, etag='"one"', stall_at=500_000, headers=[MAX_AGE])
    reader = await service.start("/deb/f")
    await reader.read_until(400_000)
    answer = await service.admin("/-/purge", orders(origin)[kind])
    assert (answer.status, answer.json()["objects"]) == (200, 1)
    assert await objects(service) == []
    origin.add("/debian/f", body=BODY[::-1], etag='"two"', headers=[MAX_AGE])
    new = await service.get("/deb/f")
    assert new.body == BODY[::-1], "who comes after the purge gets what is there now"
    resource.go_on.set()
    assert await reader.read_until(len(BODY)) == BODY
    hit = await service.get("/deb/f")
    assert (hit.body, "hit" in hit.cache_status) == (BODY[::-1], True)


@pytest.mark.parametrize("kind", ["url", "prefix", "mount", "all"])
async def test_a_dry_run_counts_objects_and_bytes_and_removes_nothing(
    service: Running, origin: Origin, kind: str
) -> None:
    origin.add("/debian/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    await service.get("/deb/f")
    order = orders(origin)[kind]
    dry = (await service.admin("/-/purge", {**order, "dry_run": True})).json()
    assert (dry["objects"], dry["dry_run"]) == (1, True)
    assert len(BODY) <= dry["size_bytes"] < len(BODY) + 65_536
    assert len(await objects(service)) == 1
    done = (await service.admin("/-/purge", order)).json()
    assert done == {**dry, "dry_run": False}
    assert await objects(service) == []


async def test_a_purge_takes_what_it_names_and_nothing_else(
    service: Running, origin: Origin
) -> None:
    for path in ("/debian/f", "/debian/g", "/other"):
        origin.add(path, body=BODY, etag='"one"', headers=[MAX_AGE])
        await service.fetch(path)
    await service.get("/deb/f")
    assert (await service.admin("/-/purge", {"mount": "deb"})).json()["objects"] == 1
    purged = await service.admin("/-/purge", {"prefix": origin.url("/debian/")})
    assert purged.json()["objects"] == 2
    assert await objects(service) == [origin.url("/other")]


@pytest.mark.parametrize("own", ["http://127.0.0.1:{port}/deb/f", "/deb/f"])
@pytest.mark.parametrize("kind", ["url", "prefix"])
async def test_an_order_may_name_an_object_as_clients_ask_for_it_here(
    service: Running, origin: Origin, kind: str, own: str
) -> None:
    origin.add("/debian/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    await service.get("/deb/f")
    order = {kind: own.format(port=service.port)}
    assert (await service.admin("/-/pin", order)).json()["objects"] == 1
    assert (await service.admin("/-/purge", {**order, "dry_run": True})).json()["objects"] == 1
    assert (await service.admin("/-/purge", order)).json()["objects"] == 1
    assert await objects(service) == []


async def test_a_url_of_ours_that_leads_nowhere_is_refused_and_not_taken_for_a_miss(
    service: Running,
) -> None:
    answer = await service.admin("/-/purge", {"url": "/debian/f"})
    assert (answer.status, "prefix of a mount" in answer.json()["detail"]) == (404, True)


async def test_an_upstream_whose_path_looks_like_a_mount_of_ours_is_not_ours(
    service: Running, origin: Origin
) -> None:
    origin.add("/debian/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    await service.get("/deb/f")
    answer = await service.admin("/-/purge", {"url": "http://elsewhere.example/deb/f"})
    assert (answer.json()["objects"], len(await objects(service))) == (0, 1)


async def test_the_purge_method_takes_what_get_would_give(service: Running, origin: Origin) -> None:
    origin.add("/debian/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    await service.get("/deb/f")
    await service.fetch("/debian/f")
    answer = await service.get("/deb/f", BEARER, method="PURGE")
    assert (answer.status, answer.json()["objects"]) == (200, 1)
    assert "hit" in (await service.fetch("/debian/f")).cache_status
    answer = await service.fetch("/debian/f", BEARER, method="PURGE")
    assert answer.json()["objects"] == 1
    assert len(origin.requests) == 2, "no PURGE goes upstream"


@pytest.mark.parametrize("lines", [(), ("Authorization: Bearer wrong",)], ids=["none", "wrong"])
async def test_without_the_token_nothing_is_purged_or_told(
    service: Running, origin: Origin, lines: tuple[str, ...]
) -> None:
    origin.add("/debian/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    await service.get("/deb/f")
    for path, method in [
        ("/deb/f", "PURGE"),
        ("/-/purge", "POST"),
        ("/-/objects", "GET"),
        ("/-/stats", "GET"),
        ("/-/transfers", "GET"),
    ]:
        answer = await service.get(path, *lines, method=method)
        assert answer.status == 401, path
        assert answer.fields["content-type"] == "application/problem+json"
    assert "hit" in (await service.get("/deb/f")).cache_status


@pytest.mark.parametrize(
    "order", [{}, {"url": "x"}, {"all": True, "mount": "deb"}, {"everything": True}], ids=str
)
async def test_an_order_that_cannot_be_understood_is_400(
    service: Running, order: dict[str, Any]
) -> None:
    answer = await service.admin("/-/purge", order)
    assert answer.status == 400
    assert answer.fields["content-type"] == "application/problem+json"


async def test_a_purge_by_tag_takes_what_upstream_tagged(forebay: Running, origin: Origin) -> None:
    origin.add("/a", body=b"a", headers=[MAX_AGE, ("surrogate-key", "release nightly")])
    origin.add("/b", body=b"b", headers=[MAX_AGE, ("cache-tag", "nightly")])
    origin.add("/c", body=b"c", headers=[MAX_AGE])
    for path in ("/a", "/b", "/c"):
        await forebay.fetch(path)
    answer = await forebay.admin("/-/purge", {"tag": "nightly"})
    assert answer.json()["objects"] == 2
    assert "hit" in (await forebay.fetch("/c")).cache_status
    assert "uri-miss" in (await forebay.fetch("/a")).cache_status


async def test_what_is_pinned_is_told_and_stays_pinned_when_it_is_replaced(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/a", body=b"a", etag='"1"', headers=[MAX_AGE])
    origin.add("/b", body=b"b", headers=[MAX_AGE])
    for path in ("/a", "/b"):
        await forebay.fetch(path)
    order = {"url": origin.url("/a")}
    assert (await forebay.admin("/-/pin", order)).json() == {"objects": 1, "pinned": True}
    origin.add("/a", body=b"new", etag='"2"', headers=[MAX_AGE])
    assert (await forebay.fetch("/a", "Cache-Control: no-cache")).body == b"new"
    views = (await forebay.admin("/-/objects")).json()["objects"]
    assert {view["name"]: view["pinned"] for view in views} == {
        origin.url("/a"): True,
        origin.url("/b"): False,
    }
    assert (await forebay.admin("/-/unpin", {"all": True})).json()["objects"] == 1
    assert (await forebay.admin("/-/pin", {})).status == 400
    assert (await forebay.get("/-/pin", method="POST")).status == 401


async def test_objects_are_listed_page_by_page(forebay: Running, origin: Origin) -> None:
    for path in ("/a", "/b", "/c"):
        origin.add(path, body=b"x", headers=[MAX_AGE])
        await forebay.fetch(path)
    first = (await forebay.admin("/-/objects?limit=2")).json()
    second = (await forebay.admin(f"/-/objects?limit=2&after={first['next']}")).json()
    names = [view["name"] for view in (*first["objects"], *second["objects"])]
    assert sorted(names) == [origin.url(path) for path in ("/a", "/b", "/c")]
    assert second["next"] is None
    assert (await forebay.admin("/-/objects?after=nonsense")).status == 400
