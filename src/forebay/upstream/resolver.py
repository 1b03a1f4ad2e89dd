"""Names to addresses, off the event loop, so that one slow name delays nobody else.

``getaddrinfo`` cannot be cancelled and may block for half a minute. The loop's own resolver
has few threads, and thirty look-ups of one slow name fill it. Here each look-up has a thread
of its own; look-ups of the same name share one; their number is bounded, in all and below
one parent domain, so that whoever owns a slow domain can fill only their own share.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from forebay.errors import UpstreamTimeout, UpstreamUnreachable

Lookup: TypeAlias = Callable[[str], tuple[str, ...]]
"""A blocking look-up of one name; raises ``OSError`` where there is none."""

MAX_LOOKUPS = 64
MAX_LOOKUPS_BELOW_DOMAIN = 8
MAX_REMEMBERED = 4096
FOUND_SECONDS = 30.0
"""How long addresses are used again: short, as getaddrinfo does not tell a record's TTL."""
NOT_FOUND_SECONDS = 3.0


def system_lookup(host: str) -> tuple[str, ...]:
    """The addresses that the system gives for a name, in its order of preference."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class Resolver:
    """Looks names up with a deadline, once for all who ask at the same time.

    ``deadline_seconds`` bounds each wait; ``lookup`` and ``clock`` are for tests.
    """

    def __init__(
        self,
        *,
        deadline_seconds: float = 10.0,
        lookup: Lookup = system_lookup,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deadline_seconds = deadline_seconds
        self._lookup = lookup
        self._clock = clock
        self._known: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._running: dict[str, asyncio.Task[tuple[str, ...]]] = {}
        self._all = asyncio.Semaphore(MAX_LOOKUPS)
        self._domains: dict[str, asyncio.Semaphore] = {}

    async def resolve(self, host: str) -> tuple[str, ...]:
        """The addresses of a name, at least one.

        Raises ``UpstreamUnreachable`` if it has none, ``UpstreamTimeout`` after the deadline.
        """
        until, addresses = self._known.get(host, (0.0, ()))
        if self._clock() >= until:
            addresses = await self._join(host)
        if not addresses:
            raise UpstreamUnreachable("The name of the upstream host cannot be resolved.")
        return addresses

    def forget(self, host: str) -> None:
        """Look this name up anew next time: its addresses do not answer."""
        self._known.pop(host, None)

    async def _join(self, host: str) -> tuple[str, ...]:
        task = self._running.get(host)
        if task is None:
            task = self._running[host] = asyncio.ensure_future(self._run(host))
        try:
            async with asyncio.timeout(self._deadline_seconds):
                # Shielded: others wait for the same look-up, and its thread runs on anyway.
                return await asyncio.shield(task)
        except TimeoutError:
            raise UpstreamTimeout(
                "The name of the upstream host was not resolved in time."
            ) from None

    async def _run(self, host: str) -> tuple[str, ...]:
        domain = ".".join(host.split(".")[-2:])
        share = self._domains.setdefault(domain, asyncio.Semaphore(MAX_LOOKUPS_BELOW_DOMAIN))
        try:
            async with share, self._all:
                addresses = await _in_thread(self._lookup, host)
        finally:
            del self._running[host]
            if not any(name.endswith(domain) for name in self._running):
                self._domains.pop(domain, None)
        self._remember(host, addresses)
        return addresses

    def _remember(self, host: str, addresses: tuple[str, ...]) -> None:
        seconds = FOUND_SECONDS if addresses else NOT_FOUND_SECONDS
        self._known.pop(host, None)
        while len(self._known) >= MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[host] = (self._clock() + seconds, addresses)


async def _in_thread(lookup: Lookup, host: str) -> tuple[str, ...]:
    """Run a look-up in a daemon thread, which does not hold up the end of the program."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[str, ...]] = loop.create_future()

    def settle(addresses: tuple[str, ...]) -> None:
        if not done.done():
            done.set_result(addresses)

    def run() -> None:
        try:
            addresses = lookup(host)
        except (OSError, UnicodeError):
            addresses = ()
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, addresses)

    threading.Thread(target=run, name=f"resolve {host}", daemon=True).start()
    return await done
