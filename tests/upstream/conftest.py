"""An upstream that may reach this machine, as tests of sockets need it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from forebay.upstream.client import HttpxUpstream
from forebay.upstream.guard import Guard
from forebay.upstream.resolver import Resolver
from tests.fakes.tls import client_context
from tests.patience import PATIENCE_SECONDS

MakeUpstream = Callable[..., HttpxUpstream]

NAMES = {
    "origin.test": ("127.0.0.1",),
    "two.origin.test": ("127.0.0.1",),
    "other.test": ("127.0.0.1",),
    "half.test": ("127.0.0.2", "127.0.0.1"),
    "private.test": ("10.0.0.1",),
}


def lookup(host: str) -> tuple[str, ...]:
    if host not in NAMES:
        raise OSError("no such name")
    return NAMES[host]


def open_guard(**settings: object) -> Guard:
    """Allows loopback at every port; names are those of ``NAMES``."""
    defaults: dict[str, object] = {
        "allow_networks": ["127.0.0.0/8"],
        "allow_ports": range(1, 65536),
        "resolver": Resolver(lookup=lookup),
    }
    return Guard(**{**defaults, **settings})  # type: ignore[arg-type]


@pytest.fixture
async def make_upstream() -> AsyncIterator[MakeUpstream]:
    """Makes upstreams with these settings beside short timeouts; closes them at the end."""
    made: list[HttpxUpstream] = []

    def make(**settings: object) -> HttpxUpstream:
        defaults: dict[str, object] = {
            "guard": open_guard(),
            "connect_timeout_seconds": PATIENCE_SECONDS,
            "stall_timeout_seconds": PATIENCE_SECONDS,
            "tls": client_context(),
        }
        upstream = HttpxUpstream(**{**defaults, **settings})  # type: ignore[arg-type]
        made.append(upstream)
        return upstream

    yield make
    for upstream in made:
        await upstream.aclose()


@pytest.fixture
def upstream(make_upstream: MakeUpstream) -> HttpxUpstream:
    return make_upstream()


@asynccontextmanager
async def raw_server(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that does what no HTTP server would; gives its URL, closes all it opened."""
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        finally:
            writer.transport.abort()

    def started(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.ensure_future(serve(reader, writer)))

    server = await asyncio.start_server(started, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # aborted transports close in the next turn of the loop
