"""A real process that runs out of descriptors: it says so, and finishes what it has begun."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from pathlib import Path

from tests.fakes.origin import Origin
from tests.live.children import Child, child
from tests.patience import PATIENCE_SECONDS

BODY = random.Random(17).randbytes(3_000_000)
MAX_AGE = ("cache-control", "max-age=600")
DESCRIPTORS = 100


def cpu_seconds(child: Child) -> float:
    fields = Path(f"/proc/{child.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def ask_once(service: Child) -> int:
    """The status for the file, or 0 where the connection was closed without one."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        return (await service.fetch("/small")).status
    return 0


async def until_it_answers(service: Child, status: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await ask_once(service) != status:  # noqa: ASYNC110 - asked, not told
            await asyncio.sleep(0.05)


async def test_out_of_descriptors_new_work_gets_503_and_what_runs_goes_on(
    tmp_path: Path, origin: Origin
) -> None:
    held = origin.add("/held", body=BODY, etag='"one"', stall_at=100_000, headers=[MAX_AGE])
    origin.add("/small", body=b"small", headers=[("cache-control", "no-store")])
    async with child(tmp_path / "cache", origin, descriptors=DESCRIPTORS) as service:
        running = await service.start(service.path("/held"))
        await running.read_until(1000)
        with contextlib.ExitStack() as stack:
            # Connections that have begun to ask, so that they do not rest, and never go on.
            for _ in range(2 * DESCRIPTORS):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    client.connect(("127.0.0.1", service.port))
                await asyncio.sleep(0)
                with contextlib.suppress(OSError):
                    client.send(b"G")
            await until_it_answers(service, 503)
            answer = await service.fetch("/small")
            assert answer.fields["retry-after"] == "1"
            before = cpu_seconds(service)
            await asyncio.sleep(1.0)
            assert cpu_seconds(service) - before < 0.5, "it spins"
            held.go_on.set()
            assert await running.read_until(len(BODY)) == BODY
        await until_it_answers(service, 200)
