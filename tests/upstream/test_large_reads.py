"""How much a wire reads at a time: much where much is known to wait, and else a slab as ever."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from forebay.upstream.slabs import LARGE_SLAB_BYTES, SLAB_BYTES, Slabs
from forebay.upstream.wire import Wire

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"


class Receiving(asyncio.Transport):
    """A transport whose "socket" is a file: the kernel tells its length as what waits in it."""

    def __init__(self, path: Path, waiting_bytes: int) -> None:
        super().__init__()
        self._file = path.open("w+b")
        self._file.truncate(waiting_bytes)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._file if name == "socket" else default

    def is_closing(self) -> bool:
        return self._file.closed

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """The request goes nowhere."""

    def pause_reading(self) -> None:
        """Nothing comes unless a test says so."""

    def abort(self) -> None:
        self._file.close()


@pytest.mark.parametrize(
    ("waiting_bytes", "second_bytes"),
    [
        (LARGE_SLAB_BYTES, LARGE_SLAB_BYTES),
        (LARGE_SLAB_BYTES // 2, LARGE_SLAB_BYTES),
        (LARGE_SLAB_BYTES // 2 - 1, SLAB_BYTES),
        (0, SLAB_BYTES),
    ],
)
async def test_a_full_read_is_followed_by_a_large_one_where_that_much_waits(
    tmp_path: Path, waiting_bytes: int, second_bytes: int
) -> None:
    wire = Wire(Slabs())
    wire.connection_made(Receiving(tmp_path / "socket", waiting_bytes))
    asking = asyncio.create_task(wire.ask("GET", b"GET / HTTP/1.1\r\n\r\n", None, None, 20.0))
    await asyncio.sleep(0)

    sizes = []
    for received in (HEAD, bytes(SLAB_BYTES), b"x", b"x"):
        buffer = wire.get_buffer(-1)
        sizes.append(len(buffer))
        buffer[: len(received)] = received
        wire.buffer_updated(len(received))

    assert sizes == [SLAB_BYTES, SLAB_BYTES, second_bytes, SLAB_BYTES]
    assert (await asking).head.status == 200
    wire.close()
