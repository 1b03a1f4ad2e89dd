"""Requests with bodies, straight through: streamed, held back, cut and answered early."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias, cast

from tests.fakes.origin import Origin
from tests.fakes.spoken import spoken
from tests.live.running import Running, reset, running
from tests.patience import PATIENCE_SECONDS

Handler: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = spoken("200 OK", "Connection: close")


@asynccontextmanager
async def _before(tmp_path: Path, handler: Handler) -> AsyncIterator[Running]:
    """A service whose one mount leads to an origin that does this with each connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
            await writer.drain()
        finally:
            writer.close()

    origin = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = origin.sockets[0].getsockname()[1]
    mounts = [{"name": "m", "upstream": f"http://127.0.0.1:{port}/"}]
    async with running(tmp_path / "cache", cast("Origin", None), mounts=mounts) as front:
        yield front
    origin.close()


@asynccontextmanager
async def _posting(
    front: Running, length: int, *lines: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    head = ["POST /m/f HTTP/1.1", "Host: x", f"Content-Length: {length}", *lines, "", ""]
    writer.write("\r\n".join(head).encode())
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield reader, writer
    finally:
        writer.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def test_a_large_body_arrives_as_sent_and_the_connection_serves_on(
    tmp_path: Path, no_leaks: None
) -> None:
    body = random.Random(8).randbytes(3_000_000)

    async def digest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _head(reader)
        found = hashlib.sha256(await reader.readexactly(len(body))).hexdigest()
        writer.write(spoken("200 OK", "Connection: close", body=found.encode()))

    async with _before(tmp_path, digest) as front, _posting(front, len(body)) as (reader, writer):
        writer.write(body)
        assert (await _head(reader)).startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(64) == hashlib.sha256(body).hexdigest().encode()
        writer.write(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await _head(reader)).startswith(b"HTTP/1.1 404 ")


async def test_a_client_that_leaves_in_mid_body_is_seen_to_upstream(
    tmp_path: Path, no_leaks: None
) -> None:
    began, cut = asyncio.Event(), asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _head(reader)
        await reader.readexactly(10)
        began.set()
        try:
            await reader.readexactly(990)
        except (asyncio.IncompleteReadError, ConnectionError):
            cut.set()

    async with _before(tmp_path, take) as front, _posting(front, 1000) as (_, writer):
        writer.write(b"x" * 10)
        await began.wait()
        reset(writer)
        await cut.wait()


async def test_an_answer_that_comes_before_the_body_reaches_the_client(
    tmp_path: Path, no_leaks: None
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _head(reader)
        writer.write(spoken("413 Too Large", "Connection: close"))

    async with _before(tmp_path, refuse) as front, _posting(front, 10**9) as (reader, writer):
        writer.write(b"x" * 1000)
        assert (await _head(reader)).startswith(b"HTTP/1.1 413 ")
        assert await reader.readexactly(5) == b"hello"


async def test_a_client_that_waits_for_100_gets_upstreams(tmp_path: Path, no_leaks: None) -> None:
    asked: list[bytes] = []

    async def agree(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await _head(reader))
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        asked.append(await reader.readexactly(3))
        writer.write(OK)

    expect = "Expect: 100-continue"
    async with _before(tmp_path, agree) as front, _posting(front, 3, expect) as (reader, writer):
        assert await _head(reader) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await _head(reader)).startswith(b"HTTP/1.1 200 ")
    assert b"\r\nexpect: 100-continue\r\n" in asked[0].lower()
    assert asked[1] == b"abc"


async def test_a_client_that_waits_for_100_is_refused_before_it_sends(
    tmp_path: Path, no_leaks: None
) -> None:
    rest: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _head(reader)
        writer.write(spoken("401 Unauthorized"))
        rest.set_result(await reader.read())

    expect = "Expect: 100-continue"
    async with _before(tmp_path, refuse) as front:
        async with _posting(front, 3, expect) as (reader, _):
            assert (await _head(reader)).startswith(b"HTTP/1.1 401 ")
        assert await asyncio.wait_for(rest, PATIENCE_SECONDS) == b""


async def test_an_upstream_that_knows_no_100_gets_the_body_all_the_same(
    tmp_path: Path, no_leaks: None
) -> None:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _head(reader)
        await reader.readexactly(3)
        writer.write(OK)

    expect = "Expect: 100-continue"
    async with _before(tmp_path, take) as front, _posting(front, 3, expect) as (reader, writer):
        assert (await _head(reader)).startswith(b"HTTP/1.1 100 ")
        writer.write(b"abc")
        assert (await _head(reader)).startswith(b"HTTP/1.1 200 ")
