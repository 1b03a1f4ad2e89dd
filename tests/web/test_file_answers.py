"""Large hits of the fast lane over real sockets, under both loops: no task, no loose end."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from forebay.model import Interval, Mount
from forebay.ports import Selection
from forebay.service import Service
from forebay.service.held import HeldFiles, Scratch
from forebay.store.disk import DiskStore
from forebay.streaming.crew import Surroundings
from forebay.streaming.pace import Slots
from forebay.upstream.mirrors import Mirrors
from forebay.web import log
from forebay.web.application import make_app
from forebay.web.capacity import Descriptors, Shedder
from forebay.web.limits import DoorLimits
from tests.fakes.answers import AnsweringUpstream
from tests.patience import PATIENCE_SECONDS
from tests.web.conftest import MIB, OURS
from tests.web.servers import HURRIED, PATIENT, Client, ServerThread, open_descriptors, wait_until

URL = "http://origin.example/f"
SIZE = 24 * MIB
FIELDS = [("cache-control", "max-age=600")]
RESET = struct.pack("ii", 1, 0)


class LaneServer(ServerThread):
    """A server with our protocol before a whole service on a disk; ``asked`` counts what the
    ordinary way had to answer."""

    def __init__(self, directory: Path, loop: str, limits: DoorLimits = PATIENT) -> None:
        self.directory = directory
        self.store = DiskStore(directory, max_size_bytes=None, min_free_bytes=0)
        self.upstream = AnsweringUpstream()
        around = Surroundings(
            upstream=self.upstream, health=Mirrors(), slots=Slots(16, 16),
            clock=time.monotonic, wall_clock=time.time,
        )  # fmt: skip
        mount = Mount(name="url", prefix="/")
        self.service = Service(store=self.store, around=around, mounts=[mount], pseudonym="f-test")
        app = make_app(
            self.service, token="t", limits=limits,
            startup=[self.store.open], shutdown=[self.service.close, self.store.close],
        )  # fmt: skip
        super().__init__(app, loop=loop, http="ours", limits=limits, proxy_headers=False)
        self.asked = 0
        respond = self.service.respond

        async def counted(*args: object, **more: object) -> object:
            self.asked += 1
            return await respond(*args, **more)  # type: ignore[arg-type]

        self.service.respond = counted  # type: ignore[assignment,method-assign]

    def do(self, work: object) -> object:
        """Run a coroutine on the server's loop."""
        loop = self.server.servers[0].get_loop()
        return asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE_SECONDS)  # type: ignore[arg-type]

    async def transfers(self) -> Sequence[object]:
        """What is on its way: to be asked on the server's loop, where it comes and goes."""
        return self.service.transfers()

    def fill(self, body: bytes) -> None:
        """Have this body in the cache, and nothing on the way."""
        self.upstream.add(URL, body=body, etag=f'"{len(body)}"', headers=FIELDS)
        self.do(self.service.purge(Selection(everything=True)))
        with self.connect() as client:
            for _ in range(2):
                assert client.get(f"/{URL}").body == body
                wait_until(lambda: not self.do(self.transfers()))
        wait_until(lambda: self.connections == 0)
        self.asked = 0


@pytest.fixture(scope="module", params=OURS, ids="-".join)
def _server(request: pytest.FixtureRequest, disk: Path) -> Iterator[LaneServer]:
    server = LaneServer(disk / request.param[0], request.param[0])
    server.start()
    try:
        server.fill(random.Random(4).randbytes(SIZE))
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def body() -> bytes:
    return random.Random(4).randbytes(SIZE)


@pytest.fixture
def server(_server: LaneServer) -> Iterator[LaneServer]:
    """The server with its file in the cache; whatever a test does, nothing stays open."""
    _server.asked = 0
    _server.do(_release(_server))
    before = len(open_descriptors())
    yield _server
    wait_until(lambda: _server.connections == 0)
    _server.do(_release(_server))
    wait_until(lambda: len(open_descriptors()) <= before)


async def _release(server: LaneServer) -> None:
    """Let go of what is held for the next hit."""
    assert server.service.lane is not None
    server.service.lane.close()


def _ask(client: Client, *lines: str) -> None:
    client.ask(f"/{URL}", *lines)


def test_a_connection_goes_on_after_files_and_parts(server: LaneServer, body: bytes) -> None:
    with server.connect() as client:
        for _ in range(2):
            assert client.get(f"/{URL}").body == body
            for start, stop in ((0, 1), (5, 70_000), (MIB, 9 * MIB), (SIZE - 1, SIZE)):
                got = client.get(f"/{URL}", f"Range: bytes={start}-{stop - 1}")
                assert (got.status, got.body) == (206, body[start:stop])
            head = client.get(f"/{URL}", method="HEAD")
            assert head.fields["content-length"] == str(SIZE)
    assert server.asked == 0


def test_pipelined_requests_wait_behind_a_file(server: LaneServer, body: bytes) -> None:
    parts = [(0, SIZE), (7, 9), (MIB, 3 * MIB), (0, 100_000), (1, 2)]
    with server.connect() as client:
        head = f"GET /{URL} HTTP/1.1\r\nHost: a\r\nRange: bytes=%d-%d\r\n\r\n"
        client.send(b"".join(head.encode() % (a, b - 1) for a, b in parts))
        for start, stop in parts:
            assert client.read().body == body[start:stop]
        client.send(head.encode() % (0, SIZE - 1))
        client.read_head()
        client.send(head.encode() % (3, 5))
        assert client.file.read(SIZE) == body
        assert client.read().body == body[3:6]


def test_a_half_closed_client_gets_the_rest_of_a_file(server: LaneServer, body: bytes) -> None:
    with server.connect() as client:
        _ask(client)
        client.sock.shutdown(socket.SHUT_WR)
        got = client.read()
        assert got.body == body
        assert client.is_closed_by_peer()


@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
def test_a_client_that_leaves_in_mid_file_is_counted_and_releases_it(
    server: LaneServer, reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger=log.access_logger.name):
        client = server.connect(receive_buffer_bytes=4096)
        _ask(client)
        client.read_head()
        assert len(client.file.read(100)) == 100
        if reset:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        wait_until(lambda: "client left" in caplog.text)
    assert server.asked == 0
    (line,) = [r.access for r in caplog.records if hasattr(r, "access")]
    assert (line.status, line.cache) == (200, "hit")
    assert 0 < line.sent_bytes < SIZE


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_client_that_accepts_nothing_of_a_file_is_dropped(
    tmp_path: Path, body: bytes, loop: str
) -> None:
    server = LaneServer(tmp_path, loop, HURRIED)
    server.start()
    server.fill(body)
    with server.connect(receive_buffer_bytes=4096) as client, server.connect() as other:
        _ask(client)
        client.read_head()
        assert other.get(f"/{URL}", "Range: bytes=0-0").status == 206
        wait_until(lambda: server.connections == 1)
        assert client.file.read(SIZE) != b""
    assert server.asked == 0
    server.stop()


def test_a_purge_in_mid_file_lets_it_end_and_is_seen_by_the_next(
    server: LaneServer, body: bytes
) -> None:
    other = body[::-1]
    with server.connect(receive_buffer_bytes=4096) as client:
        _ask(client)
        client.read_head()
        server.do(server.service.purge(Selection(everything=True)))
        assert client.file.read(SIZE) == body
    server.fill(other)
    with server.connect() as client:
        assert client.get(f"/{URL}").body == other
        assert client.get(f"/{URL}", "Range: bytes=0-99999").body == other[:100_000]
    server.fill(body)


def test_a_file_that_lost_its_end_is_cut(
    server: LaneServer, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger=log.access_logger.name):
        with server.connect() as client:
            assert client.get(f"/{URL}", "Range: bytes=0-99999").status == 206
            (blob,) = [p for p in server.directory.rglob("*") if _length(p) == SIZE]
            os.truncate(blob, 10 * MIB)
            got = client.get(f"/{URL}")
            assert got.body == body[: 10 * MIB]
            assert client.is_closed_by_peer()
        wait_until(lambda: "(cut: " in caplog.text)
    server.fill(body)


@pytest.mark.parametrize("stop", [4096, 3 * MIB], ids=["small", "large"])
def test_bytes_that_the_disk_must_be_asked_for_never_hold_up_the_loop(
    server: LaneServer, body: bytes, stop: int
) -> None:
    (blob,) = [p for p in server.directory.rglob("*") if _length(p) == SIZE]
    with server.connect() as client:
        warm = client.get(f"/{URL}", f"Range: bytes=0-{stop - 1}")
        assert (warm.body, server.asked) == (body[:stop], 0)
        # The kernel may keep some pages, or read them ahead for another who has the file open:
        # it is asked until it has really let go.
        for _ in range(10):
            if not _leaves_memory(blob):
                pytest.skip("this file system keeps its pages")
            cold = client.get(f"/{URL}", f"Range: bytes=0-{stop - 1}")
            assert cold.body == body[:stop]
            if server.asked or stop > 4096:
                break
        # A small piece goes the ordinary way; a large one is read by a thread ahead of sendfile.
        assert server.asked == (1 if stop == 4096 else 0)


def _leaves_memory(blob: Path) -> bool:
    """Have the kernel let go of the file's pages, as far as it can be seen that it does."""
    fileno = os.open(blob, os.O_RDONLY)
    try:
        os.fsync(fileno)
        os.posix_fadvise(fileno, 0, 0, os.POSIX_FADV_DONTNEED)
        # Elsewhere in the file: asking makes the kernel begin to read ahead.
        return Scratch(4096).read(fileno, Interval(SIZE // 2, SIZE // 2 + 4096)) is None
    finally:
        os.close(fileno)


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def test_what_was_answered_from_files_is_counted(server: LaneServer) -> None:
    was = server.do(server.service.statistics())
    with server.connect() as client:
        client.get(f"/{URL}")
        client.get(f"/{URL}", "Range: bytes=0-99999")
        got = client.get("/metrics").body
    now = server.do(server.service.statistics())
    assert now.served_bytes - was.served_bytes == SIZE + 100_000  # type: ignore[attr-defined]
    assert now.requests["hit"] - was.requests["hit"] == 2  # type: ignore[attr-defined]
    assert b"forebay_http_requests_running 1.0" in got


def test_a_file_is_not_begun_where_descriptors_run_out(server: LaneServer, body: bytes) -> None:
    protocol: Any = server.server.config.http_protocol_class
    with server.connect() as client:
        assert client.get(f"/{URL}", "Range: bytes=0-99999").status == 206
        protocol.descriptors = Descriptors(limit=100, count=lambda: 99)
        protocol.shedder = Shedder()  # the common one closes nothing twice in half a second
        try:
            refused = client.get(f"/{URL}", "Range: bytes=0-99999")
        finally:
            del protocol.descriptors, protocol.shedder
        assert refused.status == 503
    with server.connect() as client:
        assert client.get(f"/{URL}", "Range: bytes=0-99999").body == body[:100_000]


def test_a_file_is_sent_to_its_end_when_the_server_stops(tmp_path: Path, body: bytes) -> None:
    server = LaneServer(tmp_path, "asyncio")
    server.start()
    server.fill(body)
    with server.connect(receive_buffer_bytes=65536) as client, server.connect() as idle:
        _ask(client)
        client.read_head()
        server.server.should_exit = True
        assert idle.is_closed_by_peer()
        assert client.file.read(SIZE) == body
        assert client.is_closed_by_peer()
    server.stop()


async def test_held_files_are_bounded_and_close_with_their_last_user(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")

    def opened() -> int:
        """Of this file alone: servers of other tests run in the same process."""
        return list(open_descriptors().values()).count(str(path))

    files = HeldFiles(limit=2, seconds=0.01)
    used = files.put("a", os.open(path, os.O_RDONLY)).use()
    for name in "bcd":
        files.put(name, os.open(path, os.O_RDONLY))
    assert len(files) == 2
    assert files.get("a") is None
    assert opened() == 3
    while len(files):  # noqa: ASYNC110  the timer tells nobody
        await asyncio.sleep(0.005)
    assert opened() == 1
    assert Scratch(3).read(used.fileno, Interval(0, 3)) in (b"abc", None)
    used.release()
    assert opened() == 0
