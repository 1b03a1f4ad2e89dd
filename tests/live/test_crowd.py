"""A crowd that rests and a crowd that reads nothing: others get their hits, and each of the crowd
costs a bounded number of descriptors, tasks and bytes. (``./scripts/bench crowd`` measures it with
a thousand of each, and in time.)"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from pathlib import Path

from forebay.web.limits import DoorLimits
from forebay.web.protocol import protocol_with
from tests.fakes.origin import Origin
from tests.leaks import open_descriptors
from tests.live.running import Running, running

CROWD, PASSING = 120, 10
"""So many rest, so many read nothing of what is stored or arriving, and so few of what goes
straight through, each over a connection to the origin."""
SMALL, LARGE = random.Random(41).randbytes(2_000), random.Random(42).randbytes(12_000_000)
ARRIVED_BYTES = 8_000_000
"""What has come of the file that is still on its way: more than the kernel takes for a client
that reads nothing, so that the rest waits here."""
MAX_AGE = ("cache-control", "max-age=600")
QUEUED_BYTES_EACH = 256 * 1024
"""The high mark of a connection, and the piece with which it was passed."""
MEMORY_BYTES_EACH = 100 * 1024
"""Ten times what is measured: an allocator and a collector have moods."""


def memory_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


async def attached(service: Running, stack: contextlib.ExitStack, octets: bytes) -> socket.socket:
    """A client that takes little into its own buffers, has sent this, and has what that brought."""
    client = stack.enter_context(socket.socket())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", service.port))
    if octets:
        await loop.sock_sendall(client, octets)
        head = await asyncio.wait_for(loop.sock_recv(client, 200), 30)
        assert head.startswith(b"HTTP/1.1 200 "), head
    return client


def asking(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def test_hits_are_answered_while_crowds_rest_and_read_nothing_in_bounded_memory(
    tmp_path: Path, origin: Origin, no_leaks: None
) -> None:
    origin.add("/small", body=SMALL, etag='"s"', headers=[MAX_AGE])
    origin.add("/hot", body=LARGE, etag='"h"', headers=[MAX_AGE])
    coming = origin.add(
        "/coming", body=LARGE, etag='"c"', headers=[MAX_AGE], stall_at=ARRIVED_BYTES, ranges=False
    )
    origin.add("/passing", body=LARGE, headers=[("cache-control", "no-store")])
    connections: list[asyncio.Transport] = []

    class Counted(protocol_with(DoorLimits())):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            connections.append(transport)

    tables = {"upstream": {"stall_timeout": "60s"}}
    async with running(tmp_path / "c", origin, tables=tables, protocol=Counted) as service:
        for path in ("/small", "/hot") * 2:
            assert (await service.fetch(path)).whole
        first = await service.start(service.path("/coming"))
        await first.read_until(ARRIVED_BYTES)
        connections.clear()
        descriptors, tasks = len(open_descriptors()), len(asyncio.all_tasks())
        memory = await asyncio.to_thread(memory_bytes)
        with contextlib.ExitStack() as stack:
            for number in range(CROWD):
                await attached(service, stack, b"")
                path = service.path(("/coming", "/hot")[number % 2])
                await attached(service, stack, asking(path))
            # Before the origin, which is in this process, has bodies in its own buffers.
            grown = await asyncio.to_thread(memory_bytes) - memory
            for _ in range(PASSING):
                await attached(service, stack, asking(service.path("/passing")))
            for _ in range(3):
                assert (await service.fetch("/small")).body == SMALL
                assert (await service.fetch("/small", "Range: bytes=5-")).body == SMALL[5:]
            hot = await service.fetch("/hot")
            assert hot.body == LARGE
            assert "hit" in hot.cache_status
            queued = [transport.get_write_buffer_size() for transport in connections]
            assert len(connections) >= 2 * CROWD
            assert max(queued) <= QUEUED_BYTES_EACH
            # Each client's own end, and here: its connection; for one that reads the file too, and
            # the connection once more for sendfile; or both ends of one to the origin.
            opened = len(open_descriptors()) - descriptors
            assert opened <= (2 + 1 + 3) * CROWD + 5 * PASSING + 16
            # One for each that reads, and what brings and serves what is passed on.
            assert len(asyncio.all_tasks()) - tasks <= CROWD + 5 * PASSING + 16
            assert grown <= 2 * CROWD * MEMORY_BYTES_EACH
        coming.go_on.set()
        assert await first.read_until(len(LARGE)) == LARGE
