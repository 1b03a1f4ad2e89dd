"""RFC 9111 over sockets: upstream's octets in, the client's octets out. A table for each section.

The rules have the same tables without sockets in ``tests/rules``; here it is proved that nothing
between the sockets undoes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TypeAlias, cast

import pytest

from tests.fakes.origin import Origin
from tests.fakes.spoken import SpokenOrigin, at, spoken
from tests.live.running import Running, running
from tests.patience import PATIENCE_SECONDS

Case: TypeAlias = tuple[tuple[str, ...], bool]
"""Status and fields of the first answer, and whether it may answer the second request."""

CC = "Cache-Control: "
STORED_BY_DEFAULT = frozenset({200, 203, 300, 301, 308, 405, 414, 501})
STATUSES = (
    *(200, 201, 202, 203, 299, 300, 301, 302, 303, 305, 307, 308, 399, 400, 401, 403, 404, 405),
    *(410, 411, 413, 414, 418, 422, 429, 451, 499, 500, 501, 502, 503, 504, 505, 599, 600, 999),
)


@pytest.fixture
async def spoken_origin() -> AsyncIterator[SpokenOrigin]:
    async with SpokenOrigin() as origin:
        yield origin


@pytest.fixture
async def front(
    tmp_path: Path, spoken_origin: SpokenOrigin, no_leaks: None
) -> AsyncIterator[Running]:
    """A service with one mount of which nothing but its upstream is said."""
    mounts = [{"name": "m", "upstream": spoken_origin.url()}]
    unused = cast("Origin", None)
    async with running(tmp_path / "cache", unused, mounts=mounts) as service:
        yield service


async def _reused(front: Running, origin: SpokenOrigin, cases: Sequence[Case]) -> list[str]:
    """The cases of which the second request is not answered as it should."""
    wrong = []
    for number, (said, expected) in enumerate(cases):
        path = f"/{number}"
        status, *lines = said
        date = next((line[6:] for line in lines if line.startswith("Date: ")), "now")
        rest = [line for line in lines if not line.startswith("Date: ")]
        origin.say(path, spoken(status, *rest, date=date))
        for _ in range(2):
            answer = await front.get("/m" + path)
            assert (answer.body, answer.whole) == (b"hello", True)
        if (len(origin.asked[path]) == 1) is not expected:
            wrong.append(f"{said} reused={not expected}: {answer.cache_status}")
    return wrong


async def test_freshness(front: Running, spoken_origin: SpokenOrigin) -> None:
    directives = {
        "max-age=60": True,
        'MAX-AGE="60"': True,
        "max-age=99999999999999": True,
        "max-age=60, max-age=0": False,
        "max-age = 60": False,
        "max-age=-1": False,
        "max-age=60.0": False,
        "max-age=0, s-maxage=60": True,
        "max-age=60, s-maxage=0": False,
        'foo="a, max-age=0", max-age=60': True,
        'max-age=60, no-store="x"': False,
        'max-age=60, "no-store': False,
        "max-age=60, private": False,
        'max-age=60, private="x-y"': True,
        "max-age=60, no-cache": False,
        'max-age=60, no-cache="x-y"': True,
        "must-understand, no-store, max-age=60": True,
        "public": False,
        "immutable": False,
    }
    cases: list[Case] = [(("200 OK", CC + value), reused) for value, reused in directives.items()]
    expires = {
        at(60): True,
        at(60).lower(): True,
        "Thursday, 18-Aug-50 02:01:18 GMT": True,
        "Thu Aug 18 02:01:18 2050": True,
        at(60).replace("GMT", "UTC"): False,
        at(60).replace("GMT", "+0000"): False,
        f"{at(60)}, {at(60)}": False,
        "Thu, 18 Aug 50 02:01:18 GMT": False,
        "0": False,
        "": False,
    }
    cases += [(("200 OK", f"Expires: {value}"), reused) for value, reused in expires.items()]
    ages = {"30": True, "90": False, "2147483648": False, "9" * 30: False, "90, 0": False}
    cases += [(("200 OK", CC + "max-age=60", f"Age: {v}"), reused) for v, reused in ages.items()]
    cases += [
        (("200 OK", f"Expires: {at(60)}", f"Expires: {at(60)}"), False),
        (("200 OK", CC + "max-age=60", f"Expires: {at(-60)}"), True),
        (("200 OK", CC + "max-age=60", f"Date: {at(-100)}"), False),
        (("200 OK", f"Expires: {at(1100)}", f"Date: {at(1000)}"), True),
        (("200 OK", f"Expires: {at(500)}", f"Date: {at(1000)}"), False),
        (("200 OK", CC + "max-age=60", "Age: 90", "Age: 0"), False),
        (("200 OK", CC + "max-age=60", "Vary: x, *"), False),
        (("200 OK", CC + "max-age=60", "Vary: x", "Vary: *"), False),
        (("200 OK", CC + "no-store", "CDN-Cache-Control: max-age=60"), True),
        (("200 OK", CC + "max-age=60", "CDN-Cache-Control: no-store"), False),
        (("200 OK", CC + "max-age=60", "CDN-Cache-Control: &&, no-store"), True),
        (("200 OK", CC + "max-age=60", "Set-Cookie: a=b"), False),
    ]
    assert await _reused(front, spoken_origin, cases) == []


async def test_which_statuses_are_stored(front: Running, spoken_origin: SpokenOrigin) -> None:
    modified = f"Last-Modified: {at(-864_000)}"
    cases: list[Case] = [((f"{status} X", CC + "max-age=60"), True) for status in STATUSES]
    cases += [((f"{status} X",), False) for status in STATUSES]
    cases += [((f"{code} X", modified), code in STORED_BY_DEFAULT) for code in STATUSES]
    assert await _reused(front, spoken_origin, cases) == []


async def test_a_304_updates_what_it_may(front: Running, spoken_origin: SpokenOrigin) -> None:
    first = spoken("200 OK", CC + "max-age=1", "Age: 5", 'ETag: "a\xe9"', "X-A: 1", "X-B: 1")
    lines = (CC + "max-age=60", 'ETag: "a\xe9"', "X-A: 2", "Content-Encoding: gzip")
    told = spoken("304 Not Modified", *lines, "Content-Range: bytes 0-1/9", body=b"")
    spoken_origin.say("/f", first, told.replace(b"Content-Length: 0", b"Content-Length: 99"))
    await front.get("/m/f")
    for _ in range(2):
        answer = await front.get("/m/f")
        assert (answer.status, answer.body, answer.whole) == (200, b"hello", True)
        assert (answer.fields["x-a"], answer.fields["x-b"]) == ("2", "1")
        assert not {"content-encoding", "content-range"} & answer.fields.keys()
    asked = spoken_origin.asked["/f"]
    assert [fields.get("if-none-match") for fields in asked] == [None, '"a\xe9"']


async def test_credentials_are_shared_by_leave_only(
    front: Running, spoken_origin: SpokenOrigin
) -> None:
    for number, (value, asked) in enumerate({"max-age=60": 2, "s-maxage=60": 1}.items()):
        spoken_origin.say(f"/{number}", spoken("200 OK", CC + value))
        for name in ("anna", "bert"):
            answer = await front.get(f"/m/{number}", f"Authorization: {name}")
            assert answer.body == b"hello"
        assert len(spoken_origin.asked[f"/{number}"]) == asked


# Interim responses (RFC 9110 §15.2, RFC 8297).

HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nSet-Cookie: a=b\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"


async def _octets(front: Running, line: str) -> bytes:
    """All that comes for a request whose line is this, until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    writer.write(f"{line}\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    try:
        return await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
    finally:
        writer.close()


@pytest.mark.parametrize("line", [CC + "max-age=60", CC + "no-store"])
async def test_early_hints_reach_the_client_who_waits_and_are_not_kept(
    front: Running, spoken_origin: SpokenOrigin, line: str
) -> None:
    spoken_origin.say("/f", HINT + PROCESSING + HINT + spoken("200 OK", line), spoken("200 OK"))
    heads = (await _octets(front, "GET /m/f HTTP/1.1")).split(b"\r\n\r\n")
    hint = b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload"
    assert heads[:2] == [hint, hint]
    assert heads[2].startswith(b"HTTP/1.1 200 OK\r\n")
    assert heads[3] == b"hello"
    assert (await _octets(front, "GET /m/f HTTP/1.1")).startswith(b"HTTP/1.1 200 ")


async def test_an_early_hint_does_not_wait_for_the_answer(tmp_path: Path, no_leaks: None) -> None:
    answer_now = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HINT)
        await answer_now.wait()
        writer.write(spoken("200 OK", "Connection: close"))
        await writer.drain()
        writer.close()

    origin = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = origin.sockets[0].getsockname()[1]
    mounts = [{"name": "m", "upstream": f"http://127.0.0.1:{port}/"}]
    async with running(tmp_path / "cache", cast("Origin", None), mounts=mounts) as front:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(b"POST /m/f HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        hint = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        assert hint.startswith(b"HTTP/1.1 103 ")
        answer_now.set()
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        assert head.startswith(b"HTTP/1.1 200 ")
        writer.close()
    origin.close()


async def test_clients_of_http_1_0_get_no_interim_response(
    front: Running, spoken_origin: SpokenOrigin
) -> None:
    spoken_origin.say("/f", HINT + spoken("200 OK"))
    assert (await _octets(front, "GET /m/f HTTP/1.0")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_endless_interim_responses_end_in_502(
    front: Running, spoken_origin: SpokenOrigin
) -> None:
    spoken_origin.say("/f", HINT * 1000)
    octets = await _octets(front, "GET /m/f HTTP/1.1")
    assert octets.count(b"HTTP/1.1 103 ") == 16
    assert b"HTTP/1.1 502 " in octets
