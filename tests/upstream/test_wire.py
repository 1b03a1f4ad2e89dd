"""The client over real sockets: what the field's traps were, each as a test that holds."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import ssl
from collections.abc import AsyncIterator

import pytest

from forebay.errors import (
    ForebayError,
    InvalidTarget,
    Overloaded,
    TargetForbidden,
    UpstreamMisbehaved,
    UpstreamTimeout,
    UpstreamTooSlow,
    UpstreamUnreachable,
)
from forebay.model import Ask, Fields, Octets
from forebay.upstream.client import HttpxUpstream
from forebay.upstream.slabs import SLAB_BYTES
from forebay.upstream.wire import HIGH_WATER_BYTES
from tests.fakes.origin import Origin, OriginRequest, Resource
from tests.fakes.tls import server_context
from tests.patience import PATIENCE_SECONDS
from tests.upstream.conftest import MakeUpstream, open_guard, raw_server

BODY = bytes(range(256)) * 400


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as server:
        yield server


async def fetch(upstream: HttpxUpstream, url: str, method: str = "GET") -> bytes:
    async with upstream.open(Ask(url, method=method)) as response:
        return b"".join([piece async for piece in response.chunks()])


async def text_of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


# bodies


@pytest.mark.parametrize(
    ("script", "framed"),
    [({}, True), ({"chunked": True}, True), ({"content_length": False}, False)],
)
async def test_bodies_arrive_whole_however_they_are_framed(
    origin: Origin, upstream: HttpxUpstream, script: dict[str, bool], framed: bool
) -> None:
    origin.add("/f", body=BODY, **script)
    async with upstream.open(Ask(origin.url("/f"))) as response:
        assert response.framed is framed
        assert b"".join([piece async for piece in response.chunks()]) == BODY


async def test_encoded_bodies_are_not_inflated(origin: Origin, upstream: HttpxUpstream) -> None:
    origin.add("/f", body=b"x" * 300_000, gzip=True)
    assert len(await fetch(upstream, origin.url("/f"))) < 3000


async def test_a_large_body_does_not_gather_for_a_slow_reader(
    origin: Origin, upstream: HttpxUpstream
) -> None:
    origin.add("/f", body=b"x" * (40 * HIGH_WATER_BYTES))
    async with upstream.open(Ask(origin.url("/f"))) as response:
        chunks = response.chunks()
        size = len(await anext(chunks))
        sent = -1
        while sent != origin.body_bytes_sent:  # until the origin can send no more
            sent = origin.body_bytes_sent
            await asyncio.sleep(0.05)
        assert sent < 20 * HIGH_WATER_BYTES  # our bound, and what the kernel's buffers hold
        async for piece in chunks:
            size += len(piece)
        assert size == 40 * HIGH_WATER_BYTES


@pytest.mark.parametrize("chunked", [False, True])
async def test_pieces_that_are_held_are_not_written_over(
    origin: Origin, upstream: HttpxUpstream, chunked: bool
) -> None:
    bodies = {f"/{n}": random.Random(n).randbytes(3 * SLAB_BYTES + n) for n in range(1, 5)}
    for path, body in bodies.items():
        origin.add(path, body=body, chunked=chunked)

    async def pieces_of(path: str) -> list[Octets]:
        async with upstream.open(Ask(origin.url(path))) as response:
            return [piece async for piece in response.chunks()]

    held = await asyncio.gather(*map(pieces_of, bodies))

    assert [b"".join(pieces) for pieces in held] == list(bodies.values())


async def test_what_has_come_and_was_not_read_is_told_wherever_it_waits(
    origin: Origin, upstream: HttpxUpstream
) -> None:
    body = b"x" * (HIGH_WATER_BYTES + 500_000)
    origin.add("/f", body=body)
    async with upstream.open(Ask(origin.url("/f"))) as response, asyncio.timeout(PATIENCE_SECONDS):
        while response.unread_bytes <= HIGH_WATER_BYTES:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)
        assert response.unread_bytes <= len(body)
        assert b"".join([piece async for piece in response.chunks()]) == body
        assert response.unread_bytes == 0
    assert response.unread_bytes == 0


@pytest.mark.parametrize("size_bytes", [0, 1, 60_000])
async def test_a_body_that_has_come_whole_is_told_and_read_without_waiting(
    origin: Origin, upstream: HttpxUpstream, size_bytes: int
) -> None:
    origin.add("/f", body=BODY[:size_bytes])
    for _ in range(2):
        async with upstream.open(Ask(origin.url("/f"))) as response:
            assert await response.is_here(20)
            assert b"".join([piece async for piece in response.chunks()]) == BODY[:size_bytes]
            assert not await response.is_here(0), "the connection may be another's by now"
    assert origin.connections_accepted == 1


async def test_a_body_that_is_late_is_not_here_and_comes_all_the_same(
    origin: Origin, upstream: HttpxUpstream
) -> None:
    resource = origin.add("/f", body=BODY, stall_at=1000)
    async with upstream.open(Ask(origin.url("/f"))) as response:
        assert not await response.is_here(0.01)
        resource.go_on.set()
        assert b"".join([piece async for piece in response.chunks()]) == BODY


@pytest.mark.parametrize(
    ("octets", "is_here"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", False),
    ],
)
async def test_only_a_body_whose_end_is_proved_is_here(
    upstream: HttpxUpstream, octets: bytes, is_here: bool
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(octets)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async with raw_server(handle) as url, upstream.open(Ask(url)) as response:
        assert await response.is_here(20) is is_here


async def test_a_head_request_needs_no_body_and_keeps_its_connection(
    origin: Origin, upstream: HttpxUpstream
) -> None:
    origin.add("/f", body=BODY)
    for _ in range(2):
        async with upstream.open(Ask(origin.url("/f"), method="HEAD")) as response:
            assert response.head.fields.get("content-length") == str(len(BODY))
            assert [piece async for piece in response.chunks()] == []
    assert origin.connections_accepted == 1


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ({"truncate_at": 1000}, UpstreamMisbehaved),
        ({"truncate_at": 1000, "chunked": True}, UpstreamMisbehaved),
        ({"truncate_at": 0}, UpstreamMisbehaved),
        ({"reset_at": 1000}, UpstreamUnreachable),
        ({"reset_at": 1000, "content_length": False}, UpstreamUnreachable),
        ({"stall_at": 1000}, UpstreamTimeout),
        ({"stall_at": 0}, UpstreamTimeout),
        ({"surplus": b"EVIL"}, UpstreamMisbehaved),
    ],
)
async def test_a_body_that_ends_wrongly_is_an_error_and_leaves_nothing_open(
    origin: Origin,
    make_upstream: MakeUpstream,
    script: dict[str, object],
    error: type[ForebayError],
) -> None:
    upstream = make_upstream(stall_timeout_seconds=0.2)
    origin.add("/f", body=BODY, **script)
    received = bytearray()

    async def read() -> None:
        async with upstream.open(Ask(origin.url("/f"))) as response:
            async for piece in response.chunks():
                received.extend(piece)

    with pytest.raises(error):
        await read()
    assert BODY.startswith(bytes(received))
    await origin.wait_for_connections(0)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100_000,
        b"HTTP/1.1 103 Early\r\n\r\n" * 1000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
    ],
)
async def test_an_answer_that_breaks_http_is_misbehaviour(
    origin: Origin, upstream: HttpxUpstream, raw: bytes
) -> None:
    origin.add("/f", raw=raw, close=True)
    with pytest.raises(UpstreamMisbehaved):
        await fetch(upstream, origin.url("/f"))
    await origin.wait_for_connections(0)


async def test_interim_answers_are_told_apart(origin: Origin, upstream: HttpxUpstream) -> None:
    final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    origin.add("/f", raw=b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + final)
    async with upstream.open(Ask(origin.url("/f"))) as response:
        assert (response.head.status, "link" in response.head.fields) == (200, False)
        assert [head.status for head in response.interim] == [103]
        assert [piece async for piece in response.chunks()] == [b"ok"]


async def test_a_dripping_head_has_one_deadline(
    origin: Origin, make_upstream: MakeUpstream
) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for octet in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000:
            writer.write(bytes([octet]))
            await asyncio.sleep(0.05)

    upstream = make_upstream(stall_timeout_seconds=0.3)
    async with asyncio.timeout(PATIENCE_SECONDS), raw_server(drip) as url:
        with pytest.raises(UpstreamTimeout):
            await fetch(upstream, url)


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body of a byte now and then, without end."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"1\r\nx\r\n")
        await asyncio.sleep(0.02)


async def test_a_body_that_drips_without_end_ends_here(make_upstream: MakeUpstream) -> None:
    upstream = make_upstream(stall_timeout_seconds=0.2, min_rate_bytes=1000)
    async with asyncio.timeout(PATIENCE_SECONDS), raw_server(drip) as url:
        with pytest.raises(UpstreamTooSlow):
            await fetch(upstream, url)


async def test_who_reads_slowly_does_not_call_the_upstream_slow(
    origin: Origin, make_upstream: MakeUpstream
) -> None:
    upstream = make_upstream(stall_timeout_seconds=0.2, min_rate_bytes=1_000_000)
    body = BODY * 40
    origin.add("/f", body=body)
    received = bytearray()
    async with upstream.open(Ask(origin.url("/f"))) as response:
        async for piece in response.chunks():
            received += piece
            await asyncio.sleep(0.05 if len(received) < len(body) // 4 else 0)
    assert bytes(received) == body


# connections


async def test_surplus_bytes_never_become_the_answer_to_another_request(
    origin: Origin, upstream: HttpxUpstream
) -> None:
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
    origin.add("/attack", body=b"x", surplus=evil)
    origin.add("/chunked", body=b"x", chunked=True, surplus=evil)
    origin.add("/head", body=b"", surplus=evil)
    origin.add("/victim", body=b"good")
    for path, method in (("/attack", "GET"), ("/chunked", "GET"), ("/head", "HEAD")):
        with contextlib.suppress(UpstreamMisbehaved):
            await fetch(upstream, origin.url(path), method)
        for _ in range(2):
            assert await fetch(upstream, origin.url("/victim")) == b"good"


async def test_surplus_that_comes_later_closes_the_idle_connection(
    origin: Origin, upstream: HttpxUpstream
) -> None:
    connections: list[asyncio.Event] = []
    speak = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closed = asyncio.Event()
        connections.append(closed)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
        await speak.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")
        assert await reader.read() == b""  # closed by the client, which asked nothing more
        closed.set()

    async with asyncio.timeout(PATIENCE_SECONDS), raw_server(serve) as url:
        assert await fetch(upstream, url) == b"x"
        speak.set()
        await connections[0].wait()
        speak.clear()
        assert await fetch(upstream, url) == b"x"
        assert len(connections) == 2


async def test_connections_are_kept_and_used_again(origin: Origin, upstream: HttpxUpstream) -> None:
    origin.add("/f", body=b"abc")
    for _ in range(5):
        assert await fetch(upstream, origin.url("/f")) == b"abc"
    assert (origin.connections_accepted, origin.open_connections) == (1, 1)


async def test_a_response_left_unread_does_not_cost_its_connection_if_it_is_all_there(
    origin: Origin, upstream: HttpxUpstream
) -> None:
    origin.add("/f", body=b"abc")
    async with upstream.open(Ask(origin.url("/f"))) as response:
        await asyncio.sleep(0.05)
        chunks = response.chunks()
    with pytest.raises(UpstreamUnreachable):
        await anext(chunks)
    assert await fetch(upstream, origin.url("/f")) == b"abc"
    assert origin.connections_accepted == 1


async def test_a_kept_connection_that_was_closed_meanwhile_is_not_used(
    origin: Origin, upstream: HttpxUpstream
) -> None:
    origin.add("/f", body=b"abc")
    await fetch(upstream, origin.url("/f"))
    origin.drop_connections()
    await origin.wait_for_connections(0)
    assert await fetch(upstream, origin.url("/f")) == b"abc"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_a_kept_connection_that_dies_in_use_costs_one_silent_retry(
    origin: Origin, upstream: HttpxUpstream, method: str
) -> None:
    origin.add("/warm", body=b"abc")
    origin.add("/f", body=b"abc", hang_up_reused=True)
    for _ in range(3):
        await fetch(upstream, origin.url("/warm"))
        async with upstream.open(Ask(origin.url("/f"), method=method)) as response:
            assert response.head.status == 200
    assert [request.reused for request in origin.requests_for("/f")] == [True, False] * 3


async def test_what_may_not_be_repeated_is_not_retried(
    origin: Origin, upstream: HttpxUpstream
) -> None:
    origin.add("/warm", body=b"abc")
    origin.add("/f", body=b"abc", hang_up_reused=True)
    asks = [
        Ask(origin.url("/f"), method="POST"),
        Ask(origin.url("/f"), method="PUT", body=text_of(b"x"), body_length_bytes=1),
    ]
    for ask in asks:
        await fetch(upstream, origin.url("/warm"))
        with pytest.raises(UpstreamUnreachable):
            async with upstream.open(ask):
                pass
    assert len(origin.requests_for("/f")) == 2


async def test_a_fresh_connection_without_an_answer_is_not_retried(
    origin: Origin, upstream: HttpxUpstream
) -> None:
    origin.add("/f", body=b"abc", hang_up_first=1)
    with pytest.raises(UpstreamUnreachable):
        await fetch(upstream, origin.url("/f"))
    assert await fetch(upstream, origin.url("/f")) == b"abc"


@pytest.mark.parametrize("script", [{}, {"chunked": True}, {"head_delay_seconds": 30.0}])
async def test_a_cancelled_fetch_releases_its_connection(
    origin: Origin, upstream: HttpxUpstream, script: dict[str, object]
) -> None:
    origin.add("/f", body=BODY, stall_at=500, **script)
    task = asyncio.create_task(fetch(upstream, origin.url("/f")))
    await origin.wait_for_requests(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await origin.wait_for_connections(0)


async def test_cancelling_many_opens_at_any_moment_loses_no_slot(
    origin: Origin, make_upstream: MakeUpstream
) -> None:
    upstream = make_upstream(max_connections=5)
    origin.add("/f", body=BODY, head_delay_seconds=0.002)
    chance = random.Random(7)

    async def one() -> bytes:
        return await fetch(upstream, origin.url("/f"))

    tasks = []
    for number in range(200):
        task = asyncio.create_task(one())
        tasks.append(task)
        for _ in range(chance.randrange(12)):  # so many turns of the loop later
            await asyncio.sleep(0)
        if number % 10 == 9:
            await asyncio.sleep(0.003)
        chance.choice(tasks).cancel()
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} <= {bytes, asyncio.CancelledError}
    # All five slots serve at the same time, and no connection is beyond their number.
    origin.add("/s", body=BODY, stall_at=10)
    already = len(origin.requests)
    at_once = [asyncio.create_task(fetch(upstream, origin.url("/s"))) for _ in range(5)]
    await origin.wait_for_requests(already + 5)
    assert len(origin.requests_for("/s")) == 5
    await origin.wait_for_connections(5)
    for task in at_once:
        task.cancel()
    await asyncio.gather(*at_once, return_exceptions=True)
    assert await one() == BODY


async def test_when_all_connections_are_in_use_one_waits_and_then_is_told(
    origin: Origin, make_upstream: MakeUpstream
) -> None:
    upstream = make_upstream(max_connections=2, connect_timeout_seconds=0.2)
    origin.add("/s", body=BODY, stall_at=10)
    origin.add("/f", body=b"abc")
    async with upstream.open(Ask(origin.url("/s"))):
        async with upstream.open(Ask(origin.url("/s"))):
            with pytest.raises(Overloaded):
                await fetch(upstream, origin.url("/f"))
            waiting = asyncio.create_task(fetch(upstream, origin.url("/f")))
            await asyncio.sleep(0)
        assert await waiting == b"abc"


async def test_idle_connections_make_room_for_other_origins(
    origin: Origin, make_upstream: MakeUpstream
) -> None:
    upstream = make_upstream(max_connections=1)
    origin.add("/f", body=b"abc")
    for host in ("127.0.0.1", "origin.test", "127.0.0.1"):
        assert await fetch(upstream, origin.url("/f", host)) == b"abc"
    await origin.wait_for_connections(1)
    assert origin.connections_accepted == 3


async def test_closing_the_client_closes_every_connection(
    origin: Origin, upstream: HttpxUpstream
) -> None:
    origin.add("/f", body=b"abc")
    origin.add("/s", body=BODY, stall_at=10)
    await fetch(upstream, origin.url("/f"))
    task = asyncio.create_task(fetch(upstream, origin.url("/s")))
    await origin.wait_for_requests(2)
    await upstream.aclose()
    with pytest.raises(ForebayError):
        await task
    await origin.wait_for_connections(0)


# guard and addresses


async def test_the_connection_goes_to_the_checked_address_and_asks_for_the_name(
    origin: Origin, upstream: HttpxUpstream
) -> None:
    origin.add("/f", body=b"abc")
    assert await fetch(upstream, origin.url("/f", "origin.test")) == b"abc"
    assert origin.requests[0].fields.get("host") == f"origin.test:{origin.port}"


async def test_a_dead_address_is_passed_over(origin: Origin, upstream: HttpxUpstream) -> None:
    origin.add("/f", body=b"abc")
    # half.test has 127.0.0.2 first, where nothing listens.
    assert await fetch(upstream, origin.url("/f", "half.test")) == b"abc"


async def test_what_the_guard_refuses_is_never_connected_to(
    origin: Origin, make_upstream: MakeUpstream
) -> None:
    upstream = make_upstream(guard=open_guard(allow_networks=[]))
    origin.add("/f", body=b"abc")
    for host in ("127.0.0.1", "origin.test"):
        with pytest.raises(TargetForbidden):
            await fetch(upstream, origin.url("/f", host))
    assert origin.connections_accepted == 0


async def test_a_trusted_connection_is_never_a_strangers(
    origin: Origin, make_upstream: MakeUpstream
) -> None:
    upstream = make_upstream(guard=open_guard(allow_networks=[]))
    origin.add("/f", body=b"abc")
    origin.add("/r", redirect_to=origin.url("/f", "other.test"))
    url = origin.url("/f", "origin.test")
    async with upstream.open(Ask(url, unguarded=True)) as response:
        assert [piece async for piece in response.chunks()] == [b"abc"]
    with pytest.raises(TargetForbidden):
        await fetch(upstream, url)
    with pytest.raises(TargetForbidden):
        async with upstream.open(Ask(origin.url("/r", "origin.test"), unguarded=True)):
            pass
    assert [request.path for request in origin.requests] == ["/f", "/r"]


async def test_proxy_variables_of_the_environment_are_not_obeyed(
    origin: Origin, make_upstream: MakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    origin.add("/f", body=b"abc")
    assert await fetch(make_upstream(), origin.url("/f")) == b"abc"


async def test_refused_connections_and_unknown_names_are_unreachable(
    origin: Origin, upstream: HttpxUpstream
) -> None:
    url = origin.url("/f")
    origin.refuse_connections()
    for address in (url, "http://none.test/"):
        with pytest.raises(UpstreamUnreachable):
            await fetch(upstream, address)


async def test_a_connection_that_is_not_made_in_time_is_a_timeout(
    make_upstream: MakeUpstream,
) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    upstream = make_upstream(connect_timeout_seconds=0.2)
    async with raw_server(say_nothing) as url:
        port = url.rpartition(":")[2]
        with pytest.raises(UpstreamTimeout):  # the TLS handshake never ends
            await fetch(upstream, f"https://origin.test:{port}")


# TLS


async def test_certificates_are_checked_by_name(make_upstream: MakeUpstream) -> None:
    async with Origin(tls=server_context()) as origin:
        origin.add("/f", body=BODY)
        upstream = make_upstream()
        assert await fetch(upstream, origin.url("/f", "origin.test")) == BODY
        assert await fetch(upstream, origin.url("/f", "two.origin.test")) == BODY
        for host in ("other.test", "127.0.0.1"):
            with pytest.raises(UpstreamUnreachable) as caught:
                await fetch(upstream, origin.url("/f", host))
            assert "certificate" in caught.value.detail
        distrusting = make_upstream(tls=ssl.create_default_context())
        with pytest.raises(UpstreamUnreachable):
            await fetch(distrusting, origin.url("/f", "origin.test"))


async def test_tls_bodies_cut_without_a_length_are_not_framed(
    make_upstream: MakeUpstream,
) -> None:
    async with Origin(tls=server_context()) as origin:
        origin.add("/f", body=BODY, content_length=False, truncate_at=100)
        async with make_upstream().open(Ask(origin.url("/f", "origin.test"))) as response:
            assert not response.framed
            assert b"".join([piece async for piece in response.chunks()]) == BODY[:100]


async def test_tls_connections_are_kept_and_released(make_upstream: MakeUpstream) -> None:
    async with Origin(tls=server_context()) as origin:
        origin.add("/f", body=BODY)
        origin.add("/s", body=BODY, stall_at=10)
        upstream = make_upstream()
        for _ in range(3):
            await fetch(upstream, origin.url("/f", "origin.test"))
        assert origin.connections_accepted == 1
        task = asyncio.create_task(fetch(upstream, origin.url("/s", "origin.test")))
        await origin.wait_for_body_bytes(3 * len(BODY) + 10)
        task.cancel()
        await origin.wait_for_connections(0)


# what is sent


async def test_the_target_is_sent_in_its_octets(origin: Origin, upstream: HttpxUpstream) -> None:
    target = "/@s%2fn/!%21/a+b/[x]|^{}\"<>%7e?q=%2F'&r=a|b%zz"
    origin.add('/@s%2fn/!%21/a+b/[x]|^{}"<>%7e', body=b"abc")
    await fetch(upstream, origin.url(target))
    assert origin.requests[0].target == target.replace("%zz", "%25zz")


async def test_methods_and_fields_are_sent_as_they_are(
    origin: Origin, upstream: HttpxUpstream
) -> None:
    origin.add("/f", body=b"abc")
    fields = Fields([("if-range", '"\xe9"'), ("accept", "a/b")])
    async with upstream.open(Ask(origin.url("/f"), method="m-search", fields=fields)):
        pass
    assert origin.requests[0].method == "m-search"
    assert origin.requests[0].fields.get("if-range") == '"\xe9"'
    assert origin.requests[0].fields.get_all("accept") == ("a/b",)


@pytest.mark.parametrize("length", [11, None])
async def test_a_request_body_is_streamed(
    origin: Origin, upstream: HttpxUpstream, length: int | None
) -> None:
    def echo(request: OriginRequest) -> Resource:
        return Resource(body=request.body)

    origin.add("/f", handler=echo)
    body = text_of(b"hello", b"", b" world")
    ask = Ask(origin.url("/f"), method="POST", body=body, body_length_bytes=length)
    async with upstream.open(ask) as response:
        assert b"".join([piece async for piece in response.chunks()]) == b"hello world"
    assert await fetch(upstream, origin.url("/f"), "POST") == b""
    assert origin.connections_accepted == 1


@pytest.mark.parametrize("pieces", [(b"abc",), (b"abc", b"defg")])
async def test_a_request_body_of_another_length_than_declared_is_refused(
    origin: Origin, upstream: HttpxUpstream, pieces: tuple[bytes, ...]
) -> None:
    origin.add("/f", body=b"abc")
    ask = Ask(origin.url("/f"), method="PUT", body=text_of(*pieces), body_length_bytes=5)
    with pytest.raises(InvalidTarget):
        async with upstream.open(ask):
            pass
    await origin.wait_for_connections(0)


async def test_an_answer_before_the_request_is_complete_is_given_at_once(
    upstream: HttpxUpstream,
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async with asyncio.timeout(PATIENCE_SECONDS), raw_server(refuse) as url:
        ask = Ask(url, method="POST", body=endless(), body_length_bytes=9)
        async with upstream.open(ask) as response:
            assert response.head.status == 413


async def test_errors_name_no_address_and_no_query(
    origin: Origin, make_upstream: MakeUpstream
) -> None:
    upstream = make_upstream(stall_timeout_seconds=0.1)
    origin.add("/f", body=BODY, truncate_at=10)
    origin.add("/s", body=BODY, stall_at=10)
    said = []
    for path in ("/f", "/s"):
        with pytest.raises(ForebayError) as caught:
            await fetch(upstream, origin.url(path + "?token=secret"))
        said.append(caught.value.detail)
    origin.refuse_connections()
    with pytest.raises(ForebayError) as caught:
        await fetch(make_upstream(), origin.url("/f?token=secret"))
    said.append(caught.value.detail)
    assert not re.search(r"secret|127\.|token", " ".join(said))
