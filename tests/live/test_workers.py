"""Several worker processes as one service: a herd spread over them, deaths, purges, counts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.fakes.origin import Origin
from tests.live.children import Child, child
from tests.live.running import Download
from tests.patience import PATIENCE_SECONDS

MAX_AGE = ("cache-control", "max-age=600")
BODY = random.Random(31).randbytes(2_000_000)
HERD = 16


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Child]:
    """One service for all tests here, each with a path of its own: starting it takes seconds."""
    async with child(tmp_path_factory.mktemp("workers"), origin, "--workers", "2") as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def service(house: Child) -> Child:
    await house.all_workers(2)
    return house


def sent_bytes(origin: Origin, path: str) -> int:
    return sum(request.body_bytes_sent for request in origin.requests_for(path))


async def asked(origin: Origin, path: str) -> None:
    """Return when upstream has been asked for this."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not origin.requests_for(path):
            await origin.wait_for_requests(len(origin.requests) + 1, 10)


async def herd(service: Child, path: str, *lines: str) -> list[Download]:
    """Downloads of one object until each worker has at least one of them."""
    url = service.path(path)
    downloads: list[Download] = []
    while len(downloads) < HERD or len(await service.holders(downloads)) < 2:
        downloads += await asyncio.gather(*(service.start(url, *lines) for _ in range(HERD)))
    return downloads


async def test_a_herd_over_all_workers_causes_one_upstream_body(
    service: Child, origin: Origin
) -> None:
    resource = origin.add("/herd", body=BODY, etag='"one"', stall_at=700_000, headers=[MAX_AGE])
    downloads = await herd(service, "/herd")
    for download in downloads:
        assert await download.read_until(700_000) == BODY[:700_000], "it is read while it grows"
    resource.go_on.set()
    for download in downloads:
        assert await download.read_until(len(BODY)) == BODY
    assert (len(origin.requests_for("/herd")), sent_bytes(origin, "/herd")) == (1, len(BODY))


async def test_a_herd_waits_for_one_head(service: Child, origin: Origin) -> None:
    resource = origin.add("/head", body=BODY, etag='"one"', stall_at=0, headers=[MAX_AGE])
    asking = [asyncio.create_task(service.fetch("/head")) for _ in range(4 * HERD)]
    await asked(origin, "/head")
    resource.go_on.set()
    for answer in await asyncio.gather(*asking):
        assert (answer.body, answer.whole) == (BODY, True)
    assert len(origin.requests_for("/head")) == 1


async def test_a_body_without_length_is_followed_to_its_end(service: Child, origin: Origin) -> None:
    resource = origin.add(
        "/chunked", body=BODY, etag='"one"', stall_at=700_000, chunked=True, headers=[MAX_AGE]
    )
    asking = [asyncio.create_task(service.fetch("/chunked")) for _ in range(4 * HERD)]
    await asked(origin, "/chunked")
    resource.go_on.set()
    for answer in await asyncio.gather(*asking):
        assert (answer.body, answer.whole) == (BODY, True)
    assert len(origin.requests_for("/chunked")) == 1


async def test_ranges_far_apart_in_any_worker_are_fetched_once(
    service: Child, origin: Origin
) -> None:
    resource = origin.add("/ranges", body=BODY, etag='"one"', stall_at=10_000, headers=[MAX_AGE])
    first = await service.start(service.path("/ranges"))
    await first.read_until(10_000)
    asking = (service.fetch("/ranges", "Range: bytes=1500000-1500999") for _ in range(4 * HERD))
    for part in await asyncio.gather(*asking):
        assert (part.status, part.body) == (206, BODY[1_500_000:1_501_000])
    resource.go_on.set()
    assert await first.read_until(len(BODY)) == BODY
    assert len(origin.requests_for("/ranges")) == 2, "one from the start, and one from there"


async def test_a_leader_killed_in_mid_body_is_taken_over_and_no_client_notices(
    service: Child, origin: Origin
) -> None:
    resource = origin.add("/killed", body=BODY, etag='"one"', stall_at=1_200_000, headers=[MAX_AGE])
    first = await service.start(service.path("/killed"))
    await first.read_until(1_200_000)
    leader = next(iter(await service.holders([first])))
    downloads = await herd(service, "/killed")
    held = await service.holders(downloads)
    followers = [one for worker, ours in held.items() if worker != leader for one in ours]
    for download in followers:
        await download.read_until(1_000_000)
    assert len(origin.requests_for("/killed")) == 1
    await service.kill_worker(leader)
    resource.stall_at = None
    for download in followers:
        assert await download.read_until(len(BODY)) == BODY
    assert sent_bytes(origin, "/killed") == len(BODY), "what the dead one had written counts"
    answer = await service.fetch("/killed")
    assert (answer.body, answer.whole) == (BODY, True)
    assert len(origin.requests_for("/killed")) == 2


async def test_a_purge_in_one_worker_keeps_what_another_is_asking_for_from_being_kept(
    service: Child, origin: Origin
) -> None:
    old = origin.add("/purged", body=BODY, etag='"old"', stall_at=0, headers=[MAX_AGE])
    asking = [asyncio.create_task(service.fetch("/purged")) for _ in range(HERD)]
    await asked(origin, "/purged")
    for _ in range(8):  # whichever worker takes the order
        await service.admin("/-/purge", {"url": origin.url("/purged")})
    origin.add("/purged", body=BODY[::-1], etag='"new"', headers=[MAX_AGE])
    old.go_on.set()
    for answer in await asyncio.gather(*asking):
        assert answer.whole
        assert answer.body in {BODY, BODY[::-1]}
    for _ in range(HERD):
        assert (await service.fetch("/purged")).body == BODY[::-1]


async def test_two_services_with_workers_on_one_directory_are_one(
    service: Child, origin: Origin
) -> None:
    resource = origin.add("/two", body=BODY, etag='"one"', stall_at=700_000, headers=[MAX_AGE])
    async with child(service.cache, origin, "--workers", "2") as second:
        downloads = [
            await one.start(one.path("/two")) for one in (service, second) for _ in range(4)
        ]
        for download in downloads:
            await download.read_until(700_000)
        resource.go_on.set()
        for download in downloads:
            assert await download.read_until(len(BODY)) == BODY
    assert len(origin.requests_for("/two")) == 1


async def settled(service: Child) -> dict[str, Any]:
    """The counts once whichever worker is asked says the same."""
    said: list[dict[str, Any]] = []
    while len(said) < 8 or any(one["requests"] != said[-1]["requests"] for one in said[-8:]):
        await asyncio.sleep(0.1)
        said.append(await service.stats())
    return said[-1]


async def test_counts_of_all_workers_add_up_and_outlive_them(
    service: Child, origin: Origin
) -> None:
    before = await settled(service)
    origin.add("/counted", body=BODY, etag='"one"', headers=[MAX_AGE])
    for _ in range(20):
        assert (await service.fetch("/counted")).body == BODY
    counted = await settled(service)
    assert counted["upstream_bytes"] == before["upstream_bytes"] + len(BODY)
    assert counted["served_bytes"] == before["served_bytes"] + 20 * len(BODY)
    assert counted["workers"] >= 2
    await service.kill_worker(service.workers()[0])
    await service.all_workers(2)
    after = await settled(service)
    assert after["served_bytes"] == counted["served_bytes"], "the dead count"
    told = (await service.admin("/metrics")).body.decode()
    lines = dict(line.rsplit(" ", 1) for line in told.splitlines() if not line.startswith("#"))
    assert float(lines["forebay_served_bytes_total"]) == counted["served_bytes"]
    assert float(lines['forebay_http_responses_total{status="200"}']) >= 20
