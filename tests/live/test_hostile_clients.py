"""Requests that no HTTP library sends, to the whole service; and what of them goes upstream."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.origin import Origin
from tests.live.running import Answer, Running
from tests.patience import PATIENCE_SECONDS

MAX_AGE = ("cache-control", "max-age=600")
NO_STORE = ("cache-control", "no-store")


async def send(service: Running, octets: bytes) -> bytes:
    """Everything that comes back before the connection ends, the client having said its last."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    try:
        writer.write(octets)
        return await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


def statuses(octets: bytes) -> list[int]:
    """Of each response in these octets, as far as status lines tell."""
    return [int(line[9:12]) for line in octets.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

DECEPTIVE = {
    "length and chunks": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "lengths in a list": b"Content-Length: 0, 44\r\n\r\n",
    "negative length": b"Content-Length: -1\r\n\r\n",
    "length in hex": b"Content-Length: 0x0\r\n\r\n",
    "length with a sign": b"Content-Length: +0\r\n\r\n",
    "length beyond numbers": b"Content-Length: 18446744073709551616\r\n\r\n",
    "chunked and identity": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "identity": b"Transfer-Encoding: identity\r\n\r\n",
    "chunked twice": 2 * b"Transfer-Encoding: chunked\r\n" + b"\r\n0\r\n\r\n",
    "chunked with a tab before": b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "coding with a blank before its colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "folded coding": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "bare LF": b"X: a\n\r\n\r\n",
    "bare CR": b"X: a\rContent-Length: 44\r\n\r\n",
    "NUL": b"X: \x00\r\n\r\n",
    "chunk size beyond numbers": b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 17 + b"\r\n",
    "negative chunk size": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    "chunk without its end": b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
}


async def test_what_two_servers_would_read_differently_is_400_and_the_end(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/up", body=b"ok", headers=[NO_STORE])
    head = f"POST {forebay.path('/up')} HTTP/1.1\r\nHost: a\r\n".encode()
    for name, fields in DECEPTIVE.items():
        answered = await send(forebay, head + fields + SMUGGLED)
        assert statuses(answered) == [400], name
        assert all(request.method != "POST" for request in origin.requests), name


BODIES = [
    b"Content-Length: 3\r\n\r\nabc",
    b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
]


async def test_a_body_where_none_belongs_is_refused_and_never_read_as_a_request(
    forebay: Running, origin: Origin
) -> None:
    for method in ("GET", "HEAD"):
        head = f"{method} {forebay.path('/f')} HTTP/1.1\r\nHost: a\r\n".encode()
        for fields in BODIES:
            answered = await send(forebay, head + fields + SMUGGLED)
            assert statuses(answered) == [400]
    assert origin.requests == []


ODD: list[tuple[bytes, set[int]]] = [
    (b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n", {400, 405}),
    (b"CONNECT http://127.0.0.1:1/ HTTP/1.1\r\nHost: a\r\n\r\n", {400, 405}),
    (b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", {400, 405}),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}),
    (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", {400, 505}),
    (b"GET /\r\n\r\n", {400}),
    (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", {200, 204, 400, 404}),
    (b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", {400, 404}),
    (b"GET ?x HTTP/1.1\r\nHost: a\r\n\r\n", {400, 404}),
    (b"GET //a/b HTTP/1.1\r\nHost: a\r\n\r\n", {400, 404}),
    (b"GET http:// HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
    (b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
    (b"GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n", {400}),
    (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", {400, 404}),
    (b"GET http://a:99999/ HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
    (b"GET http://a:+80/ HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
    (b"GET http://a:8_0/ HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
]


async def test_odd_targets_have_a_status_and_never_a_fault(
    forebay: Running, origin: Origin
) -> None:
    for octets, allowed in ODD:
        closing = octets.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
        answered = await send(forebay, closing)
        assert statuses(answered)[0] in allowed, octets
    assert origin.requests == []


async def test_the_host_field_counts_for_nothing_beside_an_address_in_full(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=b"right", headers=[MAX_AGE])
    reader, writer = await asyncio.open_connection("127.0.0.1", forebay.port)
    for host in ("evil.example", f"127.0.0.1:{forebay.port}"):
        writer.write(f"GET {origin.url('/f')} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answered = await asyncio.wait_for(reader.readuntil(b"right"), PATIENCE_SECONDS)
        assert statuses(answered) == [200]
    writer.transport.abort()
    assert [r.fields.get("host") for r in origin.requests] == [f"127.0.0.1:{origin.port}"]


POISON = (
    "X-Forwarded-For: 10.0.0.1",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Proto: gopher",
    "Forwarded: host=evil.example",
    "X-Original-URL: /admin",
    "X-Rewrite-URL: /admin",
    "X-Host: evil.example",
    "X-HTTP-Method-Override: DELETE",
    "Cookie: session=1",
    "Origin: http://evil.example",
    "Referer: http://evil.example/",
    "User-Agent: evil",
    "Accept-Language: tlh",
    "Accept-Encoding: br",
    "If-None-Match: *",
    "X-Anything: evil",
    "TE: trailers",
    "Connection: close, X-Anything",
    "Proxy-Authorization: Basic eA==",
)
OURS = {"host", "user-agent", "accept-encoding", "via"}


async def test_of_a_request_that_is_shared_nothing_goes_upstream_but_what_is_in_the_key(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=b"shared", etag='"one"', headers=[MAX_AGE])
    answer: Answer = await forebay.fetch("/f", *POISON, "Accept: text/html")
    assert answer.status in {200, 304, 412}
    fields = origin.requests[0].fields
    assert {name for name, _ in fields} - OURS == {"accept"}
    assert fields.get("host") == f"127.0.0.1:{origin.port}"
    assert fields.get("accept-encoding") == "identity"
    assert "evil" not in repr(fields)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_past_the_cache_a_short_list_goes_upstream(
    forebay: Running, origin: Origin, method: str
) -> None:
    origin.add("/f", body=b"alone", headers=[NO_STORE])
    await forebay.fetch("/f")
    await forebay.fetch("/f", *POISON, "Authorization: Basic eA==", method=method)
    fields = origin.requests[-1].fields
    assert {name for name, _ in fields} - OURS <= {"accept", "authorization", "if-none-match"}
    assert "evil" not in repr(fields)


async def test_a_head_with_anything_in_it_changes_nothing_for_others(
    forebay: Running, origin: Origin
) -> None:
    origin.add("/f", body=b"shared", etag='"one"', headers=[("cache-control", "max-age=0")])
    await forebay.fetch("/f")
    await forebay.fetch("/f", *POISON, method="HEAD")
    assert "evil" not in repr([request.fields for request in origin.requests])
