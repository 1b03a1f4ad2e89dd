"""So many at a time, the others in the order they came, none of them for ever.

What ends hands its place over without giving it back in between, so that nobody who comes in that
moment overtakes those who wait. What is decided is decided between two awaits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Turns:
    """At most ``most`` blocks at a time; others wait for at most ``patience_seconds``, and at
    most ``max_waiting`` of them."""

    def __init__(self, most: int, patience_seconds: float, max_waiting: int = 1000) -> None:
        self._most = most
        self._patience_seconds = patience_seconds
        self._max_waiting = max_waiting
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._running = 0

    @property
    def running(self) -> int:
        """Blocks that run now, places that are being handed over included."""
        return self._running

    @property
    def is_free(self) -> bool:
        """Whether the next block would begin at once."""
        return self._running < self._most

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """One block. Raises ``TimeoutError`` when its turn does not come in time, or too many wait
        for theirs already."""
        await self.begin()
        try:
            yield
        finally:
            self.end()

    async def begin(self) -> None:
        """Begin a block, which ``end`` ends. Raises as ``turn``, and then there is none."""
        if self.is_free:
            self._running += 1
        else:
            await self._wait()

    def end(self) -> None:
        """End a block."""
        self._hand_over()

    async def _wait(self) -> None:
        if len(self._waiting) >= self._max_waiting:
            raise TimeoutError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._patience_seconds):
                await turn
        except BaseException:
            # It may have been given in the very moment in which we gave up.
            if turn.done() and not turn.cancelled():
                self._hand_over()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def _hand_over(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1
