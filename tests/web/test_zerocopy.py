"""Files to sockets, with pages in memory and without."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.web import zerocopy
from forebay.web.asgi import ResponseCutError
from forebay.web.zerocopy import FileSend, bring_into_memory, is_resident, read_resident
from tests.web.conftest import MIB
from tests.web.servers import open_descriptors

SIZE = 5 * MIB + 12_345


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def blob(tmp_path: Path, content: bytes) -> Iterator[int]:
    path = tmp_path / "blob"
    path.write_bytes(content[:SIZE])
    fileno = os.open(path, os.O_RDONLY)
    yield fileno
    os.close(fileno)


@pytest.fixture
def mute_blob(content: bytes) -> Iterator[int]:
    """A file on a file system that cannot say what is in memory."""
    if not Path("/dev/shm").is_dir():
        pytest.skip("no memory file system here")
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.write(content[:SIZE])
        file.flush()
        yield file.fileno()


def _push_out(fileno: int) -> None:
    """Have the kernel forget the file's pages."""
    os.fsync(fileno)
    os.posix_fadvise(fileno, 0, 0, os.POSIX_FADV_DONTNEED)


async def _receive(theirs: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    got = bytearray()
    while len(got) < count:
        piece = await loop.sock_recv(theirs, 256 * 1024)
        assert piece
        got += piece
    return bytes(got)


def _send(ours: socket.socket, fileno: int, start: int, stop: int) -> tuple[FileSend, list[int]]:
    counts: list[int] = []
    return FileSend(ours.fileno(), fileno, start, stop, counts.append), counts


@pytest.mark.parametrize(("start", "stop"), [(0, SIZE), (1, 2), (4095, 3 * MIB + 1)])
@pytest.mark.parametrize("cold", [False, True])
async def test_an_interval_arrives_as_it_is_in_the_file(
    pair: tuple[socket.socket, socket.socket], blob: int, content: bytes,
    start: int, stop: int, cold: bool,
) -> None:  # fmt: skip
    if cold:
        _push_out(blob)
    send, counts = _send(pair[0], blob, start, stop)
    _, got = await asyncio.gather(send.run(), _receive(pair[1], stop - start))
    assert got == content[start:stop]
    assert sum(counts) == stop - start
    assert send.left_bytes == 0


async def test_a_file_system_that_cannot_say_is_read_through_a_thread(
    pair: tuple[socket.socket, socket.socket], mute_blob: int, content: bytes
) -> None:
    send, _ = _send(pair[0], mute_blob, 0, SIZE)
    _, got = await asyncio.gather(send.run(), _receive(pair[1], SIZE))
    assert got == content[:SIZE]


async def test_a_truncated_file_raises_after_what_there_was(
    pair: tuple[socket.socket, socket.socket], blob: int, content: bytes
) -> None:
    send, counts = _send(pair[0], blob, SIZE - 1000, SIZE + 1000)
    with pytest.raises(ResponseCutError):
        await send.run()
    assert sum(counts) == 1000
    assert await _receive(pair[1], 1000) == content[SIZE - 1000 : SIZE]


async def test_a_peer_that_is_gone_is_an_oserror(
    pair: tuple[socket.socket, socket.socket], blob: int
) -> None:
    send, _ = _send(pair[0], blob, 0, SIZE)
    running = asyncio.create_task(send.run())
    await asyncio.sleep(0.01)
    pair[1].close()
    with pytest.raises(OSError, match=r"."):
        await running


@pytest.mark.parametrize("way", ["abandon", "cancel"])
async def test_every_way_out_closes_the_duplicate(
    pair: tuple[socket.socket, socket.socket], blob: int, way: str
) -> None:
    before = len(open_descriptors())
    send, _ = _send(pair[0], blob, 0, SIZE)
    running = asyncio.create_task(send.run())
    await asyncio.sleep(0.01)
    assert send.left_bytes > 0
    if way == "abandon":
        send.abandon()
        await running
    else:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert len(open_descriptors()) == before


async def test_abandoning_before_the_start_sends_nothing(
    pair: tuple[socket.socket, socket.socket], blob: int
) -> None:
    send, counts = _send(pair[0], blob, 0, SIZE)
    send.abandon()
    await send.run()
    assert counts == []


async def test_pages_pushed_out_are_noticed_and_brought_back(blob: int, content: bytes) -> None:
    assert is_resident(blob, 0, SIZE)
    _push_out(blob)
    if read_resident(blob, 0, SIZE) is not None:
        pytest.skip("this file system keeps its pages")
    _push_out(blob)
    assert not is_resident(blob, 0, SIZE)
    await bring_into_memory(blob, 0, SIZE)
    assert is_resident(blob, 0, SIZE)
    assert read_resident(blob, 5, 4096) == content[5:4096]


def test_a_piece_beyond_the_end_is_not_called_read(blob: int) -> None:
    assert read_resident(blob, SIZE - 10, SIZE + 10) is None
    assert is_resident(blob, SIZE, SIZE + 10)


def test_a_closed_descriptor_is_an_error_and_not_a_cold_file() -> None:
    fileno = os.open("/dev/null", os.O_RDONLY)
    os.close(fileno)
    for ask in (is_resident, read_resident):
        with pytest.raises(OSError, match="descriptor"):
            ask(fileno, 0, 10)


async def test_a_caller_may_close_the_file_while_the_thread_reads(
    blob: int, content: bytes
) -> None:
    before = len(open_descriptors())
    own = os.dup(blob)
    reading = asyncio.create_task(bring_into_memory(own, 0, SIZE))
    await asyncio.sleep(0)
    reading.cancel()
    os.close(own)
    with pytest.raises(asyncio.CancelledError):
        await reading
    await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    while len(open_descriptors()) > before:  # noqa: ASYNC110  a thread closes, without a word
        await asyncio.sleep(0.005)


def test_linux_has_what_is_needed() -> None:
    assert zerocopy.available()
