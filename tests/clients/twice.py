"""A client run twice through one mount, as two machines would: cold, then hot."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.clients.conftest import Ran
from tests.fakes.origin import Origin
from tests.live.running import Running, running


@asynccontextmanager
async def mounted(
    directory: Path, origin: Origin, preset: str, path: str = "/", **more: Any
) -> AsyncIterator[Running]:
    mount = {"name": "m", "preset": preset, "upstream": origin.url(path), **more}
    async with running(directory / "cache", origin, mounts=[mount]) as service:
        yield service


async def cold_and_hot(
    directory: Path, fetch: Callable[[Path], Awaitable[Ran]], *origins: Origin
) -> tuple[Path, Path]:
    """Run a client twice in empty directories; the second run costs upstream no body."""
    homes: list[Path] = []
    for name in ("cold", "hot"):
        before = sent_by(*origins)
        home = directory / name
        home.mkdir()
        ran = await fetch(home)
        assert ran.status == 0, f"{name}: {ran.output}"
        homes.append(home)
        sent = sent_by(*origins) - before
        assert (sent == 0) == (name == "hot"), f"{name}: {sent} bytes from upstream"
    return homes[0], homes[1]


def sent_by(*origins: Origin) -> int:
    """Bytes of what these registries have, so far; what they say of what is missing not counted."""
    found = (request for origin in origins for request in origin.requests)
    return sum(request.body_bytes_sent for request in found if request.status in {200, 206})


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def found(home: Path, pattern: str) -> list[str]:
    """The digests of the files that match."""
    return await asyncio.to_thread(lambda: [sha256(p) for p in home.rglob(pattern) if p.is_file()])
