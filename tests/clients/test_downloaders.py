"""curl, wget and aria2c, as people use them: whole files, resumed ones, ranges and HEAD."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.clients.conftest import run
from tests.fakes.origin import Origin
from tests.live.running import Running

pytestmark = pytest.mark.clients

BODY = random.Random(31).randbytes(8_000_000)
MAX_AGE = ("cache-control", "max-age=600")
KEPT = 3_000_000
STATES = ["cold", "warm", "in flight"]


def url(service: Running, origin: Origin) -> str:
    return f"http://127.0.0.1:{service.port}/{origin.url('/file.bin')}"


async def begun(tmp_path: Path) -> Path:
    """The first part of the file, as a download that broke off leaves it."""
    file = tmp_path / "file.bin"
    await asyncio.to_thread(file.write_bytes, BODY[:KEPT])
    return file


async def read(file: Path) -> bytes:
    return await asyncio.to_thread(file.read_bytes)


async def prepare(state: str, service: Running, origin: Origin) -> None:
    """The object as the state says: unknown, complete, or arriving more slowly than it is read."""
    resource = origin.add("/file.bin", body=BODY, etag='"one"', headers=[MAX_AGE])
    if state == "warm":
        assert (await service.fetch("/file.bin")).body == BODY
    if state == "in flight":
        resource.pace_bytes_per_second = 20e6
        await (await service.start(service.path("/file.bin"))).read_until(1)


def assert_one_copy(origin: Origin) -> None:
    """One body has left the origin; what is more was in the sockets of those cut off in mid-air."""
    if len(origin.requests) == 1:
        assert origin.body_bytes_sent == len(BODY)
    assert len(BODY) <= origin.body_bytes_sent < 1.1 * len(BODY)


@pytest.mark.parametrize("state", STATES)
async def test_curl_resumes(tmp_path: Path, service: Running, origin: Origin, state: str) -> None:
    await prepare(state, service, origin)
    file = await begun(tmp_path)
    ran = await run(
        "curl", "-sS", "-f", "-C", "-", "-o", str(file), url(service, origin), cwd=tmp_path
    )
    assert ran.status == 0, ran.output
    assert await read(file) == BODY
    if state == "cold":
        assert origin.body_bytes_sent == len(BODY) - KEPT
    elif state == "warm":
        assert origin.body_bytes_sent == len(BODY)
    else:
        assert_one_copy(origin)
    again = await run("curl", "-sS", "-C", "-", "-o", str(file), url(service, origin), cwd=tmp_path)
    assert again.status == 0, "a finished file lives off the 416"
    assert await read(file) == BODY


@pytest.mark.parametrize("state", STATES)
async def test_wget_continues(tmp_path: Path, service: Running, origin: Origin, state: str) -> None:
    await prepare(state, service, origin)
    file = await begun(tmp_path)
    ran = await run("wget", "-nv", "-c", "-O", str(file), url(service, origin), cwd=tmp_path)
    assert ran.status == 0, ran.output
    assert await read(file) == BODY


@pytest.mark.parametrize("state", STATES)
async def test_aria2c_with_eight_connections_costs_one_copy(
    tmp_path: Path, service: Running, origin: Origin, state: str
) -> None:
    await prepare(state, service, origin)
    ran = await run(
        "aria2c", "-q", "-x8", "-s8", "-k1M", "-d", str(tmp_path), "-o", "file.bin",
        url(service, origin), cwd=tmp_path,
    )  # fmt: skip
    assert ran.status == 0, ran.output
    assert await read(tmp_path / "file.bin") == BODY
    assert_one_copy(origin)


async def test_curl_sees_the_head_and_the_parts_it_asks_for(
    tmp_path: Path, service: Running, origin: Origin
) -> None:
    await prepare("cold", service, origin)
    head = await run("curl", "-sS", "-I", url(service, origin), cwd=tmp_path)
    lines = head.output.lower()
    assert f"content-length: {len(BODY)}" in lines
    assert 'etag: "one"' in lines
    assert origin.body_bytes_sent == 0
    out = tmp_path / "part"
    await run("curl", "-sS", "-r", "-1000", "-o", str(out), url(service, origin), cwd=tmp_path)
    assert await read(out) == BODY[-1000:]
    await run("curl", "-sS", "-r", "5-9", "-o", str(out), url(service, origin), cwd=tmp_path)
    assert await read(out) == BODY[5:10]


async def test_curl_through_us_as_a_proxy(tmp_path: Path, service: Running, origin: Origin) -> None:
    await prepare("cold", service, origin)
    out = tmp_path / "out"
    for _ in range(2):
        ran = await run(
            "curl", "-sS", "-f", "-x", f"http://127.0.0.1:{service.port}", "-o", str(out),
            origin.url("/file.bin"), cwd=tmp_path,
        )  # fmt: skip
        assert ran.status == 0, ran.output
        assert await read(out) == BODY
    assert origin.body_bytes_sent == len(BODY)


async def test_curl_notices_a_file_that_breaks_off(
    tmp_path: Path, service: Running, origin: Origin
) -> None:
    origin.add("/file.bin", body=BODY, ranges=False, truncate_at=1_000_000)
    ran = await run("curl", "-sS", "-o", "out", url(service, origin), cwd=tmp_path)
    assert ran.status in {18, 56}, ran.output
