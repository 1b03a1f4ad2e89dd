"""Tunnels: octets both ways between a client and a host that the operator has listed.

Nothing of a tunnel is read, kept or counted as a download. The transports' own flow control bounds
what waits in between; a tunnel that carries nothing for its idle time is closed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Protocol, cast

from forebay.model import Request

MAX_TUNNELS = 512
"""Tunnels of one process at once: each holds two descriptors. (Squid is bounded by descriptors
alone.)"""

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+):([0-9]{1,5})", re.I)


class Dialer(Protocol):
    """What opens the far side; ``upstream.tunnels.TunnelDialer`` is one."""

    idle_seconds: float

    async def connect(
        self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]
    ) -> asyncio.Transport:
        """Raises ``ForebayError``."""


class Tunnels:
    """The tunnels of one process, what opens them, and who may have one: ``admit`` raises
    ``ForebayError`` for a client that may not."""

    def __init__(self, dialer: Dialer, admit: Callable[[Request], object]) -> None:
        self.dialer = dialer
        self.admit = admit
        self.open_count = 0

    @property
    def has_room(self) -> bool:
        return self.open_count < MAX_TUNNELS


def authority_of(target: bytes) -> tuple[str, int] | None:
    """Host and port of a target in authority-form (RFC 9112 §3.2.3); None for anything else."""
    match = _AUTHORITY.fullmatch(target.decode("latin-1"))
    if match is None or not 0 < int(match[2]) < 65536:
        return None
    return match[1].strip("[]").lower().removesuffix("."), int(match[2])


class Tunnel:
    """Two sides and the time at which either last said something.

    ``on_closed`` is called once, with the octets that went to the client, when both are gone.
    """

    def __init__(
        self, idle_seconds: float, on_closed: Callable[[int, Exception | None], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle_seconds = idle_seconds
        self._on_closed = on_closed
        self._last_time = self._loop.time()
        self._timer = self._loop.call_later(idle_seconds, self._look)
        self._closed = 0
        self.client = Side(self)
        self.far = Side(self)
        self.client.other, self.far.other = self.far, self.client

    def abandon(self) -> None:
        """It never came to be."""
        self._timer.cancel()

    def touched(self) -> None:
        self._last_time = self._loop.time()

    def _look(self) -> None:
        left = self._last_time + self._idle_seconds - self._loop.time()
        if left <= 0:
            self.client.close()
            self.far.close()
        else:
            self._timer = self._loop.call_later(left, self._look)

    def side_closed(self, error: Exception | None) -> None:
        self._closed += 1
        if self._closed == 2:
            self._timer.cancel()
            self._on_closed(self.client.written_bytes, error)


class Side(asyncio.Protocol):
    """One end of a tunnel: what comes in here goes out there."""

    other: Side

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel
        self.transport: asyncio.Transport | None = None
        self.written_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits()

    def data_received(self, data: bytes) -> None:
        self._tunnel.touched()
        self.other.write(data)

    def write(self, data: bytes) -> None:
        """Send on, unless this side has gone."""
        if self.transport is not None and not self.transport.is_closing():
            self.written_bytes += len(data)
            self.transport.write(data)

    def pause_writing(self) -> None:
        if self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self._tunnel.touched()
        if self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        """Half a tunnel may be closed: the other way goes on."""
        far = self.other.transport
        if far is None or far.is_closing() or not far.can_write_eof():
            return False
        far.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.other.close()
        self._tunnel.side_closed(error)

    def close(self) -> None:
        """Close once what was written has left."""
        if self.transport is not None:
            self.transport.close()
