"""Who reads a growing blob, and who of them waits for its next bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from forebay.streaming.reader import TransferReader


class Audience:
    """The readers of one blob. True while there are any."""

    def __init__(self) -> None:
        self._waiters: dict[TransferReader, asyncio.Future[None] | None] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    def __contains__(self, reader: TransferReader) -> bool:
        return reader in self._waiters

    def add(self, reader: TransferReader) -> None:
        """Somebody has come."""
        self._waiters[reader] = None

    def remove(self, reader: TransferReader) -> None:
        """Somebody has left; if he waited, he waits no longer."""
        _wake(self._waiters.pop(reader, None))

    def positions(self) -> tuple[int, ...]:
        """The next byte that each one needs."""
        return tuple(reader.position for reader in self._waiters)

    def waiting(self) -> tuple[TransferReader, ...]:
        """Those who wait."""
        return tuple(
            reader
            for reader, waiter in self._waiters.items()
            if waiter is not None and not waiter.done()
        )

    async def wait(self, reader: TransferReader, on_waiting: Callable[[], None]) -> None:
        """Wait until woken; ``on_waiting`` is called once this reader is seen to wait."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[reader] = waiter
        on_waiting()
        try:
            await waiter
        finally:
            if reader in self._waiters:
                self._waiters[reader] = None

    def wake(self, readable_until: Callable[[int], int] | None = None) -> None:
        """Wake those for whom there is something to read now, or everybody."""
        for reader, waiter in self._waiters.items():
            if readable_until is None or readable_until(reader.position) > reader.position:
                _wake(waiter)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
