"""The watch that tells a slow client from a stalled one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from forebay.web.stall import StallWatch, unacknowledged_bytes

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
    await asyncio.wait_for(stalled.wait(), 5)
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
    await asyncio.wait_for(stalled.wait(), 5)


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
