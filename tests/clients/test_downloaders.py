"""curl, wget and aria2c, as people use them: whole files, resumed ones, ranges and HEAD."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.clients.conftest import run
from tests.clients.printed import printed
from tests.fakes.origin import Origin
from tests.live.running import Running

pytestmark = pytest.mark.clients

BODY = random.Random(31).randbytes(8_000_000)
LARGE = BODY + BODY + BODY[:1_000_000]
"""Long enough for sixteen pieces of 1 MiB, the least that aria2c takes."""
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


async def prepare(state: str, service: Running, origin: Origin, body: bytes = BODY) -> None:
    """The object as the state says: unknown, complete, or arriving more slowly than it is read."""
    resource = origin.add("/file.bin", body=body, etag='"one"', headers=[MAX_AGE])
    if state == "warm":
        assert (await service.fetch("/file.bin")).body == body
    if state == "in flight":
        resource.pace_bytes_per_second = 20e6
        await (await service.start(service.path("/file.bin"))).read_until(1)


def assert_one_copy(origin: Origin, body: bytes = BODY) -> None:
    """One body has left the origin; what is more was in the sockets of those cut off in mid-air."""
    if len(origin.requests) == 1:
        assert origin.body_bytes_sent == len(body)
    assert len(body) <= origin.body_bytes_sent < 1.1 * len(body)


@pytest.mark.parametrize("state", STATES)
async def test_curl_resumes(tmp_path: Path, service: Running, origin: Origin, state: str) -> None:
    await prepare(state, service, origin)
    file = await begun(tmp_path)
    lines = (await printed("curl", service)).only("curl")
    line = lines.fill_in({"https://HOST/PATH": origin.url("/file.bin")})
    ran = await line.run(home=tmp_path)
    assert ran.status == 0, ran.output
    assert await read(file) == BODY
    if state == "cold":
        assert origin.body_bytes_sent == len(BODY) - KEPT
    elif state == "warm":
        assert origin.body_bytes_sent == len(BODY)
    else:
        assert_one_copy(origin)
    again = await line.run(home=tmp_path)
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
async def test_aria2c_with_sixteen_connections_costs_one_copy(
    tmp_path: Path, service: Running, origin: Origin, state: str
) -> None:
    await prepare(state, service, origin, LARGE)
    # As slow as a network: on loopback, sockets hold megabytes that nobody will read.
    origin.resources["/file.bin"].pace_bytes_per_second = 20e6
    ran = await run(
        "aria2c", "-q", "-x16", "-s16", "-k1M", "-d", str(tmp_path), "-o", "file.bin",
        url(service, origin), cwd=tmp_path,
    )  # fmt: skip
    assert ran.status == 0, ran.output
    assert await read(tmp_path / "file.bin") == LARGE
    # What the service took in: sockets of those cut off hold megabytes on a busy machine.
    taken_bytes = (await service.admin("/-/stats")).json()["upstream_bytes"]
    assert len(LARGE) <= taken_bytes < 1.1 * len(LARGE)


@pytest.mark.parametrize("state", STATES)
async def test_parallel_curls_cost_one_copy(
    tmp_path: Path, service: Running, origin: Origin, state: str
) -> None:
    await prepare(state, service, origin)
    # As slow as a network: on loopback, sockets hold megabytes that nobody will read.
    origin.resources["/file.bin"].pace_bytes_per_second = 20e6
    address = url(service, origin)
    given = [word for n in range(4) for word in ("-o", f"whole{n}", address)]
    parts = [
        word
        for n in range(4)
        for word in ("--next", "-sSf", "-r", f"{n * 2_000_000}-{n * 2_000_000 + 1_999_999}",
                     "-o", f"part{n}", address)
    ]  # fmt: skip
    ran = await run(
        "curl", "-sSf", "--parallel", "--parallel-immediate", *given, *parts, cwd=tmp_path
    )
    assert ran.status == 0, ran.output
    for n in range(4):
        assert await read(tmp_path / f"whole{n}") == BODY
        assert await read(tmp_path / f"part{n}") == BODY[n * 2_000_000 : (n + 1) * 2_000_000]
    # A body that is cut off in mid-air has some bytes in sockets already.
    assert len(BODY) <= origin.body_bytes_sent < 1.5 * len(BODY)


@pytest.mark.parametrize(
    ("disposition", "name"),
    [(None, "file.bin"), ('attachment; filename="model v1.bin"', "model v1.bin")],
)
async def test_a_download_has_the_name_that_its_origin_gives_it(
    tmp_path: Path, service: Running, origin: Origin, disposition: str | None, name: str
) -> None:
    headers = [MAX_AGE] if disposition is None else [MAX_AGE, ("content-disposition", disposition)]
    origin.add("/dir/file.bin", body=b"x", etag='"n"', headers=headers)
    origin.add("/latest", redirect_to=origin.url("/dir/file.bin"))
    here = f"http://127.0.0.1:{service.port}/"
    for state in ("cold", "hot"):
        for program, path in (("curl", "/dir/file.bin"), ("wget", "/dir/file.bin")):
            home = tmp_path / f"{state}-{program}"
            await asyncio.to_thread(home.mkdir)
            words = {
                "curl": ["curl", "-sSf", "-OJ"],
                "wget": ["wget", "-nv", "--content-disposition"],
            }[program]
            ran = await run(*words, here + origin.url(path), cwd=home)
            assert ran.status == 0, ran.output
            assert [file.name for file in await asyncio.to_thread(list, home.iterdir())] == [name]


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
    lines = (await printed("curl", service)).only("http_proxy")
    for _ in range(2):
        ran = await lines.run(
            "curl", "-sSf", "-o", str(out), origin.url("/file.bin"), home=tmp_path
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
