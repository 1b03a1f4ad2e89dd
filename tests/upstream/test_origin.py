"""The scripted origin does what its tests believe it does."""

from __future__ import annotations

import asyncio
import gzip

import httpx
import pytest

from tests.fakes.origin import Origin, OriginRequest, Resource

DATE = "Tue, 01 Jul 2025 00:00:00 GMT"


async def raw_answer(origin: Origin, request: bytes) -> bytes:
    """Everything that comes back on a fresh connection until the origin closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", origin.port)
    writer.write(request)
    received = b""
    try:
        received = await reader.read()
    finally:
        writer.close()
    return received


@pytest.mark.parametrize(
    ("fields", "status", "content"),
    [
        ({}, 200, b"0123456789"),
        ({"range": "bytes=2-4"}, 206, b"234"),
        ({"range": "bytes=7-"}, 206, b"789"),
        ({"range": "bytes=-3"}, 206, b"789"),
        ({"range": "bytes=10-"}, 416, b""),
        ({"range": "bytes=2-4", "if-range": '"a"'}, 206, b"234"),
        ({"range": "bytes=2-4", "if-range": '"b"'}, 200, b"0123456789"),
        ({"range": "bytes=2-4", "if-range": DATE}, 206, b"234"),
        ({"if-none-match": '"b", W/"a"'}, 304, b""),
        ({"if-none-match": '"b"', "if-modified-since": DATE}, 200, b"0123456789"),
        ({"if-modified-since": DATE}, 304, b""),
        ({"range": "lines=1-2"}, 200, b"0123456789"),
    ],
)
async def test_an_honest_resource_follows_conditions_and_ranges(
    fields: dict[str, str], status: int, content: bytes
) -> None:
    async with Origin() as origin, httpx.AsyncClient() as client:
        origin.add("/f", body=b"0123456789", etag='"a"', last_modified=DATE)
        response = await client.get(origin.url("/f"), headers=fields)
        assert (response.status_code, response.content) == (status, content)
        assert origin.body_bytes_sent == len(content)
        assert origin.requests[0].range == fields.get("range")


async def test_a_head_request_gets_the_length_and_no_body() -> None:
    async with Origin() as origin, httpx.AsyncClient() as client:
        origin.add("/f", body=b"0123456789")
        response = await client.head(origin.url("/f"))
        assert response.headers["content-length"] == "10"
        assert origin.body_bytes_sent == 0


async def test_a_missing_path_is_404_and_a_query_may_have_its_own_resource() -> None:
    async with Origin() as origin, httpx.AsyncClient() as client:
        origin.add("/f", body=b"any")
        origin.add("/f?v=2", body=b"two")
        assert (await client.get(origin.url("/g"))).status_code == 404
        assert (await client.get(origin.url("/f?v=1"))).content == b"any"
        assert (await client.get(origin.url("/f?v=2"))).content == b"two"


async def test_truncation_happens_as_often_as_asked_and_then_no_more() -> None:
    async with Origin() as origin, httpx.AsyncClient() as client:
        origin.add("/f", body=b"x" * 100, truncate_at=40, fault_times=1)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(origin.url("/f"))
        assert origin.body_bytes_sent == 40
        assert len((await client.get(origin.url("/f"))).content) == 100


async def test_a_reset_is_seen_as_a_reset() -> None:
    async with Origin() as origin:
        origin.add("/f", body=b"x" * 100, reset_at=10)
        with pytest.raises(ConnectionResetError):
            await raw_answer(origin, b"GET /f HTTP/1.1\r\nHost: a\r\n\r\n")


async def test_a_stalled_body_goes_on_when_told() -> None:
    async with Origin() as origin, httpx.AsyncClient() as client:
        file = origin.add("/f", body=b"x" * 100, stall_at=40)
        task = asyncio.create_task(client.get(origin.url("/f")))
        await origin.wait_for_body_bytes(40)
        assert origin.body_bytes_sent == 40
        file.go_on.set()
        assert len((await task).content) == 100


async def test_a_client_that_leaves_a_stalled_response_is_noticed() -> None:
    async with Origin() as origin:
        origin.add("/f", body=b"x" * 100, stall_at=40)
        _, writer = await asyncio.open_connection("127.0.0.1", origin.port)
        writer.write(b"GET /f HTTP/1.1\r\nHost: a\r\n\r\n")
        await origin.wait_for_body_bytes(40)
        await origin.wait_for_connections(1)
        writer.close()
        await origin.wait_for_connections(0)


async def test_failures_changes_and_redirects_follow_the_script() -> None:
    async with Origin() as origin, httpx.AsyncClient() as client:
        later = Resource(body=b"new", etag='"b"')
        origin.add("/f", body=b"old", fail_first=1, retry_after="7", change_after=2, changed=later)
        origin.add("/r", redirect_to="/f")
        first, second, third = [await client.get(origin.url("/f")) for _ in range(3)]
        assert (first.status_code, first.headers["retry-after"]) == (503, "7")
        assert (second.content, third.content) == (b"old", b"new")
        hop = await client.get(origin.url("/r"))
        assert (hop.status_code, hop.headers["location"]) == (302, "/f")


async def test_lies_about_ranges_follow_the_script() -> None:
    async with Origin() as origin, httpx.AsyncClient() as client:
        origin.add("/whole", body=b"0123456789", whole_for_range=True)
        origin.add("/wrong", body=b"0123456789", content_range="bytes 0-2/99")
        asked = {"range": "bytes=2-4"}
        whole = await client.get(origin.url("/whole"), headers=asked)
        wrong = await client.get(origin.url("/wrong"), headers=asked)
        assert (whole.status_code, whole.headers["accept-ranges"]) == (200, "bytes")
        assert (wrong.status_code, wrong.headers["content-range"]) == (206, "bytes 0-2/99")


async def test_gzip_chunked_and_unframed_bodies_arrive_whole() -> None:
    async with Origin() as origin, httpx.AsyncClient() as client:
        origin.add("/z", body=b"x" * 1000, gzip=True, chunked=True)
        origin.add("/u", body=b"x" * 1000, content_length=False)
        async with client.stream("GET", origin.url("/z")) as response:
            octets = b"".join([piece async for piece in response.aiter_raw()])
        assert gzip.decompress(octets) == b"x" * 1000
        unframed = await client.get(origin.url("/u"))
        assert "content-length" not in unframed.headers
        assert unframed.content == b"x" * 1000


async def test_surplus_bytes_follow_the_body_on_the_wire() -> None:
    async with Origin() as origin:
        origin.add("/f", body=b"body", surplus=b"EVIL", close=True)
        octets = await raw_answer(origin, b"GET /f HTTP/1.1\r\nHost: a\r\n\r\n")
        assert octets.endswith(b"\r\n\r\nbodyEVIL")


async def test_connections_can_be_dropped_and_hung_up_on() -> None:
    async with Origin() as origin, httpx.AsyncClient() as client:
        origin.add("/f", body=b"x")
        origin.add("/h", body=b"x", hang_up_first=1)
        await client.get(origin.url("/f"))
        assert origin.open_connections == 1
        origin.drop_connections()
        await origin.wait_for_connections(0)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(origin.url("/h"))
        assert (await client.get(origin.url("/h"))).content == b"x"


async def test_a_handler_sees_the_request_and_its_body() -> None:
    def echo(request: OriginRequest) -> Resource:
        return Resource(body=request.method.encode() + b" " + request.body, ranges=False)

    async def parts() -> asyncio.StreamReader:
        reader = asyncio.StreamReader()
        reader.feed_data(b"streamed")
        reader.feed_eof()
        return reader

    async with Origin() as origin, httpx.AsyncClient() as client:
        origin.add("/e", handler=echo)
        assert (await client.post(origin.url("/e"), content=b"hello")).content == b"POST hello"
        streamed = await client.put(origin.url("/e"), content=await parts())
        assert streamed.content == b"PUT streamed"


async def test_a_paced_body_takes_its_time() -> None:
    async with Origin() as origin, httpx.AsyncClient() as client:
        origin.add("/f", body=b"x" * 2000, pace_bytes_per_second=20_000)
        started = asyncio.get_running_loop().time()
        await client.get(origin.url("/f"))
        # A lower bound that the pacing itself guarantees, not a speed.
        assert asyncio.get_running_loop().time() - started >= 0.09


async def test_what_goes_wrong_in_a_handler_fails_the_test() -> None:
    def broken(request: OriginRequest) -> Resource:
        raise LookupError(request.target)

    async def run() -> None:
        async with Origin() as origin, httpx.AsyncClient() as client:
            origin.add("/e", handler=broken)
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(origin.url("/e"))

    with pytest.raises(LookupError):
        await run()
