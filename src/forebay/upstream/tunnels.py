"""Connections for tunnels (RFC 9110 §9.3.6): to hosts and ports of a list, at checked addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from forebay.errors import TargetForbidden, UpstreamTimeout, UpstreamUnreachable
from forebay.upstream.guard import Guard


class TunnelDialer:
    """Opens the far side of tunnels. ``guard`` has the lists of hosts and ports for them."""

    def __init__(
        self, guard: Guard, *, connect_timeout_seconds: float, idle_seconds: float
    ) -> None:
        self._guard = guard
        self._timeout_seconds = connect_timeout_seconds
        self.idle_seconds = idle_seconds
        """How long a tunnel may carry nothing, either way, before it is closed."""

    async def connect(
        self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]
    ) -> asyncio.Transport:
        """A connection to this host, with a protocol of the caller's.

        Raises ``TargetForbidden``, ``UpstreamUnreachable`` and ``UpstreamTimeout``.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                addresses = await self._allowed(host, port)
                return await _first(addresses, port, protocol)
        except TimeoutError:
            self._guard.forget(host)
            raise UpstreamTimeout("No connection for the tunnel could be made in time.") from None

    async def _allowed(self, host: str, port: int) -> tuple[str, ...]:
        try:
            return await self._guard.check(host, port)
        except TargetForbidden:
            raise TargetForbidden(
                "There is no tunnel to this host and port; the operator can open one with "
                "tunnel.hosts and tunnel.ports."
            ) from None


async def _first(
    addresses: tuple[str, ...], port: int, protocol: Callable[[], asyncio.Protocol]
) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    for address in addresses:
        try:
            transport, _ = await loop.create_connection(protocol, address, port)
        except OSError:
            continue
        return transport
    raise UpstreamUnreachable("No connection for the tunnel could be made.")
