"""The fast lane gives, octet for octet, what the ordinary way gives, and never overtakes it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from forebay.model import (
    CacheOutcome,
    CacheStatus,
    Fields,
    Mount,
    Policy,
    Request,
    Share,
    Window,
)
from forebay.ports import Body, Reply, Selection
from forebay.service import Service
from forebay.service.held import Contents
from forebay.service.lane import Lane
from forebay.store.checks import Verify
from forebay.store.disk import DiskStore
from forebay.streaming.crew import Surroundings
from forebay.streaming.pace import Slots
from forebay.streaming.reader import BytesBody, StoredReader
from forebay.upstream.mirrors import Mirrors
from forebay.web import log
from forebay.web.application import make_app
from forebay.web.entrance import Entrance
from forebay.web.fastlane import _RANGE_LINE, without_range
from forebay.web.protocol import protocol_with
from tests.fakes.answers import AnsweringUpstream
from tests.patience import PATIENCE_SECONDS
from tests.web.servers import PATIENT

HOST = "http://origin.example"
SMALL = random.Random(7).randbytes(10_000)
LARGE = random.Random(8).randbytes(3_000_000)
BORN = 1_700_000_000.0
DATE = ("date", formatdate(BORN, usegmt=True))
FRESH = ("cache-control", "max-age=600")


_NOT_TO_FILL = ("authorization", "if-", "range")


class CountingService(Service):
    """Counts what goes the ordinary way."""

    asked = 0

    async def respond(self, request: Request, **more: Any) -> Reply:
        self.asked += 1
        return await super().respond(request, **more)


class Rig:
    """A service on a disk, a scripted upstream, a clock that stands still, and two servers: one
    with the fast lane, one that puts a middleware in between and so has none."""

    def __init__(
        self,
        directory: Path,
        *,
        shared: bool = False,
        verify: Verify = Verify.FIRST_USE,
        entrance: Entrance | None = None,
    ) -> None:
        self.now = BORN
        self.directory = directory
        self.store = DiskStore(
            directory, max_size_bytes=None, min_free_bytes=0, shared=shared, verify=verify,
            clock=lambda: self.now,
        )  # fmt: skip
        self.upstream = AnsweringUpstream()
        around = Surroundings(
            upstream=self.upstream,
            health=Mirrors(),
            slots=Slots(16, 16),
            clock=time.monotonic,
            wall_clock=lambda: self.now,
        )
        mounts = (
            Mount(name="url", prefix="/", policy=Policy(negative_ttl_seconds=60.0)),
            Mount(name="pages", prefix="/pages/", upstreams=(f"{HOST}/",), preset="pypi"),
            Mount(name="deb", prefix="/deb/", upstreams=(f"{HOST}/",), preset="apt"),
            Mount(name="seen", prefix="/seen/", upstreams=(f"{HOST}/",), share=Share.VERIFY),
            Mount(name="shut", prefix="/shut/", upstreams=(f"{HOST}/",), share=Share.REFUSE),
        )
        self.service = CountingService(
            store=self.store, around=around, mounts=mounts, pseudonym="forebay-test"
        )
        self.app = make_app(self.service, token="secret", entrance=entrance)
        self.ports: dict[str, int] = {}

    def add(self, path: str, **script: Any) -> None:
        script = {"body": SMALL, "etag": '"one"', "headers": [DATE, FRESH], **script}
        self.upstream.add(HOST + path, **script)

    async def fill(self, path: str, *lines: str) -> None:
        """Ask until what can be stored is stored, and the store knows it without its index."""
        lines = tuple(line for line in lines if not line.lower().startswith(_NOT_TO_FILL))
        for _ in range(2):
            await self.get("ordinary", path, *lines)
            await self.settled()

    async def settled(self) -> None:
        """Return when no transfer runs any more."""
        while self.service.transfers():  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0.001)

    async def connect(self, way: str) -> Wire:
        return Wire(*await asyncio.open_connection("127.0.0.1", self.ports[way]))

    async def get(self, way: str, path: str, *lines: str, method: str = "GET") -> Got:
        wire = await self.connect(way)
        try:
            wire.ask(f"/{HOST}{path}", *lines, method=method)
            return await wire.read(method)
        finally:
            wire.close()


class Got:
    """A response; ``lines`` are its head's, in an order that keeps what order means."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *rest = head.decode("latin-1").split("\r\n")[:-2]
        self.status = int(first.split(" ")[1])
        self.lines = [first, *sorted(rest, key=lambda line: line.partition(":")[0])]
        self.fields = dict(line.split(": ", 1) for line in rest)
        self.body = body


class Wire:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def ask(self, target: str, *lines: str, method: str = "GET", version: str = "1.1") -> None:
        head = [f"{method} {target} HTTP/{version}", "Host: cache.test", *lines, "", ""]
        self.writer.write("\r\n".join(head).encode("latin-1"))

    async def read(self, method: str = "GET") -> Got:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        got = Got(head, b"")
        if method != "HEAD" and got.status not in (204, 304):
            length = int(got.fields["content-length"])
            got.body = await asyncio.wait_for(self.reader.readexactly(length), PATIENCE_SECONDS)
        return got

    async def is_closed(self) -> bool:
        return await asyncio.wait_for(self.reader.read(1), PATIENCE_SECONDS) == b""

    def close(self) -> None:
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def running(rig: Rig, *, keep_alive_seconds: float = PATIENCE_SECONDS) -> AsyncIterator[Rig]:
    await rig.store.open()
    servers = []
    for way, proxy_headers in (("fast", False), ("ordinary", True)):
        config = uvicorn.Config(
            rig.app, host="127.0.0.1", port=0, http=protocol_with(PATIENT), lifespan="off",
            proxy_headers=proxy_headers, log_config=None, access_log=False, server_header=False,
            date_header=False, timeout_keep_alive=keep_alive_seconds,  # type: ignore[arg-type]
        )  # fmt: skip
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        rig.ports[way] = server.servers[0].sockets[0].getsockname()[1]
        servers.append(server)
    try:
        yield rig
    finally:
        await asyncio.gather(*map(_stop, servers))
        await rig.service.close()
        await rig.store.close()


async def _stop(server: uvicorn.Server) -> None:
    """As ``Server.shutdown``, which gives clients a tenth of a second that nobody needs here."""
    for listening in server.servers:
        listening.close()
    for connection in tuple(server.server_state.connections):
        connection.transport.abort()
    while server.server_state.connections or server.server_state.tasks:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(Rig(tmp_path)) as rig:
        yield rig


def _fields(*lines: tuple[str, str]) -> dict[str, Any]:
    return {"headers": [DATE, *lines]}


HITS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "plain": ({}, ()),
    "empty": ({"body": b""}, ()),
    "largest": ({"body": random.Random(9).randbytes(64 * 1024)}, ()),
    "aged": (_fields(FRESH, ("age", "17")), ()),
    "behind another cache": (_fields(FRESH, ("cache-status", "far; hit"), ("via", "1.1 far")), ()),
    "a page": (_fields(FRESH, ("content-type", "text/html")), ()),
    "with its own policy": (_fields(FRESH, ("content-security-policy", "default-src *")), ()),
    "varying": (_fields(FRESH, ("vary", "accept-language")), ("Accept-Language: en, de",)),
    "by accept": ({}, ("Accept: text/plain;q=0.5, text/html",)),
    "expires": (_fields(("expires", formatdate(BORN + 600, usegmt=True))), ()),
    "by heuristic": (_fields(("last-modified", formatdate(BORN - 90_000, usegmt=True))), ()),
    "without a date": ({"headers": [FRESH]}, ()),
    "missing": ({"status": 404, "headers": [DATE]}, ()),
    "gone for good": ({"status": 410, "headers": [DATE, FRESH]}, ()),
    "with credentials": (_fields(("cache-control", "public, max-age=600")), ("Authorization: x",)),
    "one byte too large for memory": ({"body": random.Random(1).randbytes(64 * 1024 + 1)}, ()),
    "large": ({"body": LARGE}, ()),
    "a part": ({}, ("Range: bytes=100-199",)),
    "all but the first byte": ({}, ("range: bytes=1-",)),
    "the end": ({}, ("Range: BYTES= -100",)),
    "more than there is": ({}, ("Range: bytes=9000-99999",)),
    "all as a part": ({}, ("Range: bytes=0-",)),
    "a small part of a large one": ({"body": LARGE}, ("Range: bytes=1000000-1004095",)),
    "a large part": ({"body": LARGE}, ("Range: bytes=1-2000000",)),
    "a part of a page": (_fields(FRESH, ("content-type", "text/html")), ("Range: bytes=5-9",)),
    "a part of a variant": (_fields(FRESH, ("vary", "accept")), ("Accept: a", "Range: bytes=5-9")),
    "a part with a digest of the whole": (
        _fields(FRESH, ("content-digest", "sha-256=:AA==:")),
        ("Range: bytes=5-9",),
    ),
    "a part with percent signs": (
        _fields(FRESH, ("x-note", "50%d or %s of 100%"), ("cache-status", "100%; hit")),
        ("Range: bytes=5-9",),
    ),
    "a part under a condition": ({}, ('If-Range: "one"', "Range: bytes=100-199")),
    "nothing new": ({}, ('If-None-Match: "one"',)),
    "nothing new in a part": ({}, ('If-None-Match: "one"', "Range: bytes=0-0")),
    "nothing new since": (
        _fields(FRESH, ("last-modified", formatdate(BORN - 9, usegmt=True))),
        (f"If-Modified-Since: {formatdate(BORN, usegmt=True)}",),
    ),
    "something new": ({}, ('If-None-Match: "other"',)),
    "the same thing": ({}, ('If-Match: "one"',)),
    "of a browser": ({}, ("User-Agent: Mozilla", "Accept: */*", "Connection: keep-alive")),
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_both_lanes_give_the_same_answer(rig: Rig, method: str) -> None:
    for number, (kind, (script, lines)) in enumerate(HITS.items()):
        path, rig.now = f"/{number}", BORN
        rig.add(path, **script)
        await rig.fill(path, *lines)
        for seconds in (0.0, 0.4, 0.999, 33.3, 59.9):
            rig.now, before = BORN + seconds, rig.service.asked
            fast = [await rig.get("fast", path, *lines, method=method) for _ in range(2)]
            assert rig.service.asked == before, kind
            ordinary = await rig.get("ordinary", path, *lines, method=method)
            for got in fast:
                assert got.lines == ordinary.lines, kind
                assert got.body == ordinary.body, kind
            assert "; hit; ttl=" in ordinary.fields["cache-status"], kind


async def test_a_reply_at_once_is_the_reply_of_the_story(rig: Rig) -> None:
    for number, (kind, (script, lines)) in enumerate(HITS.items()):
        rig.add(f"/{number}", **script)
        await rig.fill(f"/{number}", *lines)
        pairs = [line.split(": ", 1) for line in lines]
        request = Request("GET", f"/{HOST}/{number}", None, Fields((n, v) for n, v in pairs))
        assert rig.service.lane is not None
        fast = _reply_at_once(rig.service.lane, request)
        told = await rig.service.respond(request)
        assert fast is not None, kind
        assert await _read(fast) == await _read(told), kind
        assert sorted(fast.fields) == sorted(told.fields), kind
        for name in ("status", "reason", "length_bytes", "target_name", "cache_status"):
            assert getattr(fast, name) == getattr(told, name), (kind, name)


def _reply_at_once(lane: Lane, request: Request) -> Reply | None:
    """The lane's answer, put together as a reply."""
    question = lane.take_up(request)
    answer = lane.answer(question, request.fields.get("range")) if question is not None else None
    if answer is None:
        return None
    reply = answer.hit.reply
    body: Body | None = None
    if answer.hit.length_bytes is not None:
        body = BytesBody(bytes(answer.content or b""))
        if answer.file is not None:
            body = StoredReader(os.dup(answer.file.fileno), answer.interval)
            answer.file.release()
    return Reply(
        reply.status,
        Fields((*reply.fields, *answer.changing_fields())),
        body,
        CacheStatus(CacheOutcome.HIT, ttl_seconds=answer.ages.ttl_seconds),
        reply.target_name,
        answer.interval.length_bytes if answer.hit.is_part else reply.length_bytes,
        reply.reason,
    )


async def _read(reply: Reply) -> bytes | None:
    """The whole body, then closed."""
    if reply.body is None:
        return None
    octets = b""
    while (piece := await reply.body.next_piece()) is not None:
        if isinstance(piece, Window):
            piece = os.pread(piece.fileno, piece.stop - piece.start, piece.start)
        octets += piece
    await reply.body.aclose()
    return octets


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("Range: bytes=0-9,5000-5009",), 206),
        (("Range: bytes=99999-",), 416),
        (("Range: lines=0-9",), 200),
        (('If-Match: "other"',), 412),
        (('If-Range: "two"', "Range: bytes=0-9"), 200),
        (("Cache-Control: no-cache",), 200),
        (("Pragma: no-cache",), 200),
        (("Cache-Control: max-age=0",), 200),
        (("Repr-Digest: nonsense",), 400),
        (("Via: 1.1 forebay-test",), 508),
        (("Content-Length: 3",), 400),
    ],
)
async def test_what_asks_for_more_goes_the_ordinary_way(
    rig: Rig, lines: tuple[str, ...], status: int
) -> None:
    rig.add("/f")
    await rig.fill("/f")
    wire = await rig.connect("fast")
    wire.ask(f"/{HOST}/f")
    assert (await wire.read()).body == SMALL
    wire.ask(f"/{HOST}/f", *lines)
    assert (await wire.read()).status == status
    wire.close()


@pytest.mark.parametrize("lines", [(), ("Range: bytes=5-9",), ("Range: bytes=5-2000000",)])
async def test_bytes_that_are_to_be_verified_first_go_the_ordinary_way(
    tmp_path: Path, lines: tuple[str, ...]
) -> None:
    async with running(Rig(tmp_path, verify=Verify.ALWAYS)) as rig:
        rig.add("/f", body=LARGE)
        await rig.fill("/f")
        before = rig.service.asked
        assert (await rig.get("fast", "/f", *lines)).status in (200, 206)
        assert rig.service.asked == before + 1


async def test_a_part_that_was_verified_is_fast_before_the_whole_is(tmp_path: Path) -> None:
    body = random.Random(3).randbytes(20_000_000)
    async with running(Rig(tmp_path)) as rig:
        rig.add("/f", body=body)
        await rig.fill("/f")
    async with running(Rig(tmp_path)) as rig:
        for asked in (1, 1, 1):
            got = await rig.get("fast", "/f", "Range: bytes=1000-1999")
            assert got.body == body[1000:2000]
            assert rig.service.asked == asked
        await rig.get("fast", "/f", "Range: bytes=18000000-18000999")
        assert rig.service.asked == 2


HEAD_OCTETS = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("piece", "value"),
    [
        (b"GET /x HTTP/1.1\r\nRange: bytes=0-9\r\nHost: a\r\n\r\n", "bytes=0-9"),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nrange:bytes=-9\r\n\r\n", "bytes=-9"),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1,3-4\r\n\r\n", None),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nX-Range: bytes=0-1\r\n\r\n", None),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n folded\r\n\r\n", None),
        (HEAD_OCTETS + b"Range: bytes=0-1\r\n\r\n", None),
        (b"GET /x HTTP/1.1\r\nHost: a\r\n\r\nRange: bytes=0-1\r\n", None),
        (b"\r\nRange: bytes=0-1\r\nGET /x HTTP/1.1\r\n\r\n", None),
    ],
)
def test_only_a_whole_line_of_a_head_is_taken_for_its_range(
    piece: bytes, value: str | None
) -> None:
    assert without_range(piece) == (piece if value is None else HEAD_OCTETS, value)


_ODDS_AND_ENDS = (
    "\r\n", "\n", "GET / HTTP/1.1", "Host: a", "If-Range: b", "Range: bytes=0-9", "range:bytes=-9",
    "Range:  bytes=0-", "X-Range: bytes=1-2", "Range: bytes=0-1,3-4", " folded", "ange:",
    "\r\nRange: bytes=5-6\r\n", "Accept-Ranges: x",
)  # fmt: skip


@given(st.lists(st.sampled_from(_ODDS_AND_ENDS), max_size=12).map("".join).map(str.encode))
def test_the_range_line_is_the_first_that_looks_like_one(piece: bytes) -> None:
    match = _RANGE_LINE.search(piece)
    if match is None or not match.start():
        assert without_range(piece) == (piece, None)
    else:
        rest = piece[: match.start()] + piece[match.end() :]
        assert without_range(piece) == (rest, match[1].decode())


async def test_two_range_lines_are_no_range(rig: Rig) -> None:
    rig.add("/f")
    await rig.fill("/f")
    wire = await rig.connect("fast")
    for lines in ((), ("Range: bytes=0-9",), ("Range: bytes=0-9", "Range: bytes=3-4")):
        for _ in range(3):
            wire.ask(f"/{HOST}/f", *lines)
            got = await wire.read()
            assert got.status == (206 if len(lines) == 1 else 200)
    wire.close()


async def test_a_mount_that_shapes_its_replies_goes_the_ordinary_way(rig: Rig) -> None:
    assert rig.service.lane is not None
    for path in ("/pages/f", "/seen/f"):
        assert rig.service.lane.take_up(Request("GET", path)) is None
    for path in ("/pages/a-1.0-py3-none-any.whl", "/deb/dists/stable/InRelease"):
        assert rig.service.lane.take_up(Request("GET", path)) is not None
    assert rig.service.lane.take_up(Request("GET", f"/{HOST}/f")) is not None


async def test_a_stale_entry_is_not_answered_from_memory(rig: Rig) -> None:
    rig.add("/f", headers=[DATE, ("cache-control", "max-age=10")])
    await rig.fill("/f")
    wire = await rig.connect("fast")
    for seconds, asked_upstream in ((9.9, 1), (10.0, 2)):
        rig.now = BORN + seconds
        wire.ask(f"/{HOST}/f")
        assert (await wire.read()).body == SMALL
        assert len(rig.upstream.asks) == asked_upstream
    wire.close()


async def test_a_purge_counts_from_the_next_request(rig: Rig) -> None:
    rig.add("/f")
    await rig.fill("/f")
    wire = await rig.connect("fast")
    for body in (SMALL, b"something else", b"and again"):
        rig.add("/f", body=body, etag=f'"{len(body)}"')
        await rig.service.purge(Selection(everything=True))
        for _ in range(3):
            wire.ask(f"/{HOST}/f")
            assert (await wire.read()).body == body
            await rig.settled()
    wire.close()


async def test_a_purge_by_another_worker_counts_from_the_next_request(tmp_path: Path) -> None:
    async with running(Rig(tmp_path, shared=True)) as rig:
        other = DiskStore(tmp_path, max_size_bytes=None, min_free_bytes=0, shared=True)
        await other.open()
        rig.add("/f")
        await rig.fill("/f")
        for body in (SMALL, b"changed"):
            # Not over one kept connection: on a slow disk it would be closed meanwhile.
            assert (await rig.get("fast", "/f")).body == body
            rig.add("/f", body=b"changed", etag='"two"')
            await other.remove(Selection(everything=True))
        await other.close()


async def test_a_small_hit_never_overtakes_the_answer_before_it(rig: Rig) -> None:
    rig.add("/small")
    rig.add("/large", body=LARGE)
    await rig.fill("/small")
    await rig.fill("/large")
    wire = await rig.connect("fast")
    for together in (True, False):
        for path in ("/small", "/large", "/small", "/small", "/large", "/small"):
            wire.ask(f"/{HOST}{path}")
            if not together:
                await wire.writer.drain()
                await asyncio.sleep(0)
        for body in (SMALL, LARGE, SMALL, SMALL, LARGE, SMALL):
            assert (await wire.read()).body == body
    wire.close()


async def test_a_client_that_asks_much_and_reads_nothing_gets_all_in_order(rig: Rig) -> None:
    bodies = [bytes([number]) * 60_000 for number in range(15)]
    for number, body in enumerate(bodies):
        rig.add(f"/{number}", body=body)
        await rig.fill(f"/{number}")
    wire = await rig.connect("fast")
    asked = [number for _ in range(8) for number in range(15)]
    for number in asked:
        wire.ask(f"/{HOST}/{number}")
        await asyncio.sleep(0)
    for number in asked:
        assert (await wire.read()).body == bodies[number]
    wire.close()


@pytest.mark.parametrize("cut", [1, 20, -1, -3])
async def test_a_head_in_two_pieces_is_the_same_request(rig: Rig, cut: int) -> None:
    rig.add("/f")
    await rig.fill("/f")
    head = f"GET /{HOST}/f HTTP/1.1\r\nHost: cache.test\r\n\r\n".encode()
    wire = await rig.connect("fast")
    for _ in range(3):
        for piece in (head, head[:cut], head[cut:], b"\r\n", head):
            wire.writer.write(piece)
            await wire.writer.drain()
            await asyncio.sleep(0.002)
        for _ in range(3):
            assert (await wire.read()).body == SMALL
    wire.close()


async def test_known_octets_in_the_middle_of_a_body_are_a_body(rig: Rig) -> None:
    rig.add("/f")
    await rig.fill("/f")
    head = f"GET /{HOST}/f HTTP/1.1\r\nHost: cache.test\r\n\r\n".encode()
    wire = await rig.connect("fast")
    wire.writer.write(head)
    await wire.read()
    wire.ask("/-/nothing", f"Content-Length: {2 * len(head)}", method="POST")
    for piece in (head, head, head):
        await asyncio.sleep(0.01)
        wire.writer.write(piece)
    assert (await wire.read()).status == 401
    got = wire.reader.readuntil(b"\r\n\r\n")
    with contextlib.suppress(asyncio.IncompleteReadError):
        assert (await got).startswith(b"HTTP/1.1 200")
    wire.close()


@pytest.mark.parametrize(("version", "line"), [("1.0", "X: y"), ("1.1", "Connection: close")])
async def test_a_connection_that_is_to_end_ends(rig: Rig, version: str, line: str) -> None:
    rig.add("/f")
    await rig.fill("/f")
    wire = await rig.connect("fast")
    wire.ask(f"/{HOST}/f", line, version=version)
    assert (await wire.read()).body == SMALL
    assert await wire.is_closed()
    wire.close()


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(tmp_path: Path) -> None:
    async with running(Rig(tmp_path), keep_alive_seconds=0.3) as rig:
        rig.add("/f")
        await rig.fill("/f")
        wire = await rig.connect("fast")
        clock = asyncio.get_running_loop().time
        begin = last = asked = clock()
        while clock() < begin + 0.45:
            last, asked = asked, clock()
            wire.ask(f"/{HOST}/f")
            try:
                assert (await wire.read()).body == SMALL
            except (asyncio.IncompleteReadError, ConnectionError):
                # It did rest for so long, where this machine stood still between two requests.
                assert clock() > last + 0.3
                wire.close()
                wire = await rig.connect("fast")
                begin = clock()
            await asyncio.sleep(0.05)
        assert await wire.is_closed()
        wire.close()


async def test_every_hit_is_counted_and_has_its_line(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.add("/f")
    await rig.fill("/f")
    was = await rig.service.statistics()
    wire = await rig.connect("fast")
    with caplog.at_level(logging.INFO, logger=log.access_logger.name):
        for _ in range(3):
            wire.ask(f"/{HOST}/f")
            await wire.read()
    wire.close()
    lines = [record.getMessage() for record in caplog.records if hasattr(record, "access")]
    assert len(lines) == 3
    assert all(f"127.0.0.1 GET {HOST}/f 200 9.8KiB in" in line for line in lines)
    now = await rig.service.statistics()
    assert now.requests["hit"] == was.requests["hit"] + 3
    assert now.served_bytes == was.served_bytes + 3 * len(SMALL)
    metrics = await rig.connect("ordinary")
    metrics.ask("/metrics")
    assert b'forebay_http_responses_total{status="200"} 5.0' in (await metrics.read()).body
    metrics.close()


async def test_the_admin_side_and_the_page_are_not_downloads(rig: Rig) -> None:
    for path, status in (("/healthz", 200), ("/", 200), ("/-/stats", 401)):
        wire = await rig.connect("fast")
        for _ in range(2):
            wire.ask(path)
            assert (await wire.read()).status == status
        wire.close()


def test_bodies_in_memory_take_no_more_than_they_may_and_those_in_use_stay() -> None:
    contents = Contents(100)
    first = contents.put("a", b"a" * 40)
    second = contents.put("b", b"b" * 40)
    first.is_used = True
    contents.put("c", b"c" * 40)
    assert contents.held_bytes == 80
    assert contents.get("b") is None
    assert second.octets is None  # whoever still has it keeps no body in memory
    assert contents.get("a") is first
    assert first.octets == b"a" * 40
    assert contents.put("d", b"d" * 101).octets == b"d" * 101
    assert contents.held_bytes == 0
    assert first.octets is None


def test_a_body_is_held_although_all_others_are_in_use() -> None:
    contents = Contents(100)
    for name in "abcdef":
        content = contents.put(name, name.encode() * 40)
        assert contents.get(name) is content
        content.is_used = True
    assert contents.held_bytes == 80
