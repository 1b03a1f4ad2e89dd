"""Connections, descriptors and tasks are given back on every way out, whoever leaves when."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from forebay.web.limits import DoorLimits
from forebay.web.protocol import protocol_with
from tests.fakes.origin import Origin, Resource
from tests.leaks import assert_no_leaks
from tests.live.running import Running, reset, running
from tests.patience import PATIENCE_SECONDS

BODY = random.Random(13).randbytes(1_000_000)
MAX_AGE = ("cache-control", "max-age=600")
NO_STORE = ("cache-control", "no-store")


async def idle_only(origin: Origin, most: int = 1) -> None:
    """Return when no upstream connection is at work; idle ones may be kept for what comes next."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while origin.open_connections > most:  # noqa: ASYNC110 - counted, not told
            await asyncio.sleep(0.005)


async def transfers(service: Running) -> int:
    return len((await service.admin("/-/transfers")).json()["transfers"])


async def quiet(service: Running) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await transfers(service):  # noqa: ASYNC110 - asked, not told
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "script",
    [
        {},
        {"chunked": True},
        {"content_length": False},
        {"headers": [NO_STORE]},
        {"status": 404},
        {"status": 503},
        {"truncate_at": 1000, "ranges": False},
        {"reset_at": 1000, "ranges": False},
        {"truncate_at": 0, "chunked": True},
        {"surplus": b"more"},
        {"raw": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde"},
        {"raw": b"nonsense\r\n\r\n"},
        {"redirect_to": "/g"},
        {"hang_up_first": 9},
    ],
    ids=str,
)
async def test_a_connection_is_given_back_whatever_became_of_its_response(
    forebay: Running, origin: Origin, script: dict[str, object]
) -> None:
    origin.add("/f", **{"body": BODY, "etag": '"one"', "headers": [MAX_AGE], **script})
    for _ in range(2):
        await forebay.fetch("/f")
    await quiet(forebay)
    await idle_only(origin)


@pytest.mark.parametrize("goodbye", ["reset", "close"])
async def test_clients_that_leave_at_every_stage_leave_nothing_behind(
    tmp_path: Path, origin: Origin, no_leaks: None, goodbye: str
) -> None:
    # A client that only closes may still be reading: patience with it is kept short here.
    protocol = protocol_with(DoorLimits(half_close_seconds=0.1))
    async with running(tmp_path / "cache", origin, protocol=protocol) as service:
        stages: list[tuple[bytes, int]] = [
            (b"", 0),  # connected
            (b"GET /x HTTP/1.1\r\nHost: a", 0),  # in mid-head
            (_get(service, "/slow"), 0),  # has asked
            (_get(service, "/slow-private"), 0),
            (_get(service, "/held"), 1),  # has the head
            (_get(service, "/held"), 100_000),  # has some of the body
            (_get(service, "/held-private"), 100_000),
            (_post(service, "/up"), 0),  # in mid-upload
            (_get(service, "/held") * 3, 1),  # pipelines
        ]
        held, held_private = _scripts(origin)
        for _ in range(2):
            for octets, read in stages:
                await _leave_after(service, octets, read, goodbye)
        await asyncio.sleep(0.5)
        # Whoever were still connected would now be sent the rest.
        for resource in (held, held_private):
            resource.go_on.set()
        await quiet(service)
        assert "hit" in (await service.fetch("/held")).cache_status, "the fill went on"
        private = origin.requests_for("/held-private")
        assert len(private) == 2
        assert all(request.body_bytes_sent <= 200_000 for request in private)
    await origin.wait_for_connections(0)


async def test_stopping_the_service_closes_everything(tmp_path: Path) -> None:
    async with Origin() as origin, assert_no_leaks():
        origin.add("/held", body=BODY, etag='"one"', stall_at=100_000, headers=[MAX_AGE])
        origin.add("/private", body=BODY, stall_at=100_000, headers=[NO_STORE])
        origin.add("/never", body=BODY, head_delay_seconds=30.0)
        async with running(tmp_path / "cache", origin) as service:
            for path in ("/held", "/private"):
                download = await service.start(service.path(path))
                await download.read_until(1000)
            waiting = asyncio.create_task(service.start(service.path("/never")))
            await origin.wait_for_requests(3)
            for download in service.downloads:
                download.leave()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await origin.wait_for_connections(0)


async def test_what_was_fetched_before_a_stop_is_not_fetched_again(tmp_path: Path) -> None:
    async with Origin() as origin:
        resource = origin.add("/f", body=BODY, etag='"one"', stall_at=400_000, headers=[MAX_AGE])
        async with running(tmp_path / "cache", origin) as service:
            download = await service.start(service.path("/f"))
            await download.read_until(400_000)
            download.leave()
        resource.stall_at = None
        async with running(tmp_path / "cache", origin) as service:
            assert (await service.fetch("/f")).body == BODY
        assert [r.range for r in origin.requests] == [None, "bytes=400000-999999"]


async def test_one_connection_serves_one_request_after_another(
    forebay: Running, origin: Origin
) -> None:
    for number in range(5):
        origin.add(f"/{number}", body=BODY[:1000], headers=[MAX_AGE])
        await forebay.fetch(f"/{number}")
        await quiet(forebay)
    assert origin.connections_accepted == 1


async def test_a_kept_connection_that_died_costs_a_silent_retry(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/a", body=BODY, headers=[MAX_AGE])
    origin.add("/b", body=BODY, headers=[MAX_AGE], hang_up_reused=True)
    await forebay.fetch("/a")
    await quiet(forebay)
    assert (await forebay.fetch("/b")).body == BODY
    origin.drop_connections()
    origin.add("/c", body=BODY, headers=[MAX_AGE])
    assert (await forebay.fetch("/c")).body == BODY


# The plain ASGI path: the same application under uvicorn's own protocols.


@pytest.fixture(params=["h11", "httptools"])
async def plain(
    request: pytest.FixtureRequest, tmp_path: Path, origin: Origin, no_leaks: None
) -> AsyncIterator[Running]:
    async with running(tmp_path / "plain", origin, protocol=request.param) as service:
        yield service


async def test_the_plain_path_gives_the_same_bytes(
    plain: Running, forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=BODY, etag='"one"', headers=[MAX_AGE])
    origin.add("/p", body=BODY, headers=[NO_STORE])
    origin.add("/c", body=BODY, chunked=True, headers=[MAX_AGE])
    asked: list[tuple[str, tuple[str, ...], str]] = [
        ("/f", (), "GET"),
        ("/f", (), "GET"),
        ("/f", (), "HEAD"),
        ("/f", ("Range: bytes=10-1009",), "GET"),
        ("/f", ("Range: bytes=-7",), "GET"),
        ("/f", ("Range: bytes=2000000-",), "GET"),
        ("/f", ('If-None-Match: "one"',), "GET"),
        ("/f", ('If-Match: "two"',), "GET"),
        ("/p", (), "GET"),
        ("/c", (), "GET"),
        ("/none", (), "GET"),
    ]
    for path, lines, method in asked:
        ours = await forebay.fetch(path, *lines, method=method)
        theirs = await plain.fetch(path, *lines, method=method)
        assert (ours.status, ours.body, ours.whole) == (theirs.status, theirs.body, theirs.whole)
        assert _comparable(ours.fields) == _comparable(theirs.fields), (path, lines, method)


async def test_the_plain_path_streams_and_joins(plain: Running, origin: Origin) -> None:
    resource = origin.add("/f", body=BODY, etag='"one"', stall_at=500_000, headers=[MAX_AGE])
    first = await plain.start(plain.path("/f"))
    assert await first.read_until(500_000) == BODY[:500_000]
    late = await plain.start(plain.path("/f"))
    assert await late.read_until(500_000) == BODY[:500_000]
    late.leave()
    resource.go_on.set()
    assert await first.read_until(len(BODY)) == BODY
    assert len(origin.requests) == 1


async def test_the_plain_path_breaks_off_what_upstream_breaks_off(
    plain: Running, origin: Origin
) -> None:
    for script in ({"ranges": False}, {"chunked": True}):
        origin.add("/f", body=BODY, truncate_at=1000, headers=[MAX_AGE], **script)
        answer = await plain.fetch("/f")
        assert (answer.body, answer.whole) == (BODY[:1000], False)


def _comparable(fields: dict[str, str]) -> dict[str, str]:
    varying = {"age", "cache-status", "connection", "date"}
    return {name: value for name, value in fields.items() if name not in varying}


def _scripts(origin: Origin) -> tuple[Resource, Resource]:
    origin.add("/slow", body=BODY, head_delay_seconds=0.3, headers=[MAX_AGE])
    origin.add("/slow-private", body=BODY, head_delay_seconds=0.3, headers=[NO_STORE])
    origin.add("/up", body=b"done")
    return (
        origin.add("/held", body=BODY, etag='"one"', stall_at=200_000, headers=[MAX_AGE]),
        origin.add("/held-private", body=BODY, stall_at=200_000, headers=[NO_STORE]),
    )


def _get(service: Running, path: str) -> bytes:
    return f"GET {service.path(path)} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def _post(service: Running, path: str) -> bytes:
    head = f"POST {service.path(path)} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
    return head.encode() + b"some of it"


async def _leave_after(service: Running, octets: bytes, read: int, goodbye: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(octets)
    await writer.drain()
    count = 0
    while count < read:
        count += len(await asyncio.wait_for(reader.read(65536), PATIENCE_SECONDS))
    if not read:
        await asyncio.sleep(0.01)
    if goodbye == "reset":
        reset(writer)
    else:
        writer.close()
