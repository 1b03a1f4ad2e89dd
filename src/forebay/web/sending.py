"""The half of a client connection that gives octets, and looks out for a client that takes none."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar

from forebay.web.limits import DoorLimits
from forebay.web.stall import StallWatch
from forebay.web.uvicorn_surface import HttpToolsProtocol
from forebay.web.zerocopy import FileSend

logger = logging.getLogger("forebay.web")


class SendingConnection(HttpToolsProtocol):
    """One client connection, as far as octets go out: by its transport or by a ``FileSend``."""

    limits: ClassVar[DoorLimits] = DoorLimits()
    socket_fileno: int = -1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stall: StallWatch | None = None
        self._written_bytes = 0
        self._sender: FileSend | None = None
        self._sender_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Nothing held back: "resumed" then means "empty", and a slow reader costs one piece.
        transport.set_write_buffer_limits(high=0)
        sock = transport.get_extra_info("socket")
        self.socket_fileno = sock.fileno() if sock is not None else -1
        self._stall = StallWatch(
            self.loop, self.limits.stall_seconds, self.socket_fileno, self._waiting, self._stalled,
            self._given, self.limits.min_rate_bytes,
        )  # fmt: skip

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stall is not None:
            self._stall.stop()
        self._abandon_all()
        super().connection_lost(exc)

    def write(self, data: bytes) -> None:
        """Give octets to the transport, and look out for a client that does not take them."""
        self._written_bytes += len(data)
        self.transport.write(data)
        if self.transport.get_write_buffer_size() and self._stall is not None:
            self._stall.arm()

    async def drained(self) -> None:
        """Wait until the transport's buffer is empty, or the connection is lost."""
        while not self.transport.is_closing() and self.transport.get_write_buffer_size():
            await self.flow.drain()
            if not self.flow.write_paused and self.transport.get_write_buffer_size():
                await asyncio.sleep(0)  # Not paused yet: never spin without letting it run.

    def watch(self, sender: FileSend | None) -> None:
        """A sender is at work (or, with None, has finished)."""
        if self._sender is not None:
            self._written_bytes += self._sender_bytes - self._sender.left_bytes
        self._sender = sender
        self._sender_bytes = sender.left_bytes if sender is not None else 0
        if sender is not None and self._stall is not None:
            self._stall.arm()

    def _waiting(self) -> int:
        """Bytes that wait for the client outside the kernel."""
        held = self.transport.get_write_buffer_size()
        return held + (self._sender.left_bytes if self._sender is not None else 0)

    def _given(self) -> int:
        """Bytes that the kernel has been given for the client."""
        sent = self._sender_bytes - self._sender.left_bytes if self._sender is not None else 0
        return self._written_bytes + sent - self.transport.get_write_buffer_size()

    def _stalled(self) -> None:
        logger.info("a client took no bytes, or too few, for too long and was dropped")
        self._abandon_all()
        self.transport.abort()

    def _abandon_all(self) -> None:
        """Give up whatever is being answered: the client is gone."""
