"""The fast lane lets nobody in whom the ordinary way keeps out, and counts what it gives."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from forebay.web.credentials import TokenBook
from forebay.web.entrance import Access, Entrance
from forebay.web.proxies import Proxies
from forebay.web.shares import ClientLimits, Shares
from tests.web.test_fast_lane import HOST, LARGE, SMALL, Rig, running

RIGHT, OTHER = "Authorization: Bearer right", "Authorization: Bearer other"
WRONG = "Authorization: Bearer wrong"
LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
ELSEWHERE = [ipaddress.ip_network("192.0.2.0/24")]


@asynccontextmanager
async def hot(directory: Path, entrance: Entrance, *lines: str) -> AsyncIterator[Rig]:
    """A service with one small hit, asked for with these lines until the lane has it."""
    async with running(Rig(directory, entrance=entrance)) as rig:
        rig.add("/f")
        for _ in range(3):
            await rig.get("fast", "/f", *lines)
            await rig.settled()
        yield rig


async def statuses(rig: Rig, *lines: str, times: int = 3) -> list[int]:
    wire = await rig.connect("fast")
    found = []
    for _ in range(times):
        wire.ask(f"/{HOST}/f", *lines)
        found.append((await wire.read()).status)
    wire.close()
    return found


async def test_only_a_token_opens_the_fast_lane(tmp_path: Path) -> None:
    tokens = TokenBook([("one", "right"), ("two", "other")])
    async with hot(tmp_path, Entrance({"url": Access(tokens)}), RIGHT) as rig:
        before = rig.service.asked
        assert await statuses(rig, RIGHT) == [200] * 3
        assert rig.service.asked == before  # it is the fast lane that answered
        for lines in ((), (WRONG,), (RIGHT, RIGHT)):
            assert await statuses(rig, *lines) == [401] * 3
        assert rig.service.asked == before
        # Another holder shares the same stored bytes: the token is in no key and no variant.
        assert await statuses(rig, OTHER) == [200] * 3
        assert len(rig.upstream.asks) == 1
        assert "authorization" not in rig.upstream.asks[0].fields


async def test_a_holder_s_range_is_no_part_of_what_is_known_of_a_request(tmp_path: Path) -> None:
    """A whole that is asked for in the same words as a part before it is not called a part."""
    async with hot(
        tmp_path, Entrance({"url": Access(TokenBook([("one", "right")]))}), RIGHT
    ) as rig:
        wire = await rig.connect("fast")
        for line, status in (("Range: bytes=0-9", 206), (None, 200), ("Range: bytes=5-", 206)):
            wire.ask(f"/{HOST}/f", RIGHT, *([line] if line else []), "X-New: words")
            answer = await wire.read()
            assert answer.status == status
            assert ("content-range" in answer.fields) is (status == 206)
        wire.close()


async def test_a_mount_that_refuses_credentials_answers_holders_of_tokens_at_once(
    tmp_path: Path,
) -> None:
    entrance = Entrance({"shut": Access(TokenBook([("one", "right")]))})
    async with running(Rig(tmp_path, entrance=entrance)) as rig:
        rig.add("/f")
        wire = await rig.connect("fast")
        for number in range(5):
            wire.ask("/shut/f", RIGHT)
            assert (await wire.read()).status == 200
            await rig.settled()
            if number == 2:
                before = rig.service.asked
        assert rig.service.asked == before
        assert all("authorization" not in ask.fields for ask in rig.upstream.asks)
        wire.close()


async def test_what_one_client_may_recall_another_may_not(tmp_path: Path) -> None:
    entrance = Entrance({"url": Access(None, LOOPBACK)}, Proxies(LOOPBACK))
    async with hot(tmp_path, entrance) as rig:
        before = rig.service.asked
        assert await statuses(rig) == [200] * 3
        assert rig.service.asked == before
        # The same connection, and the same octets but for whom the proxy speaks for.
        assert await statuses(rig, "X-Forwarded-For: 192.0.2.1") == [403] * 3
        assert await statuses(rig, "X-Forwarded-For: 127.9.9.9") == [200] * 3


async def test_octets_that_are_known_from_one_network_are_refused_to_another(
    tmp_path: Path,
) -> None:
    entrance = Entrance({"url": Access(None, LOOPBACK)})
    async with hot(tmp_path, entrance) as rig:
        lane = rig.app.fast_lane  # type: ignore[attr-defined]
        octets = f"GET /{HOST}/f HTTP/1.1\r\nHost: cache.test\r\n\r\n".encode()
        known = lane.recall(octets)
        assert known is not None
        assert lane.answer(known, None, "127.0.0.1", may_send_files=True) is not None
        assert lane.answer(known, None, "192.0.2.1", may_send_files=True) is None


async def test_hits_at_once_draw_on_the_client_s_share(tmp_path: Path) -> None:
    limits = ClientLimits(requests_per_second=0.001, request_burst=8)
    async with hot(tmp_path, Entrance(shares=Shares(limits))) as rig:
        # Three were asked to fill it.
        assert await statuses(rig, times=7) == [200] * 5 + [429] * 2
        assert (await rig.get("fast", "/f")).fields["retry-after"] == "1000"


async def test_hits_at_once_are_paced_with_the_rest(tmp_path: Path) -> None:
    rate = 5 * len(SMALL)
    entrance = Entrance(shares=Shares(ClientLimits(rate_bytes_per_second=rate)))
    async with running(Rig(tmp_path, entrance=entrance)) as rig:
        rig.add("/f")
        begin = asyncio.get_running_loop().time()
        assert await statuses(rig, times=5) == [200] * 5
        # Not faster: two tenths of a second are what may come at once, and the last hit may go.
        took = asyncio.get_running_loop().time() - begin
        assert took >= 4 * len(SMALL) / rate - 0.2 - 0.05


@pytest.mark.parametrize("lines", [(), ("Range: bytes=100-",)])
async def test_large_hits_are_for_holders_of_tokens_and_paced(
    tmp_path: Path, lines: tuple[str, ...]
) -> None:
    body = LARGE[:300_000]
    limits = Shares(ClientLimits(rate_bytes_per_second=1_500_000))
    for shares in (Shares(ClientLimits()), limits):
        entrance = Entrance({"url": Access(TokenBook([("one", "right")]))}, shares=shares)
        async with running(Rig(tmp_path / str(shares is limits), entrance=entrance)) as rig:
            rig.add("/f", body=body)
            for _ in range(2):
                await rig.get("ordinary", "/f", RIGHT)
                await rig.settled()
            loop, begin = asyncio.get_running_loop(), asyncio.get_running_loop().time()
            wire, before = await rig.connect("fast"), rig.service.asked
            for _ in range(3):
                wire.ask(f"/{HOST}/f", RIGHT, *lines)
                assert (await wire.read()).body == (body[100:] if lines else body)
                wire.ask(f"/{HOST}/f", WRONG, *lines)
                assert (await wire.read()).status == 401
            wire.close()
            if shares is limits:
                # Not faster: two tenths of a second are what may come at once.
                assert loop.time() - begin >= 3 * (len(body) - 100) / 1_500_000 - 0.2 - 0.05
            else:
                assert rig.service.asked == before  # all of it by the fast lane


@pytest.mark.parametrize("networks", [LOOPBACK, ELSEWHERE])
async def test_a_stranger_cannot_say_who_it_is(
    tmp_path: Path, networks: list[ipaddress.IPv4Network]
) -> None:
    entrance = Entrance({"url": Access(None, networks)}, Proxies(ELSEWHERE))
    async with hot(tmp_path, entrance) as rig:
        expected = 200 if networks is LOOPBACK else 403
        for said in ("127.0.0.1", "192.0.2.1"):
            assert await statuses(rig, f"X-Forwarded-For: {said}") == [expected] * 3
