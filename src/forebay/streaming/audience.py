"""Who reads a growing blob, and who of them waits for its next bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from forebay.errors import ForebayError
from forebay.streaming.reader import TransferReader


class Growing(Protocol):
    """A blob that grows, as its readers see it."""

    @property
    def length_bytes(self) -> int | None: ...

    @property
    def is_over(self) -> bool: ...

    def readable_until(self, position: int) -> int: ...


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

    async def wait_for_bytes(
        self,
        reader: TransferReader,
        blob: Growing,
        why_over: Callable[[], ForebayError],
        on_waiting: Callable[[], None] = lambda: None,
    ) -> None:
        """Return when there is something to read, nothing more to come, or the reader has left.

        ``on_waiting`` is called each time this reader is seen to wait. Raises ``why_over`` where
        the blob ends before these bytes.
        """
        while blob.readable_until(reader.position) <= reader.position:
            if blob.length_bytes is not None and reader.position >= blob.length_bytes:
                return
            if blob.is_over:
                raise why_over()
            if reader not in self._waiters:
                return
            await self._wait(reader, on_waiting)

    async def _wait(self, reader: TransferReader, on_waiting: Callable[[], None]) -> None:
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
