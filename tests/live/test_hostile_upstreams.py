"""Upstreams that break HTTP, lie or never end, through the whole service over real sockets.

Each ends in the right status or a visible break, nothing of it is stored, and its connection
serves nobody else. ``forebay`` looks for leaks of descriptors and tasks behind each test.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.origin import Origin
from tests.live.running import Answer, Running, running
from tests.patience import PATIENCE_SECONDS

FRESH = b"Cache-Control: max-age=600\r\n"
OK = b"HTTP/1.1 200 OK\r\n" + FRESH
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MAX_AGE = ("cache-control", "max-age=600")


async def stored(service: Running) -> list[dict[str, object]]:
    """What is in the cache, partial or whole, once nothing is under way."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await service.admin("/-/transfers")).json()["transfers"]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    listed: list[dict[str, object]] = (await service.admin("/-/objects")).json()["objects"]
    return listed


REFUSED = {
    "lengths that differ": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "lengths in a list": OK + b"Content-Length: 2, 2\r\n\r\nab",
    "a negative length": OK + b"Content-Length: -2\r\n\r\nab",
    "a length with a sign": OK + b"Content-Length: +2\r\n\r\nab",
    "a length beyond numbers": OK + b"Content-Length: 99999999999999999999\r\n\r\nab",
    "length and chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked not alone": OK + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + 2 * b"Transfer-Encoding: chunked\r\n" + b"\r\n0\r\n\r\n",
    "an unknown coding": OK + b"Transfer-Encoding: xchunked\r\n\r\nab",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded field": OK + b"A: b\r\n c\r\nContent-Length: 2\r\n\r\nab",
    "a bare LF": OK + b"A: b\nSet-Cookie: evil\r\nContent-Length: 2\r\n\r\nab",
    "a bare CR": OK + b"A: b\rSet-Cookie: evil\r\nContent-Length: 2\r\n\r\nab",
    "a blank before the colon": OK + b"Content-Length : 2\r\n\r\nab",
    "NUL": OK + b"A: \x00\r\nContent-Length: 2\r\n\r\nab",
    "a control byte": OK + b"A: \x1b[2J\r\nContent-Length: 2\r\n\r\nab",
    "a name beyond ASCII": OK + b"\xc3\xa9: a\r\nContent-Length: 2\r\n\r\nab",
    "HTTP/0.9": b"<html>hello</html>",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nab",
    "a flood of fields": OK + b"A: b\r\n" * 50_000,
    "a field without end": OK + b"A: " + b"b" * 1_000_000,
    "interim answers without end": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000,
    "an offer to switch": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("close", [True, False], ids=["closes", "keeps"])
async def test_what_breaks_http_is_502_and_is_not_kept(
    forebay: Running, origin: Origin, close: bool
) -> None:
    for name, raw in REFUSED.items():
        if not close and b"\r\n\r\n" not in raw and len(raw) < 100_000:
            continue  # It might still go on: that is a matter of deadlines.
        origin.add("/f", raw=raw, close=close)
        before = origin.connections_accepted
        for _ in range(2):
            answer = await forebay.fetch("/f")
            assert answer.status == 502, name
            assert answer.fields["content-type"] == "application/problem+json", name
            assert "set-cookie" not in answer.fields, name
        assert origin.connections_accepted - before >= 2, name
    assert await stored(forebay) == []
    origin.drop_connections()


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 304 Not Modified\r\n" + FRESH + b"\r\n",
        b"HTTP/1.1 206 Part\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 302 Found\r\nLocation: /a\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://a\tb/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://u:p@a/\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["304", "206", "two locations", "tab", "file", "userinfo"],
)
async def test_what_answers_another_question_is_502_and_is_not_kept(
    forebay: Running, origin: Origin, raw: bytes
) -> None:
    origin.add("/f", raw=raw)
    for _ in range(2):
        assert (await forebay.fetch("/f")).status == 502
    assert len(origin.requests) == 2
    assert await stored(forebay) == []


CUT = {
    "fewer bytes than the length": OK + b"Content-Length: 9\r\n\r\nabc",
    "a chunk that ends early": CHUNKED + b"9\r\nabc",
    "no last chunk": CHUNKED + b"3\r\nabc\r\n",
    "a chunk size beyond numbers": CHUNKED + b"3\r\nabc\r\n"
    + b"F" * 17 + b"\r\nabc",
    "a negative chunk size": CHUNKED + b"3\r\nabc\r\n-3\r\nabc",
    "a chunk longer than its size": CHUNKED + b"3\r\nabcdef\r\n0\r\n\r\n",
    "chunks after bare LF": CHUNKED + b"3\nabc\n0\n\n",
    "a trailer without end": CHUNKED + b"3\r\nabc\r\n0\r\nX: "
    + b"x" * 500_000,
    "an extension without end": CHUNKED + b"3\r\nabc\r\n1;"
    + b"x" * 500_000,
}  # fmt: skip


async def test_a_body_that_breaks_is_seen_to_break_and_is_not_kept(
    forebay: Running, origin: Origin
) -> None:
    for number, (name, raw) in enumerate(CUT.items()):
        origin.add(f"/{number}", raw=raw, close=True)
        for _ in range(2):
            answer = await forebay.fetch(f"/{number}")
            assert answer.status == 502 or not answer.whole, name
            assert answer.status == 502 or b"abc".startswith(answer.body), name
        assert len(origin.requests_for(f"/{number}")) >= 2, "the second asked upstream again"
    assert not any(one["complete"] for one in await stored(forebay))


EVIL = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 4\r\n\r\nEVIL"


SPLIT = [
    OK + b"Content-Length: 2\r\n\r\nok" + EVIL,
    CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + EVIL,
    b"HTTP/1.1 204 No Content\r\n\r\n" + EVIL,
    b"HTTP/1.1 304 Not Modified\r\n\r\n" + EVIL,
    b"HTTP/1.1 302 Found\r\nLocation: /g\r\nContent-Length: 0\r\n\r\n" + EVIL,
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n" + EVIL,
]


async def test_a_split_response_answers_nobody_else(forebay: Running, origin: Origin) -> None:
    origin.add("/g", body=b"good", headers=[MAX_AGE])
    for number, raw in enumerate(SPLIT):
        path = f"/{number}"
        origin.add(path, raw=raw)
        for method in ("GET", "GET", "HEAD"):
            answer = await forebay.fetch(path, method=method)
            assert b"EVIL" not in answer.body, raw
            assert answer.status in {200, 204, 304, 404, 502}, raw
            fresh = await forebay.fetch(f"/g?{number}{method}")
            assert fresh.status == 404 or fresh.body == b"good"
            assert (await forebay.fetch("/g")).body == b"good", raw


async def test_a_compressed_bomb_stays_as_small_as_it_came(
    forebay: Running, origin: Origin
) -> None:
    bomb = await asyncio.to_thread(gzip.compress, b"\0" * 20_000_000)
    coding = ("content-encoding", "gzip")
    origin.add("/f", body=bomb, headers=[MAX_AGE, coding])
    for _ in range(2):
        answer = await forebay.fetch("/f")
        assert (answer.body, answer.fields["content-encoding"]) == (bomb, "gzip")
    sizes = [one["size_bytes"] for one in await stored(forebay)]
    assert len(sizes) == 1
    assert int(str(sizes[0])) < 2 * len(bomb)


LIES = [
    "bytes 0-99/100",
    "bytes 10-19/9",
    "bytes 11-20/100",
    "bytes 10-18/100",
    "bytes */100",
    "nonsense",
    "",
]


async def test_a_part_that_says_it_is_another_is_not_believed(
    forebay: Running, origin: Origin
) -> None:
    body = bytes(range(100))
    for number, lie in enumerate(LIES):
        script: dict[str, Any] = {"body": body, "etag": '"one"', "headers": [MAX_AGE]}
        path = f"/{number}"
        origin.add(path, **script, content_range=lie)
        answer = await forebay.fetch(path, "Range: bytes=10-19")
        assert answer.status == 502 or (answer.status, answer.body) == (200, body), lie
        origin.add(path, **script)
        assert (await forebay.fetch(path)).body == body
        assert (await forebay.fetch(path, "Range: bytes=10-19")).body == body[10:20]


async def test_redirects_without_end_end(forebay: Running, origin: Origin) -> None:
    origin.add("/a", redirect_to="/b")
    origin.add("/b", redirect_to="/a")
    assert (await forebay.fetch("/a")).status == 502
    assert len(origin.requests) <= 11


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Whatever is asked, a byte of a body now and then, without end."""
    await reader.readuntil(b"\r\n\r\n")
    length = b"Content-Length: 1000000\r\n\r\n"
    writer.write(OK + b'ETag: "one"\r\nAccept-Ranges: none\r\n' + length)
    with contextlib.suppress(OSError):
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.05)
    writer.close()


async def test_a_lone_upstream_that_drips_is_given_up_in_the_end(
    tmp_path: Path, origin: Origin, no_leaks: None
) -> None:
    tables = {"upstream": {"stall_timeout": 0.3, "min_rate": 1000}}
    mounts = [{"name": "drips", "upstream": "http://127.0.0.1:1/", "max_tries": 2}]
    server = await asyncio.start_server(_drip, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        mounts[0]["upstream"] = f"http://127.0.0.1:{port}/"
        async with running(tmp_path / "cache", origin, tables=tables, mounts=mounts) as service:
            async with asyncio.timeout(PATIENCE_SECONDS):
                answer: Answer = await service.get("/drips/f")
            assert (answer.status, answer.whole) == (200, False)
            assert set(answer.body) <= {ord("x")}
            assert not any(one["complete"] for one in await stored(service))


POLICY = ("content-security-policy", "default-src *")


@pytest.mark.parametrize("cache_control", ["max-age=600", "no-store"], ids=["hit", "passed"])
async def test_a_304_does_not_loosen_what_the_200_was_sandboxed_with(
    forebay: Running, origin: Origin, cache_control: str
) -> None:
    """A browser puts a 304's fields in the place of those it has stored (RFC 9111 §3.2), so that
    upstream's own policy would take the place of upstream's and ours."""
    fields = [("cache-control", cache_control), ("content-type", "text/html"), POLICY]
    origin.add("/f", body=b"<script>1</script>", etag='"1"', headers=fields)
    for _ in range(3):
        first = await forebay.fetch("/f")
        assert first.fields["content-security-policy"] == "default-src *, sandbox"
        again = await forebay.fetch("/f", 'If-None-Match: "1"')
        assert again.status == 304
        assert again.fields["x-content-type-options"] == "nosniff"
        assert not {"content-security-policy", "content-type"} & again.fields.keys()


@pytest.mark.parametrize(
    "name",
    ["use-as-dictionary", "set-login", "attribution-reporting-register-source",
     "attribution-reporting-register-trigger", "secure-session-registration",
     "sec-session-registration", "service-worker-allowed"],
)  # fmt: skip
@pytest.mark.parametrize("cache_control", ["max-age=600", "no-store"], ids=["hit", "passed"])
async def test_what_browsers_apply_to_a_whole_origin_reaches_none_of_ours(
    forebay: Running, origin: Origin, name: str, cache_control: str
) -> None:
    fields = [("cache-control", cache_control), (name, 'match="/*"')]
    origin.add("/f", body=b"x", headers=fields)
    for _ in range(2):
        assert name not in (await forebay.fetch("/f")).fields
