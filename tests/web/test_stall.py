"""The watch that tells a slow client from a stalled one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from forebay.web.stall import STEPS, TINY_BYTES, StallWatch, unacknowledged_bytes
from tests.patience import PATIENCE_SECONDS

LIMIT = 0.06


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    listener = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(listener.getsockname())
    theirs, _ = listener.accept()
    ours.setblocking(False)
    yield ours, theirs
    for sock in (ours, theirs, listener):
        sock.close()


def _fill(sock: socket.socket) -> None:
    try:
        while True:
            sock.send(b"x" * 65536)
    except BlockingIOError:
        pass


def _watch(ours: socket.socket, waiting: list[int]) -> tuple[StallWatch, asyncio.Event]:
    stalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    return StallWatch(loop, LIMIT, ours.fileno(), lambda: waiting[0], stalled.set), stalled


async def test_a_full_pipe_that_nobody_reads_is_a_stall(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    _fill(pair[0])
    assert unacknowledged_bytes(pair[0].fileno()) > 0
    watch, stalled = _watch(pair[0], [1])
    watch.arm()
    await asyncio.wait_for(stalled.wait(), PATIENCE_SECONDS)
    watch.stop()


async def test_a_client_that_has_taken_everything_is_waiting_for_us(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    watch, stalled = _watch(pair[0], [1])
    watch.arm()
    await asyncio.sleep(LIMIT * 4)
    assert not stalled.is_set()
    watch.stop()


async def test_the_watch_sleeps_when_nothing_waits(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    _fill(pair[0])
    waiting = [1]
    watch, stalled = _watch(pair[0], waiting)
    watch.arm()
    waiting[0] = 0
    await asyncio.sleep(LIMIT * 3)
    assert not stalled.is_set()
    waiting[0] = 1
    watch.arm()
    await asyncio.wait_for(stalled.wait(), PATIENCE_SECONDS)


class Client:
    """Takes so many bytes between two looks; ``left`` wait outside the kernel."""

    def __init__(self, step_bytes: int, left_bytes: int = 10_000_000) -> None:
        self.step_bytes = step_bytes
        self.left_bytes = left_bytes
        self.looks = 0

    def waiting(self) -> int:
        self.looks += 1
        self.left_bytes -= self.step_bytes
        return self.left_bytes

    def given(self) -> int:
        return 20_000_000 - self.left_bytes

    def watch(self, ours: socket.socket) -> tuple[StallWatch, asyncio.Event]:
        """At 10,000 bytes in ``LIMIT``, that is 2,500 a look."""
        slow, loop, rate = asyncio.Event(), asyncio.get_running_loop(), 10_000 / LIMIT
        watch = StallWatch(loop, LIMIT, ours.fileno(), self.waiting, slow.set, self.given, rate)
        return watch, slow


@pytest.mark.parametrize(
    ("client", "is_dropped"),
    [
        (Client(2_400), True),
        (Client(1), True),
        (Client(2_600), False),
        (Client(1, left_bytes=TINY_BYTES), False),
    ],
    ids=["a little too slow", "a byte at a time", "slow but steady", "nearly done"],
)
async def test_a_client_that_takes_too_little_is_a_stall(
    pair: tuple[socket.socket, socket.socket], client: Client, is_dropped: bool
) -> None:
    _fill(pair[0])
    watch, slow = client.watch(pair[0])
    watch.arm()
    while not slow.is_set() and client.looks < 4 * STEPS:  # noqa: ASYNC110 - looks are counted
        await asyncio.sleep(LIMIT / STEPS)
    assert slow.is_set() == is_dropped
    watch.stop()


async def test_only_time_in_which_bytes_wait_counts(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    # The send queue is empty: the client has taken all there was.
    client = Client(1)
    watch, slow = client.watch(pair[0])
    watch.arm()
    while client.looks < 3 * STEPS:  # noqa: ASYNC110 - looks are counted
        await asyncio.sleep(LIMIT / STEPS)
    assert not slow.is_set()
    watch.stop()


async def test_a_stopped_watch_never_speaks(pair: tuple[socket.socket, socket.socket]) -> None:
    _fill(pair[0])
    watch, stalled = _watch(pair[0], [1])
    watch.arm()
    watch.stop()
    watch.arm()
    await asyncio.sleep(LIMIT * 3)
    assert not stalled.is_set()


def test_a_closed_socket_has_nothing_unacknowledged() -> None:
    sock = socket.socket()
    fileno = sock.fileno()
    sock.close()
    assert unacknowledged_bytes(fileno) == -1
